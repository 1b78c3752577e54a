// SPDX-License-Identifier: GPL-2.0-or-later
//
// stdio echo of one line: POST stdin until the line is back on the SSE stream, with `cat` in between,
// against one line there and back on a virtio port that nothing but `cat` listens on.

import { findPort } from '../lib/bare.mjs';
import { interleave, latencyFigures, latencyTable } from '../lib/latency.mjs';
import { LeanConnection, leanStream, requestBytes } from '../lib/lean.mjs';
import { bothMachines } from '../lib/vm.mjs';

export const area = 'data-plane';
export const title = 'echo of one line';

const line = `${'x'.repeat(63)}\n`;
const encoded = Buffer.from(line).toString('base64');

// One event a line: it is back when the event that carries it is complete. What is sent is what comes
// back, so its base64 is known, and an event that carries only a part of it would not be counted.
async function apiEcho(bench, api) {
	const { cmd_id: id } = await api.post('/stdio', { cmd: 'exec cat' });
	const request = requestBytes('POST', `${api.path}/stdio/${id}/stdin`, { data: encoded });
	const connection = await LeanConnection.open();
	let back;
	let text = '';
	const stream = await leanStream(`${api.path}/stdio/${id}/stream`, (chunk) => {
		text += chunk.toString('latin1');
		if (text.includes(`"${encoded}"`) && text.includes('\n\n')) {
			text = '';
			back?.();
		}
	});

	bench.later(() => stream.destroy());
	bench.later(() => connection.close());
	return async () => {
		const began = performance.now();
		const returned = new Promise((resolve) => { back = resolve; });
		const answered = connection.ask(request);

		await returned;

		const took = performance.now() - began;

		await answered;
		return took;
	};
}

export async function run(bench) {
	const { api, bare } = await bothMachines(bench);
	const echo = await apiEcho(bench, api);

	await bare.op('spawn', `${findPort('org.declaw.bench.0')}exec cat <> $port >&0`);
	await bare.op('port', bare.port);
	await bare.op('cat');

	const samples = await interleave({
		'declawd: POST stdin to SSE': echo,
		'raw virtio-serial: line to a bare cat': async () => (await bare.op('port-echo', line.length))[1] / 1000,
		'raw client: line to a cat of the agent': async () => (await bare.op('line', 'x'.repeat(63)))[0] / 1000,
	}, bench.samples(300));
	const [ours, raw] = Object.values(samples);

	latencyTable(bench, samples);
	latencyFigures(bench, 'stdio echo', ours, raw, { p50: '<= 4' });
}
