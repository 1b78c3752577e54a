// SPDX-License-Identifier: GPL-2.0-or-later
//
// The driver: each file in areas/ exports `run`, async (f) => {}, which does its rounds and calls f.row() with what it
// counted. A figure is a promise: `must` says what it has to be.

import { readdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { parseArgs } from 'node:util';
import { table } from '../bench/lib/table.mjs';
import { get } from '../e2e/lib/api.mjs';
import { answers } from './lib/rounds.mjs';
import { killEverything, strays } from './lib/strays.mjs';

const { values: opts } = parseArgs({
	options: {
		long: { type: 'boolean', default: false },
		json: { type: 'string' },
		only: { type: 'string', multiple: true },
		count: { type: 'string', multiple: true, default: [] },
	},
});
const counts = Object.fromEntries(opts.count.map((c) => c.split('=')));
const order = ['timers', 'list', 'creates', 'cycles', 'ends', 'kills', 'disk', 'reboot'];
const present = readdirSync(new URL('areas/', import.meta.url)).map((f) => f.replace(/\.mjs$/, ''));
const wanted = opts.only ?? order.filter((name) => present.includes(name));
const rows = [];
let broken = 0;

function meets(value, must) {
	const [, relation, number] = /^(<=|>=|=) ([\d.]+)$/.exec(must);

	return relation === '<=' ? value <= Number(number) : relation === '>=' ? value >= Number(number) : value === Number(number);
}

class Figures {
	constructor(name) {
		this.name = name;
		this.long = opts.long;
		this.began = performance.now();
	}

	rounds(short, long) {
		return Number(counts[this.name] ?? (opts.long ? long : short));
	}

	// A limit of time as it holds on a machine that has processors to spare; the short run shares two with whatever runs
	// beside it and says so by allowing four times as much.
	time(limit) {
		return this.long ? limit : 4 * limit;
	}

	say(text) {
		console.log(`  ${((performance.now() - this.began) / 1000).toFixed(0).padStart(5)} s  ${text}`);
	}

	row(figure, count, value, unit, must) {
		const shown = typeof value === 'number' ? Number(value.toPrecision(4)) : value;
		const row = { area: `lifecycle/${this.name}`, figure, count, value: shown, unit, must: must ?? null,
			ok: must ? meets(value, must) : null };

		rows.push(row);
		this.say(`${figure}: ${shown} ${unit}${must ? ` (must be ${must}${row.ok ? '' : ': IT IS NOT'})` : ''}`);
	}

	// Nothing on the host that no living sandbox accounts for; asked until it is so, since removing goes on behind answers.
	async noStrays(what, count, ms = 15_000) {
		const left = await strays(ms);

		for (const s of left)
			this.say(`left behind: ${s}`);
		this.row(`${what}: scopes, domains, taps, rules, timers, files left behind`, count, left.length, '', '= 0');
	}
}

for (const name of wanted) {
	if (!present.includes(name)) {
		console.error(`figures: no '${name}'; there are ${order.join(', ')}`);
		process.exit(2);
	}
}

const { json: health } = await get('/healthz');

console.log(`# lifecycle figures, ${new Date().toISOString().slice(0, 10)}${opts.long ? ', long' : ', short'}: ${os.cpus().length} `
	+ `processors, Linux ${os.release()}, accelerator ${health?.accelerator ?? 'unknown'}`);
for (const name of wanted) {
	const f = new Figures(name);

	console.log(`\n## ${name}`);
	try {
		await (await import(`./areas/${name}.mjs`)).run(f);
	} catch (e) {
		broken++;
		f.say(`could not be taken: ${e.stack}`);
	}
	await answers().then(killEverything).catch((e) => f.say(`cleaning up: ${e.message}`));
}

console.log(`\n${table(['promise', 'rounds', 'measured', 'must be', 'kept'], rows.map((r) =>
	[r.figure, r.count, `${r.value} ${r.unit}`.trim(), r.must ?? '', r.ok === null ? '' : r.ok ? 'yes' : 'NO']))}`);
if (opts.json)
	writeFileSync(opts.json, rows.map((r) => `${JSON.stringify(r)}\n`).join(''));

const bound = rows.filter((r) => r.ok !== null);
const missed = bound.filter((r) => !r.ok).length;

console.log(`\nfigures: ${bound.length - missed} promises kept, ${missed} not, ${broken} not taken`);
process.exit(broken > 0 ? 2 : missed > 0 ? 1 : 0);
