// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a daemon that may be killed at any moment leaves behind: nothing, and everything that ran still runs. Counts are
// moderate unless DECLAW_BENCH_FULL=1 is in the environment, which takes hours on a machine without hardware virtualisation.

import { randomUUID } from 'node:crypto';
import { del, get, listIds, patch, post, request } from '../../e2e/lib/api.mjs';
import { hostOut, onHost, scopeOf, shortOf, virshList } from '../../e2e/lib/host.mjs';
import { quantile } from '../lib/stats.mjs';

export const area = 'lifecycle';
export const title = 'kills, restarts, deadlines, repetitions';

const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
const rand = (n) => Math.floor(Math.random() * n);
const lines = (text) => text.split('\n').map((s) => s.trim()).filter(Boolean);

async function answers() {
	for (const end = Date.now() + 60_000; Date.now() < end; await sleep(20))
		if (await get('/healthz').then((r) => r.status === 200, () => false))
			return;
	throw new Error('the daemon does not answer');
}

async function daemonHolds() {
	const pid = (await hostOut('systemctl', 'show', '-P', 'MainPID', 'declawd.service')).trim();

	return {
		rssKib: Number(/^VmRSS:\s+(\d+) kB/m.exec(await hostOut('cat', `/proc/${pid}/status`))[1]),
		fds: lines(await hostOut('ls', `/proc/${pid}/fd`)).length,
		threads: lines(await hostOut('ls', `/proc/${pid}/task`)).length,
		files: lines(await hostOut('find', '/run/declaw', '/var/lib/declaw/sandboxes')).length,
	};
}

