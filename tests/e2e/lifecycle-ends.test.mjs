// SPDX-License-Identifier: GPL-2.0-or-later
//
// Every way a sandbox ends, noticed within a second or so, told truthfully, and nothing left of it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { del, get, post } from './lib/api.mjs';
import { assertError, assertOk, assertTimestamp } from './lib/check.mjs';
import { libvirtUri } from './lib/env.mjs';
import { assertGone, hostOut, scopeOf } from './lib/host.mjs';
import { killAll, until } from './lib/sandbox.mjs';

const create = async (json = {}) => assertOk(await post('/sandboxes', json), 201).sandbox_id;
const state = async (id) => (await get(`/sandboxes/${id}`)).json;

async function qemuPid(id) {
	const group = (await hostOut('systemctl', 'show', '-P', 'ControlGroup', scopeOf(id))).trim();

	return (await hostOut('cat', `/sys/fs/cgroup${group}/cgroup.procs`)).trim().split('\n')[0];
}

const guest = (id, cmd) => post(`/sandboxes/${id}/commands`, { cmd, user: 'root', background: true });
const ways = {
	'the scope is stopped': ['crash', (id) => hostOut('systemctl', 'stop', scopeOf(id))],
	'virsh destroy': ['crash', (id) => hostOut('virsh', '-q', '-c', libvirtUri, 'destroy', id)],
	'QEMU is killed': ['crash', async (id) => hostOut('kill', '-KILL', await qemuPid(id))],
	'QEMU is killed while paused': ['crash', async (id) => {
		assertOk(await post(`/sandboxes/${id}/pause`));
		await hostOut('kill', '-KILL', await qemuPid(id));
	}],
	'the guest powers off': ['guest_exit', (id) => guest(id, 'sleep 0.3; echo o > /proc/sysrq-trigger')],
	'the guest reboots': ['guest_exit', (id) => guest(id, 'sleep 0.3; echo b > /proc/sysrq-trigger')],
	'the guest runs out of memory, and then down': ['oom', async (id) => {
		const { exit_code: code } = assertOk(await post(`/sandboxes/${id}/commands`,
			{ cmd: 'python3 -c "x = []\nwhile True: x.append(b\'x\' * (32 << 20))"', user: 'root', timeout: 60 }));

		assert.notEqual(code, 0, 'the kernel ended it');
		assert.equal((await state(id)).state, 'running', 'and nothing else');
		await guest(id, 'sleep 0.3; echo c > /proc/sysrq-trigger');
	}],
	'request': ['request', (id) => del(`/sandboxes/${id}?async=true`)],
};

for (const [way, [reason, act]] of Object.entries(ways))
	test(`${way}: killed, ${reason}`, { timeout: 120_000 }, async () => {
		const id = await create();

		try {
			await act(id);

			const acted = Date.now();
			const { end_at: end } = await until('it is killed', async () => {
				const object = await state(id);

				return object.state === 'killed' && object;
			}, 5000);

			if (reason === 'crash')
				assert.ok(assertTimestamp(end) - acted < 1000, 'noticed within a second');
			assert.equal((await state(id)).end_reason, reason);
			assertError(await post(`/sandboxes/${id}/commands`, { cmd: 'true' }), 410, 'sandbox_killed');
			await assertGone(id);
		} finally {
			await killAll([id]);
		}
	});
