// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the host lacks just now is told as it is, by type, and is over when it is back.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, listIds, post } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { hostOut } from './lib/host.mjs';
import { killAll, until } from './lib/sandbox.mjs';

test('systemd reloads its units: sandboxes and their deadlines stay', { timeout: 60_000 }, async () => {
	const { sandbox_id: id } = assertOk(await post('/sandboxes', { timeout: 600 }), 201);

	try {
		const { end_at: end } = assertOk(await get(`/sandboxes/${id}`));

		for (let i = 0; i < 3; i++) {
			await hostOut('systemctl', 'daemon-reload');
			// Longer than the daemon waits for libvirt's word about a scope that is gone
			await new Promise((r) => setTimeout(r, 1000));
			assert.equal(assertOk(await post(`/sandboxes/${id}/commands`, { cmd: 'echo on' })).stdout, 'on\n');
		}
		assert.equal(assertOk(await get(`/sandboxes/${id}`)).end_at, end);
		assert.match(await hostOut('systemctl', 'list-timers', '--all', '--no-legend'), new RegExp(id));
	} finally {
		await killAll([id]);
	}
});

test('libvirtd is not there: a typed error, no trace, and sandboxes again once it is', { timeout: 120_000 }, async () => {
	const keeper = assertOk(await post('/sandboxes', { timeout: 600 }), 201).sandbox_id;
	const before = await listIds();

	try {
		await hostOut('systemctl', 'mask', '--runtime', '--now', 'declaw-libvirtd.service');

		const res = await until('the daemon has noticed', async () => {
			const r = await post('/sandboxes', {});

			if (r.status === 201)
				await killAll([r.json.sandbox_id]);
			return r.json?.code === 'libvirt_unavailable' && r;
		}, 20_000, 200);

		assertError(res, 409, 'libvirt_unavailable', /declaw-libvirtd/);
		assert.deepEqual(await listIds(), before, 'nothing was begun');
		// What runs needs no libvirt
		assert.equal(assertOk(await post(`/sandboxes/${keeper}/commands`, { cmd: 'echo on' })).stdout, 'on\n');
		assert.equal(assertOk(await get(`/sandboxes/${keeper}`)).state, 'running');
	} finally {
		await hostOut('systemctl', 'unmask', '--runtime', 'declaw-libvirtd.service');
		await hostOut('systemctl', 'start', 'declaw-libvirtd.service');
	}

	const made = await until('it is possible again', async () => {
		const r = await post('/sandboxes', {});

		return r.status === 201 && r.json.sandbox_id;
	}, 30_000, 200);

	assert.equal(assertOk(await get(`/sandboxes/${keeper}`)).state, 'running');
	await killAll([made, keeper]);
});
