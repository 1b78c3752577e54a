// SPDX-License-Identifier: GPL-2.0-or-later
//
// The stdio routes: exact bytes in both directions, numbered entries, replay from anywhere, several
// readers, and an end that is always told.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { del, get, post } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { shareSandbox, sh, until } from './lib/sandbox.mjs';
import { allEvents, collect, events, openStream } from './lib/sse.mjs';

const sbx = shareSandbox();
const path = (rest = '') => `/sandboxes/${sbx().sandboxId}/stdio${rest}`;
const start = async (cmd, more) => assertOk(await post(path(), { cmd, user: 'user', ...more })).cmd_id;
const send = async (id, data) =>
	assertOk(await post(path(`/${id}/stdin`), { data: Buffer.from(data).toString('base64') }));
const close = async (id) => assertOk(await post(path(`/${id}/stdin/close`), undefined));
const stream = (id, after) => allEvents('GET', path(`/${id}/stream${after === undefined ? '' : `?last_entry_id=${after}`}`));

test('shapes: cmd_id, {}, {"killed"}; entries are numbered from 1', { timeout: 30_000 }, async () => {
	const id = await start('cat; echo end >&2');

	assert.match(id, /^[A-Za-z0-9_-]+$/);
	assert.deepEqual(await send(id, 'a\n'), {});
	assert.deepEqual(await close(id), {});

	const list = await stream(id);
	const numbers = list.slice(0, -1).map((e) => e.data.entry_id);

	assert.deepEqual(collect(list).stdout.toString(), 'a\n');
	assert.deepEqual(collect(list).stderr.toString(), 'end\n');
	assert.ok(numbers[0] >= 1 && numbers.every((n, i) => Number.isInteger(n) && (i === 0 || n > numbers[i - 1])));
	assert.equal(list.at(-1).event, 'exit');
	assert.deepEqual(list.at(-1).data, { exit_code: 0 });
	assert.equal(assertOk(await del(path(`/${id}`))).killed, false);
});

test('every byte value survives in both directions', { timeout: 60_000 }, async () => {
	const data = Buffer.concat([Buffer.from(Array.from({ length: 256 }, (_, i) => i)), randomBytes(100_000)]);
	const id = await start('cat');

	for (let i = 0; i < data.length; i += 30_001)
		await send(id, data.subarray(i, i + 30_001));
	await close(id);

	const { stdout, exitCode } = collect(await stream(id));

	assert.equal(exitCode, 0);
	assert.ok(stdout.equals(data));
});

test('replay: from the first byte, from any entry, again and again', { timeout: 60_000 }, async () => {
	const id = await start('for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.1; done');
	const all = await stream(id);
	const entries = all.slice(0, -1);

	assert.deepEqual((await stream(id)).map(({ event, data }) => ({ event, data })),
		all.map(({ event, data }) => ({ event, data })), 'the same entries with the same numbers');
	for (const [i, e] of entries.entries()) {
		const rest = await stream(id, e.data.entry_id);

		assert.deepEqual(rest.map((x) => x.data), all.slice(i + 1).map((x) => x.data));
	}
	assert.deepEqual((await stream(id, 1_000_000)).map((e) => e.event), ['exit'], 'behind the end');
});

test('a reader that reconnects loses and repeats nothing', { timeout: 60_000 }, async () => {
	const id = await start('for i in $(seq 1 400); do echo $i; [ $((i % 40)) = 0 ] && sleep 0.1; done');
	let last = 0;
	let text = '';

	for (let done = false, round = 0; !done && round < 1000; round++) {
		const res = await openStream('GET', path(`/${id}/stream?last_entry_id=${last}`), { agent: false });
		let n = 0;

		for await (const e of events(res)) {
			if (e.event === 'exit') {
				done = true;
				break;
			}
			text += Buffer.from(e.data.data, 'base64');
			last = e.data.entry_id;
			if (++n === 2)
				break;
		}
	}
	assert.equal(text, Array.from({ length: 400 }, (_, i) => `${i + 1}\n`).join(''));
});

