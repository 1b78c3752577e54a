// SPDX-License-Identifier: GPL-2.0-or-later
//
// The benchmark driver. Each file in areas/ is one benchmark and exports
//	area	spine, data-plane, lifecycle, egress or create
//	title	what its table shows
//	run	async (bench) => {}: measures, calls bench.table() and bench.figure()
// A benchmark measures the product and a named baseline in turn within one run, because on a machine
// that others use only neighbours in time can be compared.

import { appendFileSync, readdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { get } from '../e2e/lib/api.mjs';
import { until } from '../e2e/lib/until.mjs';
import { Skip } from './lib/skip.mjs';
import { table } from './lib/table.mjs';

const { values: opts } = parseArgs({
	options: {
		work: { type: 'string' },
		area: { type: 'string', multiple: true },
		only: { type: 'string', multiple: true },
		pairs: { type: 'string', default: '5' },
		quick: { type: 'boolean', default: false },
	},
});
const areas = ['spine', 'data-plane', 'lifecycle', 'egress', 'create'];
const figuresFile = path.join(opts.work, 'figures.jsonl');
const undone = [];		// what to clean up, last first
const figures = [];
let broken = 0;

for (const area of opts.area ?? [])
	if (!areas.includes(area)) {
		console.error(`bench: no area '${area}'; there are ${areas.join(', ')}`);
		process.exit(2);
	}

// "<= 1.25" against 1.2
function meets(value, limit) {
	const [, relation, number] = /^(<=|>=) ([\d.]+)$/.exec(limit);

	return relation === '<=' ? value <= Number(number) : value >= Number(number);
}

const round = (n) => (typeof n === 'number' ? Number(n.toPrecision(5)) : n ?? null);

class Bench {
	constructor(benchmark) {
		this.area = benchmark.area;
		this.work = opts.work;
		this.quick = opts.quick;
		this.pairs = opts.quick ? 2 : Number(opts.pairs);
	}

	// How many samples: n, or a tenth of it with --quick.
	samples(n) {
		return this.quick ? Math.max(3, Math.ceil(n / 10)) : n;
	}

	say(text) {
		console.log(text);
	}

	table(head, rows) {
		console.log(`\n${table(head, rows)}`);
	}

	// limits: { must: '<= 1.25', aim: '<= 1.1' }, both optional; baseline in the same unit, optional.
	figure(figure, value, unit, { baseline, must, aim } = {}) {
		const ok = must ? meets(value, must) : null;
		const row = {
			area: this.area, figure, value: round(value), unit, baseline: round(baseline),
			must: must ?? null, aim: aim ?? null, ok,
		};

		figures.push(row);
		appendFileSync(figuresFile, `${JSON.stringify(row)}\n`);
	}

	// fn is called when the run ends, however it ends.
	later(fn) {
		undone.push(fn);
	}
}

async function cleanUp() {
	while (undone.length > 0)
		await Promise.resolve(undone.pop()()).catch((e) => console.error(`bench: cleaning up: ${e.message}`));
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
	process.on(signal, () => cleanUp().finally(() => process.exit(130)));

async function load() {
	const dir = new URL('areas/', import.meta.url);
	const names = readdirSync(dir).filter((f) => f.endsWith('.mjs')).sort();
	const wanted = names.filter((f) => !opts.only || opts.only.includes(f.replace(/\.mjs$/, '')));
	const all = await Promise.all(wanted.map((f) => import(new URL(f, dir))));

	return all.filter((b) => !opts.area || opts.area.includes(b.area))
		.sort((a, b) => areas.indexOf(a.area) - areas.indexOf(b.area));
}

// A host that has just started boots each template once, to fork from. Where it never will, a minute is lost.
async function settled() {
	const busy = ({ templates, creates }) => templates.some((t) => !creates.forkable.includes(t));

	await until('every template to fork from', async () => !busy((await get('/healthz')).json), 60_000, 200)
		.catch((e) => console.log(e.message));
}

async function carryOut(benchmark) {
	const bench = new Bench(benchmark);

	console.log(`\n## ${benchmark.area}: ${benchmark.title}`);
	try {
		await benchmark.run(bench);
	} catch (e) {
		if (e instanceof Skip) {
			console.log(`skipped: ${e.message}`);
			return;
		}
		broken++;
		console.log(`could not be carried out: ${e.stack}`);
	} finally {
		await cleanUp();
	}
}

const health = await get('/healthz');

writeFileSync(figuresFile, '');
console.log(`# declawd benchmarks, ${new Date().toISOString().slice(0, 10)}${opts.quick ? ' (quick)' : ''}\n`);
console.log(`${os.cpus()[0]?.model ?? os.arch()}, ${os.cpus().length} processors, Linux ${os.release()}, `
	+ `accelerator ${health.json?.accelerator ?? 'unknown'}`);
await settled();
for (const benchmark of await load())
	await carryOut(benchmark);

const bounded = figures.filter((f) => f.ok !== null);
const missed = bounded.filter((f) => !f.ok);

console.log('\n## Limits\n');
console.log(table(['figure', 'value', 'unit', 'must', 'ok'],
	bounded.map((f) => [`${f.area}: ${f.figure}`, f.value, f.unit, f.must, f.ok ? 'yes' : 'NO'])));
console.log(`\nbench: ${bounded.length - missed.length} limits met, ${missed.length} missed, ${broken} not carried out`);
process.exit(broken > 0 ? 2 : missed.length > 0 ? 1 : 0);
