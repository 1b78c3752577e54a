// SPDX-License-Identifier: GPL-2.0-or-later
//
// Idempotency-Key: a creation that is asked for again happens once, whoever dies in between.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { del, get, listIds, open, post, readAll } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { sigkill } from './lib/daemon.mjs';
import { until } from './lib/sandbox.mjs';

const create = (key, json, opts) => post('/sandboxes', json, { headers: { 'Idempotency-Key': key }, ...opts });

// Ask until it is there, as a client does
const createAll = (key, json) => until('it is made', async () => {
	const res = await create(key, json).catch(() => null);

	return res && res.json?.code !== 'idempotency_in_progress' && res;
}, 40_000, 200);

async function withOnly(before, fn) {
	try {
		return await fn();
	} finally {
		for (const id of (await listIds()).filter((i) => !before.includes(i)))
			await del(`/sandboxes/${id}`);
	}
}

test('in progress, replayed, reused, across a restart and after the end', { timeout: 90_000 }, async () => {
	const before = await listIds();
	const key = randomUUID();
	const body = { metadata: { k: 'v' } };

	await withOnly(before, async () => {
		const first = create(key, body);

		await until('it is under way', async () => (await listIds()).length > before.length);

		const again = await create(key, body);

		assertError(again, 409, 'idempotency_in_progress');
		assert.match(again.headers['retry-after'], /^[1-9]\d*$/);
		assertError(await create(key, { metadata: { k: 'w' } }), 422, 'idempotency_key_reused');

		const made = await first;

		assertOk(made, 201);
		assert.equal((await create(key, body)).text, made.text, 'the same answer, byte for byte');
		assertError(await create(key, {}), 422, 'idempotency_key_reused');
		await sigkill();
		assert.equal((await create(key, body)).text, made.text, 'also from another daemon');
		assert.equal((await listIds()).length, before.length + 1);
		await del(`/sandboxes/${made.json.sandbox_id}`);

		const replay = await create(key, body);

		assert.equal(replay.status, 201);
		assert.equal(replay.text, made.text, 'killed meanwhile: it is not made again');
		assert.deepEqual(await listIds(), before);
	});
});

test('a client that gives up and asks again gets the one it asked for', { timeout: 90_000 }, async () => {
	const before = await listIds();
	const key = randomUUID();

	await withOnly(before, async () => {
		const ac = new AbortController();
		const asked = open('POST', '/sandboxes', { json: {}, headers: { 'Idempotency-Key': key }, signal: ac.signal, agent: false })
			.then(readAll).catch(() => null);

		const id = await until('it is under way', async () => (await listIds()).find((i) => !before.includes(i)));

		ac.abort();
		await asked;

		const all = await Promise.all(Array.from({ length: 8 }, () => createAll(key, {})));

		for (const res of all)
			assert.equal(assertOk(res, 201).sandbox_id, id);
		assert.equal(assertOk(await get(`/sandboxes/${id}`)).state, 'running');
		assert.equal((await listIds()).length, before.length + 1);
	});
});

test('without a key an aborted creation leaves nothing', { timeout: 60_000 }, async () => {
	const before = await listIds();
	const ac = new AbortController();
	const asked = open('POST', '/sandboxes', { json: {}, signal: ac.signal, agent: false }).then(readAll).catch(() => null);

	await until('it is under way', async () => (await listIds()).length > before.length);
	ac.abort();
	await asked;
	await until('it is gone', async () => (await listIds()).length === before.length);
});

test('a failed creation frees its key', { timeout: 60_000 }, async () => {
	const before = await listIds();
	const key = randomUUID();

	await withOnly(before, async () => {
		assertError(await create(key, { template: 'no-such-template' }), 404, 'template_not_found');
		assertError(await create(key, { timeout: 'x' }), 400, 'invalid_field');

		// Killed while it is made: that creation failed
		const asked = create(key, {});
		const id = await until('it is under way', async () => (await listIds()).find((i) => !before.includes(i)));

		await del(`/sandboxes/${id}`);
		assertError(await asked, 410);

		const made = assertOk(await create(key, { metadata: { other: 'body' } }), 201);

		assert.notEqual(made.sandbox_id, id);
	});
});

test('keys that cannot be used', { timeout: 30_000 }, async () => {
	for (const key of ['x'.repeat(256), 'with space', 'tab\tinside'])
		assertError(await create(key, {}), 400, 'bad_request', /Idempotency-Key/);
});
