// SPDX-License-Identifier: GPL-2.0-or-later
//
// What many sandboxes cost: the private memory of one more idle clone, against a clone of the same files that bare
// QEMU makes; and how a host answers that holds a hundred parked and twenty running ones, against one of each.

import { readFileSync } from 'node:fs';
import { del, get, post } from '../../e2e/lib/api.mjs';
import { withConfig } from '../../e2e/lib/daemon.mjs';
import { until } from '../../e2e/lib/until.mjs';
import { BareVm, qemuOf } from '../lib/bare.mjs';
import { interleave, timed } from '../lib/latency.mjs';
import { median, quantile } from '../lib/stats.mjs';
import { ApiVm } from '../lib/vm.mjs';

export const area = 'create';
export const title = 'what one more sandbox costs, and what a hundred do';

const template = 'python';
const settled = 10_000;	// what a new guest still has to do by itself
const creates = async () => (await get('/healthz')).json.creates;
const sleep = (ms) => new Promise((r) => setTimeout(r, ms));

// Of no other process: MiB
function privateOf(pid) {
	const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');

	return [...text.matchAll(/^Private_(?:Clean|Dirty|Hugetlb):\s+(\d+) kB$/mg)].reduce((n, m) => n + Number(m[1]), 0) / 1024;
}

async function make(wanted) {
	const made = await post('/sandboxes', { template, timeout: 3600 });

	if (made.status !== 201)
		throw new Error(`create: ${made.status} ${made.text}`);
	if (wanted && made.json.create_path !== wanted)
		throw new Error(`wanted ${wanted}, got ${made.json.create_path}`);
	return new ApiVm(made.json.sandbox_id);
}

async function memory(bench) {
	const list = { ours: [], bare: [] };

	await until('a memory snapshot', async () => (await creates()).forkable.includes(template), 300_000, 200);
	for (let i = 0; i < Math.max(2, bench.pairs - 2); i++) {
		const vm = await make('fork');
		const like = await qemuOf(vm.id);
		const bare = new BareVm(bench, like, 'density');

		try {
			await bare.fork();
			await bare.op('identity', 'density');
			await bare.op('exec', 'true');
			await vm.run('true');
			await sleep(settled);
			list.ours.push(privateOf(like.pid));
			list.bare.push(privateOf(bare.qemu.pid));
		} finally {
			await bare.stop();
			await del(vm.path);
		}
	}
	bench.table(['MiB', 'median', 'min', 'max', 'n'], Object.entries({ 'one more idle sandbox': list.ours, 'a clone by bare QEMU': list.bare })
		.map(([name, v]) => [name, median(v).toFixed(1), Math.min(...v).toFixed(1), Math.max(...v).toFixed(1), v.length]));
	bench.figure('private memory of an idle clone / bare QEMU clone', median(list.ours) / median(list.bare), 'ratio', { baseline: 1, must: '<= 1.15', aim: '<= 1.05' });
}

// -> { list, exec }: times in ms with so many parked of each template and running
async function answers(bench, parked, running) {
	const times = {};

	await withConfig(`[create]\nparked_min = ${parked}\nparked_max = ${parked}\n[sandbox]\nmemory_max = 4096G\n`, async () => {
		const { templates } = (await get('/healthz')).json;
		const full = () => until(`${parked} parked of each`, async () => (await creates()).parked_now >= parked * templates.length, 600_000, 500);
		const vms = [];

		try {
			await full();
			for (let i = 0; i < running; i++)
				vms.push(await make());
			await full();
			await sleep(settled);
			for (const vm of vms)
				await vm.run('true');
			Object.assign(times, await interleave({
				list: () => timed(() => get('/sandboxes')),
				exec: () => timed(() => vms[0].run('true')),
			}, bench.samples(150)));
		} finally {
			await Promise.all(vms.map((vm) => del(vm.path)));
		}
	});
	return times;
}

async function many(bench) {
	const few = [], lots = [];
	const size = bench.quick ? [2, 2] : [50, 20];

	for (let i = 0; i < 2; i++) {
		few.push(await answers(bench, 1, 1));
		if (i === 0)
			lots.push(await answers(bench, ...size));
	}

	const all = (rounds, what) => rounds.flatMap((r) => r[what]);
	const row = (name, v) => [name, median(v).toFixed(1), quantile(v, 0.99).toFixed(1), v.length];

	bench.table(['ms', 'p50', 'p99', 'n'], ['list', 'exec'].flatMap((what) => [
		row(`${what}: one running`, all(few, what)), row(`${what}: ${2 * size[0]} parked, ${size[1]} running`, all(lots, what))]));
	for (const what of ['list', 'exec'])
		bench.figure(`${what} p99, 100 parked and 20 running / one`, quantile(all(lots, what), 0.99) / quantile(all(few, what), 0.99), 'ratio',
			{ baseline: 1, must: '<= 2', aim: '<= 1.5' });
}

export async function run(bench) {
	await withConfig('[create]\nparked_max = 0\n', () => memory(bench));
	await many(bench);
}
