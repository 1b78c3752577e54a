// SPDX-License-Identifier: GPL-2.0-or-later
//
// Small things all figures share: making sandboxes, running commands in them, and load that does not mind a daemon
// which is killed under it.

import { del, get, post } from '../../e2e/lib/api.mjs';
import { hostOut } from '../../e2e/lib/host.mjs';

export const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
// CLOCK_MONOTONIC, which the host (same kernel) has too
export const monotonic = () => Number(process.hrtime.bigint() / 1000n) / 1000;

// A daemon that runs and has found everything again
export const answers = () => persist(async () => {
	const res = await get('/healthz', { auth: null });

	if (res.status !== 200)
		throw new Error(`healthz: ${res.status} ${res.text}`);
}, 60_000, 5);

export async function create(json = {}) {
	const res = await post('/sandboxes', { timeout: 3600, ...json });

	if (res.status !== 201)
		throw new Error(`create: ${res.status} ${res.text}`);
	return res.json.sandbox_id;
}

export async function echo(id, word = 'ok') {
	const res = await post(`/sandboxes/${id}/commands`, { cmd: `echo ${word}`, timeout: 30 });

	if (res.json?.stdout !== `${word}\n`)
		throw new Error(`echo in ${id}: ${res.status} ${res.text}`);
}

export const stateOf = async (id) => (await get(`/sandboxes/${id}`)).json;
export const mainPid = () => hostOut('systemctl', 'show', '-P', 'MainPID', 'declawd.service').then(Number);
export const kill = (id) => del(`/sandboxes/${id}`);

// Tries until it works; ms is how long that may take.
export async function persist(fn, ms, step = 20) {
	const end = monotonic() + ms;

	for (;;) {
		try {
			return await fn();
		} catch (e) {
			if (monotonic() > end)
				throw e;
			await sleep(step);
		}
	}
}

// Loops until stop() is called; what an interrupted request threw is the load's own business.
export function load(loops) {
	let on = true;
	const tally = { done: 0, cut: 0 };
	const all = loops.map(async (fn) => {
		while (on) {
			try {
				await fn();
				tally.done++;
			} catch {
				tally.cut++;
				await sleep(50);
			}
		}
	});

	return { tally, stop: async () => { on = false; await Promise.all(all); return tally; } };
}
