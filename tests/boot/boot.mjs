// SPDX-License-Identifier: GPL-2.0-or-later
//
// The boot test: N cold boots, one after another, while a process spins on every processor.
//
// A guest kernel that calibrates its clock against a processor it has to share is where boots hang, so
// the neighbours are the test. A boot has passed when create answered 201 and a command in the sandbox
// printed what it was told to, both before the deadline.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { del, post } from '../e2e/lib/api.mjs';
import { withConfig } from '../e2e/lib/daemon.mjs';
import { table } from '../bench/lib/table.mjs';
import { quantile } from '../bench/lib/stats.mjs';

const { values: opts } = parseArgs({
	options: {
		count: { type: 'string', default: '50' },
		deadline: { type: 'string', default: '90' },
		template: { type: 'string', default: 'base' },
	},
});
const count = Number(opts.count);
const deadline = Number(opts.deadline) * 1000;

// The processors this process may use, as numbers: "0-1,4" -> [0, 1, 4].
function processors() {
	const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1];

	return list.split(',').flatMap((range) => {
		const [from, to = from] = range.split('-').map(Number);

		return Array.from({ length: to - from + 1 }, (_, i) => from + i);
	});
}

function startNeighbours() {
	const all = processors().map((cpu) =>
		spawn('taskset', ['-c', String(cpu), 'sh', '-c', 'while :; do :; done'], { stdio: 'ignore' }));

	process.on('exit', () => all.forEach((p) => p.kill('SIGKILL')));
	return all;
}

async function boot() {
	const signal = AbortSignal.timeout(deadline);
	const began = performance.now();
	let id;

	try {
		const made = await post('/sandboxes', { template: opts.template, timeout: 600 }, { signal });

		if (made.status !== 201)
			return { error: `create: ${made.status} ${made.text}` };
		id = made.json.sandbox_id;

		const create = performance.now() - began;
		const run = await post(`/sandboxes/${id}/commands`, { cmd: 'echo up', timeout: 60 }, { signal });

		if (run.json?.stdout !== 'up\n')
			return { error: `command: ${run.status} ${run.text}` };

		const output = performance.now() - began;
		// Ticks that a busy host delivers late are no clock: the guest must not have lost its trust in the better one, which
		// it has under another name for its first seconds
		const clock = await post(`/sandboxes/${id}/commands`, { cmd: `for i in $(seq 50); do
			read -r c </sys/devices/system/clocksource/clocksource0/current_clocksource; [ "$c" = tsc-early ] || break; sleep 0.2
			done; echo "$c"`, timeout: 60 }, { signal });

		if (!/^(tsc|kvm-clock)\n$/.test(clock.json?.stdout))
			return { error: `it keeps time by ${clock.json?.stdout ?? clock.text}` };
		return { create, output };
	} catch (e) {
		return { error: signal.aborted ? `no answer within ${opts.deadline} s` : e.message };
	} finally {
		if (id)
			await del(`/sandboxes/${id}`).catch(() => {});
	}
}

const seconds = (ms) => (ms / 1000).toFixed(2);
const row = (name, values) =>
	[name, ...[0, 0.5, 0.9, 1].map((q) => (values.length ? seconds(quantile(values, q)) : '-'))];

for (const signal of ['SIGINT', 'SIGTERM'])
	process.on(signal, () => process.exit(1));

async function main() {
	const neighbours = startNeighbours();
	const good = [];
	let failed = 0;

	console.log(`boot: ${count} cold boots of ${opts.template}, ${neighbours.length} busy neighbours`);
	for (let i = 1; i <= count; i++) {
		const result = await boot();

		if (result.error) {
			failed++;
			console.log(`boot ${i}: FAILED: ${result.error}`);
		} else {
			good.push(result);
			console.log(`boot ${i}: created ${seconds(result.create)} s, first output ${seconds(result.output)} s`);
		}
	}
	if (neighbours.some((p) => p.exitCode !== null || p.signalCode !== null)) {
		console.log('boot: a neighbour ended early: this was not the test it says it is');
		failed++;
	}
	console.log(table(['seconds', 'min', 'median', 'p90', 'max'], [
		row('create', good.map((r) => r.create)),
		row('first output', good.map((r) => r.output)),
	]));
	console.log(`boot: ${good.length} passed, ${failed} failed`);
	return failed === 0 && good.length === count ? 0 : 1;
}

// Without forks: what is to be measured is the boot
process.exit(await withConfig('[create]\nfork = no\n', main));
