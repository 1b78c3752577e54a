// SPDX-License-Identifier: GPL-2.0-or-later
//
// Output without mercy: 1 GiB exact to the last byte, floods that nobody reads, readers that stall
// beside others that do not, and what the daemon's memory does meanwhile.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { del, get, post } from './lib/api.mjs';
import { assertOk } from './lib/check.mjs';
import { daemonHolds } from './lib/growth.mjs';
import { shareSandbox, sh, until } from './lib/sandbox.mjs';
import { events, openStream } from './lib/sse.mjs';

const sbx = shareSandbox({ timeout: 7200 });
const path = (rest) => `/sandboxes/${sbx().sandboxId}${rest}`;
const minutes = (n) => n * 60_000;

// Ten bytes a line, no two lines alike: what is lost, repeated or moved changes the sum.
const first = 100_000_000;
const lineCount = 107_374_182;

function expectedHash() {
	const hash = createHash('sha256');

	for (let at = first; at < first + lineCount; at += 100_000) {
		const end = Math.min(at + 100_000, first + lineCount);

		hash.update(Array.from({ length: end - at }, (_, i) => `${at + i}\n`).join(''));
	}
	return hash.digest('hex');
}

test('1 GiB of stdout, sha256 compared', { timeout: minutes(30) }, async () => {
	const before = await daemonHolds();
	const { cmd_id: id } = assertOk(await post(path('/stdio'), { cmd: `exec seq ${first} ${first + lineCount - 1}` }));
	const hash = createHash('sha256');
	let bytes = 0;
	let exit;

	for await (const e of events(await openStream('GET', path(`/stdio/${id}/stream`), { agent: false }))) {
		assert.ok(['stdout', 'exit'].includes(e.event), `${e.event} ${JSON.stringify(e.data)}`);
		if (e.event === 'exit') {
			exit = e.data.exit_code;
			break;
		}

		const data = Buffer.from(e.data.data, 'base64');

		hash.update(data);
		bytes += data.length;
	}
	assert.equal(exit, 0);
	assert.equal(bytes, lineCount * 10);
	assert.equal(hash.digest('hex'), expectedHash());

	const after = await daemonHolds();

	assert.ok(after.rssKib - before.rssKib < 8 << 10, `memory grew by ${after.rssKib - before.rssKib} KiB`);
});

test('a flood nobody reads: bounded memory and disk, an explicit gap', { timeout: minutes(10) }, async () => {
	const before = await daemonHolds();
	const { cmd_id: id } = assertOk(await post(path('/stdio'), { cmd: 'seq 100000000 130000000; echo end >&2' }));

	await sh(sbx(), 'while pgrep -x seq > /dev/null; do sleep 1; done', { timeout: 500 });

	const after = await daemonHolds();
	const list = [];
	let bytes = 0;

	assert.ok(after.rssKib - before.rssKib < 8 << 10, `memory grew by ${after.rssKib - before.rssKib} KiB`);
	for await (const e of events(await openStream('GET', path(`/stdio/${id}/stream`), { agent: false }))) {
		if (e.event === 'gap' || e.event === 'exit' || e.event === 'stderr')
			list.push(e);
		else
			bytes += Buffer.from(e.data.data, 'base64').length;
		if (e.event === 'exit')
			break;
	}
	assert.deepEqual(list.map((e) => e.event), ['gap', 'stderr', 'exit']);
	assert.ok(list[0].data.from_entry_id >= 1 && list[0].data.to_entry_id > list[0].data.from_entry_id);
	assert.ok(bytes >= 32 << 20, `the newest ${bytes} bytes are kept`);
});

test('a stalled reader slows its own process and nobody else', { timeout: minutes(5) }, async () => {
	const before = await daemonHolds();
	const { cmd_id: flood } = assertOk(await post(path('/stdio'), { cmd: 'yes flood' }));
	const stalled = await openStream('GET', path(`/stdio/${flood}/stream`), { agent: false });

	stalled.pause();

	const { cmd_id: busy } = assertOk(await post(path('/stdio'), { cmd: 'exec seq 1000000' }));
	let text = 0;

	for await (const e of events(await openStream('GET', path(`/stdio/${busy}/stream`), { agent: false }))) {
		if (e.event === 'exit')
			break;
		text += Buffer.from(e.data.data, 'base64').length;
	}
	assert.equal(text, 6_888_896, 'the busy neighbour gets everything');
	for (let i = 0; i < 20; i++)
		assert.equal(await sh(sbx(), `echo ${i}`), `${i}\n`);

	const after = await daemonHolds();

	assert.ok(after.rssKib - before.rssKib < 16 << 10, `memory grew by ${after.rssKib - before.rssKib} KiB`);
	stalled.destroy();
	await del(path(`/stdio/${flood}`));
	await until('the flood ends', async () =>
		(await sbx().commands.run('pgrep -x yes')).stdout === '');
});

test('64 MiB as the result of one foreground command', { timeout: minutes(10) }, async () => {
	const res = await post(path('/commands'), { cmd: 'seq 10000000 15000000', timeout: 500 });

	assert.equal(res.status, 200);
	if (res.json.truncated)
		assert.ok(res.json.stdout.endsWith('15000000\n'), 'what is kept is the end, and it says so');
	else
		assert.equal(res.json.stdout.length, 5_000_001 * 9);
	assert.equal((await get('/healthz')).status, 200);
});
