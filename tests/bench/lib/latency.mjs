// SPDX-License-Identifier: GPL-2.0-or-later
//
// Latencies of two things done in turn, one after the other, and how they compare at the median and
// at the 99th percentile.

import { quantile } from './stats.mjs';

const ms = (n) => n.toFixed(2);

export async function timed(fn) {
	const began = performance.now();

	await fn();
	return performance.now() - began;
}

// sides: { name: async () => milliseconds }, the first is the product. -> { name: [ms...] }
export async function interleave(sides, n, warmup = 10) {
	const out = Object.fromEntries(Object.keys(sides).map((name) => [name, []]));

	for (let i = -warmup; i < n; i++)
		for (const [name, fn] of Object.entries(sides)) {
			const took = await fn();

			if (i >= 0)
				out[name].push(took);
		}
	return out;
}

export function latencyTable(bench, samples) {
	bench.table(['milliseconds', 'p50', 'p90', 'p99', 'max', 'n'], Object.entries(samples).map(([name, list]) =>
		[name, ...[0.5, 0.9, 0.99, 1].map((q) => ms(quantile(list, q))), list.length]));
}

// limits: { p50: '<= 1.5', p99: '<= 3' }
export function latencyFigures(bench, name, ours, theirs, limits) {
	for (const [key, q] of [['p50', 0.5], ['p99', 0.99]]) {
		const a = quantile(ours, q);
		const b = quantile(theirs, q);

		bench.figure(`${name}, ${key}`, a, 'ms', { baseline: b });
		if (limits[key])
			bench.figure(`${name}, ${key} / baseline`, a / b, 'ratio', { baseline: 1, must: limits[key] });
	}
}
