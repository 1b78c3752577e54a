// SPDX-License-Identifier: GPL-2.0-or-later
//
// commands.run("true") against what a user would otherwise use: `ssh host true` over a master connection
// that is already there, and guest-exec of qemu-ga, both in a machine of the same make.

import { interleave, latencyTable, timed } from '../lib/latency.mjs';
import { LeanConnection, requestBytes } from '../lib/lean.mjs';
import { GuestAgent, Ssh, unpackRivals } from '../lib/rivals.mjs';
import { quantile } from '../lib/stats.mjs';
import { bothMachines } from '../lib/vm.mjs';

export const area = 'data-plane';
export const title = 'one short command, and the alternatives';

export async function run(bench) {
	const { api, bare } = await bothMachines(bench);

	await unpackRivals(bench, bare);

	const ssh = new Ssh(bench, bare);
	const qga = new GuestAgent(bare);

	const connection = await LeanConnection.open();
	const request = requestBytes('POST', `${api.path}/commands`, { cmd: 'true' });

	bench.later(() => connection.close());
	bench.later(() => ssh.stop());
	bench.later(() => qga.stop());
	await ssh.start();
	await qga.start();

	const samples = await interleave({
		'declawd: POST /commands "true"': () => timed(() => connection.ask(request)),
		'ssh host true, multiplexed': () => timed(() => ssh.run('true')),
		'qemu-ga: guest-exec': () => timed(() => qga.run('true')),
	}, bench.samples(150));
	const [ours, overSsh, overQga] = Object.values(samples).map((list) => quantile(list, 0.5));

	latencyTable(bench, samples);
	bench.figure('run("true") / ssh host true, p50', ours / overSsh, 'ratio', { baseline: 1, must: '<= 1' });
	bench.figure('run("true") / guest-exec, p50', ours / overQga, 'ratio', { baseline: 1, must: '<= 1' });
}
