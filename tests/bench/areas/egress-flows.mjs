// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a sandbox's way out costs once packets flow: allowed by range (the kernel forwards) and by name (declaw-proxy
// checks and splices), against forwarding and masquerading without any other rule, HAProxy choosing by server name,
// Squid that peeks and splices, and a relay that looks at nothing. 200 sandboxes have their rules all the while. See lib/egress-world.mjs.

import { Pairs, calmly, counted } from '../lib/calm.mjs';
import { NAME, NEW_PORT, READY_PORT, World, origin, policies } from '../lib/egress-world.mjs';
import { median } from '../lib/stats.mjs';

export const area = 'egress';
export const title = 'what a sandbox\'s way out costs';

const BYNAME = 199;	// sandboxes; each may open 200 connections a second
const BYRANGE = 199;	// the last one

const ways = {
	plain: 'forwarded, masqueraded', range: 'allowed by range', name: 'allowed by name', haproxy: 'HAProxy by server name',
	squid: 'Squid, peek and splice', relay: 'a relay that looks at nothing',
};
const target = (way) => ({ range: () => origin('ours', BYRANGE), name: () => origin('ours') }[way] ?? (() => origin(way)))();

// The ways one after the other, each again while others take the processors
async function round(world, seconds, how) {
	const row = {};
	const each = async (list, key, fn) => {
		row[key] = { calm: true };
		for (const way of list) {
			const { value, calm } = await calmly(() => fn(way), how);

			row[key][way] = value;
			row[key].calm &&= calm;
		}
	};

	await each(Object.keys(ways), 'one', (way) => world.flow('get', target(way), 1, NAME, 1, seconds));
	await each(Object.keys(ways), 'many', (way) => world.flow('get', target(way), 1, NAME, 32, seconds));
	for (const [what, port] of [['anew', NEW_PORT], ['ready', READY_PORT]])
		await each(['plain', 'name', 'squid', 'relay'], what, (way) =>
			world.flow('new', target(way), ['squid', 'relay'].includes(way) ? 1 : BYNAME, NAME, 8, seconds, port));
	await each(['plain', 'range', 'name', 'relay'], 'bulk', (way) => world.flow('bulk', target(way), 8443, NAME, seconds));
	return row;
}

// Plain and by range differ by less than a round varies, so these two are compared once more, often and shortly: the more pairs
// there are in the same time, the closer the median.
async function compareRange(bench, world) {
	const wanted = bench.quick ? 2 : 160, until = performance.now() + (bench.quick ? 0 : 180_000);
	const measure = {
		many: (way) => world.flow('get', target(way), 1, NAME, 32, 0.15),
		bulk: (way) => world.flow('bulk', target(way), 8443, NAME, 0.15),
	};
	const pairs = { many: new Pairs(), bulk: new Pairs() };

	while (pairs.many.length < wanted || (Math.min(pairs.many.calm, pairs.bulk.calm) < wanted && performance.now() < until))
		for (const what of Object.keys(pairs))
			await pairs[what].measure(async () => (await measure[what]('range')).persec,
				async () => (await measure[what]('plain')).persec, { tries: 2, rest: 100 });
	bench.say(`by range / plain: ${pairs.many.calm} and ${pairs.bulk.calm} pairs of ${pairs.many.length} while nobody took the processors; `
		+ `standard errors ${pairs.many.error().toFixed(3)} and ${pairs.bulk.error().toFixed(3)}`);
	return { many: pairs.many.ratio(), bulk: pairs.bulk.ratio() };
}

