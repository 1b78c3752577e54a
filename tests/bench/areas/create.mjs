// SPDX-License-Identifier: GPL-2.0-or-later
//
// The ways a sandbox comes to be (issue 6), each against a cold boot of a bare QEMU on the same files in the same
// run: a clone parked before it was asked for, one whose QEMU was started ahead, one made on demand, a boot. The clock stops at the first output of
// a command. A burst is measured against what its clones cost one after the other.

import { del, get, post } from '../../e2e/lib/api.mjs';
import { withConfig } from '../../e2e/lib/daemon.mjs';
import { until } from '../../e2e/lib/until.mjs';
import { BareVm, qemuOf } from '../lib/bare.mjs';
import { median, quantile } from '../lib/stats.mjs';
import os from 'node:os';

export const area = 'create';
export const title = 'parked, prestarted, fork and cold: request to 201 and to first output';

const template = 'python';
const burst = 50;
const pool = 8;
const creates = async () => (await get('/healthz')).json.creates;
// As many of each template
async function parked(n) {
	const { templates } = (await get('/healthz')).json;

	await until(`${n} parked`, async () => (await creates()).parked_now >= n * templates.length, 300_000, 100);
}

async function prestarted(n) {
	const { templates } = (await get('/healthz')).json;

	await until(`${n} started ahead`, async () => (await creates()).prestarted_now >= n * templates.length, 300_000, 100);
}

const forkable = () => until('a memory snapshot', async () => (await creates()).forkable.includes(template), 300_000, 200);

async function timed(id, cmd) {
	const began = performance.now();
	const run = await post(`/sandboxes/${id}/commands`, { cmd });

	if (run.status !== 200)
		throw new Error(`${cmd}: ${run.status} ${run.text}`);
	return performance.now() - began;
}

// -> { path, created, output, first, steady } in ms
async function create({ steady = 0 } = {}) {
	const began = performance.now();
	const made = await post('/sandboxes', { template, timeout: 600 });
	const created = performance.now() - began;

	if (made.status !== 201)
		throw new Error(`create: ${made.status} ${made.text}`);

	const id = made.json.sandbox_id;
	const out = { path: made.json.create_path, created, first: await timed(id, 'echo up') };

	out.output = performance.now() - began;
	for (let i = 0; i < steady; i++)
		out.steady = Math.min(out.steady ?? Infinity, await timed(id, 'echo up'));
	await del(`/sandboxes/${id}`);
	return out;
}

function must(path, list) {
	if (list.some((c) => c.path !== path))
		throw new Error(`wanted ${path}, got ${list.map((c) => c.path)}`);
	return list;
}

const ms = (n) => n.toFixed(1);
const row = (name, list) => [name, ms(median(list)), ms(quantile(list, 0.99)), ms(Math.min(...list)), ms(Math.max(...list)), list.length];

