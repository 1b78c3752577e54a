// SPDX-License-Identifier: GPL-2.0-or-later
//
// A hundred streams of one sandbox at once: each process writes as fast as it may for the same time, and
// each reader takes what comes. No stream may starve.

import { open } from '../../e2e/lib/api.mjs';
import { mean, median } from '../lib/stats.mjs';
import { bothMachines } from '../lib/vm.mjs';

export const area = 'data-plane';
export const title = '100 concurrent streams';

// Bytes of output a reader has seen when `until` comes; base64 in SSE is four bytes for three.
async function readFor(api, id, counter) {
	const res = await open('GET', `${api.path}/stdio/${id}/stream`, { agent: false });

	counter.res = res;
	res.on('data', (chunk) => { counter.bytes += chunk.length; });
	res.on('error', () => {});
}

export async function run(bench) {
	const { api, bare } = await bothMachines(bench);
	const n = bench.quick ? 20 : 100;
	const seconds = bench.quick ? 5 : 20;
	const counters = [];

	await bare.stop();	// one machine has the processors to itself
	for (let i = 0; i < n; i++) {
		const { cmd_id: id } = await api.post('/stdio', { cmd: 'until [ -e /tmp/go ]; do sleep 0.5; done; exec yes' });
		const counter = { id, bytes: 0 };

		counters.push(counter);
		await readFor(api, id, counter);
	}
	await api.run('touch /tmp/go');
	// All have seen "go" when the slowest poll is over; what came before does not count.
	await new Promise((r) => setTimeout(r, 3000));

	const before = counters.map((c) => c.bytes);

	await new Promise((r) => setTimeout(r, seconds * 1000));

	const moved = counters.map((c, i) => c.bytes - before[i]);

	counters.forEach((c) => c.res.destroy());
	report(bench, moved, n, seconds);
}

function report(bench, moved, n, seconds) {
	const kib = (bytes) => (bytes / seconds / 1024).toFixed(1);
	const slowest = Math.min(...moved) / mean(moved);

	bench.table([`KiB/s of one of ${n} streams`, 'mean', 'median', 'slowest', 'fastest', 'all together'], [
		['SSE bytes', kib(mean(moved)), kib(median(moved)), kib(Math.min(...moved)), kib(Math.max(...moved)), kib(mean(moved) * n)],
	]);
	bench.figure(`slowest of ${n} streams / mean`, slowest, 'ratio', { baseline: 1, must: '>= 0.5' });
}
