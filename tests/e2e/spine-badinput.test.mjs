// SPDX-License-Identifier: GPL-2.0-or-later
//
// Bad input, from the tables of lib/badinput.mjs: each is refused with status, code and a sentence, and
// nothing is created by any of it.

import assert from 'node:assert/strict';
import net from 'node:net';
import { test } from 'node:test';
import { get, listIds, post, request } from './lib/api.mjs';
import * as bad from './lib/badinput.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { apiKey, apiUrl } from './lib/env.mjs';
import { shareSandbox, sh } from './lib/sandbox.mjs';

let ids;
const sbx = shareSandbox({}, async () => {
	ids = await listIds();
});
const path = (rest = '') => `/sandboxes/${sbx().sandboxId}${rest}`;

function refused(res, what, status, code, sentence) {
	if (status instanceof RegExp) {
		assert.match(String(res.status), status, `${what}: ${res.status} ${res.text.slice(0, 200)}`);
		status = res.status;
	}
	assert.equal(res.status, status, `${what}: ${res.status} ${res.text.slice(0, 200)}`);
	assertError(res, status, code, sentence);
}

test('POST /sandboxes: bodies that are no JSON object', { timeout: 60_000 }, async (t) => {
	for (const [what, body, ...want] of bad.malformed)
		await t.test(what, async () => {
			const headers = { 'Content-Type': 'application/json' };

			refused(await request('POST', '/sandboxes', { body, headers }), what, ...want);
		});
	assert.deepEqual(await listIds(), ids);
});

test('POST /sandboxes: wrong fields', { timeout: 120_000 }, async (t) => {
	for (const [what, json, ...want] of bad.wrongCreate)
		await t.test(what, async () => {
			refused(await post('/sandboxes', json), what, ...want);
		});
	assert.deepEqual(await listIds(), ids);
});

test('commands: wrong fields', { timeout: 60_000 }, async (t) => {
	for (const [what, json, ...want] of bad.wrongCommand)
		await t.test(what, async () => {
			refused(await post(path('/commands'), json), what, ...want);
		});
	assert.deepEqual(assertOk(await get(path('/commands'))), []);
});

test('files: wrong fields and queries', { timeout: 60_000 }, async (t) => {
	for (const [what, json, ...want] of bad.wrongFile)
		await t.test(`write, ${what}`, async () => {
			refused(await post(path('/files'), json), what, ...want);
		});
	for (const [what, query, ...want] of bad.wrongQuery) {
		await t.test(`read, ${what}`, async () => {
			refused(await get(path(`/files${query}`)), what, ...want);
			refused(await get(path(`/files/raw${query}`)), what, ...want);
		});
	}
	for (const [what, query, ...want] of [...bad.wrongQuery, ...bad.wrongOwner])
		await t.test(`raw write, ${what}`, async () => {
			refused(await request('PUT', path(`/files/raw${query}`), { body: 'x' }), what, ...want);
		});
	assert.equal(await sh(sbx(), 'find /tmp -name "b*ad*" | wc -l'), '0\n', 'no file either');
});

test('ids that do not match', { timeout: 60_000 }, async (t) => {
	for (const id of bad.wrongIds)
		await t.test(id.slice(0, 40), async () => {
			for (const rest of ['', '/status', '/commands', '/files?path=/etc/passwd']) {
				const res = await get(`/sandboxes/${id}${rest}`);

				refused(res, id, /^4(00|04|14|31)$/);
				assert.equal(res.headers['x-injected'], undefined);
			}
			refused(await request('DELETE', `/sandboxes/${id}`), id, /^4(00|04|05|14|31)$/);
		});
});

test('bodies above 10 MiB: 413, announced or not', { timeout: 120_000 }, async (t) => {
	const big = JSON.stringify({ metadata: { a: 'x'.repeat(10 << 20) } });
	const headers = { 'Content-Type': 'application/json' };

	await t.test('with a length', async () => {
		refused(await request('POST', '/sandboxes', { body: big, headers }), 'long', 413);
	});
	await t.test('chunked', async () => {
		refused(await request('POST', '/sandboxes', {
			headers: { ...headers, 'Transfer-Encoding': 'chunked' },
			write: async (req) => {
				for (let i = 0; i < big.length; i += 1 << 20)
					req.write(big.slice(i, i + (1 << 20)));
			},
		}), 'chunked', 413);
	});
	await t.test('to files', async () => {
		const json = { path: '/tmp/bad', data: 'x'.repeat(10 << 20) };

		refused(await post(path('/files'), json), 'files', 413);
	});
	await t.test('a little below it is taken', async () => {
		const json = { path: '/tmp/ok', data: 'x'.repeat((10 << 20) - 1000) };

		assert.equal(assertOk(await post(path('/files'), json)).size, json.data.length);
		await sh(sbx(), 'rm /tmp/ok');
	});
});

// Sends bytes to the port, returns what comes back until the peer closes.
function speak(...parts) {
	const { hostname, port } = new URL(apiUrl);

	return new Promise((resolve, reject) => {
		const socket = net.connect(Number(port || 80), hostname);
		let seen = '';

		socket.setTimeout(15_000, () => socket.destroy(new Error(`no end of the answer: ${seen}`)));
		socket.on('data', (d) => { seen += d.toString('latin1'); });
		socket.on('error', (e) => (e.code === 'ECONNRESET' || e.code === 'EPIPE' ? resolve(seen) : reject(e)));
		socket.on('close', () => resolve(seen));
		for (const part of parts)
			socket.write(part);
	});
}

test('what is no HTTP does not reach anything', { timeout: 120_000 }, async (t) => {
	const auth = `Authorization: Bearer ${apiKey}\r\n`;
	const head = `Host: x\r\n${auth}Connection: close\r\n`;
	const cases = {
		'garbage': ['\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03garbage\r\n\r\n'],
		'a request line without a version': ['GET /sandboxes\r\n\r\n'],
		'a space in the target': [`GET /sandboxes /x HTTP/1.1\r\n${head}\r\n`],
		'a negative length': [`POST /sandboxes HTTP/1.1\r\n${head}Content-Length: -5\r\n\r\n{}`],
		'a length that is a word': [`POST /sandboxes HTTP/1.1\r\n${head}Content-Length: two\r\n\r\n{}`],
		'headers of 1 MiB': [`GET /sandboxes HTTP/1.1\r\n${head}X: ${'y'.repeat(1 << 20)}\r\n\r\n`],
		'a bad chunk': [`POST /sandboxes HTTP/1.1\r\n${head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n`],
	};

	for (const [what, parts] of Object.entries(cases))
		await t.test(what, async () => {
			const answer = await speak(...parts);

			assert.match(answer, /^$|^HTTP\/1\.[01] 4\d\d /, 'closed, or a 4xx');
		});
	assert.deepEqual(await listIds(), ids);
	assert.equal((await get('/healthz')).status, 200);
});

test('a body that ends early is no request', { timeout: 30_000 }, async () => {
	const { hostname, port } = new URL(apiUrl);

	await new Promise((resolve, reject) => {
		const socket = net.connect(Number(port || 80), hostname, () => {
			socket.write(`POST /sandboxes HTTP/1.1\r\nHost: x\r\nX-API-Key: ${apiKey}\r\n`
				+ 'Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"template":"base"',
			() => socket.destroy());
		});
		socket.on('close', resolve);
		socket.on('error', reject);
	});
	assert.equal((await get('/healthz')).status, 200);
	assert.deepEqual(await listIds(), ids);
});
