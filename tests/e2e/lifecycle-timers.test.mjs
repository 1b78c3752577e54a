// SPDX-License-Identifier: GPL-2.0-or-later
//
// Deadlines: systemd timers that end or pause a sandbox on time, with or without the daemon.

import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { get, patch, post } from './lib/api.mjs';
import { assertOk, assertTimestamp } from './lib/check.mjs';
import { assertGone, hostOut } from './lib/host.mjs';
import { killAll, until } from './lib/sandbox.mjs';

const create = async (json = {}) => assertOk(await post('/sandboxes', json), 201).sandbox_id;
const state = async (id) => (await get(`/sandboxes/${id}`)).json;

const timers = () => hostOut('systemctl', 'list-timers', '--all', '--no-legend');

test('timeout: killed on time, also while the daemon is stopped', { timeout: 60_000 }, async () => {
	const id = await create({ timeout: 600 });

	assertOk(await patch(`/sandboxes/${id}/timeout`, { timeout: 5 }));
	assert.match(await timers(), new RegExp(`declaw-expire@${id}.timer`));

	const due = assertTimestamp((await state(id)).end_at);

	await hostOut('systemctl', 'stop', 'declawd.service');
	// Started ahead of it by a timer of its own
	assert.match(await timers(), /declaw-expire@next\.timer/);
	assert.ok(Date.now() < due, 'stopped before the deadline');
	await until('the timer wakes the daemon and it acts', async () =>
		(await state(id).catch(() => null))?.state === 'killed', 20_000);

	const { end_at: end, end_reason: reason } = await state(id);

	assert.equal(reason, 'timeout');
	assert.ok(assertTimestamp(end) >= due - 20, 'not early');
	// How exactly is what tests/figures measures; this machine may be busy
	assert.ok(assertTimestamp(end) - due < 10_000, `late by ${assertTimestamp(end) - due} ms`);
	await until('nothing is to start it any more', async () => !/declaw-expire@next\.timer/.test(await timers()), 10_000);
	await assertGone(id);
});

// A stop that takes longer than the deadline is far away: neither is lost.
test('a deadline while declawd is being stopped', { timeout: 90_000 }, async () => {
	const dropIn = '/run/systemd/system/declawd.service.d/slow-stop.conf';
	const id = await create({ timeout: 600 });

	await hostOut('sh', '-c', `mkdir -p ${dirname(dropIn)} && printf '[Service]\\nExecStop=sleep 6\\n' >${dropIn} && systemctl daemon-reload`);
	try {
		assertOk(await patch(`/sandboxes/${id}/timeout`, { timeout: 3 }));

		const due = assertTimestamp((await state(id)).end_at);

		await hostOut('systemctl', 'stop', 'declawd.service');
		assert.ok(Date.now() > due, 'the deadline came before the end of the stop');
		await until('declawd is back, and it has ended', async () =>
			(await state(id).catch(() => null))?.state === 'killed', 30_000);
		assert.equal((await state(id)).end_reason, 'timeout');
	} finally {
		await hostOut('sh', '-c', `rm ${dropIn}; systemctl daemon-reload; systemctl start declawd.service`);
	}
	await assertGone(id);
});

test('on_timeout pause: paused on time, goes on by itself with auto_resume', { timeout: 60_000 }, async () => {
	const id = await create({ timeout: 600, lifecycle: { on_timeout: 'pause', auto_resume: true } });

	try {
		assertOk(await post(`/sandboxes/${id}/commands`, { cmd: 'echo kept > /dev/shm/k' }));
		assertOk(await patch(`/sandboxes/${id}/timeout`, { timeout: 1 }));
		await until('it is paused', async () => (await state(id)).state === 'paused', 10_000);

		const { end_at: end, end_reason: reason } = await state(id);

		assert.equal(end, null);
		assert.equal(reason, null);
		assertOk(await patch(`/sandboxes/${id}/timeout`, { timeout: 600 }));
		assert.equal(assertOk(await post(`/sandboxes/${id}/commands`, { cmd: 'cat /dev/shm/k' })).stdout, 'kept\n');

		const again = await state(id);

		assert.equal(again.state, 'running');
		assert.ok(assertTimestamp(again.end_at) > Date.now() + 590_000);
	} finally {
		await killAll([id]);
	}
});

test('timeout 0: no deadline, no timer', { timeout: 60_000 }, async () => {
	const id = await create({ timeout: 0 });

	try {
		assert.equal((await state(id)).end_at, null);
		assert.doesNotMatch(await hostOut('systemctl', 'list-timers', '--all', '--no-legend'), new RegExp(id));
	} finally {
		await killAll([id]);
	}
});
