// SPDX-License-Identifier: GPL-2.0-or-later
//
// Metrics: one sample of now, ranges of the history, numbers that follow what the guest does. And what the list filters.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, post } from './lib/api.mjs';
import { assertError, assertOk, assertTimestamp } from './lib/check.mjs';
import { sigkill, withConfig } from './lib/daemon.mjs';
import { Sandbox, shareSandbox, sh, until, withSandbox } from './lib/sandbox.mjs';

const sbx = shareSandbox({ timeout: 600, metadata: { team: 'red', 'odd key\'s': 'a "b" \\ ü' } });
const path = (rest = '') => `/sandboxes/${sbx().sandboxId}${rest}`;
const now = async () => {
	const list = assertOk(await get(path('/metrics')));

	assert.equal(list.length, 1, 'exactly one without a range');
	return list[0];
};

test('one sample of now, through the SDK too', { timeout: 60_000 }, async () => {
	const s = await now();

	assert.deepEqual(Object.keys(s), ['timestamp', 'cpu_usage_percent', 'memory_usage_mb', 'disk_usage_mb']);
	assert.ok(Math.abs(assertTimestamp(s.timestamp) - Date.now()) < 5000);
	assert.ok(s.cpu_usage_percent >= 0 && s.cpu_usage_percent <= 100, s.cpu_usage_percent);
	assert.ok(s.memory_usage_mb > 5 && s.memory_usage_mb < 512, s.memory_usage_mb);
	assert.ok(s.disk_usage_mb > 0 && s.disk_usage_mb < 500, s.disk_usage_mb);

	const [m] = await sbx().getMetrics();

	assert.ok(m.timestamp instanceof Date);
	for (const key of ['cpuUsagePercent', 'memoryUsageMb', 'diskUsageMb'])
		assert.equal(typeof m[key], 'number', key);
});

test('memory and disk follow the guest', { timeout: 60_000 }, async () => {
	const before = await now();

	await sh(sbx(), 'head -c 60000000 /dev/urandom > /dev/shm/fill; head -c 30000000 /dev/urandom > /home/user/fill; sync');

	const after = await until('disk is used', async () => {
		const s = await now();

		return s.disk_usage_mb > before.disk_usage_mb + 25 && s;
	});

	assert.ok(after.memory_usage_mb > before.memory_usage_mb + 40, `${before.memory_usage_mb} -> ${after.memory_usage_mb}`);
});

test('history: ranges, CPU while busy, nothing while paused', { timeout: 90_000 }, async () => {
	await withConfig('[sandbox]\nmetrics_interval = 500ms\nmetrics_kept = 10\n', async () => {
		const from = new Date().toISOString();
		const busy = await sbx().commands.run('while :; do :; done', { background: true });

		await until('it shows', async () =>
			assertOk(await get(path(`/metrics?start=${from}`))).some((s) => s.cpu_usage_percent > 20), 20_000, 300);
		await busy.kill();
		assertOk(await post(path('/pause')));

		const paused = new Date().toISOString();
		const still = await until('samples of the pause', async () => {
			const list = assertOk(await get(path(`/metrics?start=${paused}`)));

			return list.length >= 4 && list;
		}, 10_000, 300);

		assert.ok(still.slice(1).every((s) => s.cpu_usage_percent < 2), JSON.stringify(still));

		const all = assertOk(await get(path('/metrics?start=2020-01-01T00:00:00Z')));

		assert.ok(all.length <= 10, 'the ring is bounded');
		assert.deepEqual(all.map((s) => s.timestamp), all.map((s) => s.timestamp).sort(), 'oldest first');

		const [a, b] = [all[2].timestamp, all[5].timestamp];
		const part = assertOk(await get(path(`/metrics?start=${a}&end=${b}`)));

		assert.deepEqual(part, all.slice(2, 6));
		assert.deepEqual(assertOk(await get(path('/metrics?end=2020-01-01T00:00:00Z'))), []);
		await sigkill();

		const last = all.at(-1);

		assert.deepEqual(assertOk(await get(path(`/metrics?start=${last.timestamp}&end=${last.timestamp}`))), [last],
			'another daemon knows them, too');
		assertOk(await post(path('/resume')));
		assert.ok((await sbx().getMetrics({ start: new Date(a), end: new Date(b) })).length <= 4);
	});
});

test('queries that cannot be used; the dead', { timeout: 60_000 }, async () => {
	assertError(await get(path('/metrics?start=yesterday')), 400, 'invalid_query');
	assertError(await get(path('/metrics?end=2020-13-01T00:00:00Z')), 400, 'invalid_query');
	assertError(await get('/sandboxes/sbx-0000000000/metrics'), 404, 'sandbox_not_found');

	const id = await withSandbox({}, async (mine) => mine.sandboxId);

	assert.equal(assertOk(await get(`/sandboxes/${id}/metrics`)).length, 1);
});

test('list: metadata filters, however a client writes them', { timeout: 60_000 }, async () => {
	const find = async (query) => assertOk(await get(`/sandboxes?${query}`)).sandboxes.map((s) => s.sandbox_id);
	const e = encodeURIComponent;
	const id = sbx().sandboxId;

	for (const yes of ["{'team': 'red'}", '{"team":"red"}', "{'odd key\\'s': 'a \"b\" \\\\ ü'}",
		'{"odd key\'s": \'a "b" \\\\ \\xfc\'}', '{}', 'nonsense', "{'team': ", "{'team': 5}", 'team'])
		assert.ok((await find(`metadata=${e(yes)}`)).includes(id), yes);
	for (const no of ["{'team': 'blue'}", '{"team":"red","more":"x"}', 'team=blue'])
		assert.ok(!(await find(`metadata=${e(no)}`)).includes(id), no);
	assert.ok((await find(`metadata=${e('team=red')}`)).includes(id));

	const listed = await Sandbox.list({ query: { metadata: { team: 'red' } } });

	assert.ok(listed.sandboxes.some((s) => s.sandboxId === id));

	const both = assertOk(await get(`/sandboxes?metadata=${e("{'team': 'red'}")}`));

	assert.equal(both.total, both.sandboxes.length, 'total counts what matches');
});
