// SPDX-License-Identifier: GPL-2.0-or-later
//
// How late deadlines are: the moment a sandbox counts as ended (the daemon's own stamp of it) less its announced end.
// Sandboxes that pause instead are seen from outside and can be used again.

import { patch, post } from '../../e2e/lib/api.mjs';
import { hostOut } from '../../e2e/lib/host.mjs';
import { quantile } from '../../bench/lib/stats.mjs';
import { answers, create, persist, sleep, stateOf } from '../lib/rounds.mjs';

async function arm(id, seconds) {
	await patch(`/sandboxes/${id}/timeout`, { timeout: seconds });
	return Date.parse((await stateOf(id)).end_at);
}

async function pausedAt(id) {
	await persist(async () => {
		if ((await stateOf(id)).state !== 'paused')
			throw new Error(`${id} is not paused`);
	}, 20_000, 5);
	return Date.now();
}

async function runningDaemon(f, n) {
	const ids = [await create({ lifecycle: { on_timeout: 'pause' } }), await create({ lifecycle: { on_timeout: 'pause' } })];
	const late = [];

	while (late.length < n) {
		await Promise.all(ids.map(async (id, i) => {
			await sleep(i * 100);

			const due = await arm(id, 1);

			await sleep(Math.max(0, due - Date.now() - 50));
			late.push(await pausedAt(id) - due);
			await post(`/sandboxes/${id}/resume`);
		}));
	}
	f.row('deadline to paused sandbox, p99', late.length, quantile(late, 0.99), 'ms', `<= ${f.time(250)}`);
	f.row('deadline to paused sandbox, the earliest', late.length, Math.min(...late), 'ms', '>= 0');
}

async function stoppedDaemon(f, n) {
	const late = [];

	for (let tries = 0; late.length < n; tries++) {
		const id = await create();
		const due = await arm(id, 4);

		await hostOut('systemctl', 'stop', 'declawd.service');
		if (Date.now() > due - 1000) {
			if (tries > 2 * n)
				throw new Error('the daemon does not stop a second before a deadline: this says nothing about those');
			f.say('it stopped too late: once more');
			await answers();
			continue;
		}
		await sleep(due - Date.now());
		await answers();
		await persist(async () => {
			if ((await stateOf(id)).state !== 'killed')
				throw new Error(`${id} lives`);
		}, 20_000);
		late.push(Date.parse((await stateOf(id)).end_at) - due);
	}
	f.row('deadline to killed sandbox, declawd stopped seconds before, p99', n, quantile(late, 0.99), 'ms', `<= ${f.time(250)}`);
	await f.noStrays('deadlines', n);
}

export async function run(f) {
	const n = f.rounds(12, 200);

	await runningDaemon(f, n);
	try {
		await stoppedDaemon(f, Math.ceil(n / 4));
	} finally {
		await hostOut('systemctl', 'start', 'declawd.service');
	}
}
