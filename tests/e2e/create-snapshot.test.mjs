// SPDX-License-Identifier: GPL-2.0-or-later
//
// Users' snapshots: of a sandbox that goes on meanwhile, and sandboxes made of them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { del, get, listIds, post } from './lib/api.mjs';
import { assertError, assertOk, assertTimestamp } from './lib/check.mjs';
import { sigkill } from './lib/daemon.mjs';
import { hostOut, onHost } from './lib/host.mjs';
import { identityOf } from './lib/identity.mjs';
import { libvirtUri } from './lib/env.mjs';
import { nothingTorn } from './lib/tear.mjs';
import { Sandbox, killAll, sh, until, withSandbox } from './lib/sandbox.mjs';

const filesOf = async (id) => (await hostOut('find', '/var/lib/declaw/sandboxes', '-path', `*${id}*`)).trim();
const child = async (snapshot, more = {}) =>
	assertOk(await post('/sandboxes', { snapshot_id: snapshot, timeout: 600, ...more }), 201).sandbox_id;
const take = async (id) => assertOk(await post(`/sandboxes/${id}/snapshot`, {}), 201);
const run = async (id, cmd) => {
	const out = assertOk(await post(`/sandboxes/${id}/commands`, { cmd }));

	assert.equal(out.exit_code, 0, `${cmd}: ${out.stderr}`);
	return out.stdout;
};

// Counts into memory and onto the disk ten times a second
const writer = `i=0; while :; do i=$((i+1)); echo $i > /dev/shm/i; echo $i > /home/user/i; sleep 0.1; done`;

test('of a running sandbox; two made of it, distinct; it is removed while they run', { timeout: 300_000 }, async (t) => {
	const made = [];

	await withSandbox({ template: 'base', timeout: 600 }, async (sbx) => {
		await sh(sbx, 'echo before > /home/user/file; echo before > /dev/shm/file');
		const { pid } = assertOk(await post(`/sandboxes/${sbx.sandboxId}/commands`, { cmd: writer, background: true, timeout: 0 }));

		await until('it writes', () => sh(sbx, 'cat /dev/shm/i 2>/dev/null || true'));

		const began = performance.now();
		const snap = await take(sbx.sandboxId);

		t.diagnostic(`taken in ${(performance.now() - began).toFixed(0)} ms, the source stood for ${snap.pause_duration_ms} ms`);
		assert.match(snap.snapshot_id, /^snap-[a-z0-9]{10}$/);
		assert.equal(snap.sandbox_id, sbx.sandboxId);
		assert.equal(snap.source, 'manual');
		assert.ok(snap.mem_size_bytes > 0 && snap.pause_duration_ms > 0);
		assertTimestamp(snap.created_at);

		// It goes on, with a disk that libvirt knows of
		const then = Number(await sh(sbx, 'cat /dev/shm/i'));

		await until('it writes on', async () => Number(await sh(sbx, 'cat /dev/shm/i')) > then);
		await sh(sbx, 'echo after > /home/user/file; echo after > /dev/shm/file; sync');
		assert.match(await hostOut('virsh', '-c', libvirtUri, 'domblklist', sbx.sandboxId), /disk-1\.qcow2/);

		try {
			for (let i = 0; i < 2; i++)
				made.push(await child(snap.snapshot_id, { metadata: { n: String(i) } }));

			const identities = [await identityOf(sbx)];

			for (const id of made) {
				const info = assertOk(await get(`/sandboxes/${id}`));

				assert.equal(info.create_path, 'fork');
				assert.equal(info.snapshot_id, snap.snapshot_id);
				assert.equal(info.name, 'base');
				assert.equal(await run(id, 'cat /home/user/file /dev/shm/file'), 'before\nbefore\n');

				// Its writer lives, is listed, and can be killed
				const mine = Number(await run(id, 'cat /dev/shm/i'));

				await until('it writes', async () => Number(await run(id, 'cat /dev/shm/i')) > mine);
				assert.deepEqual(assertOk(await get(`/sandboxes/${id}/commands`)).map((p) => p.pid), [pid]);
				identities.push(await identityOf(await Sandbox.connect(id)));
			}
			for (const item of Object.keys(identities[0]))
				assert.equal(new Set(identities.map((i) => i[item])).size, 3, `${item}: ${identities.map((i) => i[item])}`);

			assert.deepEqual(assertOk(await del(`/sandboxes/${sbx.sandboxId}/snapshots/${snap.snapshot_id}`)), { deleted: true });
			assert.deepEqual(assertOk(await del(`/sandboxes/${sbx.sandboxId}/snapshots/${snap.snapshot_id}`)), { deleted: false });
			await until('its files are gone', async () => await filesOf(snap.snapshot_id) === '');
			assertError(await post('/sandboxes', { snapshot_id: snap.snapshot_id }), 404, 'snapshot_not_found');
			for (const id of made) {
				// What is read now was never in a cache: it is on layers that have this name alone
				await run(id, 'echo 3 > /proc/sys/vm/drop_caches 2>/dev/null; cat /home/user/file; find /usr/bin -type f | head -40 | xargs head -c 4096 > /dev/null');
				assert.deepEqual(assertOk(await del(`/sandboxes/${id}/commands/${pid}`)), { killed: true });
			}
		} finally {
			await killAll(made);
		}
	});
});

