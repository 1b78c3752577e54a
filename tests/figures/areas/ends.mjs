// SPDX-License-Identifier: GPL-2.0-or-later
//
// libvirtd restarts under sandboxes that must not notice, and QEMUs killed behind everybody's back.

import { hostOut, scopeOf } from '../../e2e/lib/host.mjs';
import { quantile } from '../../bench/lib/stats.mjs';
import { create, echo, kill, monotonic, persist, sleep, stateOf } from '../lib/rounds.mjs';

async function restarts(f, n) {
	const keeper = await create();
	let lost = 0, made = 0;

	for (let i = 0; i < n; i++) {
		const other = i % 2 ? create().catch(() => null) : null;

		await sleep(Math.random() * 800);
		await hostOut('systemctl', i % 3 ? 'restart' : 'kill', ...(i % 3 ? [] : ['-s', 'KILL']), 'declaw-libvirtd.service');
		await echo(keeper).catch(() => lost++);

		// One that was being made may fail with a typed error; what was answered with 201 has to live.
		const id = await other;

		if (id) {
			made++;
			await echo(id).catch(() => lost++);
			await kill(id);
		}
		// And a new one must be possible soon
		await persist(async () => {
			if ((await stateOf(keeper)).state !== 'running')
				throw new Error('not running');
		}, 5000);
	}
	await persist(async () => kill(await create()), 30_000, 200);
	f.say(`${made} sandboxes were made across a restart`);
	f.row('libvirtd restarts and SIGKILLs: sandboxes that did not answer', n, lost, '', '= 0');
	await kill(keeper);
	await f.noStrays('libvirtd restarts', n);
}

async function qemuKills(f, n) {
	const noticed = [];
	let wrong = 0;

	for (let i = 0; i < n; i++) {
		const id = await create();

		if (i % 2)
			await hostOut('systemctl', 'kill', '-s', 'KILL', scopeOf(id));
		else
			await hostOut('pkill', '-KILL', '-f', `guest=${id},`);

		const at = monotonic();
		const object = await persist(async () => {
			const s = await stateOf(id);

			if (s.state !== 'killed')
				throw new Error(`${id} is still ${s.state}`);
			return s;
		}, 5000, 10);

		noticed.push(monotonic() - at);
		wrong += object.end_reason !== 'crash';
	}
	f.row('QEMU killed: until it is reported, p99', n, quantile(noticed, 0.99), 'ms', `<= ${f.time(1000)}`);
	f.row('QEMU killed: reported as something else than a crash', n, wrong, '', '= 0');
	await f.noStrays('QEMU kills', n);
}

export async function run(f) {
	const n = f.rounds(4, 50);

	await restarts(f, n);
	await qemuKills(f, n);
}
