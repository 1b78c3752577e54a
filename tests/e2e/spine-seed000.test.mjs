// SPDX-License-Identifier: GPL-2.0-or-later
//
// Seed 000, the whole program: upload a server and a client, run the client, which runs the server,
// and find no process left. Every line of the output is compared.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { idForm } from './lib/check.mjs';
import { withSandbox } from './lib/sandbox.mjs';

const script = (name) => readFileSync(new URL(`data/${name}`, import.meta.url), 'utf8');

const expected = [
	'Waiting for server to start...',
	'Server is ready!',
	'',
	'1. Health check:',
	" {'status': 'ok'}",
	'',
	'2. Creating items:',
	" Created: {'id': '1', 'name': 'Widget Alpha'}",
	" Created: {'id': '2', 'name': 'Widget Beta'}",
	'',
	'3. Listing all items:',
	" {'items': [{'id': '1', 'name': 'Widget Alpha'}, {'id': '2', 'name': 'Widget Beta'}]}",
	'',
	'4. Getting item 1:',
	" {'id': '1', 'name': 'Widget Alpha'}",
	'',
	'Server stopped. All tests passed!',
	'',
];

test('seed 000: an HTTP server inside the sandbox, exercised and cleaned up', { timeout: 120_000 },
	() => withSandbox({ template: 'python', timeout: 300 }, async (sbx) => {
		assert.match(sbx.sandboxId, idForm);
		await sbx.files.write('/home/user/server.py', script('server.py'));
		await sbx.files.write('/home/user/client.py', script('client.py'));

		const result = await sbx.commands.run('python3 /home/user/client.py', { timeout: 30 });

		assert.equal(result.stderr, '');
		assert.deepEqual(result.stdout.split('\n'), expected);
		assert.equal(result.exitCode, 0);
		assert.deepEqual(await sbx.commands.list(), [], 'no process is left behind');
	}));
