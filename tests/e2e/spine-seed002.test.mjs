// SPDX-License-Identifier: GPL-2.0-or-later
//
// Seed 002: a sandbox with an allow list reaches nothing that is not on it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { shareSandbox, sh } from './lib/sandbox.mjs';

const allowed = 'api.github.com';
const sbx = shareSandbox({ template: 'python', timeout: 300, network: { allowOut: [allowed] } });
const targets = [
	{ host: '1.1.1.1', port: 80, note: 'Cloudflare DNS - not in allow list' },
	{ host: '8.8.8.8', port: 53, note: 'Google DNS - not in allow list' },
	{ host: '93.184.216.34', port: 80, note: 'example.com - not in allow list' },
];

test('seed 002: three targets, three times BLOCKED', { timeout: 90_000 }, async () => {
	const agent = readFileSync(new URL('data/connect.py', import.meta.url), 'utf8');

	await sbx().files.write('/tmp/agent.py', agent);
	await sbx().files.write('/tmp/test_plan.json', JSON.stringify({ targets }, null, 2));

	const run = await sbx().commands.run('python3 /tmp/agent.py', { timeout: 60 });
	const lines = run.stdout.trimEnd().split('\n');

	assert.equal(run.exitCode, 0, run.stderr);
	assert.equal(lines[0], '=== Network Connectivity Test Results ===');
	for (const [i, { host, port }] of targets.entries())
		assert.match(lines[i + 1], new RegExp(`^ \\[XX\\] ${host}:${port} -> BLOCKED: `));
	assert.equal(lines.at(-1), 'Tested 3 targets.');

	const results = JSON.parse(await sbx().files.read('/tmp/results.json'));

	assert.equal(results.filter((r) => r.status.includes('BLOCKED')).length, 3);
	assert.equal(results.filter((r) => r.status === 'CONNECTED').length, 0);
});

test('the loopback of the sandbox is not affected', { timeout: 60_000 }, async () => {
	const out = await sh(sbx(), `python3 -c "
import socket
s = socket.create_server(('127.0.0.1', 0))
c = socket.create_connection(s.getsockname(), 5)
c.sendall(b'PASS'); print(s.accept()[0].recv(4).decode())"`);

	assert.equal(out, 'PASS\n');
});
