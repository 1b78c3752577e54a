// SPDX-License-Identifier: GPL-2.0-or-later
//
// Seed 001, the examples that need no lifecycle beyond create and kill: create, inspect, list, connect,
// extend the timeout, the injected variables, the rejected `resources` field, kill.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ALL_TRAFFIC, NotFoundError } from '@declaw/sdk';
import { get, listIds, post } from './lib/api.mjs';
import { assertError, assertSandbox, assertTimestamp, idForm } from './lib/check.mjs';
import { apiKey } from './lib/env.mjs';
import { Sandbox, shareSandbox, sh, withSandbox } from './lib/sandbox.mjs';

const sbx = shareSandbox({
	template: 'base',
	timeout: 300,
	envs: { MY_VAR: 'value' },
	metadata: { project: 'my-agent' },
	network: { allowOut: ['*.openai.com'], denyOut: [ALL_TRAFFIC] },
});

test('create with nothing but a key and a domain; kill', { timeout: 90_000 }, async () => {
	const mine = await Sandbox.create({ apiKey, domain: process.env.DECLAW_DOMAIN });

	try {
		assert.match(mine.sandboxId, idForm);
		assertSandbox((await get(`/sandboxes/${mine.sandboxId}`)).json, {
			template_id: 'tpl-base', name: 'base', state: 'running', metadata: {}, envs: {}, timeout: 300,
		});
	} finally {
		assert.equal(await mine.kill(), true);
	}
});

test('create with full options: all of them come back', { timeout: 90_000 }, async () => {
	const { json } = await get(`/sandboxes/${sbx().sandboxId}`);

	assertSandbox(json, {
		template_id: 'tpl-base', name: 'base', state: 'running', timeout: 300,
		envs: { MY_VAR: 'value' }, metadata: { project: 'my-agent' },
	});
	assert.deepEqual(json.network.allow_out, ['*.openai.com']);
	assert.deepEqual(json.network.deny_out, [ALL_TRAFFIC]);
	assert.equal(json.envd_access_token, sbx().envdAccessToken, 'the same token as at create');
	assert.equal(json.traffic_access_token, sbx().trafficAccessToken);
	assert.equal(json.sandbox_domain, sbx().sandboxDomain);
	assert.equal(await sh(sbx(), 'echo $MY_VAR'), 'value\n');
});

test('inspect: state, times, is running', { timeout: 30_000 }, async () => {
	const info = await sbx().getInfo();

	assert.equal(info.state, 'running');
	assert.equal(info.sandboxId, sbx().sandboxId);
	assert.equal(info.templateId, 'tpl-base');
	assert.ok(info.startedAt instanceof Date && info.endAt instanceof Date);
	assert.ok(Math.abs(info.endAt - info.startedAt - 300_000) < 5_000, 'the deadline is start + timeout');
	assert.ok(Math.abs(info.startedAt - Date.now()) < 300_000);
	assert.equal(await sbx().isRunning(), true);
});

test('list finds it among the running ones', { timeout: 30_000 }, async () => {
	const { sandboxes } = await Sandbox.list({ query: { state: 'running' }, limit: 20 });
	const mine = sandboxes.find((s) => s.sandboxId === sbx().sandboxId);

	assert.ok(mine);
	assert.equal(mine.state, 'running');
	assert.deepEqual(mine.metadata, { project: 'my-agent' });
	assert.ok(sandboxes.every((s) => s.state === 'running'));
});

test('connect to it from elsewhere and go on', { timeout: 30_000 }, async () => {
	const again = await Sandbox.connect(sbx().sandboxId);

	assert.equal(again.sandboxId, sbx().sandboxId);
	assert.equal(again.envdAccessToken, sbx().envdAccessToken);
	assert.equal((await again.commands.run('echo still here')).stdout, 'still here\n');
	await assert.rejects(Sandbox.connect('sbx-abc123'), NotFoundError);
});

test('extend the timeout: counted from now', { timeout: 30_000 }, async () => {
	await sbx().setTimeout(600);

	const { json } = await get(`/sandboxes/${sbx().sandboxId}`);

	assert.equal(json.timeout, 600);
	assert.ok(Math.abs(assertTimestamp(json.end_at) - Date.now() - 600_000) < 10_000, json.end_at);
});

test('the four injected variables', { timeout: 30_000 }, async () => {
	const out = await sh(sbx(), 'env | grep ^DECLAW_ | sort');

	assert.deepEqual(out.trimEnd().split('\n').map((l) => l.split('=')[0]), [
		'DECLAW_SANDBOX', 'DECLAW_SANDBOX_ID', 'DECLAW_SECURITY_POLICY', 'DECLAW_TEMPLATE_ID',
	]);
	assert.equal(await sh(sbx(), 'echo $DECLAW_SANDBOX'), 'true\n');
	assert.equal(await sh(sbx(), 'echo $DECLAW_SANDBOX_ID'), `${sbx().sandboxId}\n`);
	assert.equal(await sh(sbx(), 'echo $DECLAW_TEMPLATE_ID'), 'tpl-base\n');
	JSON.parse(await sh(sbx(), 'printf %s "$DECLAW_SECURITY_POLICY"'));
});

test('resources belong to the template: 400 with the fixed text', { timeout: 30_000 }, async () => {
	const before = await listIds();

	for (const resources of [{ vcpus: 2, memory_mb: 512 }, {}, null, 0])
		assertError(await post('/sandboxes', { template: 'base', resources }), 400, null,
			'resources field is not supported; set resources at template level');
	assert.deepEqual(await listIds(), before);
});

test('a killed sandbox stays readable, but runs no more', { timeout: 90_000 }, async () => {
	const id = await withSandbox({}, async (mine) => mine.sandboxId);
	const dead = await Sandbox.connect(id);

	assert.equal((await dead.getInfo()).state, 'killed');
	assert.equal(await dead.isRunning(), false);
	assert.equal(await dead.kill({ wait: true }), false, 'there is nothing left to kill');
	assert.ok(!(await listIds()).includes(id), 'hidden from the list');
});
