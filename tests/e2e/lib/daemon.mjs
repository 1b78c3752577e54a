// SPDX-License-Identifier: GPL-2.0-or-later
//
// The daemon under other settings, or killed: both leave every sandbox alone.

import { get } from './api.mjs';
import { hostOut } from './host.mjs';
import { until } from './until.mjs';

const dropIns = '/etc/declaw/declawd.conf.d';

export const answers = () => until('the daemon answers', () =>
	get('/healthz').then((r) => r.status === 200, () => false), 30_000, 50);

export async function restart() {
	await hostOut('systemctl', 'restart', 'declawd.service');
	await answers();
}

export async function sigkill() {
	const pid = () => hostOut('systemctl', 'show', '-P', 'MainPID', 'declawd.service').then(Number);
	const old = await pid();

	await hostOut('systemctl', 'kill', '-s', 'KILL', '--kill-who=main', 'declawd.service');
	await until('another daemon runs', async () => ![0, old].includes(await pid()), 30_000, 50);
	await answers();
}

// Runs fn with these lines behind all other configuration of a lesser name.
export async function withConfig(text, fn, name = '99-e2e') {
	const dropIn = `${dropIns}/${name}.conf`;

	await hostOut('sh', '-c', 'mkdir -p "${0%/*}" && printf %s "$1" > "$0"', dropIn, text);
	try {
		await restart();
		return await fn();
	} finally {
		await hostOut('rm', '-f', dropIn);
		await restart();
	}
}
