// SPDX-License-Identifier: GPL-2.0-or-later
//
// Forks in numbers: a hundred that are not each other, five hundred boots and as many forks without one that hangs,
// snapshots under load, and a template that changes while sandboxes are made of it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { del, get, post } from './lib/api.mjs';
import { assertOk } from './lib/check.mjs';
import { restart, withConfig } from './lib/daemon.mjs';
import { hostOut } from './lib/host.mjs';
import { clockOf, creates, forkable, identityOf } from './lib/identity.mjs';
import { Sandbox, killAll, until, withSandbox } from './lib/sandbox.mjs';
import { nothingTorn } from './lib/tear.mjs';

const minutes = (n) => n * 60_000;
const make = async () => assertOk(await post('/sandboxes', { template: 'base', timeout: 600 }), 201);
const echo = async (id) =>
	assert.equal(assertOk(await post(`/sandboxes/${id}/commands`, { cmd: 'echo up', timeout: 60 })).stdout, 'up\n');

test('100 forks: 100 distinct values of every item, and clocks of this host', { timeout: minutes(30) }, async (t) => {
	const seen = new Map();
	const offs = [];

	await forkable('base');
	for (let i = 0; i < 100; i++) {
		await withSandbox({ template: 'base', timeout: 600 }, async (sbx) => {
			assert.equal(assertOk(await get(`/sandboxes/${sbx.sandboxId}`)).create_path, 'fork');
			for (const [item, value] of Object.entries(await identityOf(sbx))) {
				// The address of one that is gone may be given out again
				assert.ok(value, `${item} is there`);
				if (item !== 'address')
					assert.equal(seen.get(`${item} ${value}`), undefined, `${item} of two clones is ${value}`);
				seen.set(`${item} ${value}`, sbx.sandboxId);
			}

			const { offset, error } = await clockOf(sbx);

			offs.push(Math.max(0, Math.abs(offset) - error));
		});
		if (i % 10 === 9)
			t.diagnostic(`${i + 1}: the clock furthest off by ${Math.max(...offs).toFixed(1)} ms`);
	}
	// A machine too busy to answer within 10 ms cannot tell the time any better either
	assert.ok(offs.filter((ms) => ms <= 10).length >= 90 && Math.max(...offs) < 200, `clocks are off by ${offs}`);
});

async function inARow(t, n, how) {
	const began = Date.now();
	let slowest = 0;

	for (let i = 0; i < n; i++) {
		const from = Date.now();
		const { sandbox_id: id, create_path: path } = await make();

		try {
			assert.equal(path ?? assertOk(await get(`/sandboxes/${id}`)).create_path, how, `number ${i + 1}`);
			await echo(id);
			slowest = Math.max(slowest, Date.now() - from);
		} finally {
			await del(`/sandboxes/${id}`);
		}
		if (i % 25 === 24)
			t.diagnostic(`${i + 1} of ${n} in ${((Date.now() - began) / 1000).toFixed(0)} s, slowest ${slowest} ms`);
	}
}

const count = Number(process.env.DECLAW_LONG_COUNT ?? 500);

test(`${count} forks, and none that hangs`, { timeout: minutes(60) }, async (t) => {
	await forkable('base');
	await inARow(t, count, 'fork');
});

test(`${count} boots, and none that hangs`, { timeout: minutes(120) }, (t) =>
	withConfig('[create]\nfork = no\n', () => inARow(t, count, 'cold')));

test('60 snapshots of a guest that writes all the time: each is of one instant', { timeout: minutes(60) }, (t) => nothingTorn(t, 60));

// The same files under another name are another template to the daemon: its memory is made anew, while sandboxes are made
// all the time. What was made of the old one goes on, and when it is gone, so is the memory it shared.
test('a template that changes under load', { timeout: minutes(10) }, async () => {
	const link = '/var/lib/declaw/templates/base';
	const old = (await hostOut('readlink', link)).trim();
	const memories = async () => (await hostOut('ls', '/var/lib/declaw/memory')).split('\n').filter(Boolean);
	const made = [];
	let on = true, failed;

	await forkable('base');

	const before = await memories();
	const first = await Sandbox.create({ template: 'base', timeout: 1200 });

	await hostOut('sh', '-c', 'cd /var/lib/declaw/templates && cp -al "$0" "$0-e2e" && touch "$0-e2e/manifest" && ln -sfn "$0-e2e" base', old);
	try {
		await restart();

		const load = (async () => {
			while (on && !failed) {
				try {
					const { sandbox_id: id } = await make();

					await echo(id);
					made.push(id);
					if (made.length > 2)
						await del(`/sandboxes/${made.shift()}`);
				} catch (e) {
					failed = e;
				}
			}
		})();

		await until('it has a new memory', async () => (await creates()).forkable.includes('base') &&
			(await memories()).some((m) => !before.includes(m)), 240_000, 300);
		on = false;
		await load;
		assert.equal(failed, undefined);
		await echo(first.sandboxId);
		assert.equal(assertOk(await get(`/sandboxes/${made.at(-1)}`)).state, 'running');
		await withSandbox({ template: 'base' }, async (sbx) =>
			assert.equal(assertOk(await get(`/sandboxes/${sbx.sandboxId}`)).create_path, 'fork'));
	} finally {
		on = false;
		await killAll([first.sandboxId, ...made]);
		await hostOut('sh', '-c', 'cd /var/lib/declaw/templates && ln -sfn "$0" base', old);
		await restart();
		await forkable('base');
		await hostOut('sh', '-c', 'rm -rf "/var/lib/declaw/templates/$0-e2e"', old);
	}
});
