// SPDX-License-Identifier: GPL-2.0-or-later
//
// Seed 003, everything that outlives its request: background processes, their list, stdin, kill, wait
// and reconnect, and output as it is written.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandExitError } from '@declaw/sdk';
import { shareSandbox, sh } from './lib/sandbox.mjs';

const sbx = shareSandbox();
const empty = async () => assert.deepEqual(await sbx().commands.list(), [], 'nothing is left running');

test('a background HTTP server, used by another command, then killed', { timeout: 60_000 }, async () => {
	const handle = await sbx().commands.run('python3 -m http.server 8080', { background: true });

	assert.ok(Number.isInteger(handle.pid) && handle.pid > 0);
	assert.match(await sh(sbx(), 'curl -sf --retry 60 --retry-delay 1 --retry-connrefused http://localhost:8080'),
		/Directory listing/);
	assert.equal(await sbx().commands.kill(handle.pid), true);
	assert.equal(await sbx().commands.kill(handle.pid), false, 'it is gone');
	await empty();
});

test('list shows what runs, with its own command, environment and kind', { timeout: 30_000 }, async () => {
	const one = await sbx().commands.run('sleep 300', { background: true, envs: { MINE: 'one' } });
	const two = await sbx().commands.run('sleep 301', { background: true });
	const list = await sbx().commands.list();

	assert.deepEqual(list.map((p) => p.pid).sort(), [one.pid, two.pid].sort());
	for (const p of list)
		assert.equal(p.isPty, false);
	assert.equal(list.find((p) => p.pid === one.pid).cmd, 'sleep 300');
	assert.equal(list.find((p) => p.pid === one.pid).envs.MINE, 'one');
	assert.equal(list.find((p) => p.pid === two.pid).cmd, 'sleep 301');
	await sbx().commands.kill(one.pid);
	assert.deepEqual((await sbx().commands.list()).map((p) => p.pid), [two.pid]);
	await two.kill();
	await empty();
});

test('stdin to a running cat, then kill', { timeout: 30_000 }, async () => {
	const handle = await sbx().commands.run('cat > /tmp/lines', { background: true });

	await sbx().commands.sendStdin(handle.pid, 'line one\n');
	await sbx().commands.sendStdin(handle.pid, 'line two ü🎉\n');
	await sh(sbx(), 'until [ $(wc -l < /tmp/lines) = 2 ]; do sleep 0.1; done', { timeout: 10 });
	assert.equal(await sbx().files.read('/tmp/lines'), 'line one\nline two ü🎉\n');
	assert.equal(await sbx().commands.kill(handle.pid), true);
	await empty();
});

test('wait returns the result of a process that ends by itself', { timeout: 30_000 }, async () => {
	const out = [];
	const handle = await sbx().commands.run('sleep 0.5; echo out; echo err >&2', { background: true });
	const result = await handle.wait({ onStdout: (l) => out.push(l) });

	assert.deepEqual(result, { stdout: 'out\n', stderr: 'err\n', exitCode: 0 });
	assert.deepEqual(out, ['out\n']);
	await empty();
});

test('wait throws CommandExitError on a non-zero exit', { timeout: 30_000 }, async () => {
	const handle = await sbx().commands.run('echo no >&2; exit 3', { background: true });

	await assert.rejects(handle.wait(), (e) => e instanceof CommandExitError
		&& e.exitCode === 3 && e.stderr === 'no\n');
});

test('connect by pid and wait, also after the end', { timeout: 30_000 }, async () => {
	const { pid } = await sbx().commands.run('echo kept', { background: true });

	await sh(sbx(), `while [ -d /proc/${pid} ]; do sleep 0.1; done`, { timeout: 10 });
	for (let i = 0; i < 3; i++)
		assert.equal((await sbx().commands.connect(pid).wait()).stdout, 'kept\n', 'every time');
});

test('a background process keeps its own environment, directory, user and group', { timeout: 30_000 }, async () => {
	const handle = await sbx().commands.run(
		'id -un; pwd; echo $WHO; [ $(ps -o pgid= -p $$) = $(ps -o pid= -p $$) ] && echo leader',
		{ background: true, user: 'root', cwd: '/tmp', envs: { WHO: 'me' } });

	assert.equal((await handle.wait()).stdout, 'root\n/tmp\nme\nleader\n');
});

test('kill takes the children along', { timeout: 30_000 }, async () => {
	const handle = await sbx().commands.run('sleep 2001 & sleep 2002 & wait', { background: true });

	await sh(sbx(), 'until [ $(pgrep -cf "^sleep 200[12]") = 2 ]; do sleep 0.1; done', { timeout: 10 });
	await sbx().commands.kill(handle.pid);
	assert.equal((await sbx().commands.run('pgrep -f "^sleep 200[12]"')).stdout, '');
});

test('runStream delivers output when it is written', { timeout: 60_000 }, async () => {
	const seen = [];
	const started = performance.now();
	const result = await sbx().commands.runStream('for i in 1 2 3; do echo $i; sleep 1; done; echo bad >&2; exit 4', {
		onStdout: (text) => seen.push([text, performance.now() - started]),
	});

	assert.deepEqual(result, { stdout: '1\n2\n3\n', stderr: 'bad\n', exitCode: 4 });
	assert.equal(seen.map(([text]) => text).join(''), '1\n2\n3\n');
	assert.ok(seen[0][1] < performance.now() - started - 1500, 'the first line came long before the end');
});

test('errors have their types', { timeout: 30_000 }, async () => {
	const result = await sbx().commands.run('exit 1');

	assert.equal(result.exitCode, 1, 'foreground: no error');

	const lost = await sbx().commands.connect(999_999).wait().catch((e) => e);

	assert.ok(lost instanceof CommandExitError, 'waiting for what never was is a failed command');
	assert.equal(lost.exitCode, 1);
	assert.equal(lost.stderr, 'process not found');
});
