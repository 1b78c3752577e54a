// SPDX-License-Identifier: GPL-2.0-or-later
//
// What an owner may use: tiers by key, and only what is his own. Keys of other tiers are made on the host.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { del, get, listIds, patch, post } from './lib/api.mjs';
import { assertError, assertOk, assertTimestamp } from './lib/check.mjs';
import { withConfig } from './lib/daemon.mjs';
import { hostOut } from './lib/host.mjs';
import './lib/sandbox.mjs';

const tiers = ['e2esmall', 'e2erate', 'e2eslow', 'e2evcpus', 'e2ememory', 'e2edisk', 'base', 'nowhere'];
const keys = Object.fromEntries(tiers.map((t) => [t, `dcl_${randomBytes(20).toString('hex')}`]));
const as = (tier) => ({ auth: { Authorization: `Bearer ${keys[tier]}` } });
const create = (tier, json = {}) => post('/sandboxes', json, as(tier));
const made = [];

const config = `
[tier e2esmall]
sandboxes_max = 2
runtime_max = 100s
[tier e2erate]
creates_per_second = 1
[tier e2evcpus]
vcpus_max = 1
memory_mb_max = 64
[tier e2ememory]
memory_mb_max = 64
[tier e2eslow]
requests_per_second = 5
[tier e2edisk]
storage_gib_max = 1
`;

before(async () => {
	for (const t of tiers)
		await hostOut('sh', '-c', 'printf %s "$0" | declawd --hash-key "e2e-$1" --tier "$1" >> /etc/declaw/keys', keys[t], t);
	await hostOut('systemctl', 'reload', 'declawd.service').catch(() => hostOut('systemctl', 'kill', '-s', 'HUP', 'declawd.service'));
});

after(async () => {
	await killMade();
	await hostOut('sed', '-i', '/^e2e-/d', '/etc/declaw/keys');
	await hostOut('systemctl', 'kill', '-s', 'HUP', '--kill-who=main', 'declawd.service');
});

// Only its own key may kill a sandbox
async function ok(res, tier) {
	made.push([assertOk(res, 201).sandbox_id, tier]);
	return res.json;
}

const killMade = () => Promise.all(made.splice(0).map(([id, tier]) => del(`/sandboxes/${id}`, tier && as(tier))));

// No tier, no access: what a test made must go while its tier is there
const underTiers = (fn) => withConfig(config, () => fn().finally(killMade));

test('tiers: size, number, runtime', { timeout: 120_000 }, async () => {
	await underTiers(async () => {
		assertError(await create('nowhere'), 403, 'unknown_tier', 'unknown tier: nowhere');
		assertError(await create('e2ememory'), 403, 'tier_memory', 'memory limit exceeds tier allowance');
		assertError(await create('e2edisk'), 403, 'tier_disk', 'disk limit exceeds tier allowance');
		assertError(await create('e2evcpus'), 403, 'tier_memory');
		assertError(await create('base', { timeout: 3601 }), 403, 'tier_duration', 'session duration exceeds tier limit');
		assertError(await create('e2esmall', { timeout: 101 }), 403, 'tier_duration');

		const { sandbox_id: id, started_at: started } = await ok(await create('e2esmall', { timeout: 100 }), 'e2esmall');

		assertError(await patch(`/sandboxes/${id}/timeout`, { timeout: 100 }, as('e2esmall')), 403, 'tier_duration',
			'session duration exceeds tier limit');
		assertError(await get(`/sandboxes/${id}?timeout=100`, as('e2esmall')), 403, 'tier_duration');
		assertOk(await patch(`/sandboxes/${id}/timeout`, { timeout: 5 }, as('e2esmall')));
		assertOk(await patch(`/sandboxes/${id}/timeout`, { timeout: 0 }, as('e2esmall')));

		const whole = assertOk(await get(`/sandboxes/${id}`, as('e2esmall')));

		assert.equal(assertTimestamp(whole.end_at) - assertTimestamp(started), 100_000, 'none means the tier\'s');

		// Pausing begins a new run
		assertOk(await post(`/sandboxes/${id}/pause`, undefined, as('e2esmall')));
		assertOk(await patch(`/sandboxes/${id}/timeout`, { timeout: 100 }, as('e2esmall')));
		assertOk(await post(`/sandboxes/${id}/resume`, undefined, as('e2esmall')));
		assert.ok(assertTimestamp(assertOk(await get(`/sandboxes/${id}`, as('e2esmall'))).end_at) > Date.now() + 95_000);

		await ok(await create('e2esmall', { timeout: 100 }), 'e2esmall');
		assertError(await create('e2esmall', { timeout: 100 }), 429, 'tier_sandboxes', 'concurrent sandbox limit reached for tier: e2esmall');
	});
});

// Which of two at once comes first is not ours to say, and one alone may take longer than the second.
test('creations in a second: the one beyond is told to come back', { timeout: 60_000 }, async () => {
	await underTiers(async () => {
		const all = await Promise.all([create('e2erate'), create('e2erate')]);
		const made = all.find((res) => res.status === 201), late = all.find((res) => res.status !== 201);

		await ok(made, 'e2erate');
		assertError(late, 429, 'tier_rate', 'sandbox creation rate limit exceeded');
		assert.match(late.headers['retry-after'], /^[1-9]\d*$/);
		await new Promise((r) => setTimeout(r, 1000 * late.headers['retry-after']));
		await ok(await create('e2erate'), 'e2erate');
	});
});

test('requests in a second: those beyond are told to come back', { timeout: 60_000 }, async () => {
	await underTiers(async () => {
		const all = await Promise.all(Array.from({ length: 40 }, () => get('/sandboxes', as('e2eslow'))));
		const late = all.filter((res) => res.status === 429);

		assert.ok(late.length > 0 && late.length < 40, `${late.length} of 40`);
		for (const res of late) {
			assertError(res, 429, 'request_rate', 'rate limit exceeded');
			assert.match(res.headers['retry-after'], /^[1-9]\d*$/);
		}
		assertOk(await get('/sandboxes'), 200, 'another key is not held up');
		await new Promise((r) => setTimeout(r, 1200));
		assertOk(await get('/sandboxes', as('e2eslow')));
	});
});

test('keys see their own: lists, ids, kills', { timeout: 60_000 }, async () => {
	const { sandbox_id: id } = await ok(await create('base', { metadata: { mine: 'yes' } }), 'base');

	assert.ok(!(await listIds()).includes(id), 'not in another key\'s list');
	for (const res of [await get(`/sandboxes/${id}`), await post(`/sandboxes/${id}/pause`), await del(`/sandboxes/${id}`)])
		assertError(res, 404, 'sandbox_not_found');
	assert.deepEqual(assertOk(await get('/sandboxes', as('base'))).sandboxes.map((s) => s.sandbox_id), [id]);
	assertOk(await del(`/sandboxes/${id}`, as('base')));
	made.length = 0;
});
