// SPDX-License-Identifier: GPL-2.0-or-later
//
// Cold create to first output: POST /sandboxes and then `echo` in it, until its output is there, against
// a bare QEMU with the same kernel, initramfs, disk, devices, memory and accelerator, from its spawn
// until the same command's first output came through the raw client.

import { del, post } from '../../e2e/lib/api.mjs';
import { withConfig } from '../../e2e/lib/daemon.mjs';
import { BareVm, qemuOf } from '../lib/bare.mjs';
import { median, quantile } from '../lib/stats.mjs';

export const area = 'spine';
export const title = 'cold create to first output';

async function create(onReady = async () => {}) {
	const began = performance.now();
	const made = await post('/sandboxes', { template: 'base', timeout: 600 });
	const created = performance.now() - began;

	if (made.status !== 201)
		throw new Error(`create: ${made.status} ${made.text}`);

	const id = made.json.sandbox_id;

	try {
		const run = await post(`/sandboxes/${id}/commands`, { cmd: 'echo up' });
		const output = performance.now() - began;

		if (run.json?.stdout !== 'up\n')
			throw new Error(`echo: ${run.status} ${run.text}`);
		await onReady(id);
		return { created, output };
	} finally {
		await del(`/sandboxes/${id}`);
	}
}

const s = (ms) => (ms / 1000).toFixed(3);
const spread = (name, list, fmt = s) =>
	[name, fmt(median(list)), fmt(Math.min(...list)), fmt(Math.max(...list)), fmt(quantile(list, 0.75) - quantile(list, 0.25))];

export const run = (bench) => withConfig('[create]\nfork = no\n', () => measure(bench));

async function measure(bench) {
	let like;

	// The first create fills caches and shows what QEMU is started with; it does not count.
	await create(async (id) => { like = await qemuOf(id); });

	const vm = new BareVm(bench, like, 'bare');
	const pairs = [];

	bench.later(() => vm.remove());
	await vm.boot('echo up');
	for (let i = 1; i <= bench.pairs; i++) {
		const a = await create();
		const b = await vm.boot('echo up');

		pairs.push({ a, b, ratio: a.output / b.output });
		bench.say(`pair ${i}: declawd ${s(a.output)} s (created after ${s(a.created)} s), bare ${s(b.output)} s`
			+ ` (agent after ${s(b.greeted)} s), ratio ${pairs.at(-1).ratio.toFixed(2)}`);
	}

	const ours = pairs.map((p) => p.a.output);
	const bare = pairs.map((p) => p.b.output);
	const ratio = median(ours) / median(bare);
	const pairRatio = median(pairs.map((p) => p.ratio));

	bench.table(['seconds', 'median', 'min', 'max', 'quartile range'], [
		spread('declawd: create to first output', ours),
		spread('declawd: create answered', pairs.map((p) => p.a.created)),
		spread('bare QEMU: spawn to first output', bare),
		spread('bare QEMU: agent answered', pairs.map((p) => p.b.greeted)),
		spread('ratio in a pair', pairs.map((p) => p.ratio), (n) => n.toFixed(2)),
	]);
	bench.say(`\nratio of the medians ${ratio.toFixed(3)}, median of the pairs' ratios ${pairRatio.toFixed(3)}`);
	bench.figure('cold create to first output', median(ours), 'ms', { baseline: median(bare) });
	bench.figure('cold create to first output / bare boot', ratio, 'ratio', { baseline: 1, must: '<= 1.25' });
	bench.figure('median of the pairs\' ratios', pairRatio, 'ratio', { baseline: 1 });
}
