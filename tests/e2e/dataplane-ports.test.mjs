// SPDX-License-Identifier: GPL-2.0-or-later
//
// The reverse proxy to servers inside the sandbox: methods, headers and bodies pass, answers stream, and
// WebSocket upgrades go through. The server under test is data/origin.py.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { test } from 'node:test';
import { get, open, post, request } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { apiKey, apiUrl } from './lib/env.mjs';
import { BOOT_MS, killAll, shareSandbox, sh } from './lib/sandbox.mjs';

const sbx = shareSandbox({ template: 'python' }, async (mine) => {
	await mine.files.write('/tmp/origin.py', readFileSync(new URL('data/origin.py', import.meta.url), 'utf8'));
	await mine.commands.run('exec python3 /tmp/origin.py 8000 > /tmp/origin.log 2>&1', { background: true });
	await sh(mine, 'until grep -q ready /tmp/origin.log; do sleep 0.2; done', { timeout: 40 });
});
const path = (rest, port = 8000) => `/sandboxes/${sbx().sandboxId}/ports/${port}${rest}`;

test('the SDK\'s URL, with the key in either header', { timeout: 30_000 }, async () => {
	for (const headers of [{ 'X-API-Key': apiKey }, { Authorization: `Bearer ${apiKey}` }]) {
		const res = await fetch(`${sbx().getHost(8000)}/hello?a=1`, { headers });

		assert.equal(res.status, 200);
		assert.deepEqual((await res.json()).path, '/hello?a=1');
	}
});

test('method, path, query, headers and body arrive; credentials and hop headers do not', { timeout: 30_000 }, async () => {
	const res = assertOk(await request('PATCH', path('/a%20b/%C3%BC?x=%2F&y=+&z'), {
		body: 'the body', headers: { 'X-Mine': 'yes', 'Content-Type': 'text/x', 'X-API-Key': apiKey, 'Connection': 'x-gone', 'X-Gone': '1' },
	}));

	assert.equal(res.method, 'PATCH');
	assert.equal(res.path, '/a%20b/%C3%BC?x=%2F&y=+&z');
	assert.equal(res.body, 'the body');
	assert.equal(res.headers['x-mine'], 'yes');
	assert.equal(res.headers['content-type'], 'text/x');
	for (const name of ['authorization', 'x-api-key', 'x-gone'])
		assert.equal(res.headers[name], undefined, `${name} stays here`);
	assert.equal(assertOk(await get(path(''))).path, '/');
});

test('mask_request_host: the Host that a server sees', { timeout: 30_000 }, async () => {
	const network = `/sandboxes/${sbx().sandboxId}/network`;

	for (const [mask, seen] of [['dev.test:${PORT}', 'dev.test:8000'], ['dev.test', 'dev.test'], [null, 'localhost:8000']]) {
		assertOk(await request('PATCH', network, { json: { mask_request_host: mask } }));
		assert.equal(assertOk(await get(path('/'))).headers.host, seen);
	}
});

test('status and headers of the answer come back; Set-Cookie does not', { timeout: 30_000 }, async () => {
	for (const status of [200, 201, 404, 418, 500]) {
		const res = await get(path(`/status/${status}`));

		assert.equal(res.status, status);
		assert.equal(res.text, `status ${status}`);
		assert.equal(res.headers['x-origin'], 'yes');
		assert.equal(res.headers['set-cookie'], undefined);
	}
	assert.equal((await get(path('/status/302'))).headers.location, '/elsewhere', 'redirects are not followed');
	assert.equal((await get(path('/status/204'))).body.length, 0);
});

