// SPDX-License-Identifier: GPL-2.0-or-later
//
// Policies are never accepted and ignored: what came in is echoed as it came, the sandbox's processes
// can read it, and what this version cannot inspect is enforced by keeping the network closed, which
// the sandbox object says.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createPIIConfig, createSecurityPolicy } from '@declaw/sdk';
import { get, post } from './lib/api.mjs';
import { assertError, assertOk, assertSandbox } from './lib/check.mjs';
import { BOOT_MS, killAll, Sandbox, sh, withSandbox } from './lib/sandbox.mjs';

const policy = {
	pii: { enabled: true, types: ['ssn', 'credit_card', 'email'], action: 'redact', rehydrate_response: true },
	injection_defense: true,
	transformations: [{ match: 'a<b>&"c"', replace: 'ü🎉\u2028', direction: 'out' }],
	audit: { enabled: true },
	env_security: { mask_patterns: ['*_KEY'], auto_mask_in_audit: true },
};

async function withRaw(body, fn) {
	const object = assertSandbox(assertOk(await post('/sandboxes', body), 201));

	try {
		await fn(object, await Sandbox.connect(object.sandbox_id));
	} finally {
		await killAll([object.sandbox_id]);
	}
}

async function assertUnreachable(sbx, hosts) {
	for (const host of hosts) {
		const r = await sbx.commands.run(`curl -sS -m 4 http://${host}/ || echo failed`, { timeout: 40 });

		assert.equal(r.stdout, 'failed\n', host);
	}
}

// Closed: the object says so, and no packet leaves.
async function assertClosed(object, sbx) {
	assert.match(JSON.stringify(object.policy_enforcement), /closed/i);

	const r = await sbx.commands.run(
		"curl -sS -m 4 http://1.1.1.1/ || echo failed; getent hosts example.com || echo unresolved",
		{ timeout: 40 });

	assert.equal(r.stdout, 'failed\nunresolved\n');
}

test('a policy object comes back as it went in', { timeout: 2 * BOOT_MS }, () =>
	withRaw({ security: policy }, async (object, sbx) => {
		assert.deepEqual(object.security, policy);
		assert.equal(object.security.pii.enabled, true);
		assert.deepEqual((await get(`/sandboxes/${object.sandbox_id}`)).json.security, policy);
		assert.deepEqual(JSON.parse(await sh(sbx, 'printf %s "$DECLAW_SECURITY_POLICY"')), policy);
		await assertClosed(object, sbx);
	}));

test('policy_json text comes back as text, and is what processes see', { timeout: 2 * BOOT_MS }, () => {
	const text = ` ${JSON.stringify(policy, null, 1)}\n`;

	return withRaw({ security: { policy_json: text } }, async (object, sbx) => {
		assert.deepEqual(object.security, { policy_json: text });
		assert.deepEqual(JSON.parse(await sh(sbx, 'printf %s "$DECLAW_SECURITY_POLICY"')), policy);
		await assertClosed(object, sbx);
	});
});

test('the SDK: a security policy with a network copies it up', { timeout: 2 * BOOT_MS }, () => {
	const security = createSecurityPolicy({
		pii: createPIIConfig({ enabled: true, types: ['email', 'ssn'] }),
		network: { allowOut: ['api.github.com'], denyOut: [], allowPublicTraffic: false },
	});

	return withSandbox({ template: 'python', security }, async (sbx) => {
		const { json } = await get(`/sandboxes/${sbx.sandboxId}`);
		const sent = JSON.parse(json.security.policy_json);

		assert.deepEqual(json.network.allow_out, ['api.github.com']);
		assert.equal(json.network.allow_public_traffic, false);
		assert.deepEqual(sent.network.allow_out, ['api.github.com']);
		assert.equal(sent.pii.enabled, true);
		assert.deepEqual(JSON.parse(await sh(sbx, 'printf %s "$DECLAW_SECURITY_POLICY"')), sent);
	});
});

test('network is echoed verbatim, and what it allows is said', { timeout: 2 * BOOT_MS }, () => {
	const network = {
		allow_out: ['0.0.0.0/0', '*.example.com', '10.0.0.0/8', '192.0.2.7'], deny_out: ['1.1.1.1'],
		allow_public_traffic: true, mask_request_host: 'x',
	};

	return withRaw({ network, lifecycle: { on_timeout: 'kill', auto_resume: false } }, async (object, sbx) => {
		assert.deepEqual(object.network, network);
		assert.deepEqual(object.lifecycle, { on_timeout: 'kill', auto_resume: false });
		assert.equal(object.policy_enforcement.egress, 'addresses');
		await assertUnreachable(sbx, ['10.0.0.1', '1.1.1.1']);
	});
});

test('no policy at all is open, but not to private addresses', { timeout: 2 * BOOT_MS }, () =>
	withRaw({}, async (object, sbx) => {
		assert.equal(object.network, null);
		assert.equal(object.security, null);
		assert.equal(object.policy_enforcement.egress, 'open');
		await assertUnreachable(sbx, ['169.254.169.254', '10.0.0.1', '192.168.0.1', '127.0.0.2:22']);
	}));

test('no internet access is closed, and says so', { timeout: 2 * BOOT_MS }, () =>
	withRaw({ allow_internet_access: false }, async (object, sbx) => {
		assert.deepEqual(object.network, { deny_out: ['0.0.0.0/0'] });
		await assertClosed(object, sbx);
	}));

test('an entry that cannot be meant is refused by name', { timeout: 20_000 }, async () => {
	for (const entry of ['https://api.github.com', 'api.github.com:443', '*.com', '127.1', '2001:db8::1', '~(a+)+$'])
		assertError(await post('/sandboxes', { network: { allow_out: ['a.example.com', entry] } }), 400, undefined,
			/network\.allow_out\[1\]/);
});
