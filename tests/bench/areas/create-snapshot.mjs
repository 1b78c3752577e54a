// SPDX-License-Identifier: GPL-2.0-or-later
//
// For how long a running sandbox stands while a snapshot of it is made (issue 6), against a bare QEMU on the same files
// whose memory is a shared file: stopped, its devices saved, as little as there can be to do. Idle, and with memory that
// is used and written to all the time, and with twice the memory: what counts is that the pause does not grow with it.

import { mkdirSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { del, post } from '../../e2e/lib/api.mjs';
import { BareVm, qemuOf } from '../lib/bare.mjs';
import { median, quantile } from '../lib/stats.mjs';

export const area = 'create';
export const title = 'snapshots of a running sandbox: how long it stands';

const template = 'python';
const larger = 'base';	// twice its memory

class Qmp {
	constructor(socket) {
		this.text = '';
		this.waiting = [];
		this.conn = net.connect(socket);
		// QEMU is killed in the end, with whatever it had still to say
		this.conn.on('error', () => {});
		this.conn.on('close', () => {
			for (const answer of this.waiting.splice(0))
				answer({ error: { desc: 'QEMU is gone' } });
		});
		this.conn.on('data', (data) => {
			this.text += data;
			for (let end; (end = this.text.indexOf('\n')) >= 0; this.text = this.text.slice(end + 1)) {
				const m = JSON.parse(this.text.slice(0, end));

				if ('return' in m || 'error' in m)
					this.waiting.shift()(m);
			}
		});
	}

	async do(execute, args = {}) {
		const m = await new Promise((resolve) => {
			this.waiting.push(resolve);
			this.conn.write(`${JSON.stringify({ execute, arguments: args })}\n`);
		});

		if (m.error)
			throw new Error(`${execute}: ${m.error.desc}`);
		return m.return;
	}
}

// A bare VM whose memory is a file, as what is cloned has it
class SharedVm extends BareVm {
	async prepare() {
		await super.prepare();

		const [, size] = /^(?:size=)?(\d+[kKMG]?)/.exec(this.args[this.args.indexOf('-m') + 1]);
		const ram = path.join(this.dir, 'ram');

		mkdirSync(this.dir, { recursive: true });
		this.qmpSocket = path.join(this.dir, 'qmp.sock');
		this.args.push('-object', `memory-backend-file,id=bench-ram,mem-path=${ram},share=on,size=${/\d$/.test(size) ? `${size}M` : size}`,
			'-machine', 'memory-backend=bench-ram', '-qmp', `unix:${this.qmpSocket},server=on,wait=off`);
	}

	async ready() {
		await this.start();
		this.qmp = new Qmp(this.qmpSocket);
		await this.qmp.do('qmp_capabilities');
		await this.qmp.do('migrate-set-capabilities', { capabilities: [{ capability: 'x-ignore-shared', state: true }] });
	}

	async stop() {
		this.qmp?.conn.destroy();
		await super.stop();
	}

	// Stop, and the devices' state into a socket; -> ms
	async save() {
		const file = path.join(this.dir, 'state.sock');
		const server = net.createServer((c) => c.on('data', () => {})).listen(file);

		await new Promise((r) => server.once('listening', r));

		const began = performance.now();

		await this.qmp.do('stop');
		await this.qmp.do('migrate', { uri: `unix:${file}` });
		while ((await this.qmp.do('query-migrate')).status !== 'completed')
			;

		const took = performance.now() - began;

		await this.qmp.do('cont');
		server.close();
		return took;
	}
}

const must = (res, status) => {
	if (res.status !== status)
		throw new Error(`${res.status} ${res.text}`);
	return res.json;
};

const busy = `python3 -c 'b = bytearray(200 << 20)
while True:
    for i in range(0, len(b), 4096): b[i] = (b[i] + 1) & 255'`;

// -> { pause, took } in ms
async function snapshot(id) {
	const began = performance.now();
	const snap = must(await post(`/sandboxes/${id}/snapshot`, {}), 201);
	const took = performance.now() - began;

	must(await del(`/sandboxes/${id}/snapshots/${snap.snapshot_id}`), 200);
	return { pause: snap.pause_duration_ms, took };
}

async function ofLarger(n) {
	const id = must(await post('/sandboxes', { template: larger, timeout: 900 }), 201).sandbox_id;
	const all = [];

	try {
		for (let k = 0; k < n; k++)
			all.push(await snapshot(id));
	} finally {
		await del(`/sandboxes/${id}`);
	}
	return all;
}

export async function run(bench) {
	const all = { bare: [], idle: [], larger: [], busy: [] };

	for (let i = 0; i < bench.pairs; i++) {
		const id = must(await post('/sandboxes', { template, timeout: 900 }), 201).sandbox_id;
		const vm = new SharedVm(bench, await qemuOf(id), 'snapshot');
		const n = Math.min(bench.samples(10), 10);

		try {
			await vm.ready();
			for (let k = 0; k < n; k++) {
				all.idle.push(await snapshot(id));
				all.bare.push(await vm.save());
			}
			await vm.stop();
			all.larger.push(...await ofLarger(n));
			must(await post(`/sandboxes/${id}/commands`, { cmd: busy, background: true, timeout: 0 }), 200);
			for (let k = 0; k < Math.min(n, 3); k++)
				all.busy.push(await snapshot(id));
		} finally {
			await vm.stop();
			await del(`/sandboxes/${id}`);
		}
	}

	const ms = (v) => v.toFixed(1);
	const row = (name, v) => [name, ms(median(v)), ms(quantile(v, 0.99)), ms(Math.min(...v)), ms(Math.max(...v)), v.length];
	const of = (what, which) => all[what].map((s) => s[which]);

	bench.table(['ms', 'median', 'p99', 'min', 'max', 'n'], [
		row('bare QEMU: stop and save of its devices', all.bare),
		row('snapshot of an idle sandbox: it stood', of('idle', 'pause')),
		row('the same, request to 201', of('idle', 'took')),
		row('snapshot of an idle one with twice the memory: it stood', of('larger', 'pause')),
		row('the same, request to 201', of('larger', 'took')),
		row('snapshot of one that writes 200 MiB: it stood', of('busy', 'pause')),
		row('the same, request to 201', of('busy', 'took')),
	]);
	bench.figure('snapshot of a running sandbox, pause / bare stop and save', median(of('idle', 'pause')) / median(all.bare), 'ratio',
		{ baseline: 1, must: '<= 3', aim: '<= 1.5' });
	bench.figure('the same with twice the memory / with half of it', median(of('larger', 'pause')) / median(of('idle', 'pause')), 'ratio',
		{ baseline: 1, must: '<= 1.5' });
}
