// SPDX-License-Identifier: GPL-2.0-or-later
//
// Pause and resume, long: 50 rounds with writes in between lose nothing, in memory and by way of the disk; a reboot of
// the host (DECLAW_HOST: the command whose verb `restart` does it) keeps what is paused.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { get, post } from './lib/api.mjs';
import { assertOk } from './lib/check.mjs';
import { answers, withConfig } from './lib/daemon.mjs';
import { hostOut } from './lib/host.mjs';
import { killAll, shareSandbox, until } from './lib/sandbox.mjs';

const rounds = 50;
const sbx = shareSandbox({ timeout: 3600 });
const path = (rest = '') => `/sandboxes/${sbx().sandboxId}${rest}`;
const run = async (cmd) => assertOk(await post(path('/commands'), { cmd })).stdout;
const expected = (n) => Array.from({ length: n }, (_, i) => `round ${i}\n`).join('');
const reboot = (process.env.DECLAW_HOST || '').split(/\s+/).filter(Boolean);

async function cycle(where, settle) {
	await run(`rm -f ${where} /dev/shm/log`);
	for (let i = 0; i < rounds; i++) {
		await run(`echo round ${i} | tee -a ${where} >> /dev/shm/log`);
		assertOk(await post(path('/pause')));
		await settle();
		assertOk(await post(path('/resume')));
	}
	assert.equal(await run(`cat ${where}`), expected(rounds), 'nothing of the disk is lost');
	assert.equal(await run('cat /dev/shm/log'), expected(rounds), 'nor of the memory');
}

test(`${rounds} rounds in memory, with a writer that never stops`, { timeout: 600_000 }, async () => {
	const writer = await sbx().commands.run('i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done', { background: true });

	await cycle('/home/user/log', async () => {});
	await writer.kill();

	const { stdout } = await writer.wait().catch((e) => e);
	const lines = stdout.trimEnd().split('\n').map(Number);

	assert.ok(lines.length > rounds && lines.every((n, i) => n === i), 'its output has no gap and no repetition');
});

test(`${rounds} rounds by way of the disk`, { timeout: 1_200_000 }, async () => {
	await withConfig('[sandbox]\npaused_to_disk_after = 1ms\n', async () => {
		const record = `/var/lib/declaw/sandboxes/${sbx().sandboxId}/sandbox.json`;

		await cycle('/home/user/log2', () => until('it is on disk', async () =>
			JSON.parse(await hostOut('cat', record)).on_disk, 30_000, 50));
	});
});

test('a reboot of the host: paused ones go on, running ones are told from crashes', { skip: !reboot.length, timeout: 300_000 }, async () => {
	const ids = await Promise.all(Array.from({ length: 3 }, () =>
		post('/sandboxes', { timeout: 3600 }).then((r) => assertOk(r, 201).sandbox_id)));
	const [onDisk, paused, running] = ids;

	try {
		for (const id of ids)
			assertOk(await post(`/sandboxes/${id}/commands`, { cmd: `echo ${id} > /dev/shm/id; echo ${id} > /home/user/id` }));
		await withConfig('[sandbox]\npaused_to_disk_after = 1ms\n', async () => {
			assertOk(await post(`/sandboxes/${onDisk}/pause`));
			await until('one is on disk', async () =>
				JSON.parse(await hostOut('cat', `/var/lib/declaw/sandboxes/${onDisk}/sandbox.json`)).on_disk, 30_000);
		});
		assertOk(await post(`/sandboxes/${paused}/pause`));
		await promisify(execFile)(reboot[0], [...reboot.slice(1), 'restart']);
		await answers();

		for (const id of [onDisk, paused]) {
			assert.equal(assertOk(await get(`/sandboxes/${id}`)).state, 'paused');
			assert.equal(assertOk(await post(`/sandboxes/${id}/commands`, { cmd: 'cat /dev/shm/id /home/user/id' })).stdout,
				`${id}\n${id}\n`);
		}

		const dead = assertOk(await get(`/sandboxes/${running}`));

		assert.equal(dead.state, 'killed');
		assert.equal(dead.end_reason, 'host_shutdown');
	} finally {
		await killAll(ids);
	}
});
