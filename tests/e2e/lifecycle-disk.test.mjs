// SPDX-License-Identifier: GPL-2.0-or-later
//
// Paused sandboxes on disk: their memory leaves the host, comes back as it was, and survives the daemon.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, post } from './lib/api.mjs';
import { assertOk } from './lib/check.mjs';
import { restart, sigkill, withConfig } from './lib/daemon.mjs';
import { hostOut, marksOf, onHost } from './lib/host.mjs';
import { shareSandbox, sh, until } from './lib/sandbox.mjs';

const sbx = shareSandbox({ timeout: 900 });
const path = (rest = '') => `/sandboxes/${sbx().sandboxId}${rest}`;
const run = (cmd) => post(path('/commands'), { cmd });
const file = (name) => `/var/lib/declaw/sandboxes/${sbx().sandboxId}/${name}`;
const onDisk = () => until('it is on disk', async () =>
	JSON.parse(await hostOut('cat', file('sandbox.json'))).on_disk &&
	JSON.parse(await hostOut('cat', file('sandbox.json'))).moving === '', 30_000, 200);

async function pauseToDisk() {
	assertOk(await post(path('/pause')));
	await onDisk();
}

async function assertHoldsNothing() {
	const { files, ...marks } = await marksOf(sbx().sandboxId);

	for (const [where, shown] of Object.entries(marks))
		assert.equal(shown, false, where);
	assert.ok(files.includes(file('memory')));
}

test('to disk and back: memory, disk, processes and their streams', { timeout: 120_000 }, async () => {
	await withConfig('[sandbox]\npaused_to_disk_after = 1s\n', async () => {
		await sh(sbx(), 'echo memory > /dev/shm/m; echo disk > /home/user/d');

		const proc = await sbx().commands.run('while ! [ -e /tmp/go ]; do sleep 0.2; done; echo went', { background: true });

		await pauseToDisk();
		await assertHoldsNothing();
		assert.equal(assertOk(await get(path())).state, 'paused');
		assert.equal(assertOk(await run('cat /dev/shm/m /home/user/d; touch /tmp/go')).stdout, 'memory\ndisk\n');
		assert.equal((await proc.wait()).stdout, 'went\n');
		assert.notEqual((await onHost('test', '-e', file('memory'))).code, 0, 'the image is gone once it runs');

		const { stdout } = assertOk(await run('date +%s'));

		assert.ok(Math.abs(Number(stdout) * 1000 - Date.now()) < 2500, 'the clock is right');

		// The daemon comes and goes meanwhile
		const other = await sbx().commands.run('sleep 1; echo later', { background: true });

		await pauseToDisk();
		await restart();
		assert.equal(assertOk(await get(path())).state, 'paused');
		await sigkill();
		await assertHoldsNothing();
		assertOk(await get(path()));
		assert.equal(assertOk(await run('cat /dev/shm/m')).stdout, 'memory\n');
		assert.equal((await sbx().commands.connect(other.pid).wait()).stdout, 'later\n');
	});
});

test('SIGKILL while it is written, read, paused or resumed: it is found and goes on', { timeout: 180_000 }, async () => {
	await withConfig('[sandbox]\npaused_to_disk_after = 500ms\n', async () => {
		for (const [i, ms] of [0, 300, 900].entries()) {
			await sh(sbx(), `echo round ${i} > /dev/shm/r; echo round ${i} > /home/user/r`);

			const asked = post(path('/pause')).catch(() => null);

			await new Promise((r) => setTimeout(r, ms));
			await sigkill();
			await asked;
			await get(path());

			const woke = run('true').catch(() => null);

			await new Promise((r) => setTimeout(r, ms / 2));
			await sigkill();
			await woke;
			await get(path());
			assert.equal(assertOk(await run('cat /dev/shm/r /home/user/r')).stdout, `round ${i}\nround ${i}\n`, `killed after ${ms} ms`);
		}
	});
});

test('paused in memory, the daemon gone and back: still paused, then goes on', { timeout: 60_000 }, async () => {
	const proc = await sbx().commands.run('sleep 1; echo after', { background: true });

	assertOk(await post(path('/pause')));
	await sigkill();
	assert.deepEqual(assertOk(await get(path('/status'))), { is_running: false });
	assert.equal(assertOk(await get(path())).state, 'paused');
	assert.equal(assertOk(await run('cat /dev/shm/r')).stdout, 'round 2\n');
	assert.equal((await sbx().commands.connect(proc.pid).wait()).stdout, 'after\n');
});

test('suspended and resumed by an administrator: reported as it is', { timeout: 60_000 }, async () => {
	const virsh = (verb) => hostOut('virsh', '-q', '-c', 'qemu:///session?socket=/run/declaw/libvirt/libvirt/libvirt-sock',
		verb, sbx().sandboxId);
	const is = (state) => until(`it is ${state}`, async () => (await get(path())).json.state === state, 3000);

	await virsh('suspend');
	await is('paused');
	await virsh('resume');
	await is('running');
	assert.equal(await sh(sbx(), 'echo fine'), 'fine\n');
});

test('an upgrade that brings other templates: what is paused goes on with its own', { timeout: 120_000 }, async () => {
	const link = '/var/lib/declaw/templates/base';
	const sum = 'cd /usr && find bin lib/python3* -type f -size +64k | sort | head -n 200 | xargs sha256sum | sha256sum';
	const before = await sh(sbx(), sum, { timeout: 60 });
	const version = (await hostOut('readlink', link)).trim();
	const other = (await hostOut('readlink', '/var/lib/declaw/templates/python')).trim();
	const point = (to) => hostOut('sh', '-c', 'ln -sfn "$0" "$1.new" && mv -T "$1.new" "$1"', to, link);

	await withConfig('[sandbox]\npaused_to_disk_after = 1s\n', async () => {
		await pauseToDisk();
		try {
			await point(other);
			await restart();
			assertOk(await get(path()));
			await sh(sbx(), 'sync; echo 3 >/proc/sys/vm/drop_caches', { user: 'root' });
			assert.equal(await sh(sbx(), sum, { timeout: 60 }), before);
		} finally {
			await point(version);
		}
	});
});