test('a paused one is not snapshotted; one with layers goes to disk and comes back', { timeout: 180_000 }, async () => {
	await withSandbox({ template: 'base', timeout: 600 }, async (sbx) => {
		await sh(sbx, 'echo one > /home/user/one');
		await take(sbx.sandboxId).then((s) => del(`/sandboxes/${sbx.sandboxId}/snapshots/${s.snapshot_id}`));
		await sh(sbx, 'echo two > /home/user/two');
		await sbx.pause();
		assertError(await post(`/sandboxes/${sbx.sandboxId}/snapshot`), 409, 'sandbox_paused');
		await sbx.resume();

		const second = await take(sbx.sandboxId);
		const id = await child(second.snapshot_id);

		try {
			assert.equal(await run(id, 'cat /home/user/one /home/user/two'), 'one\ntwo\n');
			await run(id, 'echo three > /home/user/three');
			assertOk(await post(`/sandboxes/${id}/pause`));
			await sigkill();
			assertOk(await post(`/sandboxes/${id}/resume`));
			assert.equal(await run(id, 'cat /home/user/one /home/user/two /home/user/three'), 'one\ntwo\nthree\n');
		} finally {
			await killAll([id]);
		}
		await del(`/sandboxes/${sbx.sandboxId}/snapshots/${second.snapshot_id}`);
	});
});

test('restored in place: memory, disk and processes of then, id and address of ever', { timeout: 240_000 }, async () => {
	await withSandbox({ template: 'base', timeout: 600, metadata: { who: 'me' } }, async (sbx) => {
		const id = sbx.sandboxId;
		const start = async (cmd) => assertOk(await post(`/sandboxes/${id}/commands`, { cmd, background: true, timeout: 0 })).pid;
		const pids = async () => assertOk(await get(`/sandboxes/${id}/commands`)).map((p) => p.pid).sort();

		await sh(sbx, 'echo then > /home/user/file; echo then > /dev/shm/file');

		const kept = await start(writer);
		const was = await identityOf(sbx);
		const path = assertOk(await get(`/sandboxes/${id}`)).create_path;
		const snap = await take(id);

		await sh(sbx, 'echo now > /home/user/file; echo now > /dev/shm/file; sync');
		await start('sleep 1000');

		const back = assertOk(await post(`/sandboxes/${id}/restore?snapshot_id=${snap.snapshot_id}`));

		assert.equal(back.sandbox_id, id);
		assert.equal(back.snapshot_id, snap.snapshot_id);
		assert.equal(typeof back.node_id, 'string');

		const info = assertOk(await get(`/sandboxes/${id}`));

		assert.equal(info.state, 'running');
		assert.equal(info.create_path, path);
		assert.deepEqual(info.metadata, { who: 'me' });
		assert.equal(await sh(sbx, 'cat /home/user/file /dev/shm/file'), 'then\nthen\n');
		assert.deepEqual(await pids(), [kept]);

		const mine = Number(await sh(sbx, 'cat /dev/shm/i'));

		await until('its writer goes on', async () => Number(await sh(sbx, 'cat /dev/shm/i')) > mine);

		const is = await identityOf(sbx);

		for (const item of ['host name', 'MAC', 'address'])
			assert.equal(is[item], was[item], item);
		for (const item of ['random bytes', 'a uuid', 'a random number'])
			assert.notEqual(is[item], was[item], item);

		// From paused, without a name: the newest. Again after the daemon died in the middle of it.
		await sh(sbx, 'echo now > /home/user/file');
		await sbx.pause();
		assertOk(await post(`/sandboxes/${id}/restore`));
		assert.equal(await sh(sbx, 'cat /home/user/file'), 'then\n');
		await sh(sbx, 'echo now > /home/user/file');

		const asked = post(`/sandboxes/${id}/restore`, undefined, { agent: false }).catch(() => {});

		await until('it is restored', async () => assertOk(await get(`/sandboxes/${id}`)).state === 'creating', 10_000, 5);
		await sigkill();
		await asked;
		await until('it runs', async () => assertOk(await get(`/sandboxes/${id}`)).state === 'running', 60_000);
		assert.equal(await sh(sbx, 'cat /home/user/file'), 'then\n');
		assertError(await post(`/sandboxes/${id}/restore?snapshot_id=snap-0000000000`), 404, 'snapshot_not_found');
		await del(`/sandboxes/${id}/snapshots/${snap.snapshot_id}`);
		assertError(await post(`/sandboxes/${id}/restore`), 404, 'snapshot_not_found');
		assert.equal(await sh(sbx, 'cat /home/user/file'), 'then\n');
	});
});

