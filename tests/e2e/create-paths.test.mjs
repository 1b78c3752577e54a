// SPDX-License-Identifier: GPL-2.0-or-later
//
// The same examples on every way a sandbox can come to be.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, listIds, post } from './lib/api.mjs';
import { assertOk, assertSandbox } from './lib/check.mjs';
import { sigkill, withConfig } from './lib/daemon.mjs';
import { virshList } from './lib/host.mjs';
import { clockOf, creates, forkable, identityOf, parked, prestarted } from './lib/identity.mjs';
import { Sandbox, killAll, sh, until, withSandbox } from './lib/sandbox.mjs';

const none = '[create]\nfork = no\n';
const fork = '[create]\nfork = yes\nparked_max = 0\n';
const ahead = '[create]\nfork = yes\nparked_max = 0\nprestarted_min = 2\nprestarted_max = 2\n';
const pool = '[create]\nfork = yes\nparked_min = 1\nparked_max = 3\n';

async function example(path) {
	const opts = {
		template: 'python', timeout: 300, envs: { WHO: 'world' }, metadata: { way: path },
		network: { denyOut: ['0.0.0.0/0'] },
	};

	await withSandbox(opts, async (sbx) => {
		const object = assertOk(await get(`/sandboxes/${sbx.sandboxId}`));

		assertSandbox(object, { state: 'running', name: 'python', metadata: { way: path }, envs: { WHO: 'world' } });
		assert.equal(object.create_path, path);
		await sbx.files.write('/home/user/hello.py', 'import os\nprint("hello", os.environ["WHO"], 6 * 7)\n');
		assert.equal(await sh(sbx, 'python3 hello.py'), 'hello world 42\n');
		assert.equal(await sbx.files.read('/home/user/hello.py'), 'import os\nprint("hello", os.environ["WHO"], 6 * 7)\n');
		assert.equal(await sh(sbx, 'hostname'), `${sbx.sandboxId}\n`);
		assert.equal(await sh(sbx, 'echo $DECLAW_SANDBOX_ID'), `${sbx.sandboxId}\n`);

		// Its own rules, not those it waited with
		const { stdout } = await sbx.commands.run(
			'python3 -c "import socket; socket.create_connection((\'198.51.100.7\', 80), 5)" 2>&1 || true');

		assert.match(stdout, /Error|timed out/);
		assertOk(await post(`/sandboxes/${sbx.sandboxId}/pause`));
		assertOk(await get(`/sandboxes/${sbx.sandboxId}`));
		assert.equal(await sh(sbx, 'cat /home/user/hello.py | wc -l', { timeout: 60 }), '2\n', 'it wakes');
	});
}

// Two at once have identities of their own, and the time of their claim; `least` came that way by now
async function twins(path, least) {
	const made = [];

	try {
		const all = await Promise.all([0, 1].map(() => Sandbox.create({ template: 'base', timeout: 300 })));
		const ids = [];

		made.push(...all.map((s) => s.sandboxId));
		for (const sbx of all) {
			// Seconds without the time of the claim; how exact it is: create-fork
			const { offset, error } = await clockOf(sbx);

			assert.ok(Math.abs(offset) <= 200 + error, `the clock is off by ${offset} ms, give or take ${error}`);
			ids.push(await identityOf(sbx));
		}
		for (const item of Object.keys(ids[0]))
			assert.notEqual(ids[0][item], ids[1][item], item);
		assert.ok((await creates())[path] >= least);
	} finally {
		await killAll(made);
	}
}

// So many wait for whoever comes, of both templates
async function waiting(filled, n) {
	await forkable('base', 'python');
	await filled(n);
	assert.deepEqual(await listIds(), [], 'what is nobody\'s is in no list');
}

test('cold', { timeout: 240_000 }, () => withConfig(none, () => example('cold')));

test('fork', { timeout: 300_000 }, () => withConfig(fork, async () => {
	await forkable('python');
	await example('fork');
}));

test('prestarted: the same, each with an identity and a clock of its own', { timeout: 400_000 }, () => withConfig(ahead, async () => {
	await waiting(prestarted, 4);
	await example('prestarted');
	await prestarted(4);
	await twins('prestarted', 3);
}));

test('parked: the same, and more', { timeout: 400_000 }, () => withConfig(pool, async () => {
	await waiting(parked, 2);
	await example('parked');

	// One that waited has the time of its claim and an identity of its own
	await parked(2);
	await new Promise((r) => setTimeout(r, 2000));
	await twins('parked', 2);

	// The daemon dies: those it had parked are not found alive by anybody, and others take their place
	await parked(2);

	const old = (await virshList()).filter((name) => name.startsWith('sbx-'));

	await sigkill();
	await until('the old ones are gone', async () => !(await virshList()).some((name) => old.includes(name)), 60_000, 300);
	await parked(2);
}));

test('without a pool nothing stays parked', { timeout: 60_000 }, () =>
	until('they are gone', async () => (await virshList()).filter((name) => name.startsWith('sbx-')).length ===
		(await listIds()).length, 50_000, 300));
