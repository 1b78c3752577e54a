// SPDX-License-Identifier: GPL-2.0-or-later
//
// Creations asked for twice, given up, asked for again, with the daemon killed meanwhile now and then: a key makes
// exactly one sandbox.

import { randomUUID } from 'node:crypto';
import { get, open, post, readAll } from '../../e2e/lib/api.mjs';
import { hostOut } from '../../e2e/lib/host.mjs';
import { answers, kill, persist, sleep } from '../lib/rounds.mjs';

const ask = (key, opts) => open('POST', '/sandboxes', { json: { timeout: 600, metadata: { key } },
	headers: { 'Idempotency-Key': key }, agent: false, ...opts });

async function once(i) {
	const key = randomUUID();
	const ac = new AbortController();
	const given = ask(key, { signal: ac.signal }).then(readAll).catch(() => null);

	await sleep(Math.random() * (i % 2 ? 40 : 1500));
	if (i % 3)
		ac.abort();
	if (i % 10 === 9)
		await hostOut('systemctl', 'kill', '-s', 'KILL', '--kill-who=main', 'declawd.service').then(() => answers());

	const asked = await Promise.all([0, 1, 2].map(() => persist(async () => {
		const res = await post('/sandboxes', { timeout: 600, metadata: { key } }, { headers: { 'Idempotency-Key': key } });

		if (res.status !== 201)
			throw new Error(`${res.status} ${res.text}`);
		return res.json.sandbox_id;
	}, 60_000, 100)));

	await given;

	// Whatever state they are in: this key's, all of them
	const { json } = await get('/sandboxes?state=all&limit=1000');
	const mine = json.sandboxes.filter((s) => s.metadata.key === key && s.end_reason !== 'create_failed');
	const right = new Set(asked).size === 1 && mine.filter((s) => s.state !== 'killed').length === 1;

	await kill(asked[0]);
	return right;
}

export async function run(f) {
	const n = f.rounds(6, 250);
	let right = 0;

	for (let i = 0; i < n; i++) {
		right += await once(i);
		if ((i + 1) % 50 === 0)
			f.say(`${4 * (i + 1)} asked`);
	}
	f.row('creations asked for four times, two thirds given up, some with the daemon killed: exactly one each', 4 * n,
		right * 4, 'requests', `= ${4 * n}`);
	await f.noStrays('repeated creations', 4 * n);
}