test('bodies of 8 MiB, in both directions, exact', { timeout: 120_000 }, async () => {
	const data = randomBytes(8 << 20);
	const hash = createHash('sha256').update(data).digest('hex');
	const sent = await request('POST', path('/sha256'), { body: data });

	assert.equal(sent.text, hash);

	const chunked = await request('POST', path('/sha256'), {
		headers: { 'Transfer-Encoding': 'chunked' }, write: async (req) => { req.write(data); },
	});

	assert.equal(chunked.text, hash);

	const back = await get(path('/bytes/8388608'));

	assert.equal(back.body.length, 8 << 20);
	assert.equal(back.headers['x-sha256'], createHash('sha256').update(back.body).digest('hex'));
});

test('the answer streams: events pass one by one', { timeout: 30_000 }, async () => {
	const res = await open('GET', path('/events'));
	const at = [];

	for await (const chunk of res)
		at.push([performance.now(), chunk.toString()]);
	assert.match(at.map(([, text]) => text).join(''), /data: 0\n\ndata: 1\n\ndata: 2\n\n/);
	assert.ok(at.at(-1)[0] - at[0][0] > 500, 'not all at once');
});

test('WebSocket: upgraded, both ways', { timeout: 30_000 }, async () => {
	const { hostname, port } = new URL(apiUrl);
	const answer = await new Promise((resolve, reject) => {
		const req = http.request({
			host: hostname, port, path: path('/ws'),
			headers: {
				'Authorization': `Bearer ${apiKey}`, 'Connection': 'Upgrade', 'Upgrade': 'websocket',
				'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
			},
		});

		req.on('response', (res) => reject(new Error(`answered ${res.statusCode}`)));
		req.on('error', reject);
		req.on('upgrade', (res, socket, head) => {
			let seen = head;

			assert.equal(res.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
			socket.on('data', (d) => {
				seen = Buffer.concat([seen, d]);
				if (seen.length >= 7) {
					socket.destroy();
					resolve(seen);
				}
			});
			socket.write(Buffer.from([0x81, 0x85, 0, 0, 0, 0, ...Buffer.from('hello')]));
		});
		req.end();
	});

	assert.deepEqual(answer.subarray(0, 7), Buffer.from([0x81, 5, ...Buffer.from('HELLO')]), 'the origin shouts back');
});

test('twenty requests at once', { timeout: 60_000 }, async () => {
	const all = await Promise.all(Array.from({ length: 20 }, (_, i) => get(path(`/n${i}`))));

	for (const [i, res] of all.entries())
		assert.equal(assertOk(res).path, `/n${i}`);
});

test('refusals: no key, no server, a port that is none, the reserved port', { timeout: 30_000 }, async () => {
	assertError(await get(path('/hello'), { auth: null }), 401, 'unauthorized');
	assertError(await get(path('/hello'), { auth: { 'X-API-Key': 'wrong' } }), 401, 'unauthorized');

	const closed = await get(path('/', 8123));

	assert.ok(closed.status >= 400 && closed.status < 503 && closed.status !== 500, closed.text);
	assertError(closed, closed.status);
	assertError(await get(path('/', 49983)), 403);
	for (const port of ['0', '65536', 'abc', '-1', '80x', '99999999999'])
		assertError(await get(path('/', port)), 400);
	assertError(await get('/sandboxes/sbx-zzzzzzzzzz/ports/8000/'), 404, 'sandbox_not_found');
});

test('allow_public_traffic: false closes the proxy', { timeout: 2 * BOOT_MS }, async () => {
	const { sandbox_id: id } = assertOk(await post('/sandboxes',
		{ template: 'python', network: { allow_public_traffic: false } }), 201);

	try {
		assertError(await get(`/sandboxes/${id}/ports/8000/`), 403);
	} finally {
		await killAll([id]);
	}
});

test('a client that leaves closes the connection inside', { timeout: 30_000 }, async () => {
	const leave = new AbortController();
	const res = await open('GET', path('/endless'), { signal: leave.signal, agent: false });

	res.on('error', () => {});
	await new Promise((r) => res.once('data', r));
	leave.abort();
	await sh(sbx(), 'until grep -q "endless: closed" /tmp/origin.log; do sleep 0.2; done', { timeout: 20 });
});
