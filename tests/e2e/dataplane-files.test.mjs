// SPDX-License-Identifier: GPL-2.0-or-later
//
// The rest of the file routes: list, info, exists, mkdir, rename, remove, batch, watch, every refusal,
// and that a write is one step for whoever reads.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { NotFoundError } from '@declaw/sdk';
import { del, filePath, get, open, patch, post, rawPath, readAll, request } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { shareSandbox, sh } from './lib/sandbox.mjs';
import { events, openStream } from './lib/sse.mjs';

const sbx = shareSandbox();
const path = (rest = '') => `/sandboxes/${sbx().sandboxId}/files${rest}`;
const q = (p) => `?path=${encodeURIComponent(p)}`;

test('list: exactly the content, full paths, file or dir', { timeout: 30_000 }, async () => {
	await sbx().files.write('/listdir/only.txt', 'abc');
	assert.deepEqual(await sbx().files.list('/listdir'),
		[{ name: 'only.txt', path: '/listdir/only.txt', type: 'file', size: 3 }]);
	await sbx().files.makeDir('/listdir/sub');
	assert.deepEqual((await sbx().files.list('/listdir')).find((e) => e.name === 'sub'),
		{ name: 'sub', path: '/listdir/sub', type: 'dir', size: 0 });
	assert.ok((await sbx().files.list('/')).some((e) => e.path === '/etc' && e.type === 'dir'));
});

test('list: depth, empty and missing directories, hidden files', { timeout: 30_000 }, async () => {
	await sh(sbx(), 'mkdir -p /tmp/d/1/2/3 /tmp/d/empty; touch /tmp/d/.hidden /tmp/d/1/2/3/deep');

	const names = async (depth) => (await sbx().files.list('/tmp/d', { depth })).map((e) => e.path).sort();

	assert.deepEqual(await names(1), ['/tmp/d/.hidden', '/tmp/d/1', '/tmp/d/empty']);
	assert.deepEqual(await names(2), ['/tmp/d/.hidden', '/tmp/d/1', '/tmp/d/1/2', '/tmp/d/empty']);
	assert.equal((await names(10)).length, 6);
	assert.deepEqual(await sbx().files.list('/tmp/d/empty'), []);
	assert.deepEqual(assertOk(await get(path(`/list${q('/tmp/none')}`))), []);
	assert.deepEqual(assertOk(await get(path(`/list${q('/etc/hostname')}`))), []);
});

test('symlinks count as what they point to, oddities as files', { timeout: 30_000 }, async () => {
	await sh(sbx(), 'mkdir -p /tmp/l/dir; cd /tmp/l; echo 12345 > f; ln -s f to-file; ln -s dir to-dir;'
		+ ' ln -s nowhere broken; ln -s loop loop; mkfifo fifo');

	const types = Object.fromEntries((await sbx().files.list('/tmp/l')).map((e) => [e.name, e.type]));

	assert.deepEqual(types, {
		'dir': 'dir', 'f': 'file', 'to-file': 'file', 'to-dir': 'dir', 'broken': 'file', 'loop': 'file', 'fifo': 'file',
	});
	assert.equal((await sbx().files.getInfo('/tmp/l/to-file')).size, 6);
	assert.equal((await sbx().files.getInfo('/tmp/l/to-dir')).type, 'dir');
});

test('5,000 entries', { timeout: 60_000 }, async () => {
	await sh(sbx(), 'mkdir /tmp/many; cd /tmp/many; seq -f "file with a rather long name %g" 5000 | xargs -d "\\n" touch');
	assert.equal((await sbx().files.list('/tmp/many')).length, 5000);
});

test('exists and info', { timeout: 30_000 }, async () => {
	await sbx().files.write('/tmp/i/f.txt', 'ä');
	assert.equal(await sbx().files.exists('/tmp/i/f.txt'), true);
	assert.equal(await sbx().files.exists('/tmp/i'), true);
	assert.equal(await sbx().files.exists('/tmp/i/none'), false);
	assert.deepEqual(await sbx().files.getInfo('/tmp/i/f.txt'),
		{ name: 'f.txt', path: '/tmp/i/f.txt', type: 'file', size: 2 });
	await assert.rejects(sbx().files.getInfo('/tmp/i/none'), NotFoundError);
});

