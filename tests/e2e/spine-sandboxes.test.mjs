// SPDX-License-Identifier: GPL-2.0-or-later
//
// The sandbox as an object of the API: created, listed newest first, paged, filtered, deleted in both
// manners, killed in numbers, and readable after its death.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Sandbox } from '@declaw/sdk';
import { del, get, listIds, patch, post } from './lib/api.mjs';
import { assertError, assertOk, assertSandbox, assertTimestamp } from './lib/check.mjs';
import { BOOT_MS, killAll, until } from './lib/sandbox.mjs';

const create = async (body) => assertSandbox(assertOk(await post('/sandboxes', body), 201));

test('create, get, status, delete: shapes and status codes', { timeout: 2 * BOOT_MS }, async () => {
	const made = await create({ timeout: 120 });
	const id = made.sandbox_id;

	try {
		assert.equal(made.state, 'running');
		assert.equal(made.name, 'base');
		assert.equal(made.timeout, 120);
		assert.equal(made.lifecycle?.on_timeout ?? 'kill', 'kill');

		const got = assertSandbox(assertOk(await get(`/sandboxes/${id}`)));

		for (const key of Object.keys(made))
			assert.deepEqual(got[key], made[key], `GET repeats ${key}`);
		assert.deepEqual(assertOk(await get(`/sandboxes/${id}/status`)), { is_running: true });

		const deleted = await del(`/sandboxes/${id}`);

		assert.equal(assertOk(deleted).killed, true);
		assert.equal(assertOk(await del(`/sandboxes/${id}`)).killed, false);
		assert.equal(assertSandbox(assertOk(await get(`/sandboxes/${id}`))).state, 'killed');
		assert.equal(assertOk(await get(`/sandboxes/${id}/status`)).is_running, false);
	} finally {
		await killAll([id]);
	}
});

test('a killed sandbox takes no commands and no files', { timeout: 2 * BOOT_MS }, async () => {
	const { sandbox_id: id } = await create({});

	await killAll([id]);
	for (const res of [
		await post(`/sandboxes/${id}/commands`, { cmd: 'true' }),
		await get(`/sandboxes/${id}/commands`),
		await get(`/sandboxes/${id}/files?path=/etc/hostname`),
		await post(`/sandboxes/${id}/files`, { path: '/tmp/x', data: '' }),
		await patch(`/sandboxes/${id}/timeout`, { timeout: 10 }),
	])
		assertError(res, 410);
});

test('an unknown id is 404 everywhere', { timeout: 30_000 }, async () => {
	const id = 'sbx-zzzzzzzzzz';

	assertError(await get(`/sandboxes/${id}`), 404, 'sandbox_not_found');
	assertError(await del(`/sandboxes/${id}`), 404, 'sandbox_not_found');
	assertError(await get(`/sandboxes/${id}/status`), 404, 'sandbox_not_found');
	assertError(await post(`/sandboxes/${id}/commands`, { cmd: 'true' }), 404, 'sandbox_not_found');
	assertError(await get(`/sandboxes/${id}/files?path=/x`), 404, 'sandbox_not_found');
});

test('list: newest first, paged, filtered; kill-many kills', { timeout: 4 * BOOT_MS }, async () => {
	const ids = [];

	try {
		for (let i = 0; i < 3; i++)
			ids.unshift((await create({ metadata: { n: String(i) } })).sandbox_id);

		const list = assertOk(await get('/sandboxes'));
		const mine = list.sandboxes.filter((s) => ids.includes(s.sandbox_id));

		list.sandboxes.forEach((s) => assertSandbox(s));
		assert.deepEqual(mine.map((s) => s.sandbox_id), ids, 'newest first');
		assert.deepEqual(list.sandboxes.slice(0, 3).map((s) => s.sandbox_id), ids, 'ahead of older ones');
		assert.equal(list.total, list.sandboxes.length);
		assert.equal(list.next_token, null);
		assert.ok(list.sandboxes.every((s, i, all) =>
			i === 0 || assertTimestamp(s.started_at) <= assertTimestamp(all[i - 1].started_at)));
		await checkPaging(ids, list.total);
		await checkFilters(ids);
		await checkKillMany(ids);
	} finally {
		await killAll(ids);
	}
});

