// SPDX-License-Identifier: GPL-2.0-or-later
//
// Pause and resume: what keeps still, what goes on where it was, who may wake a sandbox, and the clock.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { del, filePath, get, patch, post } from './lib/api.mjs';
import { assertError, assertOk, assertTimestamp } from './lib/check.mjs';
import { hostOut, onHost, scopeOf } from './lib/host.mjs';
import { Sandbox, shareSandbox, sh, until, withSandbox } from './lib/sandbox.mjs';

const sbx = shareSandbox({ timeout: 600 });
const path = (rest = '') => `/sandboxes/${sbx().sandboxId}${rest}`;
const run = (cmd) => post(path('/commands'), { cmd });
const pause = async () => assertOk(await post(path('/pause')));
const resume = async () => assertOk(await post(path('/resume')));
const pause_ms = 1500;

async function cpuTicks(id) {
	const pids = (await hostOut('systemctl', 'show', '-P', 'ControlGroup', scopeOf(id))).trim();
	const pid = (await hostOut('cat', `/sys/fs/cgroup${pids}/cgroup.procs`)).trim().split('\n')[0];
	const fields = (await hostOut('cat', `/proc/${pid}/stat`)).replace(/^.*\) /, '').split(' ');

	return Number(fields[11]) + Number(fields[12]);
}

test('paused: says so, answers 409, burns nothing; resumed: goes on', { timeout: 60_000 }, async () => {
	const counter = await sbx().commands.run('i=0; while :; do i=$((i+1)); echo $i > /tmp/i; sleep 0.05; done',
		{ background: true });

	await until('it counts', async () => (await run('cat /tmp/i')).json?.stdout > 2);
	await pause();
	assertError(await run('true'), 409, 'sandbox_paused');
	assertError(await get(filePath(sbx().sandboxId, '/tmp/i')), 409, 'sandbox_paused');
	assertError(await get(path('/commands')), 409, 'sandbox_paused');
	assertError(await post(path('/pause')), 409);
	assert.deepEqual(assertOk(await get(path('/status'))), { is_running: false });

	const before = await cpuTicks(sbx().sandboxId);

	await new Promise((r) => setTimeout(r, pause_ms));
	assert.ok(await cpuTicks(sbx().sandboxId) - before <= 5, 'no CPU used while paused');
	await resume();
	await resume();		// twice is no error
	assert.deepEqual(assertOk(await get(path('/status'))), { is_running: true });

	const first = Number(assertOk(await run('cat /tmp/i')).stdout);

	await until('it counts on', async () => Number((await run('cat /tmp/i')).json?.stdout) > first);
	assert.equal((await sbx().commands.list()).some((p) => p.pid === counter.pid), true);
	await counter.kill();
});

test('GET shows it paused and changes nothing; the next use wakes it', { timeout: 60_000 }, async () => {
	await pause();

	const seen = assertOk(await get(path()));

	assert.equal(seen.state, 'paused');
	assert.equal(seen.end_at, null, 'no deadline counts');
	assert.equal(assertOk(await get(path())).state, 'paused', 'looking twice does not resume either');
	assert.equal(assertOk(await run('echo awake')).stdout, 'awake\n');

	const after = assertOk(await get(path()));

	assert.equal(after.state, 'running');
	assert.ok(Math.abs(assertTimestamp(after.end_at) - Date.now() - 600_000) < 10_000, 'a new run with the whole timeout');
});

test('the SDK\'s way: pause, connect, run', { timeout: 60_000 }, async () => {
	await sh(sbx(), 'echo kept > /dev/shm/memory; echo kept > /home/user/disk');
	await sbx().pause();
	assert.equal(await sbx().isRunning(), false);

	const again = await Sandbox.connect(sbx().sandboxId);

	assert.equal(await sh(again, 'cat /dev/shm/memory /home/user/disk'), 'kept\nkept\n');
});

test('the clock is right before the first command, and the time away is not seen by its timeout', { timeout: 60_000 }, async () => {
	const slow = post(path('/commands'), { cmd: 'touch /tmp/begun; sleep 2; echo slept', timeout: 6 });

	await until('it runs', async () => assertOk(await run('ls /tmp/begun || true')).stdout);
	await pause();
	await new Promise((r) => setTimeout(r, 6500));
	assertOk(await get(path()));

	const { stdout } = assertOk(await run('date +%s.%N'));

	assert.ok(Math.abs(Number(stdout) * 1000 - Date.now()) < 1500, `guest ${stdout} host ${Date.now() / 1000}`);
	assert.equal(assertOk(await slow).stdout, 'slept\n', 'a pause is not held against a command');
});

test('a deadline set while paused counts from the resume', { timeout: 60_000 }, async () => {
	await pause();
	assertOk(await patch(path('/timeout'), { timeout: 500 }));
	assert.equal(assertOk(await get(path())).end_at, null);
	await resume();

	const { json } = await get(path());

	assert.equal(json.timeout, 500);
	assert.ok(Math.abs(assertTimestamp(json.end_at) - Date.now() - 500_000) < 10_000);
});

test('auto_resume: use wakes it without a look before', { timeout: 90_000 }, async () => {
	const { sandbox_id: id } = assertOk(await post('/sandboxes', { lifecycle: { on_timeout: 'kill', auto_resume: true } }), 201);

	try {
		assertOk(await post(`/sandboxes/${id}/pause`));
		assert.deepEqual(assertOk(await get(`/sandboxes/${id}/status`)), { is_running: false });

		const all = await Promise.all([
			...Array.from({ length: 5 }, (_, i) => post(`/sandboxes/${id}/commands`, { cmd: `echo ${i}` })),
			post(`/sandboxes/${id}/files`, { path: '/tmp/woke', data: 'yes' }),
			get(`/sandboxes/${id}/commands`), post(`/sandboxes/${id}/resume`),
		]);

		for (const res of all)
			assertOk(res);
		assert.deepEqual(all.slice(0, 5).map((r) => r.json.stdout), ['0\n', '1\n', '2\n', '3\n', '4\n']);
	} finally {
		await del(`/sandboxes/${id}`);
	}
});

test('a paused sandbox can be killed', { timeout: 60_000 }, async () => {
	const id = await withSandbox({}, async (mine) => {
		await mine.pause();
		assert.equal(await mine.kill({ wait: true }), true);
		return mine.sandboxId;
	});

	assert.equal((await get(`/sandboxes/${id}`)).json.state, 'killed');
	assertError(await post(`/sandboxes/${id}/pause`), 410);
	assertError(await post(`/sandboxes/${id}/resume`), 410);
	assert.equal((await onHost('systemctl', 'is-active', '-q', scopeOf(id))).code !== 0, true);
});
