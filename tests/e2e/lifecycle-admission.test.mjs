// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the host has room for: the boot queue and memory.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { del, get, listIds, post } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { withConfig } from './lib/daemon.mjs';
import { killAll, until } from './lib/sandbox.mjs';

test('the boot queue: waits, then 429, and answers others meanwhile', { timeout: 120_000 }, async () => {
	// Without forks: the queue would be empty before it is full
	await withConfig('[sandbox]\nboots_at_once = 1\nboot_queue_max = 1\n[create]\nfork = no\n', async () => {
		const before = (await listIds()).length;
		const asked = [post('/sandboxes', {})];

		await until('it boots', async () => (await listIds()).length === before + 1);
		asked.push(post('/sandboxes', {}));

		await until('one waits', async () => (await listIds()).length === before + 2);

		const third = await post('/sandboxes', {});

		assertError(third, 429, 'queue_full');
		assert.match(third.headers['retry-after'], /^[1-9]\d*$/);

		const began = performance.now();

		assertOk(await get('/sandboxes'));
		assert.ok(performance.now() - began < 500);

		const [a, b] = await Promise.all(asked);

		assertOk(a, 201);
		assertOk(b, 201);
		await killAll([a, b].map((r) => r.json.sandbox_id));
	});
});

test('memory: what cannot fit is refused, what does not fit now waits, paused ones make room', { timeout: 180_000 }, async () => {
	await withConfig('[sandbox]\nmemory_max = 64M\n', async () => {
		assertError(await post('/sandboxes', {}), 429, 'no_memory');
	});

	const size = 1100;

	await withConfig(`[sandbox]\nmemory_max = ${size}M\nboot_queue_timeout = 2s\n`, async () => {
		// Those of the last test may still be going
		const { json: { sandbox_id: id, resources } } = await until('there is room for one', async () => {
			const res = await post('/sandboxes', {});

			return res.status === 201 && res;
		}, 60_000);
		const made = [id];

		assert.ok(resources.memory_mb * 2 > size, 'one fits, two do not');

		const late = await post('/sandboxes', {});

		assertError(late, 429, 'no_memory');
		assert.match(late.headers['retry-after'], /^[1-9]\d*$/);

		// There is room once the first is on disk; and none for it to come back then
		assertOk(await post(`/sandboxes/${id}/pause`));

		const { sandbox_id: other } = await until('it is made', async () => {
			const res = await post('/sandboxes', {});

			return res.status === 201 && res.json;
		}, 60_000);

		made.push(other);
		assertError(await post(`/sandboxes/${id}/resume`), 429, 'no_memory');
		assert.equal(assertOk(await get(`/sandboxes/${id}`)).state, 'paused');
		await del(`/sandboxes/${other}`);
		assertOk(await post(`/sandboxes/${id}/resume`));
		await killAll(made);
	});
});
