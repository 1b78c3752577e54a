// SPDX-License-Identifier: GPL-2.0-or-later
//
// The command routes themselves: shapes, the SSE framing, what happens to a process when its client
// goes away, timeouts in the stream.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { del, get, open, post } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { shareSandbox, sh, until } from './lib/sandbox.mjs';
import { allEvents, events, openStream } from './lib/sse.mjs';

const sbx = shareSandbox();
const path = (rest = '') => `/sandboxes/${sbx().sandboxId}/commands${rest}`;
const background = async (cmd, more) =>
	assertOk(await post(path(), { cmd, background: true, ...more })).pid;
const running = async (pattern) => (await sbx().commands.run(`pgrep -f '${pattern}'`)).stdout !== '';

test('background: {"pid"}, list, stdin, kill, wait have their shapes', { timeout: 30_000 }, async () => {
	const pid = await background('cat');
	const list = assertOk(await get(path()));

	assert.ok(Array.isArray(list));
	assert.deepEqual(Object.keys(list[0]).sort().filter((k) => ['cmd', 'envs', 'is_pty', 'pid'].includes(k)),
		['cmd', 'envs', 'is_pty', 'pid']);
	assert.deepEqual({ ...list[0], envs: null }, { ...list[0], pid, cmd: 'cat', is_pty: false, envs: null });
	assert.deepEqual(assertOk(await post(path(`/${pid}/stdin`), { data: 'x' })), {});
	assert.equal(assertOk(await del(path(`/${pid}`))).killed, true);
	assert.equal(assertOk(await del(path(`/${pid}`))).killed, false);

	const over = assertOk(await get(path(`/${pid}/wait`)));

	for (const key of ['stdout', 'stderr'])
		assert.equal(typeof over[key], 'string');
	assert.ok(Number.isInteger(over.exit_code));
});

test('unknown pids: kill says false, wait says so in words, stdin is 404', { timeout: 30_000 }, async () => {
	for (const pid of [999_999, 1, 2 ** 31])
		assert.equal(assertOk(await del(path(`/${pid}`))).killed, false, String(pid));
	assert.deepEqual(assertOk(await get(path('/999999/wait'))),
		{ stdout: '', stderr: 'process not found', exit_code: 1 });
	assertError(await post(path('/999999/stdin'), { data: 'x' }), 404);
	for (const pid of ['abc', '-1', '0', '1.5', '99999999999999999999']) {
		const res = await del(path(`/${pid}`));

		assert.ok(res.status < 500, `${pid}: ${res.status} ${res.text}`);
		assert.notEqual(res.json?.killed, true);
	}
});

test('stdin: wrong bodies are refused, an ended process is a conflict', { timeout: 30_000 }, async () => {
	const pid = await background('cat');

	assertError(await post(path(`/${pid}/stdin`), {}), 400);
	assertError(await post(path(`/${pid}/stdin`), { data: 5 }), 400);
	await del(path(`/${pid}`));

	const res = await post(path(`/${pid}/stdin`), { data: 'x' });

	assert.ok([404, 409].includes(res.status), res.text);
	assertError(res, res.status);
});

test('stream: events of both naming styles, exit last', { timeout: 30_000 }, async () => {
	const list = await allEvents('POST', path('/stream'), {
		json: { cmd: 'echo out; sleep 0.3; echo err >&2; exit 3', stream: true, user: 'user', timeout: 20 },
	});

	for (const e of list.slice(0, -1)) {
		assert.match(e.event, /^(stdout|stderr)$/);
		assert.equal(e.data.type, e.event);
		assert.equal(e.data.stream, e.event);
		assert.equal(typeof e.data.data, 'string');
	}
	assert.deepEqual(list.filter((e) => e.event === 'stdout').map((e) => e.data.data).join(''), 'out\n');
	assert.deepEqual(list.filter((e) => e.event === 'stderr').map((e) => e.data.data).join(''), 'err\n');
	assert.equal(list.at(-1).event, 'exit');
	assert.equal(list.at(-1).data.exit_code, 3);
});

