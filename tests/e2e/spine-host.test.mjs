// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the host shows: a sandbox is a scope with its QEMU inside, a libvirt domain, a chain of rules, a
// tap and a few files; after the kill there is none of them.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { post, get, listIds } from './lib/api.mjs';
import { assertError } from './lib/check.mjs';
import { assertGone, hostOut, marksOf, onHost, scopeOf, virshList } from './lib/host.mjs';
import { BOOT_MS, withSandbox } from './lib/sandbox.mjs';

test('every mark is there while it lives, none afterwards', { timeout: 3 * BOOT_MS }, async () => {
	const id = await withSandbox({ timeout: 300 }, async (sbx) => {
		const marks = await marksOf(sbx.sandboxId);

		for (const [place, seen] of Object.entries(marks))
			assert.ok(place === 'files' ? seen.length > 0 : seen === true, `${place} shows it`);
		await checkScope(sbx.sandboxId);
		return sbx.sandboxId;
	});

	await assertGone(id);
	assert.equal((await onHost('pgrep', '-f', id)).stdout, '', 'and no process');
});

async function checkScope(id) {
	const show = await hostOut('systemctl', 'show', '-p', 'ControlGroup,Slice,ActiveState,MemoryMax,TasksMax,'
		+ 'CPUQuotaPerSecUSec', scopeOf(id));
	const value = Object.fromEntries(show.trim().split('\n').map((l) => l.split(/=(.*)/s, 2)));
	const procs = await hostOut('cat', `/sys/fs/cgroup${value.ControlGroup}/cgroup.procs`);
	const pids = procs.trim().split('\n');

	assert.equal(value.Slice, 'declaw.slice');
	assert.equal(value.ActiveState, 'active');
	for (const limit of ['MemoryMax', 'TasksMax', 'CPUQuotaPerSecUSec'])
		assert.notEqual(value[limit], 'infinity', `${limit} comes from the template`);

	const status = await Promise.all(pids.map((pid) => hostOut('cat', `/proc/${pid}/status`)));

	assert.ok(status.some((s) => /^Name:\tqemu-system/m.test(s)), 'QEMU is inside');
	for (const text of status)
		assert.doesNotMatch(text, /^Uid:\t0\t|^Uid:\t\d+\t0\t/m, 'nothing in it runs as root');
}

test('two sandboxes are apart, and killing one leaves the other', { timeout: 4 * BOOT_MS }, () =>
	withSandbox({}, (one) => withSandbox({}, async (two) => {
		assert.notEqual(one.sandboxId, two.sandboxId);
		assert.equal((await virshList()).filter((n) => [one.sandboxId, two.sandboxId].includes(n)).length, 2);
		await two.kill({ wait: true });
		await assertGone(two.sandboxId);
		assert.equal((await marksOf(one.sandboxId))['virsh list'], true);
		assert.equal((await one.commands.run('echo alive')).stdout, 'alive\n');
	})));

test('a create that is refused leaves no mark', { timeout: 60_000 }, async () => {
	const seen = async () => [...await listIds(), ...await virshList(), ...await links(), ...await dirs()];
	const before = new Set(await seen());

	assertError(await post('/sandboxes', { template: 'no-such-template' }), 404, 'template_not_found');
	assert.deepEqual((await seen()).filter((mark) => !before.has(mark)), []);
});

const links = () => hostOut('ip', '-o', 'link').then((t) => t.split('\n').map((l) => l.split(': ')[1]).filter((n) => n?.startsWith('dcl')));
const dirs = () => hostOut('find', '/var/lib/declaw/sandboxes', '/run/declaw/vm', '-mindepth', '1', '-maxdepth', '1')
	.then((t) => t.split('\n').filter(Boolean));

test('a QEMU killed from outside is a killed sandbox and leaves no mark', { timeout: 3 * BOOT_MS }, () =>
	withSandbox({}, async (sbx) => {
		const id = sbx.sandboxId;

		await hostOut('systemctl', 'kill', '-s', 'KILL', scopeOf(id));
		for (let i = 0; i < 100 && (await get(`/sandboxes/${id}`)).json.state !== 'killed'; i++)
			await new Promise((r) => setTimeout(r, 100));
		assert.equal((await get(`/sandboxes/${id}`)).json.state, 'killed');
		assert.equal(await sbx.isRunning(), false);
		await sbx.kill({ wait: true });

		await assertGone(id);
	}));

test('the appliance shows the accelerator it proved', { timeout: 30_000 }, async () => {
	const { json } = await get('/healthz', { auth: null });

	assert.match(JSON.stringify(json), /"(kvm|tcg)"/, 'the verdict is part of the health object');
});

// The unit test that needs a systemd it may order about; elsewhere it skips itself.
test('the bus adapter against this systemd', { timeout: 120_000, skip: !process.env.DECLAW_TEST_BUILD }, async () => {
	const { stdout, stderr, code } = await onHost(path.join(process.env.DECLAW_TEST_BUILD, 'tests/unit/test-bus-systemd'));

	assert.equal(code, 0, stdout + stderr);
	assert.match(stdout, /^1\.\.[1-9]/m, 'it was not skipped');
	assert.doesNotMatch(stdout, /^not ok/m);
});