test('mkdir: with parents, true once, owned by the user', { timeout: 30_000 }, async () => {
	assert.equal(await sbx().files.makeDir('/new-dir/nested'), true);
	assert.equal(await sbx().files.makeDir('/new-dir/nested'), false);
	assert.equal(await sh(sbx(), 'stat -c %U /new-dir/nested'), 'user\n');
	await sbx().files.makeDir('/new-root', { user: 'root' });
	assert.equal(await sh(sbx(), 'stat -c %U /new-root'), 'root\n');
	await sbx().files.write('/tmp/i/f.txt', '');

	const over = await post(path('/mkdir'), { path: '/tmp/i/f.txt' });

	assert.ok(over.status >= 400 && over.status < 500, over.text);
	assertError(over, over.status);
});

test('rename: answers the new entry, makes parents, replaces', { timeout: 30_000 }, async () => {
	await sbx().files.write('/tmp/rn/a', 'content');
	assert.deepEqual(await sbx().files.rename('/tmp/rn/a', '/tmp/rn/x/y/b'),
		{ name: 'b', path: '/tmp/rn/x/y/b', type: 'file', size: 7 });
	assert.equal(await sbx().files.exists('/tmp/rn/a'), false);
	await sbx().files.write('/tmp/rn/old', 'old');
	await sbx().files.rename('/tmp/rn/x/y/b', '/tmp/rn/old');
	assert.equal(await sbx().files.read('/tmp/rn/old'), 'content');
	assert.equal((await sbx().files.rename('/tmp/rn/x', '/tmp/rn/z')).type, 'dir');
	await assert.rejects(sbx().files.rename('/tmp/rn/none', '/tmp/rn/q'), NotFoundError);
	assertError(await patch(path(), { old_path: '/tmp/rn/old' }), 400);
});

test('remove: files, whole trees, and what is not there', { timeout: 30_000 }, async () => {
	await sh(sbx(), 'mkdir -p /tmp/rm/deep/deeper; touch /tmp/rm/f /tmp/rm/deep/deeper/g; ln -s /etc /tmp/rm/deep/etc');
	await sbx().files.remove('/tmp/rm/f');
	assert.equal(await sbx().files.exists('/tmp/rm/f'), false);
	await sbx().files.remove('/tmp/rm');
	assert.equal(await sbx().files.exists('/tmp/rm'), false);
	assert.equal(await sbx().files.exists('/etc/passwd'), true, 'links are not followed');
	assert.deepEqual(assertOk(await del(filePath(sbx().sandboxId, '/tmp/rm'))), {});
});

test('batch: in order, mixed with raw ones by the SDK', { timeout: 30_000 }, async () => {
	const made = await sbx().files.writeFiles([
		{ path: '/batch/a.txt', data: 'alpha' },
		{ path: '/batch/bin', data: new Uint8Array([0, 255, 10]) },
		{ path: '/batch/deep/er/c.txt', data: 'ü' },
	]);

	assert.deepEqual(made, [
		{ path: '/batch/a.txt', size: 5 }, { path: '/batch/bin', size: 3 }, { path: '/batch/deep/er/c.txt', size: 2 },
	]);
	assert.equal(await sh(sbx(), 'cat /batch/a.txt /batch/deep/er/c.txt'), 'alphaü');
	assert.deepEqual(assertOk(await post(path('/batch'), { files: [] })), []);
	assertError(await post(path('/batch'), { files: [{ path: '/batch/x' }] }), 400);
	assertError(await post(path('/batch'), { files: [{ path: '/batch/ok', data: 'x' }, { path: 'rel', data: 'x' }] }), 400);
	assert.equal(await sbx().files.exists('/batch/ok'), false, 'a refused batch writes nothing');
	assertError(await post(path('/batch'), {}), 400);
});

