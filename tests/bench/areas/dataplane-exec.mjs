// SPDX-License-Identifier: GPL-2.0-or-later
//
// commands.run("true") over a kept-alive connection, against the same exec through a raw client on the
// port of a machine of the same make.

import { interleave, latencyFigures, latencyTable, timed } from '../lib/latency.mjs';
import { LeanConnection, requestBytes } from '../lib/lean.mjs';
import { bothMachines } from '../lib/vm.mjs';

export const area = 'data-plane';
export const title = 'one short command';

export async function run(bench) {
	const { api, bare } = await bothMachines(bench);
	const connection = await LeanConnection.open();
	const request = requestBytes('POST', `${api.path}/commands`, { cmd: 'true' });

	bench.later(() => connection.close());

	const samples = await interleave({
		'declawd: POST /commands "true"': () => timed(() => connection.ask(request)),
		'raw client: exec of the same': async () => (await bare.op('exec', 'true'))[2] / 1000,
	}, bench.samples(300));
	const [ours, raw] = Object.values(samples);

	latencyTable(bench, samples);
	latencyFigures(bench, 'run("true")', ours, raw, { p50: '<= 1.5', p99: '<= 3' });
}