async function checkPaging(ids, total) {
	const seen = [];
	let token = null;

	do {
		const query = token === null ? '' : `&next_token=${encodeURIComponent(token)}`;
		const page = assertOk(await get(`/sandboxes?limit=1${query}`));

		assert.ok(page.sandboxes.length <= 1);
		assert.equal(page.total, total, 'total counts all pages');
		seen.push(...page.sandboxes.map((s) => s.sandbox_id));
		token = page.next_token;
	} while (token !== null && seen.length <= total);
	assert.equal(seen.length, total);
	assert.deepEqual(seen.slice(0, 3), ids);

	const second = assertOk(await get('/sandboxes?limit=1&offset=1'));

	assert.deepEqual(second.sandboxes.map((s) => s.sandbox_id), [ids[1]]);
}

async function checkFilters(ids) {
	const idsOf = async (query) =>
		assertOk(await get(`/sandboxes?limit=1000&${query}`)).sandboxes.map((s) => s.sandbox_id);

	for (const query of ['state=running', 'state=live', 'state=all', 'state=paused,running',
		'state=paused&state=running', "metadata={'a': 'b'".replaceAll(' ', '%20')])
		assert.ok((await idsOf(query)).includes(ids[0]), query);
	assert.ok(!(await idsOf('state=paused')).includes(ids[0]));
	assert.ok(!(await idsOf('state=killed')).includes(ids[0]));
}

async function checkKillMany(ids) {
	const unknown = 'sbx-zzzzzzzzzz';
	const { results } = assertOk(await post('/sandboxes/kill-many', { sandbox_ids: [ids[2], unknown] }));

	assert.deepEqual(Object.keys(results).sort(), [ids[2], unknown].sort(), 'one entry for each id');
	assert.equal(results[ids[2]].killed, true);
	assert.match(results[unknown].error, /\S/);

	const queued = await Sandbox.killMany(ids.slice(0, 2));

	for (const id of ids.slice(0, 2))
		assert.equal(queued[id].queued, true);
	await until('both are gone', async () => {
		const { sandboxes } = (await get('/sandboxes?limit=1000')).json;

		return !sandboxes.some((s) => ids.includes(s.sandbox_id));
	}, 30_000);
	assert.ok((await get('/sandboxes?state=killed&limit=1000')).json.sandboxes
		.some((s) => s.sandbox_id === ids[2]), 'killed ones are listed when asked for');
}

test('delete in the background answers 202 at once', { timeout: 2 * BOOT_MS }, async () => {
	const { sandbox_id: id } = await create({});

	try {
		assert.equal(assertOk(await del(`/sandboxes/${id}?async=true`), 202).queued, true);
		await until('it is killed', async () => (await get(`/sandboxes/${id}`)).json.state === 'killed', 30_000);
		assert.equal(assertOk(await get(`/sandboxes/${id}/status`)).is_running, false);
	} finally {
		await killAll([id]);
	}
});

test('a client that leaves during create leaves no sandbox behind', { timeout: 2 * BOOT_MS }, async () => {
	const before = await listIds();
	const leave = new AbortController();
	const gone = post('/sandboxes', {}, { signal: leave.signal, agent: false });

	// A clone may be there before its client has left.
	setTimeout(() => leave.abort(), 20);

	const res = await gone.catch((e) => assert.equal(e.name, 'AbortError'));

	if (res)
		await del(`/sandboxes/${res.json.sandbox_id}`);
	await until('nothing of it is left', async () =>
		(await listIds()).every((id) => before.includes(id)), BOOT_MS, 200);
});
