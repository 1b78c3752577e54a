// SPDX-License-Identifier: GPL-2.0-or-later
//
// Routes that are not: unknown ones say so, those of later versions say so in other words, and nothing
// pretends to have worked.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { del, get, post, request } from './lib/api.mjs';
import { assertError } from './lib/check.mjs';
import { routes } from './lib/routes.mjs';

test('routes of later versions: 404 not_implemented_yet', { timeout: 60_000 }, async () => {
	for (const { method, path } of routes('later')) {
		const res = await request(method, path, method === 'GET' ? {} : { json: {} });

		assert.equal(res.status, 404, `${method} ${path}: ${res.status} ${res.text}`);
		assertError(res, 404, 'not_implemented_yet');
	}
});

test('routes of this version are known, also for a sandbox that is not', { timeout: 60_000 }, async () => {
	for (const { method, path, pattern } of routes('spine', 'dataplane', 'lifecycle', 'create')) {
		if (!pattern.includes('{id}'))
			continue;

		const res = await request(method, path, method === 'GET' ? {} : { json: {} });

		assert.ok(res.status >= 400 && res.status < 500, `${method} ${path}: ${res.status} ${res.text}`);
		assertError(res, res.status);
		assert.notEqual(res.json.code, 'route_unknown', `${method} ${path}`);
	}
});

test('unknown routes: 404 route_unknown', { timeout: 30_000 }, async () => {
	const paths = [
		'/', '/nothing', '/sandbox', '/sandboxes/sbx-0000000000/nothing', '/v1/sandboxes', '/Sandboxes',
		'/sandboxes/sbx-0000000000/commands/1/nothing', '/sandboxes/sbx-0000000000/files/nothing',
		'//sandboxes', '/healthz/x',
	];

	for (const path of paths) {
		const res = await get(path);

		assert.equal(res.status, 404, `${path}: ${res.status} ${res.text}`);
		assertError(res, 404, 'route_unknown');
	}
	// Climbing is no route at all: refused before anything is looked up.
	for (const path of ['/..', '/sandboxes/../healthz', '/%2e%2e/etc/passwd']) {
		const res = await get(path);

		assert.ok([400, 404].includes(res.status), `${path}: ${res.status} ${res.text}`);
		assertError(res, res.status, res.status === 400 ? 'bad_request' : 'route_unknown');
	}
	assertError(await post('/nothing', {}), 404, 'route_unknown');
	assertError(await del('/nothing'), 404, 'route_unknown');
});

test('a known path with a foreign method is refused', { timeout: 30_000 }, async () => {
	for (const [method, path] of [
		['PUT', '/sandboxes'], ['DELETE', '/sandboxes'], ['PATCH', '/sandboxes/sbx-0000000000'],
		['PUT', '/sandboxes/sbx-0000000000/status'], ['POST', '/sandboxes/sbx-0000000000/files/raw'],
	]) {
		const res = await request(method, path, { json: {} });

		assert.ok([404, 405].includes(res.status), `${method} ${path}: ${res.status} ${res.text}`);
		assertError(res, res.status, res.status === 405 ? 'method_not_allowed' : 'route_unknown');
	}
});

test('a body on a GET and a JSON content type without a body do no harm', { timeout: 30_000 }, async () => {
	const headers = { 'Content-Type': 'application/json' };

	assert.equal((await get('/sandboxes', { headers })).status, 200);
	assert.equal((await get('/sandboxes', { headers, body: '{"a":1}' })).status, 200);
	assert.equal((await get('/sandboxes?limit=5&unknown=1', { headers, body: '' })).status, 200);
});

test('errors keep the connection usable', { timeout: 30_000 }, async () => {
	for (let i = 0; i < 20; i++) {
		assert.equal((await get('/nothing')).status, 404);
		assert.equal((await get('/healthz')).status, 200);
	}
});
