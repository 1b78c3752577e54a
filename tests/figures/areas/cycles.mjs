// SPDX-License-Identifier: GPL-2.0-or-later
//
// Create, run a command, kill, over and over, two at a time: nothing may grow.

import { hostOut } from '../../e2e/lib/host.mjs';
import { daemonHolds } from '../../e2e/lib/growth.mjs';
import { create, echo, kill } from '../lib/rounds.mjs';
import { strays } from '../lib/strays.mjs';

const count = (text) => text.split('\n').filter(Boolean).length;

async function holds() {
	const daemon = await daemonHolds();
	const virt = (await hostOut('systemctl', 'show', '-P', 'MainPID', 'declaw-libvirtd.service')).trim();

	return {
		...daemon,
		libvirtFds: count(await hostOut('ls', `/proc/${virt}/fd`)),
		units: count(await hostOut('systemctl', 'list-units', '--all', '--plain', '--no-legend')),
		rules: count(await hostOut('nft', 'list', 'ruleset')),
		links: count(await hostOut('ip', '-o', 'link')),
		diskKib: Number((await hostOut('du', '-sk', '--exclude=templates', '--exclude=boot', '/var/lib/declaw/sandboxes')).split('\t')[0]),
	};
}

export async function run(f) {
	const n = f.rounds(10, 2000);
	const pass = async () => {
		const id = await create();

		await echo(id);
		await kill(id);
	};

	// Caches fill first, and killed sandboxes stay readable by design: their records count for what they are.
	for (let i = 0; i < Math.min(20, Math.ceil(n / 2)); i++)
		await pass();

	// A kill is answered before everything is tidied up
	await strays(15_000);

	const before = await holds();

	let done = 0;
	const worker = async () => {
		while (done < n) {
			const i = ++done;

			await pass();
			if (i % 100 === 0)
				f.say(`${i} passes, ${JSON.stringify(await holds())}`);
		}
	};

	await Promise.all([worker(), worker()]);
	await strays(15_000);

	const after = await holds();

	f.say(`before ${JSON.stringify(before)}`);
	f.say(`after  ${JSON.stringify(after)}`);
	f.row('create, exec, kill: growth of declawd\'s memory', n, after.rssKib - before.rssKib, 'KiB', `<= ${2048 + 4 * n}`);
	for (const [key, name] of Object.entries({ fds: 'descriptors', libvirtFds: 'libvirtd\'s descriptors', units: 'units',
		rules: 'nft lines', links: 'links', threads: 'threads' }))
		f.row(`create, exec, kill: growth of ${name}`, n, after[key] - before[key], '', '<= 4');
	f.row('create, exec, kill: growth of disk', n, after.diskKib - before.diskKib, 'KiB', `<= ${64 + 8 * n}`);
	await f.noStrays('create, exec, kill', n);
}