export async function run(bench) {
	const world = new World(bench);
	const rounds = [];

	await world.open('ours', 'plain', 'haproxy', 'squid', 'relay');
	await world.openOurs();
	await world.setNames(0, BYNAME);
	await world.host('set', BYRANGE, 1, policies.ranges);
	await world.startHaproxy();
	await world.startSquid();
	await world.startRelay();
	// Many short pairs: the machine's speed changes within seconds
	for (let i = 0; i < (bench.quick ? 2 : 3 * Math.max(5, bench.pairs)); i++)
		rounds.push(await round(world, 0.4, { tries: bench.quick ? 1 : 3, rest: 200 }));

	const range = await compareRange(bench, world);
	const of = (what, fn) => median(counted(rounds.map((r) => r[what])).map(fn).filter((x) => Number.isFinite(x)));
	const at = (way, what, key) => of(what, (r) => r[way]?.[key]);
	const ratio = (a, b, what) => of(what, (r) => r[a].persec / r[b].persec);
	const show = (x, digits = 0) => (Number.isFinite(x) ? x.toFixed(digits) : '');

	bench.table(['medians of rounds', 'one connection: p50, µs', '32: requests/s', 'p99, µs', 'new connections/s', 'to one that answers at once', 'one flow, MB/s'],
		Object.entries(ways).map(([way, text]) => [text, show(at(way, 'one', 'p50'), 1), show(at(way, 'many', 'persec')),
			show(at(way, 'many', 'p99')), show(at(way, 'anew', 'persec')), show(at(way, 'ready', 'persec')), show(at(way, 'bulk', 'persec') / 1e6)]));

	bench.say(`rounds of ${rounds.length} while nobody took the processors: `
		+ Object.keys(rounds[0]).map((what) => `${what} ${rounds.filter((r) => r[what].calm).length}`).join(', '));
	bench.figure('allowed by range: requests / plain', range.many, 'ratio', { baseline: 1, must: '>= 0.98', aim: '>= 1' });
	bench.figure('allowed by range: bulk / plain', range.bulk, 'ratio', { baseline: 1, must: '>= 0.98', aim: '>= 1' });
	bench.figure('allowed by name: added p50, one connection', of('one', (r) => r.name.p50 - r.plain.p50), 'µs',
		{ baseline: at('plain', 'one', 'p50'), must: '<= 25', aim: '<= 12' });
	bench.figure('allowed by name: requests, 32 connections / plain', ratio('name', 'plain', 'many'), 'ratio', { baseline: 1, must: '>= 0.6', aim: '>= 0.7' });
	bench.figure('allowed by name: requests, 32 connections / HAProxy', ratio('name', 'haproxy', 'many'), 'ratio', { baseline: 1, must: '>= 0.8', aim: '>= 1' });
	bench.figure('allowed by name: bulk, one flow / plain', ratio('name', 'plain', 'bulk'), 'ratio', { baseline: 1, must: '>= 0.6', aim: '>= 0.68' });
	bench.figure('allowed by name: new connections / plain', ratio('name', 'plain', 'anew'), 'ratio', { baseline: 1, must: '>= 0.55', aim: '>= 0.75' });
	bench.figure('allowed by name: new connections / Squid', ratio('name', 'squid', 'anew'), 'ratio', { baseline: 1, must: '>= 1.5', aim: '>= 2.5' });
	// A handshake is most of a new connection's time here, whichever way it goes: the same without one
	bench.figure('allowed by name: new connections, no handshake / plain', ratio('name', 'plain', 'ready'), 'ratio', { baseline: 1 });
	bench.figure('allowed by name: new connections, no handshake / Squid', ratio('name', 'squid', 'ready'), 'ratio', { baseline: 1 });
	bench.say(`new connections, to an origin that answers at once: ${ratio('name', 'plain', 'ready').toFixed(2)} of plain, `
		+ `${ratio('name', 'squid', 'ready').toFixed(2)} of Squid`);
	// What is left of them for whoever also looks
	bench.say(`a relay that looks at nothing: 32 connections ${ratio('relay', 'plain', 'many').toFixed(2)} of plain, `
		+ `new ones ${ratio('relay', 'squid', 'anew').toFixed(2)} of Squid, without a handshake ${ratio('relay', 'squid', 'ready').toFixed(2)}`);
	bench.figure('a relay that looks at nothing: requests, 32 connections / plain', ratio('relay', 'plain', 'many'), 'ratio', { baseline: 1 });
	bench.figure('a relay that looks at nothing: new connections / Squid', ratio('relay', 'squid', 'anew'), 'ratio', { baseline: 1 });
}