test('stream: UTF-8 is never cut, separators are escaped, bad bytes replaced', { timeout: 60_000 }, async () => {
	const cmd = `python3 -c "
import sys, time
for b in 'ü🎉\\u2028\\u0085x'.encode() + bytes([0xff, 0x41]):
    sys.stdout.buffer.write(bytes([b])); sys.stdout.flush(); time.sleep(0.02)"`;
	const list = await allEvents('POST', path('/stream'), { json: { cmd, timeout: 30 } });
	const text = list.filter((e) => e.event === 'stdout').map((e) => e.data.data).join('');

	assert.equal(text, 'ü🎉\u2028\u0085x\ufffdA');
});

test('stream: a timeout is an error event, then exit 124', { timeout: 30_000 }, async () => {
	const list = await allEvents('POST', path('/stream'), { json: { cmd: 'echo a; sleep 3003', timeout: 1 } });

	assert.deepEqual(list.map((e) => e.event), ['stdout', 'error', 'exit']);
	assert.match(list[1].data.error, /\S/);
	assert.equal(list[2].data.exit_code, 124);
	assert.equal(await running('^sleep 3003'), false);
});

test('stream: headers come before the first output, silence is filled with comments', { timeout: 40_000 }, async () => {
	const started = performance.now();
	const res = await openStream('POST', path('/stream'), { json: { cmd: 'sleep 3; echo x', timeout: 6 } });

	assert.ok(performance.now() - started < 2500, 'headers first');

	let first = null;
	let raw = '';

	res.setEncoding('utf8');
	for await (const chunk of res) {
		first ??= chunk;
		raw += chunk;
	}
	assert.match(first, /^:/, 'a heartbeat within a third of the timeout');
	assert.match(raw, /event: exit\n/);
});

test('stream errors before the first byte are plain errors', { timeout: 30_000 }, async () => {
	assertError(await post(path('/stream'), { stream: true }), 400);
	assertError(await post(path('/stream'), { cmd: 'true', user: 'no-such-user' }), 400);
	assertError(await post('/sandboxes/sbx-zzzzzzzzzz/commands/stream', { cmd: 'true' }), 404, 'sandbox_not_found');
});

test('a foreground command ends with its client', { timeout: 30_000 }, async () => {
	const leave = new AbortController();
	const gone = open('POST', path(), {
		json: { cmd: 'sleep 4001', timeout: 60 }, signal: leave.signal, agent: false,
	});

	gone.catch(() => {});
	await until('it runs', () => running('^sleep 4001'));
	leave.abort();
	await until('it is gone', async () => !await running('^sleep 4001'));
});

test('a streamed command ends with its client', { timeout: 30_000 }, async () => {
	const res = await openStream('POST', path('/stream'), { json: { cmd: 'echo up; sleep 4002' }, agent: false });

	for await (const e of events(res)) {
		assert.equal(e.data.data, 'up\n');
		break;	// leaving the loop destroys the response
	}
	await until('it is gone', async () => !await running('^sleep 4002'));
	assert.deepEqual(assertOk(await get(path())), []);
});

test('a background process goes on, whoever waits for it and leaves', { timeout: 30_000 }, async () => {
	const pid = await background('sleep 2; echo still');
	const leave = new AbortController();
	const waiting = open('GET', path(`/${pid}/wait`), { signal: leave.signal, agent: false });

	waiting.catch(() => {});
	setTimeout(() => leave.abort(), 300);
	assert.equal(assertOk(await get(path(`/${pid}/wait`))).stdout, 'still\n');
});

test('a background process with a timeout ends in time', { timeout: 30_000 }, async () => {
	const pid = await background('sleep 5005', { timeout: 0 });

	await sh(sbx(), 'sleep 1');
	assert.equal(await running('^sleep 5005'), true, 'timeout 0: none');
	await del(path(`/${pid}`));
});

test('1 MiB to stdin of a reader that is slow', { timeout: 60_000 }, async () => {
	const pid = await background('sleep 1; sha256sum');
	const part = 'z'.repeat(64 << 10);
	const pending = [];

	for (let i = 0; i < 8; i++)
		pending.push(post(path(`/${pid}/stdin`), { data: part }));
	for (const res of await Promise.all(pending))
		assertOk(res);
	await del(path(`/${pid}`));
});
