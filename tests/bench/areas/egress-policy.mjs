// SPDX-License-Identifier: GPL-2.0-or-later
//
// What it costs to hold many sandboxes: one change of one policy, a change of all of them with old flows closed, the
// memory of one more, and what one of them can do to another by flooding.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { NAME, SANDBOXES, World, guest, origin, policies } from '../lib/egress-world.mjs';
import { median, quantile } from '../lib/stats.mjs';

export const area = 'egress';
export const title = 'what many sandboxes cost';

const MANY = 400;
const p50 = (answer) => quantile(answer.us, 0.5);

// --- one change of one policy ---

async function applyRound(world, samples) {
	const few = {}, many = {};
	const measure = async (into) => {
		into.apply = p50(await world.host('again', 0, samples, policies.names));
		into.both = p50(await world.host('again', 0, samples, policies.both));
		into.text = p50(await world.host('bare', samples, 'text'));
		into.rule = p50(await world.host('bare', samples, 'rule'));
		into.pin = p50(await world.host('pins', 0, samples, NAME, origin('ours')));
	};

	await world.host('set', 0, 1, policies.names);
	await measure(few);
	few.memory = memory(world);
	await world.host('set', 1, MANY - 1, policies.both);
	await measure(many);
	many.memory = memory(world);
	await world.host('remove', 1, MANY - 1);
	return { few, many };
}

// What the kernel has for tables, and the two programs
function memory(world) {
	const text = readFileSync('/proc/meminfo', 'utf8');
	const kernel = ['Slab', 'Percpu'].reduce((sum, key) => sum + Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(text)[1]) * 1024, 0);

	return { kernel, workers: world.pss(world.workers.proxy) + world.pss(world.workers.resolver) };
}

async function applying(bench) {
	const world = new World(bench);
	const rounds = [];

	await world.openAlone();
	for (let i = 0; i < Math.max(5, bench.pairs); i++)
		rounds.push(await applyRound(world, bench.samples(50)));

	const of = (fn) => median(rounds.map(fn));
	const texts = { apply: 'a policy with names, as declawd applies it', both: 'one with names and ranges (22 elements)',
		text: 'the same elements as text, given to libnftables', rule: 'one rule of another table, by libnftables',
		pin: 'an address of a name' };
	const each = (fn) => of(fn) / (MANY - 1) / 1024;

	bench.table([`ms, p50, medians of rounds`, '1 sandbox', `${MANY}`], Object.entries(texts).map(([key, text]) =>
		[text, ...['few', 'many'].map((n) => (of((r) => r[n][key]) / 1e3).toFixed(3))]));
	bench.figure('one policy applied / one rule by libnftables, 1 sandbox', of((r) => r.few.apply / r.few.rule), 'ratio', { baseline: 1, must: '<= 3', aim: '<= 1.5' });
	bench.figure(`one policy applied / one rule by libnftables, ${MANY} sandboxes`, of((r) => r.many.apply / r.many.rule), 'ratio', { baseline: 1, must: '<= 3', aim: '<= 1.5' });
	bench.figure(`one policy applied, ${MANY} sandboxes / 1`, of((r) => r.many.apply / r.few.apply), 'ratio', { baseline: 1, must: '<= 1.2', aim: '<= 1.05' });
	bench.figure(`one policy with ranges applied, ${MANY} sandboxes / 1`, of((r) => r.many.both / r.few.both), 'ratio', { baseline: 1, must: '<= 1.2', aim: '<= 1.05' });
	bench.figure(`one address pinned, ${MANY} sandboxes / 1`, of((r) => r.many.pin / r.few.pin), 'ratio', { baseline: 1, must: '<= 1.2', aim: '<= 1.05' });
	bench.figure('memory of one more restricted sandbox: proxy and resolver', each((r) => r.many.memory.workers - r.few.memory.workers), 'KiB');
	bench.figure('memory of one more restricted sandbox: kernel', each((r) => r.many.memory.kernel - r.few.memory.kernel), 'KiB');
	bench.figure('memory of one more restricted sandbox',
		each((r) => r.many.memory.workers + r.many.memory.kernel - r.few.memory.workers - r.few.memory.kernel) / 1024, 'MiB',
		{ must: '<= 4', aim: '<= 2' });
}

// --- all policies at once, one policy, with flows ---

