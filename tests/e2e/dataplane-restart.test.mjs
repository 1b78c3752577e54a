// SPDX-License-Identifier: GPL-2.0-or-later
//
// The daemon goes and comes back, politely and by SIGKILL: sandboxes, processes, their output and open
// terminals are found again, and no byte is lost or repeated.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, post } from './lib/api.mjs';
import { assertOk } from './lib/check.mjs';
import { hostOut } from './lib/host.mjs';
import { shareSandbox, sh, until } from './lib/sandbox.mjs';
import { allEvents, collect, events, openStream } from './lib/sse.mjs';

const sbx = shareSandbox({ timeout: 900, metadata: { kept: 'yes' } });
const path = (rest) => `/sandboxes/${sbx().sandboxId}${rest}`;

const ways = {
	'systemctl restart': () => hostOut('systemctl', 'restart', 'declawd.service'),
	'SIGKILL': () => hostOut('systemctl', 'kill', '-s', 'KILL', '--kill-who=main', 'declawd.service'),
};

async function bounce(way) {
	const pid = () => hostOut('systemctl', 'show', '-P', 'MainPID', 'declawd.service').then(Number);
	const old = await pid();

	await ways[way]();
	await until('another daemon runs', async () => ![0, old].includes(await pid()), 30_000, 200);
	await until('it answers', () => get('/healthz').then((r) => r.status === 200, () => false), 30_000, 100);
	await until('the sandbox is back', () =>
		get(path('')).then((r) => r.json?.state === 'running', () => false), 30_000, 100);
}

// Reads a numbered stream to its end, across as many connections as it takes.
async function readAcross(route) {
	let last = 0;
	let text = '';

	for (;;) {
		try {
			for await (const e of events(await openStream('GET', `${route}?last_entry_id=${last}`, { agent: false }))) {
				if (e.event === 'exit')
					return { text, exitCode: e.data.exit_code };
				assert.ok(e.data.entry_id > last, 'entries only go forward');
				last = e.data.entry_id;
				text += Buffer.from(e.data.data, 'base64');
			}
		} catch (e) {
			if (e instanceof assert.AssertionError || e.status)
				throw e;
		}
		await new Promise((r) => setTimeout(r, 200));	// the daemon is away
	}
}

for (const way of Object.keys(ways)) {
	test(`${way}: the sandbox, its processes and their output survive`, { timeout: 120_000 }, async () => {
		const before = assertOk(await get(path('')));
		const waiter = await sbx().commands.run('sleep 8; echo waited', { background: true, envs: { A: 'b' } });
		const done = await sbx().commands.run('echo done before', { background: true });
		const { cmd_id: id } = assertOk(await post(path('/stdio'),
			{ cmd: 'for i in $(seq 1 3000); do echo line $i; [ $((i % 100)) = 0 ] && sleep 0.2; done' }));
		const reading = readAcross(path(`/stdio/${id}/stream`));

		await done.wait();
		await bounce(way);
		assert.deepEqual(assertOk(await get(path(''))), before, 'the same object');
		assert.equal(await sh(sbx(), 'echo new'), 'new\n');

		const listed = (await sbx().commands.list()).find((p) => p.pid === waiter.pid);

		assert.equal(listed?.cmd, 'sleep 8; echo waited');
		assert.equal(listed.envs.A, 'b');
		assert.equal((await waiter.wait()).stdout, 'waited\n');
		assert.equal((await sbx().commands.connect(done.pid).wait()).stdout, 'done before\n');

		const { text, exitCode } = await reading;

		assert.equal(exitCode, 0);
		assert.ok(text === Array.from({ length: 3000 }, (_, i) => `line ${i + 1}\n`).join(''), 'not a byte lost');
	});

	test(`${way}: a terminal and an open stdin go on`, { timeout: 120_000 }, async () => {
		const { pid } = assertOk(await post(path('/pty'), { size: { cols: 80, rows: 24 } }));
		const { cmd_id: id } = assertOk(await post(path('/stdio'), { cmd: 'cat' }));
		const send = (text) => post(path(`/stdio/${id}/stdin`), { data: Buffer.from(text).toString('base64') });

		await post(path(`/pty/${pid}/stdin`), { data: 'export KEPT=kept\n' });
		assertOk(await send('before\n'));
		await bounce(way);
		assertOk(await send('after\n'));
		assertOk(await post(path(`/stdio/${id}/stdin/close`), undefined));
		assert.equal(collect(await allEvents('GET', path(`/stdio/${id}/stream`))).stdout.toString(), 'before\nafter\n');

		const reader = allEvents('GET', path(`/pty/${pid}/stream`), { agent: false });

		await post(path(`/pty/${pid}/stdin`), { data: 'echo still-$KEPT; exit 9\n' });

		const list = await reader;

		assert.match(collect(list).data.toString(), /still-kept\r\n/);
		assert.equal(list.at(-1).data.exit_code, 9);
	});
}

for (const way of Object.keys(ways))
	test(`${way}: no request is answered before its sandbox is found again`, { timeout: 120_000 }, async () => {
		for (let round = 0; round < 3; round++) {
			let over = false;
			const bouncing = ways[way]().finally(() => {
				over = true;
			});

			// The old one may still answer, then nobody does, then the new one: each answer that comes is one of the sandbox's
			await until('an answer of the new daemon', async () => {
				const asked = over, res = await post(path('/commands'), { cmd: 'echo here' }).catch(() => null);

				if (res)
					assert.equal(assertOk(res).stdout, 'here\n');
				return asked && res;
			}, 30_000, 5);
			await bouncing;
			assert.equal(assertOk(await post(path('/commands'), { cmd: 'echo there' })).stdout, 'there\n');
		}
	});

test('a process that ended while the daemon was away is reported with all of its output', { timeout: 120_000 }, async () => {
	const { cmd_id: id } = assertOk(await post(path('/stdio'), { cmd: 'sleep 2; seq 1 20000; exit 6' }));

	await hostOut('systemctl', 'stop', 'declawd.service');
	await new Promise((r) => setTimeout(r, 4000));
	await hostOut('systemctl', 'start', 'declawd.service');
	await until('it answers', () => get(path('')).then((r) => r.json?.state === 'running', () => false), 30_000, 100);

	const got = collect(await allEvents('GET', path(`/stdio/${id}/stream`)));

	assert.equal(got.stdout.toString(), Array.from({ length: 20_000 }, (_, i) => `${i + 1}\n`).join(''));
	assert.equal(got.exitCode, 6);
});
