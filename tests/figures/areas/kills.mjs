// SPDX-License-Identifier: GPL-2.0-or-later
//
// SIGKILL of declawd at random moments while sandboxes are made, used, paused, resumed and killed. Those that run must
// answer within two seconds of the next daemon's start, and nothing may stay of those that do not.

import { get, post } from '../../e2e/lib/api.mjs';
import { hostOut } from '../../e2e/lib/host.mjs';
import { answers, create, echo, kill, load, mainPid, monotonic, persist, sleep, stateOf } from '../lib/rounds.mjs';
import { quantile } from '../../bench/lib/stats.mjs';

const started = () => hostOut('systemctl', 'show', '-P', 'ExecMainStartTimestampMonotonic', 'declawd.service')
	.then((t) => Number(t) / 1000);

const pauses = (id) => async () => {
	await post(`/sandboxes/${id}/pause`);
	await sleep(50);
	await get(`/sandboxes/${id}`);
	await echo(id);
};

async function passes() {
	const id = await create({ timeout: 120 });

	await echo(id);
	await post(`/sandboxes/${id}/pause`);
	await post(`/sandboxes/${id}/resume`);
	await echo(id);
	await kill(id);
}

async function killOnce(keepers, lateness) {
	const old = await mainPid();

	await sleep(Math.random() * 2500);
	await hostOut('systemctl', 'kill', '-s', 'KILL', '--kill-who=main', 'declawd.service');
	await persist(async () => {
		if ([0, old].includes(await mainPid()))
			throw new Error('no new daemon');
	}, 30_000);

	const from = await started();

	await Promise.all(keepers.map((id) => persist(() => echo(id), 20_000).then(
		() => lateness.push(monotonic() - from), () => lateness.push(20_000))));
}

export async function run(f) {
	const n = f.rounds(6, 200);
	const keepers = [await create(), await create()];
	const moody = await create();
	const lateness = [], limit = f.time(2000);

	for (const id of keepers)
		await post(`/sandboxes/${id}/commands`, { cmd: 'echo kept > /dev/shm/k' });

	const { stop } = load([passes, pauses(moody), () => echo(keepers[0]), () => get('/sandboxes').then(() => sleep(20))]);

	for (let i = 1; i <= n; i++) {
		await killOnce(keepers, lateness);
		if (i % 10 === 0)
			f.say(`${i} kills, the slowest answer ${Math.max(...lateness).toFixed(0)} ms after a start`);
	}

	const tally = await stop();

	await answers();
	f.say(`${tally.done} passes of load went through, ${tally.cut} were cut off`);
	f.row(`SIGKILL of declawd under load: sandboxes that answer within ${limit / 1000} s of its restart`, n,
		100 * lateness.filter((ms) => ms <= limit).length / lateness.length, '%', '= 100');
	f.row('SIGKILL of declawd: start to first answer of a sandbox, p99', n, quantile(lateness, 0.99), 'ms');

	const states = await Promise.all([...keepers, moody].map(stateOf));
	const kept = await Promise.all(keepers.map((id) => post(`/sandboxes/${id}/commands`, { cmd: 'cat /dev/shm/k' })));

	f.row('SIGKILL of declawd: running or paused sandboxes lost', n, states.filter((s) =>
		!['running', 'paused'].includes(s.state)).length + kept.filter((r) => r.json?.stdout !== 'kept\n').length, '', '= 0');
	for (const { sandbox_id: id } of (await get('/sandboxes?limit=1000')).json.sandboxes)
		await kill(id);
	await f.noStrays('SIGKILL of declawd', n);
}
