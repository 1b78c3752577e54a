// SPDX-License-Identifier: GPL-2.0-or-later
//
// Seed 001, the examples about a sandbox's life, through the SDK: full options, pause and resume by connecting,
// metrics, lifecycle, kill in a finally.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ALL_TRAFFIC, ConflictError, createSecurityPolicy } from '@declaw/sdk';
import { get } from './lib/api.mjs';
import { Sandbox, sh, until, withSandbox } from './lib/sandbox.mjs';

const lifecycle = { onTimeout: 'pause', autoResume: true };

test('create with full options, pause on timeout, woken by the next call', { timeout: 90_000 }, async () => {
	await withSandbox({
		template: 'base', timeout: 300, envs: { MY_VAR: 'value' }, metadata: { project: 'my-agent' },
		network: { allowOut: ['*.openai.com'], denyOut: [ALL_TRAFFIC] }, lifecycle,
		security: createSecurityPolicy({
			pii: { enabled: true, types: ['ssn', 'credit_card', 'email'] }, injectionDefense: true, audit: true,
		}),
	}, async (sbx) => {
		const object = (await get(`/sandboxes/${sbx.sandboxId}`)).json;

		assert.equal(object.lifecycle.on_timeout, 'pause');
		assert.equal(object.lifecycle.auto_resume, true);
		assert.equal(object.policy_enforcement.egress, 'closed');
		assert.equal(await sh(sbx, 'echo $MY_VAR'), 'value\n');
		await sbx.setTimeout(1);
		await until('it is paused', async () => !(await sbx.isRunning()), 10_000);
		assert.equal((await sbx.getInfo()).state, 'paused');
		await sbx.setTimeout(300);
		assert.equal(await sh(sbx, 'echo woken'), 'woken\n');
	});
});

test('pause; resume by connecting', { timeout: 90_000 }, async () => {
	await withSandbox({}, async (sbx) => {
		await sbx.pause();
		await assert.rejects(sbx.commands.run('true'), ConflictError);

		const resumed = await Sandbox.connect(sbx.sandboxId);

		assert.equal((await resumed.commands.run('echo resumed')).stdout, 'resumed\n');
		assert.equal(await sbx.isRunning(), true);

		const metrics = await sbx.getMetrics();

		assert.equal(metrics.length, 1);
		for (const m of metrics)
			assert.ok(m.cpuUsagePercent >= 0 && m.memoryUsageMb > 0 && m.diskUsageMb > 0 && m.timestamp instanceof Date);
		await resumed.pause();
		await resumed.resume();
		assert.equal(await sbx.isRunning(), true);
	});
});