// Connections to the origins of n sandboxes, held until somebody ends them -> a function that says when that was
async function hold(world, first, n) {
	const argv = world.inside('client', [world.tool, 'hold', origin('ours', first), n, 8444, NAME].map(String));
	const child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] });
	const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
	const next = async () => JSON.parse((await lines.next()).value);

	await next();
	return async () => {
		const { left, last } = await next();

		if (left > 0)
			throw new Error(`${left} of ${n} flows were not closed`);
		return last;
	};
}

async function change(world, n) {
	await world.setNames(0, SANDBOXES);

	const ended = await hold(world, 0, n);
	const { began, done } = await world.host('set', 0, n, policies.nothing);
	const last = await ended();

	return { force: (done - began) / 1e3, closed: (last - began) / 1e3, both: (Math.max(done, last) - began) / 1e3 };
}

// --- a parked sandbox is given to somebody: addresses of its interface, neighbour, route, rules ---

async function slots(bench, world) {
	const rounds = [];

	for (let i = 0; i < Math.max(5, bench.pairs); i++)
		rounds.push(p50(await world.host('again', 0, bench.samples(50), policies.both)) / 1e3);
	bench.figure('network part of a create from a parked sandbox, p50', median(rounds), 'ms', { must: '<= 1', aim: '<= 0.5' });
}

// --- a flood ---

async function flooded(world, seconds) {
	const ask = () => world.flow('get', origin('ours'), 1, NAME, 1, seconds);
	const during = async (kind, fn) => {
		const storm = world.flow('flood', kind === 'syn' ? origin('ours', 1) : '9.9.9.9', guest(1), kind, 10000, seconds + 0.5);
		const result = await fn();

		return { ...result, sent: (await storm).persec };
	};

	return { quiet: await ask(), syn: await during('syn', ask), quiet2: await ask(), dns: await during('dns', ask) };
}

async function floods(bench, world) {
	const rounds = [];

	await world.setNames(0, SANDBOXES);
	for (let i = 0; i < Math.max(5, bench.pairs); i++)
		rounds.push(await flooded(world, bench.quick ? 0.5 : 2));

	const of = (fn) => median(rounds.map(fn));
	const texts = { quiet: 'nobody floods', syn: '10,000 SYN/s of another', dns: '10,000 questions/s of another' };

	bench.table(['a request by name, µs, medians of rounds', 'p50', 'p90', 'p99', 'flood, packets/s'], Object.entries(texts).map(([key, text]) =>
		[text, ...['p50', 'p90', 'p99'].map((q) => of((r) => r[key][q]).toFixed(1)), key === 'quiet' ? '' : of((r) => r[key].sent).toFixed(0)]));
	bench.figure('another floods SYN: p99 of a request / without', of((r) => r.syn.p99 / r.quiet.p99), 'ratio', { baseline: 1, must: '<= 2', aim: '<= 1.5' });
	bench.figure('another floods DNS: p99 of a request / without', of((r) => r.dns.p99 / r.quiet2.p99), 'ratio', { baseline: 1, must: '<= 2', aim: '<= 1.5' });
}

export async function run(bench) {
	const rounds = { all: [], one: [] };
	const world = new World(bench);

	await applying(bench);
	await world.open('ours');
	await world.openOurs();
	for (let i = 0; i < Math.max(5, bench.pairs); i++) {
		rounds.all.push(await change(world, SANDBOXES));
		rounds.one.push(await change(world, 1));
	}

	const of = (which, key) => median(rounds[which].map((r) => r[key]));

	bench.table(['ms, medians of rounds', 'rules in force', 'old flows closed'], [[`all of ${SANDBOXES} sandboxes`, 'all'], [`one of ${SANDBOXES}`, 'one']]
		.map(([text, which]) => [text, of(which, 'force').toFixed(1), of(which, 'closed').toFixed(1)]));
	bench.figure(`a policy of ${SANDBOXES} changes: in force, old flows closed`, of('one', 'both'), 'ms', { must: '<= 100', aim: '<= 20' });
	bench.figure(`${SANDBOXES} policies of ${SANDBOXES} change: in force, old flows closed`, of('all', 'both'), 'ms', { must: '<= 100', aim: '<= 20' });
	await slots(bench, world);
	await floods(bench, world);
}
