// SPDX-License-Identifier: GPL-2.0-or-later
//
// stdio echo of one line: POST stdin until the line is back on the SSE stream, with `cat` in between,
// against one line there and back on a virtio port that nothing but `cat` listens on.

import { events, openStream } from '../../e2e/lib/sse.mjs';
import { findPort } from '../lib/bare.mjs';
import { interleave, latencyFigures, latencyTable } from '../lib/latency.mjs';
import { bothMachines } from '../lib/vm.mjs';

export const area = 'data-plane';
export const title = 'echo of one line';

const line = `${'x'.repeat(63)}\n`;
const encoded = Buffer.from(line).toString('base64');

async function apiEcho(api) {
	const { cmd_id: id } = await api.post('/stdio', { cmd: 'exec cat' });
	const stream = events(await openStream('GET', `${api.path}/stdio/${id}/stream`, { agent: false }));

	return async () => {
		const began = performance.now();
		const sent = api.post(`/stdio/${id}/stdin`, { data: encoded });

		for (let got = 0; got < line.length;) {
			const { value, done } = await stream.next();

			if (done || value.event !== 'stdout')
				throw new Error('the stream ended');
			got += Buffer.from(value.data.data, 'base64').length;
		}

		const took = performance.now() - began;

		await sent;
		return took;
	};
}

export async function run(bench) {
	const { api, bare } = await bothMachines(bench);
	const echo = await apiEcho(api);

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
