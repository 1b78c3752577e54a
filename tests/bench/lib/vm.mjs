// SPDX-License-Identifier: GPL-2.0-or-later
//
// The two machines a data-plane benchmark compares: a sandbox behind the API, and a bare QEMU of the
// same make with the raw client on its agent's port. Both end with the run.

import { del, post } from '../../e2e/lib/api.mjs';
import { BareVm, qemuOf } from './bare.mjs';

export class ApiVm {
	constructor(id) {
		this.id = id;
		this.path = `/sandboxes/${id}`;
	}

	async post(route, json) {
		const res = await post(this.path + route, json);

		if (res.status !== 200)
			throw new Error(`POST ${route}: ${res.status} ${res.text}`);
		return res.json;
	}

	// stdout of a command that must succeed
	async run(cmd, more) {
		const { exit_code: code, stdout, stderr } = await this.post('/commands', { cmd, ...more });

		if (code !== 0)
			throw new Error(`\`${cmd}\` ended with ${code}: ${stderr}`);
		return stdout;
	}
}

export async function bothMachines(bench, template = 'base') {
	const made = await post('/sandboxes', { template, timeout: 7200 });

	if (made.status !== 201)
		throw new Error(`create: ${made.status} ${made.text}`);

	const api = new ApiVm(made.json.sandbox_id);

	bench.later(() => del(api.path));
	api.qemu = await qemuOf(api.id);

	const bare = new BareVm(bench, api.qemu, 'bare');

	bench.later(() => bare.stop());
	await bare.start();
	return { api, bare };
}
