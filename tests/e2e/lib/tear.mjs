// SPDX-License-Identifier: GPL-2.0-or-later
//
// Whether what is made of a snapshot is of one instant: a program inside (data/tear.c) that finds a single lost write, runs when
// the snapshot is made, and goes on in what is made of it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { del, post } from './api.mjs';
import { assertOk } from './check.mjs';
import { until, withSandbox } from './sandbox.mjs';

const PER_SOURCE = 25;	// a disk has a limited number of layers

function compiled() {
	const dir = mkdtempSync(path.join(tmpdir(), 'tear-'));
	const out = path.join(dir, 'tear');

	try {
		execFileSync(process.env.CC ?? 'cc', ['-std=gnu11', '-D_GNU_SOURCE', '-O2', '-static', '-pthread', '-o', out,
			new URL('../data/tear.c', import.meta.url).pathname]);
		return readFileSync(out);
	} finally {
		rmSync(dir, { recursive: true });
	}
}

async function run(id, cmd) {
	const out = assertOk(await post(`/sandboxes/${id}/commands`, { cmd }));

	assert.equal(out.exit_code, 0, `${cmd}: ${out.stderr}`);
	return out.stdout;
}

// -> how much it has done of each thing; fails if anything was wrong
async function progress(id) {
	const [wrong, ...done] = (await run(id, 'cat /dev/shm/tear.now')).trim().split(' ').map(Number);

	assert.equal(wrong, 0, `in ${id}: ${wrong ? await run(id, 'head -5 /dev/shm/tear') : ''}`);
	assert.equal(done.length, 6);
	return done;
}

// Everything was looked at once it has been through twice
async function whole(id) {
	const then = await progress(id);

	await until('every page has been looked at', async () => (await progress(id)).every((n, i) => n >= then[i] + 2), 120_000, 300);
}

async function rounds(t, n, program) {
	await withSandbox({ template: 'base', timeout: 3600 }, async (sbx) => {
		const id = sbx.sandboxId;

		await sbx.files.write('/tmp/tear', program);
		await run(id, 'chmod +x /tmp/tear');
		await sbx.commands.run('exec /tmp/tear /dev/shm/tear /home/user/blocks', { background: true, timeoutMs: 0 });
		await until('it runs', async () => (await run(id, 'cat /dev/shm/tear.now 2>/dev/null || echo 0')).split(' ')[2] > 1, 60_000);
		for (let i = 0; i < n; i++) {
			const snap = assertOk(await post(`/sandboxes/${id}/snapshot`, {}), 201);
			const child = assertOk(await post('/sandboxes', { snapshot_id: snap.snapshot_id, timeout: 600 }), 201).sandbox_id;

			try {
				await whole(child);
			} finally {
				await del(`/sandboxes/${child}`);
			}
			assertOk(await del(`/sandboxes/${id}/snapshots/${snap.snapshot_id}`));
			t.diagnostic(`${i + 1} of ${n} is whole; it stood for ${snap.pause_duration_ms} ms`);
		}
		await whole(id);
	});
}

export async function nothingTorn(t, n) {
	const program = compiled();

	for (let left = n; left > 0; left -= PER_SOURCE)
		await rounds(t, Math.min(left, PER_SOURCE), program);
}