test('every refusal of the guest is a typed 4xx', { timeout: 60_000 }, async (t) => {
	const id = sbx().sandboxId;
	const long = 'n'.repeat(300);

	await sh(sbx(), 'mkdir -p /tmp/e/dir; ln -s b /tmp/e/a; ln -s a /tmp/e/b; touch /tmp/e/file');
	const cases = {
		'read a directory': () => get(filePath(id, '/tmp/e/dir')),
		'read through a loop': () => get(filePath(id, '/tmp/e/a')),
		'read a long name': () => get(filePath(id, `/tmp/${long}`)),
		'read below a file': () => get(filePath(id, '/tmp/e/file/x')),
		'write to a directory': () => post(path(), { path: '/tmp/e/dir', data: 'x' }),
		'write through a loop': () => post(path(), { path: '/tmp/e/a/x', data: 'x' }),
		'write below a file': () => post(path(), { path: '/tmp/e/file/x', data: 'x' }),
		'write to procfs': () => post(path(), { path: '/proc/none/x', data: 'x' }),
		'rename a directory onto a file': () => patch(path(), { old_path: '/tmp/e/dir', new_path: '/tmp/e/file' }),
		'rename a directory into itself': () => patch(path(), { old_path: '/tmp/e/dir', new_path: '/tmp/e/dir/x' }),
		'remove the root': () => del(filePath(id, '/')),
		'mkdir below a file': () => post(path('/mkdir'), { path: '/tmp/e/file/x' }),
	};

	for (const [what, fn] of Object.entries(cases))
		await t.test(what, async () => {
			const res = await fn();

			assert.ok(res.status >= 400 && res.status < 500, `${res.status} ${res.text}`);
			assertError(res, res.status);
		});
});

test('a full disk is said so, and leaves no half file', { timeout: 120_000 }, async () => {
	const id = sbx().sandboxId;

	await sh(sbx(), 'mkdir -p /tmp/small && mount -t tmpfs -o size=1m tmpfs /tmp/small', { user: 'root' });
	try {
		const res = await request('PUT', rawPath(id, '/tmp/small/f'), { body: Buffer.alloc(4 << 20, 1) });

		assert.ok([413, 507].includes(res.status), `${res.status} ${res.text}`);
		assertError(res, res.status, /space/);
		assert.equal(await sh(sbx(), 'ls -A /tmp/small'), '');
	} finally {
		await sh(sbx(), 'umount /tmp/small', { user: 'root' });
	}
});

test('a reader never sees a half written file', { timeout: 120_000 }, async () => {
	await sbx().files.write('/tmp/at/f', 'a'.repeat(1 << 20));
	await sbx().commands.run(
		'for i in $(seq 100000); do h=$(cut -c1 < /tmp/at/f | sort -u); s=$(stat -c %s /tmp/at/f);'
		+ ' [ "$s" = 1048576 ] || echo "$s" >> /tmp/at-bad; [ -e /tmp/at-stop ] && break; done', { background: true });
	for (let i = 0; i < 10; i++)
		await sbx().files.write('/tmp/at/f', new Uint8Array(1 << 20).fill(97 + (i % 2)));
	await sh(sbx(), 'touch /tmp/at-stop');
	assert.equal(await sbx().files.exists('/tmp/at-bad'), false);
	assert.equal(await sh(sbx(), 'ls -A /tmp/at'), 'f\n', 'no temporary file stays');
});

test('a download says how much is to come, where that is known', { timeout: 60_000 }, async () => {
	const raw = async (p) => get(rawPath(sbx().sandboxId, p));

	await sh(sbx(), 'head -c 100000 /dev/zero > /tmp/large; : > /tmp/empty');
	for (const [file, length, size] of [['/tmp/large', '100000', 100_000], ['/tmp/empty', undefined, 0]]) {
		const res = await raw(file);

		assert.equal(res.status, 200);
		assert.equal(res.headers['content-length'], length, file);
		assert.equal(res.body.length, size);
	}
	// Files that do not have the size they show
	assert.match((await raw('/proc/self/status')).text, /^Name:/);
	assert.equal((await raw('/sys/devices/system/cpu/online')).text, '0\n');
});

