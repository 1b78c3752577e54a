// SPDX-License-Identifier: GPL-2.0-or-later
//
// Authentication: every route wants a key, as Bearer or as X-API-Key; only /healthz is open.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AuthenticationError } from '@declaw/sdk';
import { get, listIds, post, request } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { apiKey } from './lib/env.mjs';
import { routes } from './lib/routes.mjs';
import { Sandbox } from './lib/sandbox.mjs';

const refused = [
	['none', null],
	['a wrong Bearer key', { Authorization: 'Bearer dcl_wrong' }],
	['a wrong X-API-Key', { 'X-API-Key': 'dcl_wrong' }],
	['an empty Bearer key', { Authorization: 'Bearer ' }],
	['an empty X-API-Key', { 'X-API-Key': '' }],
	['the key under another scheme', { Authorization: `Basic ${apiKey}` }],
	['the key without a scheme', { Authorization: apiKey }],
	['a prefix of the key', { Authorization: `Bearer ${apiKey.slice(0, -1)}` }],
	['the key and more', { Authorization: `Bearer ${apiKey}x` }],
	['a very long key', { 'X-API-Key': 'k'.repeat(6000) }],
];

for (const [what, auth] of refused) {
	test(`401 with ${what}`, { timeout: 10_000 }, async () => {
		assertError(await get('/sandboxes', { auth }), 401, 'unauthorized',
			'unauthorized: missing or invalid API key');
	});
}

test('either header opens the door, also beside a wrong other one', { timeout: 10_000 }, async () => {
	for (const auth of [
		{ Authorization: `Bearer ${apiKey}` },
		{ authorization: `bearer ${apiKey}` },
		{ 'X-API-Key': apiKey },
		{ 'X-API-Key': apiKey, Authorization: 'Bearer wrong' },
		{ 'X-API-Key': '', Authorization: `Bearer ${apiKey}` },
	])
		assertOk(await get('/sandboxes', { auth }));
});

test('no route answers without a key', { timeout: 60_000 }, async () => {
	for (const { method, path } of routes()) {
		const none = await request(method, path, { auth: null });
		const wrong = await request(method, path, { auth: { 'X-API-Key': 'wrong' } });

		assert.equal(none.status, 401, `${method} ${path}`);
		assertError(none, 401, 'unauthorized');
		assertError(wrong, 401, 'unauthorized');
	}
});

test('with a key, by either header, no route says 401', { timeout: 60_000 }, async () => {
	for (const { method, path } of routes()) {
		if (method === 'POST' && path === '/sandboxes')
			continue;	// would create one; the whole suite shows that it accepts the key
		for (const auth of [{ Authorization: `Bearer ${apiKey}` }, { 'X-API-Key': apiKey }]) {
			const res = await request(method, path, { auth });

			assert.notEqual(res.status, 401, `${method} ${path}`);
			assert.ok(res.status < 500, `${method} ${path}: ${res.status} ${res.text}`);
		}
	}
});

test('an unknown route wants a key, too', { timeout: 10_000 }, async () => {
	assertError(await get('/no/such/route', { auth: null }), 401, 'unauthorized');
});

test('a refused create creates nothing', { timeout: 10_000 }, async () => {
	const before = await listIds();

	assertError(await post('/sandboxes', { template: 'base' }, { auth: null }), 401, 'unauthorized');
	assert.deepEqual(await listIds(), before);
});

test('the SDK with a wrong key throws AuthenticationError', { timeout: 10_000 }, async () => {
	await assert.rejects(Sandbox.list({ apiKey: 'wrong' }), AuthenticationError);
});

test('healthz needs no key', { timeout: 10_000 }, async () => {
	assertOk(await get('/healthz', { auth: null }));
	assertOk(await get('/healthz', { auth: { 'X-API-Key': 'wrong' } }));
});
