// SPDX-License-Identifier: GPL-2.0-or-later
//
// Raw files as large as they may be (raw_body_max, 500 MiB), exact in both directions, and one byte more; more where it is
// configured.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { open, rawPath, request } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { withConfig } from './lib/daemon.mjs';
import { daemonHolds } from './lib/growth.mjs';
import { shareSandbox, sh } from './lib/sandbox.mjs';

const sbx = shareSandbox({ timeout: 3600 });
const file = '/var/tmp/large';
const MiB = 1 << 20;
const largest = 500 * MiB;

// Blocks that are not alike, so that one that is lost or moved changes the sum
const noise = randomBytes(MiB);

function* blocks(size) {
	for (let at = 0; at < size; at += MiB) {
		noise.writeUInt32BE(at / MiB);
		yield Buffer.from(noise.subarray(0, Math.min(MiB, size - at)));
	}
}

function hashOf(size) {
	const hash = createHash('sha256');

	for (const block of blocks(size))
		hash.update(block);
	return hash.digest('hex');
}

const put = (size, headers) => request('PUT', rawPath(sbx().sandboxId, file), {
	headers, agent: false,
	write: async (req) => {
		for (const block of blocks(size))
			if (!req.write(block))
				await new Promise((r) => { req.once('drain', r).once('close', r); });
	},
});

async function upAndDown(size) {
	assert.equal(assertOk(await put(size, { 'Content-Length': size })).size, size);
	assert.equal((await sh(sbx(), `sha256sum < ${file}`, { timeout: 300 })).slice(0, 64), hashOf(size));

	const hash = createHash('sha256');

	for await (const chunk of await open('GET', rawPath(sbx().sandboxId, file), { agent: false }))
		hash.update(chunk);
	assert.equal(hash.digest('hex'), hashOf(size));
}

test('500 MiB up and down, exact', { timeout: 600_000 }, async () => {
	const before = await daemonHolds();

	await upAndDown(largest);

	const after = await daemonHolds();

	assert.ok(after.rssKib - before.rssKib < 8 << 10, `memory grew by ${after.rssKib - before.rssKib} KiB`);
});

test('a byte more is refused, announced or not, and the file is as it was', { timeout: 600_000 }, async () => {
	await sbx().files.write(file, 'as it was');
	assertError(await put(0, { 'Content-Length': largest + 1 }), 413);
	assertError(await put(largest + 1, { 'Transfer-Encoding': 'chunked' }), 413);
	assert.equal(await sbx().files.read(file), 'as it was');
	assert.equal(await sh(sbx(), 'ls -A /var/tmp'), 'large\n');
});

test('raw_body_max of 520 MiB', { timeout: 600_000 }, () => withConfig('[api]\nraw_body_max = 520M\n', async () => {
	const more = 520 * MiB;

	await sh(sbx(), `rm ${file}`);
	await upAndDown(more);
	assertError(await put(0, { 'Content-Length': more + 1 }), 413);
}));
