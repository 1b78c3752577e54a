// SPDX-License-Identifier: GPL-2.0-or-later
//
// Seed 004, all of its examples: a process whose stdin stays open, driven from outside.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shareSandbox } from './lib/sandbox.mjs';

const sbx = shareSandbox();
const textOf = (chunks) => Buffer.concat(chunks.map((c) => Buffer.from(c))).toString();

test('quick start: cat echoes what it is sent', { timeout: 30_000 }, async () => {
	const chunks = [];
	const proc = await sbx().stdio.start('cat', { onStdout: (d) => chunks.push(d) });

	await proc.sendStdin('hello from stdio!\n');
	await proc.closeStdin();

	const result = await proc.wait();

	assert.equal(textOf(chunks).trim(), 'hello from stdio!');
	assert.equal(result.exitCode, 0);
});

test('output only asked for after the end is all there', { timeout: 30_000 }, async () => {
	const proc = await sbx().stdio.start('cat');
	const chunks = [];

	await proc.sendStdin('hello from stdio!\n');
	await proc.closeStdin();

	const result = await proc.stream({ onStdout: (d) => chunks.push(d) });

	assert.equal(textOf(chunks), 'hello from stdio!\n');
	assert.equal(result.exitCode, 0);
});

test('multi-round interaction', { timeout: 30_000 }, async () => {
	const replies = [];
	const proc = await sbx().stdio.start(
		"sh -c 'while read line; do echo \"reply: $line\"; done'", { onStdout: (d) => replies.push(d) });

	for (let i = 0; i < 5; i++)
		await proc.sendStdin(`message ${i}\n`);
	await proc.closeStdin();
	assert.equal((await proc.wait()).exitCode, 0);
	assert.equal(textOf(replies), [0, 1, 2, 3, 4].map((i) => `reply: message ${i}\n`).join(''));
});

test('environment and working directory', { timeout: 30_000 }, async () => {
	const out = [];
	const proc = await sbx().stdio.start("sh -c 'echo $GREETING from $(pwd)'", {
		envs: { GREETING: 'hello' }, cwd: '/tmp', onStdout: (d) => out.push(d),
	});

	await proc.wait();
	assert.equal(textOf(out), 'hello from /tmp\n');
});

test('killing a process: exit code -1', { timeout: 30_000 }, async () => {
	const proc = await sbx().stdio.start('sleep 300');

	await new Promise((r) => setTimeout(r, 1000));
	assert.equal(await proc.kill(), true);
	assert.equal((await proc.wait()).exitCode, -1);
	assert.equal(await proc.kill(), false, 'once is enough');
});

test('stdout and stderr stay apart', { timeout: 30_000 }, async () => {
	const out = [];
	const err = [];
	const proc = await sbx().stdio.start('echo to out; echo to err >&2; exit 7', {
		onStdout: (d) => out.push(d), onStderr: (d) => err.push(d),
	});

	assert.equal((await proc.wait()).exitCode, 7);
	assert.equal(textOf(out), 'to out\n');
	assert.equal(textOf(err), 'to err\n');
});

test('replies arrive between the questions, not at the end', { timeout: 60_000 }, async () => {
	let wake;
	const proc = await sbx().stdio.start(
		'python3 -c "import sys\nfor line in sys.stdin: print(eval(line), flush=True)"',
		{ onStdout: (d) => wake?.(Buffer.from(d).toString()) });

	for (let i = 1; i <= 5; i++) {
		const reply = new Promise((resolve) => { wake = resolve; });

		await proc.sendStdin(`${i} * ${i}\n`);
		assert.equal(await reply, `${i * i}\n`);
	}
	await proc.closeStdin();
	assert.equal((await proc.wait()).exitCode, 0);
	assert.deepEqual(await sbx().commands.list(), []);
});
