// SPDX-License-Identifier: GPL-2.0-or-later
//
// Clones of a template's memory snapshot: whoever they are, they are not each other.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { get } from './lib/api.mjs';
import { assertOk } from './lib/check.mjs';
import { restart, sigkill } from './lib/daemon.mjs';
import { assertGone, hostOut, marksOf, onHost } from './lib/host.mjs';
import { clockOf, creates, forkable, identityOf } from './lib/identity.mjs';
import { Sandbox, killAll, sh, withSandbox } from './lib/sandbox.mjs';

const pathOf = async (sbx) => assertOk(await get(`/sandboxes/${sbx.sandboxId}`)).create_path;

before(() => forkable('base', 'python'), { timeout: 200_000 });

test('six clones: every item of their identity is distinct, and the clock is the host\'s', { timeout: 300_000 }, async (t) => {
	const seen = new Map();
	const made = [];
	const offs = [];

	try {
		for (let i = 0; i < 6; i++) {
			const sbx = await Sandbox.create({ template: 'base', timeout: 600 });

			made.push(sbx.sandboxId);
			assert.equal(await pathOf(sbx), 'fork');
			for (const [item, value] of Object.entries(await identityOf(sbx))) {
				assert.ok(value, `${item} is there`);
				assert.equal(seen.get(`${item} ${value}`), undefined, `${item} of two clones is ${value}`);
				seen.set(`${item} ${value}`, sbx.sandboxId);
			}
			assert.equal(seen.get(`host name ${sbx.sandboxId}`), sbx.sandboxId);

			const { offset, error } = await clockOf(sbx);

			t.diagnostic(`clock off by ${offset.toFixed(1)} ms, give or take ${error.toFixed(1)}`);
			offs.push(Math.max(0, Math.abs(offset) - error));
		}
		// A machine too busy to answer within 10 ms cannot tell the time any better either
		assert.ok(offs.filter((ms) => ms <= 10).length >= 4 && Math.max(...offs) < 200, `clocks are off by ${offs} ms`);
	} finally {
		await killAll(made);
	}
});

test('a clone has its own disk and memory, and the next one sees nothing of it', { timeout: 120_000 }, async () => {
	await withSandbox({ template: 'python' }, async (one) => {
		await sh(one, 'echo mine | tee /home/user/mine /dev/shm/mine /tmp/mine');
		await withSandbox({ template: 'python' }, async (other) => {
			assert.equal(await sh(other, 'ls /home/user/mine /dev/shm/mine /tmp/mine 2>/dev/null || true'), '');
			await sh(other, 'echo other > /home/user/mine');
		});
		assert.equal(await sh(one, 'cat /home/user/mine'), 'mine\n');
	});
});

test('its domain, scope, tap and rules are as any sandbox\'s, and go with it', { timeout: 120_000 }, async () => {
	let id;

	await withSandbox({ template: 'base' }, async (sbx) => {
		id = sbx.sandboxId;
		for (const [where, shown] of Object.entries(await marksOf(id)))
			assert.ok(Array.isArray(shown) ? shown.length > 0 : shown, where);
	});

	await assertGone(id);
});

test('snapshots outlive the daemon, clones too', { timeout: 180_000 }, async () => {
	await withSandbox({ template: 'base' }, async (sbx) => {
		for (const again of [restart, sigkill]) {
			await again();
			assert.ok((await creates()).forkable.includes('base'), 'nothing is booted for it');
			assert.equal(await pathOf(sbx), 'fork');
			assert.equal(await sh(sbx, 'echo on'), 'on\n');
		}
	});
});

// A state that no guest can be made of, in place of the good one
test('a clone that cannot be made is a boot', { timeout: 240_000 }, async () => {
	const states = (await hostOut('find', '/var/lib/declaw/memory', '-name', 'state')).trim().split('\n');

	assert.ok(states.length >= 2);
	for (const state of states)
		await hostOut('sh', '-c', 'cp -p "$0" "$0.good" && head -c 30000 "$0.good" > "$0"', state);
	try {
		const { fell_back: before } = await creates();

		await withSandbox({ template: 'python' }, async (sbx) => {
			assert.equal(await pathOf(sbx), 'cold');
			assert.equal(await sh(sbx, 'echo up'), 'up\n');
		});
		assert.equal((await creates()).fell_back, before + 1);
	} finally {
		for (const state of states)
			await onHost('mv', `${state}.good`, state);
	}
	await withSandbox({ template: 'python' }, async (sbx) => assert.equal(await pathOf(sbx), 'fork'));
});
