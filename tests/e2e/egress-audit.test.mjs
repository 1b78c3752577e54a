// SPDX-License-Identifier: GPL-2.0-or-later
//
// The audit: one entry for each verdict, wherever it was found; paging, filters, lines; kept over restarts and the
// sandbox's end.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, request } from './lib/api.mjs';
import { assertError, assertOk, assertTimestamp } from './lib/check.mjs';
import { restart } from './lib/daemon.mjs';
import { hostOut } from './lib/host.mjs';
import { useInternet } from './lib/internet.mjs';
import { BOOT_MS, sh, until, withSandbox } from './lib/sandbox.mjs';

useInternet();

const audit = async (id, query = '') => assertOk(await get(`/sandboxes/${id}/audit${query}`));

const connect = (sbx, host, port) => sh(sbx, `python3 -c '
import socket
try: socket.create_connection(("${host}", ${port}), 5); print("open", end="")
except OSError as e: print("closed", end="")'`);

const resolve = (sbx, name) => sh(sbx, `python3 -c '
import socket
try: print(socket.gethostbyname("${name}"), end="")
except OSError as e: print("unknown", end="")'`);

const find = (id, want) => until(`an entry ${JSON.stringify(want)}`, async () =>
	(await audit(id, '?limit=1000')).events.find((e) => Object.entries(want).every(([k, v]) => e[k] === v)));

test('every verdict has its entry, with the rule that decided', { timeout: 2 * BOOT_MS }, () => {
	let id;

	return withSandbox({ template: 'python', network: { allowOut: ['9.9.9.9', '*.wild.test'] } }, async (sbx) => {
		id = sbx.sandboxId;
		assert.deepEqual((await audit(id)).events, []);

		assert.equal(await connect(sbx, '9.9.9.9', 5000), 'open');
		assert.equal(await connect(sbx, '198.51.100.7', 443), 'closed');
		assert.equal(await connect(sbx, '169.254.169.254', 80), 'closed');
		assert.equal(await connect(sbx, '192.168.1.1', 80), 'closed');
		assert.equal(await resolve(sbx, 'evil.test'), 'unknown');
		assert.equal(await resolve(sbx, 'wild.test'), 'unknown');

		const allowed = await find(id, { event: 'egress_allowed', destination_ip: '9.9.9.9' });

		assert.equal(allowed.destination_port, 5000);
		assert.equal(allowed.protocol, 'tcp');
		assert.equal(allowed.rule, '9.9.9.9');
		assert.equal(allowed.source, 'kernel');
		assert.equal(allowed.sandbox_id, id);
		assertTimestamp(allowed.timestamp);
		await find(id, { event: 'egress_blocked', destination_ip: '198.51.100.7', destination_port: 443, rule: 'default' });
		await find(id, { verdict: 'block', destination_ip: '169.254.169.254', rule: 'hard_deny' });
		await find(id, { verdict: 'block', destination_ip: '192.168.1.1', rule: 'private' });
		await find(id, { verdict: 'block', protocol: 'dns', domain: 'evil.test', rule: 'default', source: 'resolver' });
		await find(id, { verdict: 'block', protocol: 'dns', domain: 'wild.test', rule: 'wildcard_apex' });

		const journal = await hostOut('journalctl', '-q', '-o', 'json', '--no-pager', `DECLAW_SANDBOX_ID=${id}`, 'DECLAW_VERDICT=block');

		assert.ok(journal.split('\n').filter(Boolean).map((l) => JSON.parse(l)).some((e) =>
			e.DECLAW_NAME === 'evil.test' && e.DECLAW_PROTO === 'dns' && e.DECLAW_RULE === 'default'), 'journal fields');
	}).then(async () => {
		assert.ok((await audit(id)).events.length >= 6, 'kept when the sandbox has ended');
	});
});

test('pages, filters and lines; a restart loses nothing', { timeout: 2 * BOOT_MS }, () =>
	withSandbox({ template: 'python', network: { allowOut: ['9.9.9.9'] } }, async (sbx) => {
		const id = sbx.sandboxId;

		for (let i = 1; i <= 7; i++)
			assert.equal(await connect(sbx, `198.51.100.${i}`, 443), 'closed');
		await connect(sbx, '9.9.9.9', 5000);
		await find(id, { destination_ip: '198.51.100.7' });
		await find(id, { verdict: 'allow' });

		const all = await audit(id);
		const paged = [];

		assert.equal(all.next, null);
		assert.equal(all.kept, all.events.length);
		assert.equal(all.lost, 0);
		assert.deepEqual(all.events.map((e) => e.seq), all.events.map((_, i) => i + 1));
		for (let next = 0; next !== null;) {
			const page = await audit(id, `?limit=3&after=${next}`);

			assert.ok(page.events.length <= 3);
			paged.push(...page.events);
			({ next } = page);
		}
		assert.deepEqual(paged, all.events);
		assert.deepEqual((await audit(id, '?order=desc')).events, [...all.events].reverse());
		assert.deepEqual((await audit(id, '?order=desc&limit=2&before=4')).events.map((e) => e.seq), [3, 2]);
		assert.deepEqual((await audit(id, '?verdict=allow')).events.map((e) => e.destination_ip), ['9.9.9.9']);
		assert.deepEqual((await audit(id, '?protocol=dns')).events.filter((e) => e.protocol !== 'dns'), []);
		assert.deepEqual((await audit(id, '?since=2100-01-01T00:00:00Z')).events, []);
		assert.equal((await audit(id, `?until=${all.events[0].timestamp}`)).events.length >= 1, true);
		for (const bad of ['limit=0', 'limit=1001', 'order=up', 'after=x', 'before=3', 'verdict=maybe', 'protocol=ipx', 'format=xml',
			'since=yesterday'])
			assertError(await get(`/sandboxes/${id}/audit?${bad}`), 400);

		const lines = await request('GET', `/sandboxes/${id}/audit?format=jsonl`);

		assert.equal(lines.status, 200);
		assert.match(lines.headers['content-type'] ?? lines.headers.get?.('content-type'), /x-ndjson/);
		assert.deepEqual(lines.text.split('\n').filter(Boolean).map((l) => JSON.parse(l)), all.events);

		await restart();
		assert.deepEqual((await audit(id)).events, all.events);
		assert.equal(await connect(sbx, '198.51.100.99', 443), 'closed');
		assert.equal((await find(id, { destination_ip: '198.51.100.99' })).seq, all.events.length + 1);
		assertError(await get('/sandboxes/sbx-0000000000/audit'), 404);
	}));
