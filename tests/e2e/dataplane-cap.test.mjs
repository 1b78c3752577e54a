// SPDX-License-Identifier: GPL-2.0-or-later
//
// More output than is kept: every way to read it says that the oldest part is gone, and gives the rest to its last byte.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, post } from './lib/api.mjs';
import { assertOk } from './lib/check.mjs';
import { withConfig } from './lib/daemon.mjs';
import { shareSandbox, sh } from './lib/sandbox.mjs';
import { allEvents } from './lib/sse.mjs';

const kept = 2 << 20;
const written = 700_000 * 8;	// bytes of `seq 1000001 1700000`
const flood = 'seq 1000001 1700000';
const sbx = shareSandbox({ timeout: 900 });
const path = (rest) => `/sandboxes/${sbx().sandboxId}${rest}`;
const over = (pattern) => sh(sbx(), `while pgrep -xf '${pattern}' >/dev/null; do sleep 0.2; done`, { timeout: 100 });

// The last bytes of the flood, and not more of them than is kept
function assertEnd(text) {
	assert.ok(text.length > kept / 2 && text.length <= kept, `${text.length} bytes of ${written}`);
	assert.match(text, /1699999\r?\n1700000\r?\n/);
}

test('beyond spool_max', { timeout: 300_000 }, () => withConfig(`[sandbox]\nspool_max = ${kept}\n`, async () => {
	const { cmd_id: stdio } = assertOk(await post(path('/stdio'), { cmd: flood }));

	await over(flood);

	const [gap, ...rest] = await allEvents('GET', path(`/stdio/${stdio}/stream`));

	assert.equal(gap.event, 'gap');
	assert.equal(gap.data.from_entry_id, 1);
	assert.equal(rest[0].data.entry_id, gap.data.to_entry_id + 1, 'what follows the gap is the next entry');
	assert.ok(rest.every((e) => e.event !== 'gap'), 'once');
	assertEnd(rest.slice(0, -1).map((e) => Buffer.from(e.data.data, 'base64')).join(''));
	assert.deepEqual(rest.at(-1).data, { exit_code: 0 });

	const { pid } = assertOk(await post(path('/commands'), { cmd: flood, background: true }));
	const waited = assertOk(await get(path(`/commands/${pid}/wait`)));

	assert.equal(waited.exit_code, 0);
	assert.equal(waited.truncated, true);
	assertEnd(waited.stdout);

	const { pid: pty } = assertOk(await post(path('/pty'), { size: { cols: 80, rows: 24 }, user: 'user' }));

	assertOk(await post(path(`/pty/${pty}/stdin`), { data: `${flood}; exit 5\n` }));
	await sh(sbx(), `while [ -d /proc/${pty} ]; do sleep 0.2; done`, { timeout: 100 });

	const [lost, ...shown] = await allEvents('GET', path(`/pty/${pty}/stream`));

	assert.equal(lost.event, 'gap');
	assert.ok(lost.data.lost_entries > 0);
	assertEnd(shown.slice(0, -1).map((e) => Buffer.from(e.data.data, 'base64')).join(''));
	assert.deepEqual(shown.at(-1).data, { exit_code: 5 });
}));
