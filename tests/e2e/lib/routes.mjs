// SPDX-License-Identifier: GPL-2.0-or-later
//
// The table of routes (data/routes.json) with made-up but well-formed values in the place of {names}.

import { readFileSync } from 'node:fs';

const values = {
	id: 'sbx-0000000000', pid: '4242', cmd_id: 'cmd-0', port: '8000', path: 'index.html',
	snapshot_id: 'snap-0', template_id: 'tpl-0', build_id: 'bld-0', volume_id: 'vol-0', team_id: 'team-0',
	secret_id: 'sec-0', owner_id: 'owner-0', key_id: 'key-0', name: 'pack-0',
};

export function routes(...parts) {
	const { routes: all } = JSON.parse(readFileSync(new URL('../data/routes.json', import.meta.url)));

	return all.filter(([, , part]) => parts.length === 0 || parts.includes(part))
		.map(([method, pattern, part]) => ({
			method: method === 'ANY' ? 'GET' : method, pattern, part,
			path: pattern.replace(/\{(\w+)\}/g, (_, name) => values[name]),
		}));
}
