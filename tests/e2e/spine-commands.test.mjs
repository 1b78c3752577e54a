// SPDX-License-Identifier: GPL-2.0-or-later
//
// Foreground commands beyond the examples: who runs where with which environment, how an end is
// reported, and that output is exact whatever its bytes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { post } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { shareSandbox, sh } from './lib/sandbox.mjs';

const sbx = shareSandbox({
	envs: { FROM_SESSION: 'session', BOTH: 'session', DECLAW_SANDBOX: 'session' },
});
const run = (body) => post(`/sandboxes/${sbx().sandboxId}/commands`, body);

test('the default user is `user` in its home', { timeout: 30_000 }, async () => {
	assert.equal(await sh(sbx(), 'id -un; pwd; echo $HOME; echo $USER'),
		'user\n/home/user\n/home/user\nuser\n');
});

test('root works, in its own home', { timeout: 30_000 }, async () => {
	assert.equal(await sh(sbx(), 'id -u; pwd; echo $HOME', { user: 'root' }), '0\n/root\n/root\n');
	assert.equal(await sh(sbx(), 'cat /etc/shadow | wc -l', { user: 'root' })
		.then((n) => Number(n) > 5), true);
});

test('`user` is not root', { timeout: 30_000 }, async () => {
	const r = await sbx().commands.run('cat /etc/shadow');

	assert.notEqual(r.exitCode, 0);
	assert.match(r.stderr, /Permission denied/);
});

test('an unknown user is refused', { timeout: 30_000 }, async () => {
	assertError(await run({ cmd: 'true', user: 'nobody-here' }), 400);
});

test('cwd: taken, spaces kept, a missing one refused', { timeout: 30_000 }, async () => {
	assert.equal(await sh(sbx(), 'pwd', { cwd: '/tmp' }), '/tmp\n');
	await sh(sbx(), 'mkdir -p "/tmp/a dir ü"');
	assert.equal(await sh(sbx(), 'pwd', { cwd: '/tmp/a dir ü' }), '/tmp/a dir ü\n');

	const missing = await run({ cmd: 'true', cwd: '/no/such/dir' });

	assert.ok(missing.status >= 400 && missing.status < 500, missing.text);
	assertError(missing, missing.status);
});

test('environment: session < command < DECLAW_*', { timeout: 30_000 }, async () => {
	const envs = { BOTH: 'command', FROM_COMMAND: 'a b\nc "d" $e', DECLAW_SANDBOX: 'command' };
	const out = await sh(sbx(),
		'printf "%s|%s|%s|%s" "$FROM_SESSION" "$BOTH" "$FROM_COMMAND" "$DECLAW_SANDBOX"', { envs });

	assert.equal(out, 'session|command|a b\nc "d" $e|true');
	assert.equal(await sh(sbx(), 'echo "$BOTH$FROM_COMMAND"'), 'session\n', 'envs of a command end with it');
});

test('exit codes 0 to 255 and death by signal', { timeout: 60_000 }, async () => {
	for (const code of [0, 1, 2, 124, 126, 127, 128, 255])
		assert.equal((await sbx().commands.run(`exit ${code}`)).exitCode, code);
	for (const [name, number] of [['KILL', 9], ['TERM', 15], ['SEGV', 11]]) {
		const { exitCode } = await sbx().commands.run(`kill -${name} $$`);

		assert.equal(exitCode, 128 + number, `SIG${name}, as a shell would report it`);
	}
	assert.equal((await sbx().commands.run('no-such-program')).exitCode, 127);
});

test('the answer of a foreground command has the three fields', { timeout: 30_000 }, async () => {
	const json = assertOk(await run({ cmd: 'echo o; echo e >&2; exit 3', user: 'user', timeout: 10 }));

	assert.equal(json.stdout, 'o\n');
	assert.equal(json.stderr, 'e\n');
	assert.equal(json.exit_code, 3);
});

test('shell syntax: pipes, quotes, newlines, a here document, unicode', { timeout: 30_000 }, async () => {
	assert.equal(await sh(sbx(), 'printf "b\\na\\n" | sort'), 'a\nb\n');
	assert.equal(await sh(sbx(), 'cat <<"X"\n$HOME \'\\\nX\n'), "$HOME '\\\n");
	assert.equal(await sh(sbx(), 'echo "Grüße 日本 🎉"'), 'Grüße 日本 🎉\n');
	assert.equal(await sh(sbx(), 'for i in 1 2\ndo\n\techo $i\ndone'), '1\n2\n');
});

test('output that is no UTF-8 comes with replacement characters', { timeout: 30_000 }, async () => {
	assert.equal(await sh(sbx(), "printf 'a\\377b\\300\\257c'"), 'a\ufffdb\ufffd\ufffdc');
	assert.equal(await sh(sbx(), "printf 'x\\0y'"), 'x\0y', 'NUL survives JSON');
	assert.equal(await sh(sbx(), "printf '\\342\\202'"), '\ufffd', 'a sequence cut at the end');
	assert.equal(await sh(sbx(), "printf '\\033[1m\\t\\r\\n'"), '\x1b[1m\t\r\n', 'control characters');
});

test('8 MiB of stdout arrive whole', { timeout: 120_000 }, async () => {
	const cmd = 'yes 0123456789abcde | head -c 8388608; yes e | head -c 100000 >&2';
	const r = await sbx().commands.run(cmd, { timeout: 100 });

	assert.equal(r.exitCode, 0);
	assert.equal(r.stdout.length, 8 << 20);
	assert.ok(r.stdout === '0123456789abcde\n'.repeat(1 << 19));
	assert.ok(r.stderr === 'e\n'.repeat(50_000));
});

test('a child left in the background does not hold the command, whose own output is complete', { timeout: 30_000 }, async () => {
	const out = await sh(sbx(), 'sleep 25 & seq 20000 | tail -n 1; echo early');

	assert.equal(out, '20000\nearly\n', 'all that was written before the exit, and no waiting for the child');
});

test('stdin of a foreground command is empty, not missing', { timeout: 30_000 }, async () => {
	assert.equal(await sh(sbx(), 'cat; echo end'), 'end\n');
});

test('timeouts: fractions, and 0 for none', { timeout: 30_000 }, async () => {
	assertError(await run({ cmd: 'sleep 20', timeout: 0.5 }), 408);
	assertOk(await run({ cmd: 'sleep 0.2', timeout: 0 }));
});

test('several commands at once do not mix', { timeout: 60_000 }, async () => {
	const n = 8;
	const results = await Promise.all(Array.from({ length: n }, (_, i) =>
		sh(sbx(), `for j in 1 2 3; do echo ${i}:$j; sleep 0.05; done`)));

	for (const [i, out] of results.entries())
		assert.equal(out, `${i}:1\n${i}:2\n${i}:3\n`);
	assert.deepEqual(await sbx().commands.list(), []);
});
