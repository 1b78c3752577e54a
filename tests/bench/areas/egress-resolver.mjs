// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the resolver adds to a DNS question: a name it has in its cache and one that is denied (its
// verdict noted), against the name server asked directly and against a forwarder that only passes
// packets on. All of them in turn, over loopback; see dns-bench.c.

import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { median, quantile } from '../lib/stats.mjs';

export const area = 'egress';
export const title = 'what the resolver adds to a DNS question';

const RESOLVER = process.env.DECLAW_RESOLVER ?? '/usr/libexec/declaw/declaw-resolver';
const names = {
	direct: 'name server asked directly', forwarder: 'plain forwarder in between',
	cached: 'declaw-resolver, allowed and cached', denied: 'declaw-resolver, denied',
};

async function round(bench, samples) {
	const { stdout } = await promisify(execFile)(path.join(bench.work, 'dns-bench'), [RESOLVER, String(samples)],
		{ maxBuffer: 1 << 26 });
	const ways = {};

	for (const [way, us] of stdout.trim().split('\n').map((line) => line.split(' ')))
		(ways[way] ??= []).push(Number(us));
	return ways;
}

export async function run(bench) {
	const rounds = [];

	for (let i = 0; i < Math.max(5, bench.pairs); i++)
		rounds.push(await round(bench, bench.samples(1000)));

	const at = (way, q) => median(rounds.map((r) => quantile(r[way], q)));
	const added = (way) => median(rounds.map((r) => quantile(r[way], 0.5) - quantile(r.direct, 0.5)));

	bench.table(['microseconds, medians of rounds', 'p50', 'p90', 'p99'], Object.entries(names).map(([way, text]) =>
		[text, ...[0.5, 0.9, 0.99].map((q) => at(way, q).toFixed(1))]));
	bench.figure('DNS allowed, cached: added p50', added('cached'), 'µs',
		{ baseline: at('direct', 0.5), must: '<= 150', aim: '<= 75' });
	bench.figure('DNS denied: added p50', added('denied'), 'µs',
		{ baseline: at('direct', 0.5), must: '<= 80', aim: '<= 40' });
}