test('a file that changes while it is read: never more than was said, never less in silence', { timeout: 60_000 }, async () => {
	const size = 24 << 20;

	await sh(sbx(), `head -c ${size} /dev/zero > /tmp/grows; cp /tmp/grows /tmp/shrinks`);

	const grows = await open('GET', rawPath(sbx().sandboxId, '/tmp/grows'), { agent: false });
	const shrinks = await open('GET', rawPath(sbx().sandboxId, '/tmp/shrinks'), { agent: false });

	// Nothing of either is read before it has changed; what lies between is far smaller than the file
	await sh(sbx(), 'echo more >> /tmp/grows; truncate -s 1M /tmp/shrinks');
	assert.equal((await readAll(grows)).length, size);
	await assert.rejects(readAll(shrinks), { code: 'ECONNRESET' });
	assert.equal(await sh(sbx(), 'echo lives'), 'lives\n');
});

test('an upload that breaks off writes nothing', { timeout: 60_000 }, async () => {
	const id = sbx().sandboxId;

	await sbx().files.write('/tmp/br/f', 'old');
	await assert.rejects(request('PUT', rawPath(id, '/tmp/br/f'), {
		headers: { 'Content-Length': 10 << 20 }, agent: false,
		write: async (req) => {
			req.write(Buffer.alloc(1 << 20));
			await new Promise((r) => setTimeout(r, 300));
			throw new Error('the client gives up');
		},
	}));
	await new Promise((r) => setTimeout(r, 1000));
	assert.equal(await sbx().files.read('/tmp/br/f'), 'old');
	assert.equal(await sh(sbx(), 'ls -A /tmp/br'), 'f\n');
});

test('watch: the SDK gets its {}, the stream gets what happens', { timeout: 60_000 }, async () => {
	await sbx().files.makeDir('/tmp/w');

	const handle = await sbx().files.watchDir('/tmp/w', { recursive: true });

	assert.deepEqual(handle.getNewEvents(), []);
	assert.deepEqual(assertOk(await post(path('/watch'), { path: '/tmp/w', recursive: false })), {});

	const res = await openStream('GET', path(`/watch${q('/tmp/w')}&recursive=true`), { agent: false });
	const seen = [];
	const reading = (async () => {
		for await (const e of events(res)) {
			seen.push(e.data);
			if (seen.some((x) => x.type === 'remove'))
				return;
		}
	})();

	await sh(sbx(), 'cd /tmp/w; mkdir sub; sleep 0.3; echo x > sub/f; sleep 0.3; mv sub/f sub/g; sleep 0.3; rm sub/g');
	await reading;

	const types = seen.map((e) => e.type);

	for (const type of ['create', 'write', 'remove'])
		assert.ok(types.includes(type), `${type} in ${JSON.stringify(seen)}`);
	assert.ok(seen.some((e) => e.path === '/tmp/w/sub/f'), JSON.stringify(seen));
	assert.ok(seen.every((e) => e.path.startsWith('/tmp/w')));
});

test('a disk that cannot keep up with an upload holds nobody else up', { timeout: 120_000 }, async () => {
	const data = randomBytes(4 << 20);
	const writers = [];
	let done = false;

	// Above two pages that are not on the disk yet, the least there can be, the kernel makes writers wait: with every write
	await sh(sbx(), 'echo 8192 > /proc/sys/vm/dirty_bytes; echo 4096 > /proc/sys/vm/dirty_background_bytes', { user: 'root' });

	const upload = request('PUT', rawPath(sbx().sandboxId, '/var/tmp/much'), { body: data }).finally(() => { done = true; });

	while (!done)
		writers.push(Number(await sh(sbx(), 'pgrep -cx init')));
	assert.equal((await upload).status, 200);
	await sh(sbx(), 'echo 20 > /proc/sys/vm/dirty_ratio; echo 10 > /proc/sys/vm/dirty_background_ratio', { user: 'root' });
	assert.ok(writers.length > 2, `${writers.length} commands were answered meanwhile`);
	assert.ok(writers.includes(2), `somebody else than the agent waits for the disk: ${writers}`);
	assert.equal((await sh(sbx(), 'sha256sum < /var/tmp/much; rm /var/tmp/much')).slice(0, 64),
		createHash('sha256').update(data).digest('hex'));
});
