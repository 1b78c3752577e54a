// SPDX-License-Identifier: GPL-2.0-or-later
//
// Seed 003, foreground commands: run, its options, its callbacks, exit codes, timeout, and the three
// languages of the default template. What needs background processes is in dataplane-seed003.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TimeoutError } from '@declaw/sdk';
import { shareSandbox, sh } from './lib/sandbox.mjs';

const sbx = shareSandbox();

test('run a command and read its result', { timeout: 30_000 }, async () => {
	const result = await sbx().commands.run("echo 'Hello from Declaw!'");

	assert.deepEqual(result, { stdout: 'Hello from Declaw!\n', stderr: '', exitCode: 0 });
});

test('options: envs, cwd, user, timeout', { timeout: 30_000 }, async () => {
	await sbx().files.write('/workspace/script.py',
		'import os, getpass\n'
		+ 'print(os.environ["PYTHONPATH"], os.getcwd(), getpass.getuser(), os.getuid())\n');

	const result = await sbx().commands.run('python3 script.py', {
		envs: { PYTHONPATH: '/opt/mylib' }, cwd: '/workspace', user: 'root', timeout: 30,
	});

	assert.deepEqual(result, { stdout: '/opt/mylib /workspace root 0\n', stderr: '', exitCode: 0 });
});

test('callbacks get the collected lines', { timeout: 30_000 }, async () => {
	const out = [];
	const err = [];
	const result = await sbx().commands.run(
		'for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; echo done >&2',
		{ onStdout: (line) => out.push(line), onStderr: (line) => err.push(line) });

	assert.equal(result.exitCode, 0);
	assert.deepEqual(out, ['1\n', '2\n', '3\n', '4\n', '5\n']);
	assert.deepEqual(err, ['done\n']);
});

test('the same from python, flushed line by line', { timeout: 30_000 }, async () => {
	const out = [];
	const result = await sbx().commands.run(
		'python3 -c "import time; [print(i, flush=True) or time.sleep(0.1) for i in range(5)]"',
		{ onStdout: (line) => out.push(line) });

	assert.equal(result.exitCode, 0);
	assert.deepEqual(out, ['0\n', '1\n', '2\n', '3\n', '4\n']);
});

test('a non-zero exit code is a result, not an error', { timeout: 30_000 }, async () => {
	const result = await sbx().commands.run('echo sorry >&2; exit 1');

	assert.deepEqual(result, { stdout: '', stderr: 'sorry\n', exitCode: 1 });
});

test('a timeout is a TimeoutError and kills the whole group', { timeout: 30_000 }, async () => {
	const started = Date.now();

	await assert.rejects(sbx().commands.run('sleep 1009 & sleep 1010', { timeout: 2 }), TimeoutError);
	assert.ok(Date.now() - started < 15_000, 'answered near its deadline');
	assert.equal((await sbx().commands.run('pgrep -f "^sleep 10"')).stdout, '', 'nothing survives it');
	assert.deepEqual(await sbx().commands.list(), []);
});

test('python, node and go one-liners print 4', { timeout: 240_000 }, async () => {
	assert.equal(await sh(sbx(), "python3 -c 'print(2+2)'"), '4\n');
	assert.equal(await sh(sbx(), "node -e 'console.log(2+2)'"), '4\n');
	await sbx().files.write('/tmp/main.go', `
package main
import "fmt"
func main() { fmt.Println(2+2) }
`);
	assert.equal(await sh(sbx(), 'go run /tmp/main.go'), '4\n', 'within the default timeout of 60 s');
});

test('the default template has what the documentation says', { timeout: 30_000 }, async () => {
	const tools = 'python3 node go curl git sh bash ls cat grep sed awk find tar gzip ps pgrep ip';
	const found = await sh(sbx(), `for t in ${tools}; do command -v $t >/dev/null && echo $t; done`);

	assert.deepEqual(found.trimEnd().split('\n'), tools.split(' '));
});
