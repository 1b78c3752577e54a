// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the daemon and a guest's agent hold: memory, descriptors, files. Long tests compare it before
// and after.

import { hostOut } from './host.mjs';

const kib = (status) => Number(/^VmRSS:\s+(\d+) kB/m.exec(status)[1]);
const lines = (text) => text.split('\n').filter(Boolean).length;

export async function daemonHolds() {
	const pid = (await hostOut('systemctl', 'show', '-P', 'MainPID', 'declawd.service')).trim();

	return {
		pid,
		rssKib: kib(await hostOut('cat', `/proc/${pid}/status`)),
		fds: lines(await hostOut('ls', `/proc/${pid}/fd`)),
		threads: lines(await hostOut('ls', `/proc/${pid}/task`)),
		files: lines(await hostOut('find', '/run/declaw', '/var/lib/declaw/sandboxes')),
	};
}

// Not sandbox.mjs's: whoever is no test wants the figures too
const sh = (sbx, cmd, opts) => sbx.commands.run(cmd, opts).then((r) => r.stdout);

export async function agentHolds(sbx) {
	const root = { user: 'root' };

	return {
		rssKib: kib(await sh(sbx, 'cat /proc/1/status', root)),
		fds: Number(await sh(sbx, 'ls /proc/1/fd | wc -l', root)),
		files: Number(await sh(sbx, 'find /tmp /run /home /root -xdev | wc -l', root)),
		processes: Number(await sh(sbx, 'ls -d /proc/[0-9]* | wc -l', root)),
	};
}