test('the SDK\'s own calls', { timeout: 180_000 }, async () => {
	let snap, id;

	await withSandbox({ template: 'base', timeout: 600 }, async (sbx) => {
		id = sbx.sandboxId;
		snap = await sbx.snapshot();
		assert.equal(snap.sandboxId, id);

		const info = await sbx.createSnapshot();

		assert.deepEqual((await sbx.listSnapshots()).map((s) => s.snapshotId), [info.snapshotId, snap.snapshotId], 'newest first');
		assert.equal(await sbx.deleteSnapshot(info.snapshotId), true);
		assert.deepEqual((await sbx.listSnapshots()).map((s) => s.snapshotId), [snap.snapshotId]);
	});
	// It outlives its sandbox, and a page says where the next one begins
	const page = assertOk(await get(`/snapshots?sandbox_id=${id}&limit=1`));

	assert.deepEqual(page.snapshots.map((s) => s.snapshot_id), [snap.snapshotId]);
	assert.equal(page.next_token, null);
	assertError(await get('/snapshots?limit=0'), 400, 'invalid_query');
	assertOk(await del(`/sandboxes/${id}/snapshots/${snap.snapshotId}`));
});

test('the daemon dies while one is made: its sandbox runs, and nothing is left', { timeout: 240_000 }, async () => {
	await withSandbox({ template: 'base', timeout: 600 }, async (sbx) => {
		await sh(sbx, 'echo kept > /home/user/kept');
		for (const wait of [200, 700]) {
			const asked = post(`/sandboxes/${sbx.sandboxId}/snapshot`, {}, { agent: false }).catch(() => {});

			await new Promise((r) => setTimeout(r, wait));
			await sigkill();
			await asked;
			assert.equal(await sh(sbx, 'cat /home/user/kept'), 'kept\n');
			assert.equal(assertOk(await get(`/sandboxes/${sbx.sandboxId}/status`)).is_running, true);
			// Whole, when it was made in time; never half
			for (const { snapshot_id: id } of assertOk(await get('/snapshots')).snapshots)
				assertOk(await del(`/sandboxes/${sbx.sandboxId}/snapshots/${id}`));
			await until('nothing is left', async () =>
				!(await filesOf('snap-')) && (await onHost('sh', '-c', 'virsh -q -c "$0" list --name', libvirtUri)).stdout
					.split('\n').filter(Boolean).every((n) => n === sbx.sandboxId), 20_000);
		}
		const snap = await take(sbx.sandboxId);

		const id = await child(snap.snapshot_id);

		assert.equal(await run(id, 'cat /home/user/kept'), 'kept\n');
		await killAll([id]);
		await del(`/sandboxes/${sbx.sandboxId}/snapshots/${snap.snapshot_id}`);
	});
});

test('memory and disk are of one instant, whatever writes them meanwhile', { timeout: 240_000 }, (t) => nothingTorn(t, 2));

// Where the random generator of a guest takes nothing, its agent cannot make a clone distinct, and says so.
test('a clone that cannot be made distinct is removed, and nobody is served it', { timeout: 120_000 }, async () => {
	await withSandbox({ template: 'base', timeout: 600 }, async (sbx) => {
		await sh(sbx, 'mv /dev/urandom /dev/urandom.real && : > /dev/urandom', { user: 'root' });

		const snap = await take(sbx.sandboxId);
		const res = await post('/sandboxes', { snapshot_id: snap.snapshot_id, timeout: 600 });

		assertError(res, 409, 'start_failed', /identity/);
		assert.deepEqual(await listIds(), [sbx.sandboxId]);
		await until('nothing of it is left', async () => (await onHost('virsh', '-q', '-c', libvirtUri, 'list', '--all', '--name'))
			.stdout.split('\n').filter(Boolean).every((n) => n === sbx.sandboxId), 20_000);

		// It is the guest that refuses, not the snapshot
		await sh(sbx, 'rm /dev/urandom && mv /dev/urandom.real /dev/urandom', { user: 'root' });

		const good = await take(sbx.sandboxId);

		await killAll([await child(good.snapshot_id)]);
		for (const s of [snap, good])
			await del(`/sandboxes/${sbx.sandboxId}/snapshots/${s.snapshot_id}`);
	});
});
