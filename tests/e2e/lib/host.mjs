// SPDX-License-Identifier: GPL-2.0-or-later
//
// The host's own view of sandboxes: systemd, libvirt, nftables, links and files, asked with the tools
// an administrator would use. Commands run where declawd runs (DECLAW_HOST_EXEC).

import { execFile } from 'node:child_process';
import { hostExec, libvirtUri } from './env.mjs';

// -> { code, stdout, stderr }; never throws for an exit code.
export function onHost(...argv) {
	const [file, ...args] = [...hostExec, ...argv];

	return new Promise((resolve, reject) => {
		execFile(file, args, { timeout: 30_000, maxBuffer: 64 << 20 }, (e, stdout, stderr) => {
			if (e && typeof e.code !== 'number')
				reject(new Error(`${[file, ...args].join(' ')}: ${e.message}`));
			else
				resolve({ code: e ? e.code : 0, stdout, stderr });
		});
	});
}

export async function hostOut(...argv) {
	const r = await onHost(...argv);

	if (r.code !== 0)
		throw new Error(`${argv.join(' ')} on the host: ${r.code}: ${r.stderr}`);
	return r.stdout;
}

export const shortOf = (id) => id.replace(/^sbx-/, '');
export const scopeOf = (id) => `declaw-${id}.scope`;

export const virshList = () =>
	hostOut('virsh', '-q', '-c', libvirtUri, 'list', '--all', '--name')
		.then((text) => text.split('\n').map((s) => s.trim()).filter(Boolean));

// Where a sandbox leaves a mark on the host: name of the place -> does it show the sandbox?
export async function marksOf(id) {
	const short = shortOf(id);
	const [units, tree, domains, rules, links, files] = await Promise.all([
		hostOut('systemctl', 'list-units', '--all', '--plain', '--no-legend', 'declaw-*'),
		hostOut('systemd-cgls', '--no-pager', '-l'),
		virshList(),
		hostOut('nft', 'list', 'ruleset'),
		hostOut('ip', '-o', 'link', 'show'),
		hostOut('find', '/run/declaw', '/var/lib/declaw', '-path', `*${short}*`),
	]);

	return {
		'systemctl': units.includes(scopeOf(id)),
		'systemd-cgls': tree.includes(scopeOf(id)),
		'virsh list': domains.includes(id),
		'nft list ruleset': rules.includes(`dcl${short}`),
		'ip link': links.includes(`dcl${short}`),
		// The record of a killed sandbox stays readable for a while, by design: it is no leak.
		'files': files.split('\n').filter((f) => f && !f.startsWith('/var/lib/declaw/ended/')),
	};
}

export async function assertGone(id, ms = 10_000) {
	const end = Date.now() + ms;

	for (;;) {
		const { files, ...marks } = await marksOf(id);
		const left = Object.keys(marks).filter((where) => marks[where]).concat(files);

		if (left.length === 0)
			return;
		if (Date.now() > end)
			throw new Error(`left of ${id}: ${left.join(', ')}`);
		await new Promise((r) => setTimeout(r, 100));
	}
}
