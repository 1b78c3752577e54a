// SPDX-License-Identifier: GPL-2.0-or-later
//
// Reading and writing files: byte-exact through every route, parents made, owned by whom one asked for,
// replaced whole.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { NotFoundError } from '@declaw/sdk';
import { filePath, get, post, rawPath, request } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { shareSandbox, sh } from './lib/sandbox.mjs';

const sbx = shareSandbox();
const id = () => sbx().sandboxId;
const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
const sha256 = (data) => createHash('sha256').update(data).digest('hex');

test('text: UTF-8, emoji, quotes, tabs, no final newline', { timeout: 30_000 }, async () => {
	const text = 'Grüße\t"quoted" \\back\\ 日本語 🎉👩‍👩‍👧\r\nline\u2028sep \u0085 \u0001 end';
	const info = await sbx().files.write('/tmp/t/text.txt', text);

	assert.deepEqual(info, { path: '/tmp/t/text.txt', size: Buffer.byteLength(text) });
	assert.equal(await sbx().files.read('/tmp/t/text.txt'), text);
	assert.equal(await sh(sbx(), 'sha256sum < /tmp/t/text.txt | cut -d" " -f1'), `${sha256(text)}\n`);
});

test('binary: every byte value, through both read routes', { timeout: 30_000 }, async () => {
	const info = await sbx().files.write('/tmp/t/bytes', new Uint8Array(everyByte));

	assert.equal(info.size, 256);
	assert.deepEqual(Buffer.from(await sbx().files.read('/tmp/t/bytes', { format: 'bytes' })), everyByte);
	assert.deepEqual((await get(rawPath(id(), '/tmp/t/bytes'))).body, everyByte);
});

test('content types of the two read routes', { timeout: 30_000 }, async () => {
	await sbx().files.write('/tmp/t/type', 'x');
	assert.equal((await get(filePath(id(), '/tmp/t/type'))).headers['content-type'],
		'text/plain; charset=utf-8');
	assert.equal((await get(rawPath(id(), '/tmp/t/type'))).headers['content-type'],
		'application/octet-stream');
});

test('empty files: 0 bytes written, 0 bytes read', { timeout: 30_000 }, async () => {
	assert.equal((await sbx().files.write('/tmp/t/empty', '')).size, 0);
	assert.equal((await get(filePath(id(), '/tmp/t/empty'))).body.length, 0);
	assert.equal((await sbx().files.write('/tmp/t/empty2', new Uint8Array(0))).size, 0);
	assert.equal((await get(rawPath(id(), '/tmp/t/empty2'))).body.length, 0);
	assert.equal(await sh(sbx(), 'stat -c %s /tmp/t/empty /tmp/t/empty2'), '0\n0\n');
});

test('20 MiB raw, up and down', { timeout: 180_000 }, async () => {
	const data = randomBytes(20 << 20);
	const info = await sbx().files.write('/tmp/t/big', new Uint8Array(data));

	assert.equal(info.size, data.length);
	assert.equal(await sh(sbx(), 'sha256sum < /tmp/t/big | cut -d" " -f1'), `${sha256(data)}\n`);

	const back = await sbx().files.read('/tmp/t/big', { format: 'bytes' });

	assert.equal(back.length, data.length);
	assert.equal(sha256(back), sha256(data));
	await sh(sbx(), 'rm /tmp/t/big');
});

test('a raw body without a length (chunked)', { timeout: 60_000 }, async () => {
	const part = randomBytes(100_000);
	const json = assertOk(await request('PUT', rawPath(id(), '/tmp/t/chunked'), {
		headers: { 'Content-Type': 'application/octet-stream', 'Transfer-Encoding': 'chunked' },
		write: async (req) => {
			for (let i = 0; i < 5; i++)
				req.write(part);
		},
	}));

	assert.equal(json.size, 500_000);
	assert.equal(sha256((await get(rawPath(id(), '/tmp/t/chunked'))).body),
		sha256(Buffer.concat(Array(5).fill(part))));
});

test('parents are made, files and directories belong to the user asked for', { timeout: 30_000 }, async () => {
	await sbx().files.write('/home/user/a/b/c.txt', 'x');
	assert.equal(await sh(sbx(), 'stat -c "%U %a" /home/user/a/b/c.txt; stat -c %U /home/user/a/b'),
		'user 644\nuser\n');
	await sbx().files.write('/tmp/t/as-root', 'x', { user: 'root' });
	assert.equal(await sh(sbx(), 'stat -c %U /tmp/t/as-root'), 'root\n');
	assertOk(await post(`/sandboxes/${id()}/files`, { path: '/tmp/t/default', data: 'x' }));
	assert.equal(await sh(sbx(), 'stat -c %U /tmp/t/default'), 'user\n');
});

test('paths outside of the home: / itself is writable through the API', { timeout: 30_000 }, async () => {
	await sbx().files.write('/test.txt', 'content');
	assert.equal(await sbx().files.read('/test.txt'), 'content');
});

test('odd names: spaces, plus, percent, unicode, newline', { timeout: 30_000 }, async () => {
	for (const name of ['a b', 'a+b', 'a%20b', 'ä🎉', 'new\nline', '-n', "it's", 'a&b=c#d?e']) {
		const path = `/tmp/odd/${name}`;

		assert.deepEqual(await sbx().files.write(path, name), { path, size: Buffer.byteLength(name) });
		assert.equal(await sbx().files.read(path), name);
	}
	assert.equal(await sh(sbx(), 'ls -A /tmp/odd | wc -l'), '9\n', 'eight files, one name of two lines');
});

test('a rewrite replaces the whole file and leaves nothing beside it', { timeout: 30_000 }, async () => {
	await sbx().files.write('/tmp/r/f', 'a long first version');
	await sbx().files.write('/tmp/r/f', 'short');
	assert.equal(await sbx().files.read('/tmp/r/f'), 'short');
	assert.equal(await sh(sbx(), 'ls -A /tmp/r'), 'f\n');
});

test('missing files and directories in their place', { timeout: 30_000 }, async () => {
	await assert.rejects(sbx().files.read('/tmp/none'), NotFoundError);
	assertError(await get(filePath(id(), '/tmp/none')), 404);
	assertError(await get(rawPath(id(), '/tmp/none')), 404);

	for (const res of [
		await get(filePath(id(), '/tmp')),
		await post(`/sandboxes/${id()}/files`, { path: '/tmp', data: 'x' }),
		await post(`/sandboxes/${id()}/files`, { path: '/etc/passwd/x', data: 'x' }),
	]) {
		assert.ok(res.status >= 400 && res.status < 500, `${res.status} ${res.text}`);
		assertError(res, res.status);
	}
});

test('what a command wrote is read, what was written a command reads', { timeout: 30_000 }, async () => {
	await sh(sbx(), 'seq 1 1000 > /tmp/t/seq');
	assert.equal((await sbx().files.read('/tmp/t/seq')).split('\n').length, 1001);
	await sbx().files.write('/tmp/t/run.sh', 'echo ran "$1"\n');
	assert.equal(await sh(sbx(), 'sh /tmp/t/run.sh it'), 'ran it\n');
});

test('files without a size in stat (procfs) are read to their end', { timeout: 30_000 }, async () => {
	assert.match(await sbx().files.read('/proc/version'), /^Linux version /);
});
