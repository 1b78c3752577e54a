// SPDX-License-Identifier: GPL-2.0-or-later
//
// A file of 256 MiB up and down through the API, against the same file over a virtio port with `dd` at its
// end, in blocks as large as the port takes; and what the daemon's memory does during 1 GiB.
//
// The file lies in memory inside the guest (tmpfs), on both sides: the comparison is of the channel, not of
// what a guest with one processor needs to write a file. What the port carries when nothing is written or
// read inside is printed beside it, and so is the raw client's own transfer of such a file: it shows what of
// a difference is the protocol's and the agent's, and what is the daemon's.
//
// The baseline's client is a C program that throws away what it reads. So is ours (curl) on the way down, where the
// client shares two processors with QEMU: what this program, in JavaScript, takes for it is printed as well.

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { open, rawPath, request } from '../../e2e/lib/api.mjs';
import { apiKey, apiUrl } from '../../e2e/lib/env.mjs';
import { hostOut } from '../../e2e/lib/host.mjs';
import { findPort } from '../lib/bare.mjs';
import { Pairs } from '../lib/calm.mjs';
import { median } from '../lib/stats.mjs';
import { bothMachines } from '../lib/vm.mjs';

export const area = 'data-plane';
export const title = 'a large file';

const MiB = 1 << 20;
const block = Buffer.alloc(MiB, 0xa5);

// A write replaces the file when it is complete: two of them would not fit into the guest's memory
async function upload(api, path, size) {
	await api.run(`rm -f ${path}`);

	const began = performance.now();
	const res = await request('PUT', rawPath(api.id, path), {
		headers: { 'Content-Length': size },
		write: async (req) => {
			for (let sent = 0; sent < size; sent += MiB)
				if (!req.write(block))
					await new Promise((r) => req.once('drain', r));
		},
	});

	if (res.json?.size !== size)
		throw new Error(`upload: ${res.status} ${res.text}`);
	return size / MiB / ((performance.now() - began) / 1000);
}

async function download(api, path, size) {
	const { stdout } = await promisify(execFile)('curl', ['-sS', '-f', '-o', '/dev/null', '-H', `X-API-Key: ${apiKey}`,
		'-w', '%{size_download} %{time_total}', apiUrl + rawPath(api.id, path)]);
	const [got, seconds] = stdout.split(' ').map(Number);

	if (got !== size)
		throw new Error(`download: ${got} of ${size} bytes`);
	return size / MiB / seconds;
}

async function downloadHere(api, path, size) {
	const began = performance.now();
	const res = await open('GET', rawPath(api.id, path));
	let got = 0;

	for await (const chunk of res)
		got += chunk.length;
	if (got !== size)
		throw new Error(`download: ${got} of ${size} bytes`);
	return size / MiB / ((performance.now() - began) / 1000);
}

async function checkContent(api, path, size) {
	const hash = createHash('sha256');

	for (let i = 0; i < size; i += MiB)
		hash.update(block);

	const inside = await api.run(`sha256sum < ${path}`, { timeout: 600 });

	if (!inside.startsWith(hash.digest('hex')))
		throw new Error('what arrived is not what was sent');
}

// MiB/s through the second port: `dd` inside drains it into a file or fills it from one.
async function portRate(bare, direction, size, file) {
	const blocks = `bs=32768 count=${size / 32768} status=none`;
	const command = direction === 'up' ? `dd iflag=fullblock of=${file ?? '/dev/null'} ${blocks} <&3; printf k >&3`
		: `dd if=${file ?? '/dev/zero'} ${blocks} >&3`;

	// The port is one process's at a time, and the one before may not be gone yet
	await bare.op('spawn', `${findPort('org.declaw.bench.0')}until exec 3<>$port; do sleep 0.1; done; printf r >&3; ${command}`);
	await bare.op('port-ready');

	const [bytes, usec] = await bare.op(`port-${direction}`, size);

	return bytes / MiB / (usec / 1e6);
}

async function clientRate(bare, op, arg) {
	const [bytes, usec] = await bare.op(op, arg);

	return bytes / MiB / (usec / 1e6);
}

const daemonPid = async () => (await hostOut('systemctl', 'show', '-P', 'MainPID', 'declawd.service')).trim();

