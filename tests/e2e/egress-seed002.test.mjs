// SPDX-License-Identifier: GPL-2.0-or-later
//
// Seed 002 to its last line, with an internet that would have answered: three times BLOCKED, then PASS. Under both
// settings of `blocked`: a reset that comes at once, and the silence of the seed's expected output.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { withConfig } from './lib/daemon.mjs';
import { forget, seen, useInternet } from './lib/internet.mjs';
import { BOOT_MS, withSandbox } from './lib/sandbox.mjs';

useInternet();

const targets = [
	{ host: '1.1.1.1', port: 80, note: 'Cloudflare DNS - not in allow list' },
	{ host: '8.8.8.8', port: 53, note: 'Google DNS - not in allow list' },
	{ host: '93.184.216.34', port: 80, note: 'example.com - not in allow list' },
];

// What the seed's program prints about its sandbox, line by line
async function seed(sbx) {
	const out = [];

	await sbx.files.write('/tmp/agent.py', readFileSync(new URL('data/connect.py', import.meta.url), 'utf8'));
	await sbx.files.write('/tmp/test_plan.json', JSON.stringify({ targets }, null, 2));
	out.push(...(await sbx.commands.run('python3 /tmp/agent.py', { timeout: 60 })).stdout.trimEnd().split('\n'));

	const results = JSON.parse(await sbx.files.read('/tmp/results.json'));
	const blocked = results.filter((r) => r.status.includes('BLOCKED')).length;
	const connected = results.filter((r) => r.status === 'CONNECTED').length;

	out.push(`Total targets tested: ${results.length}`, `Blocked: ${blocked}`, `Connected: ${connected}`);
	if (blocked === results.length)
		out.push('[PASS] Network policy is blocking non-allowlisted traffic.');
	return out;
}

const expected = (error) => [
	'=== Network Connectivity Test Results ===',
	...targets.map(({ host, port }) => ` [XX] ${host}:${port} -> BLOCKED: ${error}`),
	'Tested 3 targets.',
	'Total targets tested: 3',
	'Blocked: 3',
	'Connected: 0',
	'[PASS] Network policy is blocking non-allowlisted traffic.',
];

const run = (error) => withSandbox({ template: 'python', timeout: 300, network: { allowOut: ['api.github.com'] } }, async (sbx) => {
	await forget();
	assert.deepEqual(await seed(sbx), expected(error));
	assert.deepEqual(await seen(), []);
});

test('seed 002, blocked = reset', { timeout: 2 * BOOT_MS }, () => run('[Errno 111] Connection refused'));

test('seed 002, blocked = drop', { timeout: 3 * BOOT_MS }, () =>
	withConfig('[egress]\nblocked = drop\n', () => run('[Errno 110] Connection timed out')));
