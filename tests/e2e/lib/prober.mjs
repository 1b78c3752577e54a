// SPDX-License-Identifier: GPL-2.0-or-later
//
// data/probe.py in a sandbox, started once and spoken to through two FIFOs; and the names of tests checked against the list
// that the documentation is made of.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { acts } from './probes.mjs';
import { sh } from './sandbox.mjs';

const program = readFileSync(new URL('../data/probe.py', import.meta.url), 'utf8');

export async function prober(sbx) {
	await sbx.files.write('/tmp/probe.py', program);
	await sh(sbx, `rm -f /tmp/ask /tmp/told; mkfifo /tmp/ask /tmp/told
		setsid python3 /tmp/probe.py /tmp/ask /tmp/told >/tmp/probe.log 2>&1 </dev/null &`, { user: 'root' });
	return async (probe, timeout = 60) => {
		const line = Buffer.from(`${JSON.stringify(probe)}\n`).toString('base64');
		const big = line.length > 60_000;

		if (big)
			await sbx.files.write('/tmp/probe.b64', line);

		const from = big ? 'base64 -d /tmp/probe.b64' : `echo ${line} | base64 -d`;
		const r = await sbx.commands.run(`exec 3<>/tmp/told; ${from} >/tmp/ask; head -n 1 <&3 || cat /tmp/probe.log >&2`,
			{ user: 'root', timeout });

		assert.equal(r.exitCode, 0, r.stderr);
		return JSON.parse(r.stdout);
	};
}

// A test whose name is in the list of probes, for that file
export function act(file, name, options, fn) {
	assert.equal(acts[name]?.[0], file, `"${name}" is not in lib/probes.mjs for ${file}`);
	seen.add(name);
	test(`probe: ${name}`, options, fn);
}

const seen = new Set();

// Behind a file's last act(): the list has none that the file has not
export function noneIsMissing(file) {
	test(`every probe of the list is in ${file}`, () => {
		assert.deepEqual(Object.keys(acts).filter((name) => acts[name][0] === file && !seen.has(name)), []);
	});
}
