// SPDX-License-Identifier: GPL-2.0-or-later
//
// Who a sandbox believes to be, how far its clock is from this host's, and how sandboxes have been made.

import { get, post, del } from './api.mjs';
import { assertOk } from './check.mjs';
import { sh, until } from './sandbox.mjs';
import { events, openStream } from './sse.mjs';

const script = `
import os, uuid, socket, random
print(socket.gethostname())
print(open('/etc/machine-id').read().strip())
print(open('/proc/sys/kernel/random/boot_id').read().strip())
print(os.urandom(16).hex())
print(uuid.uuid4())
print(random.getrandbits(128))
print(open('/sys/class/net/eth0/address').read().strip())
`;
const names = ['host name', 'machine id', 'boot id', 'random bytes', 'a uuid', 'a random number', 'MAC'];

export async function identityOf(sbx) {
	const out = await sh(sbx, `python3 -c "${script}" && ip -4 -o addr show dev eth0`);
	const lines = out.trimEnd().split('\n');

	return { ...Object.fromEntries(names.map((name, i) => [name, lines[i]])), address: out.match(/inet (\S+)/)[1] };
}

// Asks a process inside again and again; the quickest answer bounds the error. -> { offset, error } in ms
export async function clockOf(sbx, tries = 50) {
	const path = (rest = '') => `/sandboxes/${sbx.sandboxId}/stdio${rest}`;
	const { cmd_id: id } = assertOk(await post(path(), {
		cmd: 'python3 -u -c "import os, sys, time\nfor l in sys.stdin: os.write(1, b\'%d\\n\' % time.time_ns())"', user: 'user',
	}));
	const res = await openStream('GET', path(`/${id}/stream`));
	const answers = events(res);
	const now = () => performance.timeOrigin + performance.now();
	let best = { error: Infinity };

	for (let i = 0; i < tries; i++) {
		const sent = now();

		await post(path(`/${id}/stdin`), { data: Buffer.from('\n').toString('base64') });

		const { value } = await answers.next();
		const came = now();
		const guest = Number(BigInt(Buffer.from(value.data.data, 'base64').toString().trim()) / 1000n) / 1000;

		if ((came - sent) / 2 < best.error)
			best = { error: (came - sent) / 2, offset: guest - (came + sent) / 2 };
	}
	await del(path(`/${id}`));
	res.destroy();
	return best;
}

export const creates = async () => (await get('/healthz')).json.creates;
// Boots one guest for each template, in the background
export const forkable = (...templates) => until(`memory snapshots of ${templates}`, async () => {
	const made = (await creates()).forkable;

	return templates.every((t) => made.includes(t));
}, 180_000, 300);
// Made one after the other, while nobody boots
export const parked = (n) => until(`${n} parked`, async () => (await creates()).parked_now >= n, 120_000, 200);
export const prestarted = (n) => until(`${n} started ahead`, async () => (await creates()).prestarted_now >= n, 120_000, 200);
