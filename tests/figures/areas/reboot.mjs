// SPDX-License-Identifier: GPL-2.0-or-later
//
// The host reboots: paused sandboxes go on with their memory, running ones are told from crashes, nothing is orphaned.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { post } from '../../e2e/lib/api.mjs';
import { answers, create, kill, persist, stateOf } from '../lib/rounds.mjs';

const host = (process.env.DECLAW_HOST || '').split(/\s+/).filter(Boolean);

export async function run(f) {
	const n = f.rounds(1, 5);
	let lost = 0, untrue = 0;

	if (host.length === 0) {
		f.say('left out: DECLAW_HOST does not say how to reboot the host');
		return;
	}
	for (let i = 0; i < n; i++) {
		const [paused, other, running] = [await create(), await create(), await create()];

		for (const id of [paused, other, running])
			await post(`/sandboxes/${id}/commands`, { cmd: `echo ${id} > /dev/shm/id; echo ${id} > /home/user/id` });
		await post(`/sandboxes/${paused}/pause`);
		await post(`/sandboxes/${other}/pause`);
		await promisify(execFile)(host[0], [...host.slice(1), 'restart'], { timeout: 300_000 });
		await answers();
		for (const id of [paused, other]) {
			untrue += (await stateOf(id)).state !== 'paused';

			const text = await persist(async () => {
				const res = await post(`/sandboxes/${id}/commands`, { cmd: 'cat /dev/shm/id /home/user/id' });

				if (res.status !== 200)
					throw new Error(`${res.status} ${res.text}`);
				return res.json.stdout;
			}, 30_000, 200).catch((e) => e.message);

			if (text !== `${id}\n${id}\n`) {
				f.say(`${id}: ${text}`);
				lost++;
			}
			await kill(id);
		}

		const dead = await stateOf(running);

		if (dead.state !== 'killed' || dead.end_reason !== 'host_shutdown') {
			f.say(`${running}: ${dead.state} ${dead.end_reason}`);
			untrue++;
		}
	}
	f.row('reboot of the host: paused sandboxes whose memory or disk is not as it was', n, lost, '', '= 0');
	f.row('reboot of the host: states or reasons that are not true', n, untrue, '', '= 0');
	await f.noStrays('reboot of the host', n);
}