test('several readers at once see the same', { timeout: 60_000 }, async () => {
	const id = await start('for i in 1 2 3; do echo $i; sleep 0.3; done');
	const lists = await Promise.all([stream(id), stream(id), stream(id)]);

	for (const list of lists)
		assert.equal(collect(list).stdout.toString(), '1\n2\n3\n');
});

test('output comes at once, entry by entry', { timeout: 30_000 }, async () => {
	const id = await start('echo first; sleep 2; echo second');
	const list = await stream(id);
	const exit = list.at(-1).at;

	assert.ok(list[0].at < exit - 1000, 'the first line did not wait for the second');
});

test('killed: the stream still opens, replays and ends with -1', { timeout: 30_000 }, async () => {
	const id = await start('echo before; sleep 300');

	await until('it wrote', async () => {
		const res = await openStream('GET', path(`/${id}/stream`), { agent: false });

		for await (const e of events(res))
			return e.event === 'stdout';
		return false;
	});
	assert.equal(assertOk(await del(path(`/${id}`))).killed, true);

	const got = collect(await stream(id));

	assert.equal(got.stdout.toString(), 'before\n');
	assert.equal(got.exitCode, -1);
});

test('a reader attached before the kill is told, too', { timeout: 30_000 }, async () => {
	const id = await start('sleep 300');
	const reader = stream(id);

	await new Promise((r) => setTimeout(r, 300));
	await del(path(`/${id}`));
	assert.equal(collect(await reader).exitCode, -1);
});

test('died by a signal of its own: -1', { timeout: 30_000 }, async () => {
	assert.equal(collect(await stream(await start('kill -TERM $$'))).exitCode, -1);
});

test('a reader that leaves does not kill', { timeout: 30_000 }, async () => {
	const id = await start('echo up; cat');
	const res = await openStream('GET', path(`/${id}/stream`), { agent: false });

	for await (const e of events(res)) {
		assert.equal(e.event, 'stdout');
		break;
	}
	await send(id, 'still here\n');
	await close(id);
	assert.equal(collect(await stream(id)).stdout.toString(), 'up\nstill here\n');
});

test('user, cwd, envs', { timeout: 30_000 }, async () => {
	const id = await start('id -un; pwd; echo $A', { user: 'root', cwd: '/tmp', envs: { A: 'b' } });

	assert.equal(collect(await stream(id)).stdout.toString(), 'root\n/tmp\nb\n');
});

test('errors: unknown ids, bad base64, bad bodies, writes after the end', { timeout: 30_000 }, async () => {
	for (const res of [
		await get(path('/nope/stream')), await del(path('/nope')),
		await post(path('/nope/stdin'), { data: '' }), await post(path('/nope/stdin/close'), undefined),
	])
		assertError(res, 404);
	assertError(await post(path(), {}), 400);
	assertError(await post(path(), { cmd: 'true', user: 'no-such-user' }), 400);

	const id = await start('cat');

	for (const data of ['not base64!', 5, undefined])
		assertError(await post(path(`/${id}/stdin`), { data }), 400);
	assertError(await get(path(`/${id}/stream?last_entry_id=x`)), 400);
	await close(id);
	assert.deepEqual(await close(id), {}, 'closing twice is harmless');
	await stream(id);

	const late = await post(path(`/${id}/stdin`), { data: 'eA==' });

	assert.ok(late.status === 200 || late.status === 409, late.text);
});

test('16 MiB through stdout, exact', { timeout: 180_000 }, async () => {
	const id = await start('head -c 16777216 /dev/urandom > /tmp/16m && cat /tmp/16m && sha256sum /tmp/16m >&2; rm /tmp/16m');
	const got = collect(await stream(id));

	assert.equal(got.stdout.length, 16 << 20);
	assert.equal(got.stderr.toString().split(' ')[0], createHash('sha256').update(got.stdout).digest('hex'));
	assert.equal(got.exitCode, 0);
});

test('a stalled reader stops nobody else', { timeout: 120_000 }, async () => {
	const flood = await start('yes flood | head -c 60000000');
	const stalled = await openStream('GET', path(`/${flood}/stream`), { agent: false });

	stalled.pause();
	for (let i = 0; i < 10; i++)
		assert.equal(await sh(sbx(), `echo ${i}`), `${i}\n`);
	stalled.destroy();
	await del(path(`/${flood}`));
});