// Everything on the host that names a sandbox which is not alive.
async function leaks() {
	const alive = new Set(await listIds());
	const [units, domains, rules, links, dirs] = await Promise.all([
		hostOut('systemctl', 'list-units', '--all', '--plain', '--no-legend', 'declaw-sbx-*', 'declaw-expire@*'),
		virshList(),
		hostOut('nft', 'list', 'table', 'inet', 'declaw'),
		hostOut('ip', '-o', 'link', 'show'),
		hostOut('sh', '-c', 'ls /var/lib/declaw/sandboxes /run/declaw/vm /var/lib/declaw/trash'),
	]);
	const found = new Set();
	const see = (kind, id) => alive.has(id) || found.add(`${kind} ${id}`);

	for (const line of lines(units))
		see('unit', `sbx-${/(?:sbx-)([a-z0-9]{10})/.exec(line)?.[1]}`);
	for (const name of domains)
		see('domain', name);
	for (const [, id] of rules.matchAll(/(?:sbx|allow|deny|pin)_([a-z0-9]{10}) \{/g))
		see('rules', `sbx-${id}`);
	for (const [, id] of links.matchAll(/: dcl([a-z0-9]{10})[:@]/g))
		see('tap', `sbx-${id}`);
	for (const line of lines(dirs).filter((l) => !l.endsWith(':')))
		see('directory', line.replace(/\..*$/, ''));
	return [...found];
}

async function settled(ms = 60_000) {
	const end = Date.now() + ms;
	let left = await leaks();

	while (left.length > 0 && Date.now() < end) {
		await sleep(500);
		left = await leaks();
	}
	return left;
}

const quiet = (promise) => promise.catch(() => ({ status: 0 }));

async function killDaemon() {
	await hostOut('systemctl', 'kill', '-s', 'KILL', '--kill-who=main', 'declawd.service');
}

async function runs(id) {
	const r = await quiet(post(`/sandboxes/${id}/commands`, { cmd: 'echo still here' }));

	return r.json?.stdout === 'still here\n';
}

// ms until the sandbox answers again, at most 10 s
async function answersAfter(id, since) {
	while (Date.now() - since < 10_000) {
		if (await runs(id))
			return Date.now() - since;
		await sleep(20);
	}
	return Infinity;
}

async function create(body = {}) {
	const r = await post('/sandboxes', { template: 'python', timeout: 3600, ...body });

	if (r.status !== 201)
		throw new Error(`create: ${r.status} ${r.text}`);
	return r.json.sandbox_id;
}

// Users that never look back: what they do may be cut at any moment.
async function users(stop) {
	while (!stop.now) {
		const made = await quiet(post('/sandboxes', { template: 'python', timeout: 600 }));
		const id = made.json?.sandbox_id;

		if (!id) {
			await sleep(50);
			continue;
		}
		for (let i = rand(4); i > 0 && !stop.now; i--) {
			await quiet(post(`/sandboxes/${id}/commands`, { cmd: 'echo x; sleep 0.05' }));
			if (rand(2)) {
				await quiet(post(`/sandboxes/${id}/pause`, {}));
				await quiet(post(`/sandboxes/${id}/resume`, {}));
			}
		}
		await quiet(del(`/sandboxes/${id}`));
	}
}

async function storm(bench, kept) {
	const n = bench.count(12, 200);
	const stop = { now: false };
	const load = users(stop);
	const times = [];

	for (let i = 0; i < n; i++) {
		await sleep(200 + rand(2500));
		await killDaemon();
		await answers();

		const up = Date.now();

		for (const id of kept)
			times.push(await answersAfter(id, up));
		if ((i + 1) % 10 === 0)
			bench.say(`${i + 1} kills of the daemon`);
	}
	stop.now = true;
	await load;
	for (const id of (await listIds()).filter((x) => !kept.includes(x)))
		await quiet(del(`/sandboxes/${id}`));

	const left = await settled();

	bench.row('SIGKILL of declawd under load', n, `${left.length} leaks`, `all answer within ${Math.max(...times)} ms`);
	bench.figure('leaks after SIGKILLs of declawd', left.length, 'things', { must: '<= 0' });
	bench.figure('a running sandbox answers after a restart, worst', Math.max(...times), 'ms', { must: '<= 2000' });
	return left;
}

async function libvirtRestarts(bench, kept) {
	const n = bench.count(4, 50);
	let lost = 0;

	for (let i = 0; i < n; i++) {
		await hostOut('systemctl', 'restart', 'declaw-libvirtd.service');
		for (const id of kept)
			lost += (await answersAfter(id, Date.now())) === Infinity;
	}

	const left = await settled();

	bench.row('restarts of libvirtd', n, `${left.length} leaks`, `${lost} sandboxes lost`);
	bench.figure('leaks and losses after restarts of libvirtd', left.length + lost, 'things', { must: '<= 0' });
}

async function qemuKills(bench) {
	const n = bench.count(3, 50);
	const noticed = [];
	let wrong = 0;

	for (let i = 0; i < n; i++) {
		const id = await create();
		const pid = (await hostOut('systemctl', 'show', '-P', 'ControlGroup', scopeOf(id))).trim();
		const procs = lines(await hostOut('sh', '-c', `cat /sys/fs/cgroup${pid}/cgroup.procs`));
		const began = Date.now();
		let state;

		await hostOut('kill', '-9', ...procs);
		do {
			await sleep(20);
			state = (await get(`/sandboxes/${id}`)).json;
		} while (state?.state !== 'killed' && Date.now() - began < 10_000);
		noticed.push(Date.now() - began);
		wrong += (await get(`/sandboxes/${id}`)).json?.end_reason !== 'crash';
	}

	const left = await settled();

	bench.row('QEMU killed', n, `${left.length} leaks`, `noticed within ${Math.max(...noticed)} ms, ${wrong} wrong reasons`);
	bench.figure('leaks after kills of QEMU', left.length + wrong, 'things', { must: '<= 0' });
	bench.figure('death of QEMU noticed, worst', Math.max(...noticed), 'ms', { must: '<= 1000' });
}

// How late the end of a sandbox comes, by its own record, with the daemon there and away
async function lateness(bench, away) {
	const n = bench.count(4, 50);
	const late = [];

	for (let i = 0; i < n; i++) {
		const id = await create();

		await patch(`/sandboxes/${id}/timeout`, { timeout: 3 });

		const due = Date.parse((await get(`/sandboxes/${id}`)).json.end_at);

		if (away)
			await hostOut('systemctl', 'stop', 'declawd.service');
		while (Date.now() < due)
			await sleep(20);
		for (;;) {
			const scope = (await onHost('systemctl', 'is-active', scopeOf(id))).stdout.trim();

			if (scope !== 'active')
				break;
			if (Date.now() - due > 20_000)
				break;
			await sleep(10);
		}
		await answers();

		const end = Date.parse((await get(`/sandboxes/${id}`)).json.end_at);

		late.push(end - due);
	}

	const p99 = quantile(late, 0.99);

	bench.row(`deadline, daemon ${away ? 'stopped' : 'running'}`, n, `p99 ${p99.toFixed(0)} ms late`, `median ${quantile(late, 0.5).toFixed(0)} ms`);
	bench.figure(`lateness of a deadline, daemon ${away ? 'stopped' : 'running'}, p99`, p99, 'ms', { must: '<= 250' });
}

async function repetitions(bench) {
	const keys = bench.count(2, 20), n = bench.count(60, 1000);
	const names = Array.from({ length: keys }, () => randomUUID());
	const before = (await listIds()).length;
	const ids = new Set();
	let next = 0;

	await Promise.all(Array.from({ length: 8 }, async () => {
		while (next < n) {
			const i = next++;
			const abort = new AbortController();
			const call = quiet(request('POST', '/sandboxes', {
				json: { template: 'python', timeout: 600 }, headers: { 'Idempotency-Key': names[i % keys] }, signal: abort.signal,
			}));

			if (i % 3 === 0)
				setTimeout(() => abort.abort(), rand(400));

			const r = await call;

			if (r.json?.sandbox_id)
				ids.add(r.json.sandbox_id);
			else
				await sleep(20);
		}
	}));

	// every key once more, to its end
	for (const key of names) {
		for (let i = 0; i < 600; i++) {
			const r = await post('/sandboxes', { template: 'python', timeout: 600 }, { headers: { 'Idempotency-Key': key } });

			if (r.status === 201) {
				ids.add(r.json.sandbox_id);
				break;
			}
			await sleep(100);
		}
	}

	const made = (await listIds()).length - before;

	for (const id of ids)
		await quiet(del(`/sandboxes/${id}`));
	bench.row('repeated and aborted creates', n, `${made} sandboxes of ${keys} keys`, `${ids.size} ids`);
	bench.figure('sandboxes too many or too few after repeated creates', Math.abs(made - keys) + Math.abs(ids.size - keys), 'sandboxes', { must: '<= 0' });
}

async function cycles(bench) {
	const n = bench.count(12, 2000), warm = Math.min(50, Math.ceil(n / 3));
	const cycle = async () => {
		const id = await create();

		await runs(id);
		await del(`/sandboxes/${id}`);
	};
	const holds = async () => ({
		...(await daemonHolds()), units: lines(await hostOut('systemctl', 'list-units', '--all', '--plain', '--no-legend')).length,
		handles: lines(await hostOut('nft', 'list', 'ruleset')).filter((l) => !/elements|expires|counter/.test(l)).length,
		diskKib: Number(/^\d+/.exec(await hostOut('du', '-sk', '--exclude=ended', '/var/lib/declaw'))[0]),
	});

	for (let i = 0; i < warm; i++)
		await cycle();
	await settled();

	const before = await holds();

	for (let i = 0; i < n; i++)
		await cycle();
	await settled();

	const after = await holds();
	const grown = ['fds', 'threads', 'files', 'units', 'handles'].filter((k) => after[k] > before[k] + 1);

	bench.row('create, exec, kill', n, grown.length ? `grown: ${grown.map((k) => `${k} ${before[k]} to ${after[k]}`)}` : 'nothing grew',
		`memory ${((after.rssKib - before.rssKib) / n).toFixed(1)} KiB, disk ${((after.diskKib - before.diskKib) / n).toFixed(1)} KiB a cycle`);
	bench.figure('things that grew with cycles', grown.length, 'things', { must: '<= 0' });
	bench.figure('memory of declawd a cycle', (after.rssKib - before.rssKib) / n, 'KiB', { must: '<= 16' });
}

async function listTimes(n) {
	const times = [];

	for (let i = 0; i < n; i++) {
		const began = performance.now();

		await get('/sandboxes');
		times.push(performance.now() - began);
	}
	return quantile(times, 0.99);
}

async function listUnderLoad(bench) {
	const n = bench.samples(400);
	const idle = await listTimes(n);
	const stop = { now: false };
	const load = [users(stop), users(stop)];

	await sleep(300);

	const busy = await listTimes(n);

	stop.now = true;
	await Promise.all(load);
	bench.row('list, p99', n, `${busy.toFixed(2)} ms while others create`, `${idle.toFixed(2)} ms idle`);
	bench.figure('list p99 under load / idle', busy / idle, 'ratio', { must: '<= 3' });
}

export async function run(bench) {
	const rows = [];

	bench.count = (short, full) => (process.env.DECLAW_BENCH_FULL === '1' ? full : bench.quick ? Math.max(2, Math.ceil(short / 4)) : short);
	bench.row = (...cells) => { rows.push(cells); bench.say(cells.join('; ')); };

	const kept = [await create(), await create()];

	try {
		await listUnderLoad(bench);
		const left = await storm(bench, kept);

		if (left.length)
			bench.say(`left behind: ${left.join(', ')}`);
		await libvirtRestarts(bench, kept);
	} finally {
		for (const id of kept)
			await quiet(del(`/sandboxes/${id}`));
	}
	await qemuKills(bench);
	await lateness(bench, false);
	await lateness(bench, true);
	await repetitions(bench);
	await cycles(bench);
	bench.table(['figure', 'n', 'result', ''], rows);
}