// Processor time, ms: a machine that shares its processors with others is told apart from a path that needs more of them.
function threadTimes(pid) {
	return readdirSync(`/proc/${pid}/task`)
		.map((tid) => Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8').split(' ')[0]) / 1e6);
}

const sum = (list) => list.reduce((a, b) => a + b, 0);

// What [guest's processor, QEMU otherwise, declawd] take for fn(), into[at]. The guest's processor is QEMU's busiest thread.
async function spent(into, at, qemuPid, fn) {
	const daemon = await daemonPid();
	const now = () => {
		const qemu = threadTimes(qemuPid), guest = Math.max(...qemu);

		return [guest, sum(qemu) - guest, sum(threadTimes(daemon))];
	};
	const before = now(), rate = await fn(), after = now();

	into[at] = after.map((ms, i) => ms - before[i]);
	return rate;
}

async function daemonRss() {
	const pid = await daemonPid();

	return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;
}

export async function run(bench) {
	const { api, bare } = await bothMachines(bench);
	const size = (bench.quick ? 16 : 256) * MiB;
	const path = '/bench/file';
	const rates = { clientUp: [], clientDown: [], nullUp: [], nullDown: [], downHere: [] };
	const up = new Pairs(), down = new Pairs();
	const times = { up: [], portUp: [], down: [], portDown: [] };
	// Pairs go from 0.7 to 1.2 within a minute: five say little
	const wanted = bench.quick ? 2 : 3 * Math.max(5, bench.pairs), most = bench.quick ? wanted : 2 * wanted;
	const how = bench.quick ? { tries: 1 } : undefined;
	const mount = 'mkdir /bench && mount -t tmpfs -o size=400m tmpfs /bench';

	await api.run(mount, { user: 'root' });
	await bare.op('spawn', mount);
	await bare.op('port', bare.port);
	// Both guests touch their memory before they are measured: what a page costs the first time is not the way's
	await upload(api, path, size);
	await portRate(bare, 'up', size);

	// More than 1 GiB goes through the daemon, so its memory is looked at on the way.
	const rss = [await daemonRss()];

	for (let i = 0; i < most && Math.min(up.calm, down.calm) < wanted; i++) {
		await bare.op('exec', `rm -f ${path}`);
		// dd empties what the client wrote
		if (i < 2) {
			rates.clientUp.push(await clientRate(bare, 'write', `${path} ${size}`));
			rates.nullUp.push(await portRate(bare, 'up', size));
		}
		await up.measure(() => spent(times.up, i, api.qemu.pid, () => upload(api, path, size)),
			() => spent(times.portUp, i, bare.qemu.pid, () => portRate(bare, 'up', size, path)), how);
		rss.push(await daemonRss());
		if (i === 0)
			await checkContent(api, path, size);
		await down.measure(() => spent(times.down, i, api.qemu.pid, () => download(api, path, size)),
			() => spent(times.portDown, i, bare.qemu.pid, () => portRate(bare, 'down', size, path)), how);
		rss.push(await daemonRss());
		if (i < 2) {
			rates.nullDown.push(await portRate(bare, 'down', size));
			rates.clientDown.push(await clientRate(bare, 'read', path));
			rates.downHere.push(await downloadHere(api, path, size));
			rss.push(await daemonRss());
		}
	}
	report(bench, { ...rates, up, down }, times, rss, size);
}

function report(bench, rates, times, rss, size) {
	const row = (name, list) => [name, median(list).toFixed(1), Math.min(...list).toFixed(1), Math.max(...list).toFixed(1)];
	const growth = Math.max(...rss) - rss[0];

	bench.table([`MiB/s, ${size / MiB} MiB`, 'median', 'min', 'max'], [
		row('declawd: PUT files/raw', rates.up.of('ours')),
		row('raw client: FILE_WRITE', rates.clientUp),
		row('raw virtio-serial: dd into the same file', rates.up.of('theirs')),
		row('raw virtio-serial: dd into nothing', rates.nullUp),
		row('declawd: GET files/raw', rates.down.of('ours')),
		row('declawd: the same, client in Node.js', rates.downHere),
		row('raw client: FILE_READ', rates.clientDown),
		row('raw virtio-serial: dd from the same file', rates.down.of('theirs')),
		row('raw virtio-serial: dd from nothing', rates.nullDown),
	]);
	bench.table(['processor time, ms', 'guest\'s processor', 'QEMU otherwise', 'declawd'],
		[['declawd: PUT files/raw', times.up], ['raw virtio-serial: dd into the same file', times.portUp],
			['declawd: GET files/raw', times.down], ['raw virtio-serial: dd from the same file', times.portDown]]
			.map(([name, list]) => [name, ...[0, 1, 2].map((i) => median(list.map((t) => t[i])).toFixed(0))]));
	bench.say(`\nratios in the pairs: up ${rates.up}; down ${rates.down}`);
	bench.say('in brackets: others took more than 3 % of the processors meanwhile; not counted where three others are left');
	bench.say(`resident memory of declawd: ${rss[0].toFixed(1)} MiB, during ${(rss.length - 1) * size / MiB} MiB at most ${growth.toFixed(1)} MiB more`);
	for (const [name, pairs] of [['upload', rates.up], ['download', rates.down]]) {
		bench.figure(`${name} of ${size / MiB} MiB`, median(pairs.of('ours')), 'MiB/s', { baseline: median(pairs.of('theirs')) });
		bench.figure(`${name} / raw virtio-serial`, pairs.ratio(), 'ratio', { baseline: 1, must: '>= 0.85' });
	}
	bench.figure('memory growth during 1 GiB', Math.max(0, growth), 'MiB', { must: '<= 8' });
}