export async function run(bench) {
	let like;

	await withConfig('[create]\nfork = no\n', async () => {
		const { json } = await post('/sandboxes', { template, timeout: 600 });

		like = await qemuOf(json.sandbox_id);
		await del(`/sandboxes/${json.sandbox_id}`);
	});

	const vm = new BareVm(bench, like, 'create');
	const bare = [];
	const boot = async () => bare.push(await vm.boot('echo up'));
	const all = { parked: [], prestarted: [], fork: [], cold: [] };

	bench.later(() => vm.remove());
	await vm.boot('echo up');
	for (let i = 0; i < bench.pairs; i++) {
		await withConfig('[create]\nparked_min = 1\nparked_max = 1\n', async () => {
			await forkable();
			for (let k = 0; k < bench.samples(20); k++) {
				await parked(1);
				all.parked.push(await create({ steady: 5 }));
			}
		});
		await boot();
		await withConfig('[create]\nparked_max = 0\nprestarted_min = 1\nprestarted_max = 1\n', async () => {
			await forkable();
			for (let k = 0; k < bench.samples(10); k++) {
				await prestarted(1);
				all.prestarted.push(await create());
			}
		});
		await withConfig('[create]\nparked_max = 0\n', async () => {
			await forkable();
			for (let k = 0; k < bench.samples(10); k++)
				all.fork.push(await create());
		});
		await boot();
		await withConfig('[create]\nfork = no\n', async () => all.cold.push(await create()));
	}
	for (const path of Object.keys(all))
		must(path, all[path]);

	const of = (path, what) => all[path].map((c) => c[what]);
	const greeted = median(bare.map((b) => b.greeted));
	const output = median(bare.map((b) => b.output));

	bench.table(['ms', 'median', 'p99', 'min', 'max', 'n'], [
		row('bare QEMU: spawn to the agent', bare.map((b) => b.greeted)),
		row('bare QEMU: spawn to first output', bare.map((b) => b.output)),
		row('parked: request to 201', of('parked', 'created')),
		row('parked: request to first output', of('parked', 'output')),
		row('parked: first command', of('parked', 'first')),
		row('parked: a later command', of('parked', 'steady')),
		row('prestarted: request to 201', of('prestarted', 'created')),
		row('prestarted: request to first output', of('prestarted', 'output')),
		row('fork: request to 201', of('fork', 'created')),
		row('fork: request to first output', of('fork', 'output')),
		row('cold: request to first output', of('cold', 'output')),
	]);

	const percent = (n, base) => 100 * n / base;
	const claim = of('parked', 'created');

	bench.figure('parked claim to 201, p50 / bare boot to agent', percent(median(claim), greeted), '%', { baseline: 100, must: '<= 1.5', aim: '<= 1' });
	bench.figure('parked claim to 201, p99 / bare boot to agent', percent(quantile(claim, 0.99), greeted), '%', { baseline: 100, must: '<= 4', aim: '<= 3' });
	bench.figure('parked claim to first output, p50 / bare boot', percent(median(of('parked', 'output')), output), '%', { baseline: 100, must: '<= 2.5', aim: '<= 1.5' });
	bench.figure('prestarted to first output, p50 / bare boot', percent(median(of('prestarted', 'output')), output), '%', { baseline: 100, must: '<= 30' });
	bench.figure('fork to first output, p50 / bare boot', percent(median(of('fork', 'output')), output), '%', { baseline: 100, must: '<= 30', aim: '<= 20' });
	bench.figure('cold to first output, p50 / bare boot', median(of('cold', 'output')) / output, 'ratio', { baseline: 1, must: '<= 1.2', aim: '<= 1.1' });
	bench.figure('first command after a claim / a later one', median(of('parked', 'first')) / median(of('parked', 'steady')), 'ratio', { baseline: 1, must: '<= 3', aim: '<= 2' });
	await withConfig(`[create]\nparked_min = ${pool}\nparked_max = ${pool}\n`, () => measureBurst(bench, median(of('fork', 'output'))));
}

async function measureBurst(bench, fork) {
	await forkable();
	await parked(pool);

	const began = performance.now();
	const answers = await Promise.all(Array.from({ length: burst }, async () => {
		const made = await post('/sandboxes', { template, timeout: 600 }, { agent: false });

		return { status: made.status, id: made.json?.sandbox_id, took: performance.now() - began };
	}));
	const wall = performance.now() - began;
	const took = answers.filter((a) => a.status === 201).map((a) => a.took);

	for (const { id } of answers)
		if (id)
			await del(`/sandboxes/${id}`);
	bench.table(['ms', 'median', 'p99', 'min', 'max', 'n'], [row(`${burst} creates at once, pool of ${pool}`, took)]);
	bench.figure(`${burst} creates at once: served`, percentOf(took.length, burst), '%', { must: '>= 100' });
	bench.figure(`${burst} creates at once: wall / serial forks`, wall / (fork * burst / os.cpus().length), 'ratio', { baseline: 1, must: '<= 1.4', aim: '<= 1.2' });
	bench.figure(`${burst} creates at once: p99 / p50`, quantile(took, 0.99) / median(took), 'ratio', { must: '<= 3', aim: '<= 2.5' });
}

const percentOf = (n, all) => 100 * n / all;
