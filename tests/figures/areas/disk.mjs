// SPDX-License-Identifier: GPL-2.0-or-later
//
// The disk below the sandboxes, filled to its last block: a small file system is mounted there for the time of it.

import { del, get, post } from '../../e2e/lib/api.mjs';
import { libvirtUri } from '../../e2e/lib/env.mjs';
import { hostOut, onHost } from '../../e2e/lib/host.mjs';
import { answers, create, echo, kill, persist, stateOf } from '../lib/rounds.mjs';

const dir = '/var/lib/declaw/sandboxes';
const daemons = ['declawd.service', 'declaw-libvirtd.service'];

// Their mount namespaces are copies: both start again to see it.
async function restart(change) {
	await hostOut('systemctl', 'stop', ...daemons);
	await change();
	await hostOut('systemctl', 'start', ...daemons);
	await answers();
	await persist(async () => {
		if ((await get('/healthz')).status !== 200)
			throw new Error('not ready');
	}, 30_000);
}

// To the last block, or until so many KiB are left
const fill = (left = 0) => onHost('sh', '-c', left ?
	`n=$(df --output=avail -k ${dir} | tail -n 1); fallocate -l $((n - ${left}))K ${dir}/fill` :
	`cat /dev/zero > ${dir}/fill 2>/dev/null; cat /dev/zero >> ${dir}/fill 2>/dev/null; sync; true`);
const room = () => hostOut('rm', '-f', `${dir}/fill`);
const typed = (res) => res.status >= 400 && typeof res.json?.message === 'string' && /^[a-z][a-z0-9_]*$/.test(res.json?.code ?? '');

// A snapshot with no room, with room for the memory alone, and with a little more: whichever of its files finds the disk
// full, the caller is told, the source runs, and nothing of it stays.
async function snapshots(f, i) {
	const id = await create({ template: 'python' });
	const seen = [];
	let untyped = 0, wrong = 0;

	for (const kib of [0, 100, 300, 600, 900]) {
		await fill(kib ? 512 * 1024 + kib : 0);

		const res = await post(`/sandboxes/${id}/snapshot`, {});

		seen.push(`${kib} KiB ${res.status} ${res.json?.code ?? ''}`);
		await room();
		if (res.status === 201)
			wrong += (await del(`/sandboxes/${id}/snapshots/${res.json.snapshot_id}`)).status !== 200;
		else
			untyped += !typed(res) || res.json.code !== 'no_space';
		wrong += kib === 0 && res.status === 201;
		await persist(() => echo(id), 20_000, 200).catch(() => wrong++);
		wrong += (await stateOf(id)).state !== 'running';
		await persist(async () => {
			if ((await hostOut('ls', dir)).includes('snap-') || (await hostOut('virsh', '-q', '-c', libvirtUri, 'list', '--name')).trim() !== id)
				throw new Error('something is left');
		}, 20_000, 200).catch(() => wrong++);
	}
	await kill(id);
	f.say(`round ${i}: a snapshot with room for its memory and ${seen.join('; ')}`);
	return { untyped, wrong };
}

async function full(f, i) {
	const id = await create();
	const seen = [];
	let untyped = 0, wrong = 0;

	await post(`/sandboxes/${id}/commands`, { cmd: 'echo before > /home/user/before; sync' });
	await fill();

	// Creating, pausing to disk, writing in the guest: each is told, none is silent
	const made = await post('/sandboxes', { timeout: 600 });

	seen.push(`create ${made.status} ${made.json?.code ?? ''}`);
	if (made.status === 201)
		await del(`/sandboxes/${made.json.sandbox_id}`);
	else
		untyped += !typed(made);

	const wrote = await post(`/sandboxes/${id}/commands`, { cmd: 'dd if=/dev/zero of=/home/user/big bs=1M count=150 conv=fsync', timeout: 60 });

	seen.push(`guest write ${wrote.status} exit ${wrote.json?.exit_code}`);
	if (wrote.status === 200)
		wrong += wrote.json.exit_code === 0;
	else
		untyped += !typed(wrote);
	// The API stays up, and its list tells the truth
	wrong += (await get('/sandboxes')).status !== 200;
	wrong += !['running', 'paused'].includes((await stateOf(id)).state);

	const timeout = await post(`/sandboxes/${id}/pause`);

	seen.push(`pause ${timeout.status} ${timeout.json?.code ?? ''}`);
	if (timeout.status !== 200)
		untyped += !typed(timeout);

	await room();
	await get(`/sandboxes/${id}`);
	await persist(() => post(`/sandboxes/${id}/commands`, { cmd: 'true' }).then((r) => {
		if (r.status !== 200)
			throw new Error(r.text);
	}), 20_000, 200);
	f.say(`round ${i}: ${seen.join('; ')}`);

	const back = await post(`/sandboxes/${id}/commands`, { cmd: 'cat /home/user/before' });

	wrong += back.json?.stdout !== 'before\n';
	await kill(id);

	const again = await persist(create, 30_000, 200);

	await echo(again);
	await kill(again);
	return { untyped, wrong };
}

export async function run(f) {
	const n = f.rounds(1, 10);
	let untyped = 0, wrong = 0;

	const mount = (mib) => hostOut('sh', '-c',
		'mount -t tmpfs -o "size=$1m,uid=$(stat -c %u $0),gid=$(stat -c %g $0),mode=$(stat -c %a $0)" figures $0', dir, `${mib}`);

	await restart(() => mount(700));
	try {
		const r = await snapshots(f, 1);

		f.row('disk full while a snapshot is made: errors without a type, states that are wrong, left behind', 5, r.untyped + r.wrong, '', '= 0');
	} finally {
		await restart(() => hostOut('umount', dir));
	}
	await restart(() => mount(96));
	try {
		for (let i = 1; i <= n; i++) {
			const r = await full(f, i);

			untyped += r.untyped;
			wrong += r.wrong;
		}
		f.row('disk full to the last block: errors without a type', n, untyped, '', '= 0');
		f.row('disk full to the last block: silent losses, wrong states, files that changed', n, wrong, '', '= 0');
		await f.noStrays('disk full', n);
	} finally {
		await restart(() => hostOut('umount', dir));
	}
}
