// SPDX-License-Identifier: GPL-2.0-or-later
//
// Every example of the seeds, on every way a sandbox can come to be. The files are run as they are, under settings
// that allow that way only; whether it was taken, the daemon's own counts say. (create-paths: one example each.)

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { withConfig } from './lib/daemon.mjs';
import { creates, forkable, parked, prestarted } from './lib/identity.mjs';

const here = new URL('.', import.meta.url).pathname;
const files = readdirSync(here).filter((f) => /-seed\d+\.test\.mjs$/.test(f));
const ways = {
	cold: ['fork = no'],
	fork: ['fork = yes', 'parked_max = 0', 'prestarted_max = 0'],
	prestarted: ['fork = yes', 'parked_max = 0', 'prestarted_min = 2', 'prestarted_max = 2'],
	parked: ['fork = yes', 'prestarted_max = 0', 'parked_min = 2', 'parked_max = 2'],
};

async function ready(way) {
	if (way !== 'cold')
		await forkable('base', 'python');
	if (way === 'parked')
		await parked(4);
	if (way === 'prestarted')
		await prestarted(4);
}

// A process of its own, without this one's place in node's test runner
function run(file) {
	const { NODE_TEST_CONTEXT, ...env } = process.env;

	return new Promise((done) => {
		execFile(process.execPath, ['--test', '--test-reporter=tap', file], { cwd: here, env, maxBuffer: 1 << 26 },
			(error, stdout) => done({ code: error ? error.code ?? -1 : 0, stdout }));
	});
}

async function all(t, way) {
	for (const file of files) {
		await ready(way);

		const before = (await creates())[way];
		const { code, stdout } = await run(file);
		const passed = Number(/^# pass (\d+)$/m.exec(stdout)?.[1] ?? 0);

		assert.equal(code, 0, `${file}, ${way}:\n${stdout}`);
		assert.ok(passed > 0, `${file} has tests`);
		// The counts begin anew with a daemon that the file restarts
		if (!readFileSync(here + file, 'utf8').includes('withConfig'))
			assert.ok((await creates())[way] > before, `${file}: nothing was made that way`);
		t.diagnostic(`${file}: ${passed} passed`);
	}
}

// Under a name before that of the files which bring settings of their own
for (const [way, lines] of Object.entries(ways))
	test(`the seeds, ${way}`, { timeout: 40 * 60_000 }, (t) =>
		withConfig(['[create]', ...lines, ''].join('\n'), () => all(t, way), '98-e2e-path'));
