// SPDX-License-Identifier: GPL-2.0-or-later
//
// What is on the host and belongs to no living sandbox: the host is asked with an administrator's tools, the API says
// who lives. Also the other way round: a running sandbox that the host does not show is as wrong.

import { get, del, listIds } from '../../e2e/lib/api.mjs';
import { hostOut, onHost, virshList } from '../../e2e/lib/host.mjs';

const idsIn = (text, re) => [...new Set([...text.matchAll(re)].map((m) => m[1]))];

// place -> short ids seen there
async function seen() {
	const [scopes, timers, jobs, domains, links, rules, dirs, runs, processes] = await Promise.all([
		hostOut('systemctl', 'list-units', '--all', '--plain', '--no-legend', 'declaw-sbx-*.scope'),
		hostOut('systemctl', 'list-units', '--all', '--plain', '--no-legend', 'declaw-expire@*'),
		hostOut('systemctl', 'list-jobs', '--no-legend'),
		virshList(),
		hostOut('ip', '-o', 'link', 'show'),
		hostOut('nft', 'list', 'ruleset'),
		hostOut('ls', '/var/lib/declaw/sandboxes'),
		hostOut('find', '/run/declaw', '-name', '*sbx-*'),
		hostOut('ps', '-eo', 'args').then((t) => t.split('\n').filter((l) => l.includes('qemu-system')).join('\n')),
	]);

	return {
		scope: idsIn(scopes, /declaw-sbx-([a-z0-9]{10})/g),
		timer: idsIn(timers, /declaw-expire@sbx-([a-z0-9]{10})/g),
		job: idsIn(jobs, /sbx-([a-z0-9]{10})/g),
		domain: idsIn(domains.join('\n'), /sbx-([a-z0-9]{10})/g),
		tap: idsIn(links, /dcl([a-z0-9]{10})\b/g),
		rules: idsIn(rules, /sbx_([a-z0-9]{10})/g),
		directory: idsIn(dirs, /sbx-([a-z0-9]{10})/g),
		'run file': idsIn(runs, /sbx-([a-z0-9]{10})/g),
		process: idsIn(processes, /guest=sbx-([a-z0-9]{10})/g),
	};
}

// Those that are nobody's yet are not in any list: parked ones and what templates are being forked from. Their records
// say so.
async function hidden() {
	const records = await onHost('grep', '-rlE', '"role": *[12]', '--include=sandbox.json', '/var/lib/declaw/sandboxes');

	return new Set(idsIn(records.stdout, /sbx-([a-z0-9]{10})/g));
}

async function look() {
	const [places, nobodys] = await Promise.all([seen(), hidden()]);
	const { json } = await get('/sandboxes?limit=1000');
	const alive = new Map(json.sandboxes.map((s) => [s.sandbox_id.slice(4), s.state]));
	const out = [];

	for (const [place, ids] of Object.entries(places))
		for (const id of ids)
			if (!alive.has(id) && !nobodys.has(id) && place !== 'job')
				out.push(`${place} of ${id}`);
	for (const [id, state] of alive)
		for (const place of ['scope', 'domain', 'tap', 'rules', 'directory', 'process'])
			if (state === 'running' && !places[place].includes(id))
				out.push(`no ${place} of ${id}, which runs`);
	return out;
}

export async function strays(ms) {
	const end = Date.now() + ms;

	for (;;) {
		const out = await look();

		if (out.length === 0 || Date.now() > end)
			return out;
		await new Promise((r) => setTimeout(r, 300));
	}
}

export async function killEverything() {
	for (const id of await listIds())
		await del(`/sandboxes/${id}`).catch(() => {});
}
