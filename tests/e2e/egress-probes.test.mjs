// SPDX-License-Identifier: GPL-2.0-or-later
//
// Ways out, tried from inside a real microVM whose policy has names: the rows of lib/probes.mjs. Each row says what the
// guest sees, and what the far end may see of it; everything else must be nothing at all.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { get } from './lib/api.mjs';
import { withConfig } from './lib/daemon.mjs';
import { hostOut } from './lib/host.mjs';
import { internetDown, internetUp, news } from './lib/internet.mjs';
import { act, noneIsMissing, prober } from './lib/prober.mjs';
import { table } from './lib/probetable.mjs';
import { GOOD, http, network, rows } from './lib/probes.mjs';
import { sh, until, withSandbox } from './lib/sandbox.mjs';

let sbx, done, probe, briefAt;

before(async () => {
	await internetUp();
	await new Promise((resolve, reject) => {
		done = {};
		done.all = withConfig('[egress]\nupstream_dns = 203.0.113.53\n', () =>
			withSandbox({ template: 'python', timeout: 1800, network }, (s) => new Promise((end) => {
				sbx = s;
				done.end = end;
				resolve();
			}))).catch(reject);
	});
	probe = await prober(sbx);
	// the names that are allowed are resolved once, as a program would
	await until('names resolve', async () =>
		(await probe({ kind: 'dns', name: 'good.example.com' })).startsWith('rcode0 198') &&
		(await probe({ kind: 'dns', name: 'a.wild.example.com' })).startsWith('rcode0 198'), 30_000, 500);
	assert.equal(await probe({ kind: 'dns', name: 'brief.example.com' }), 'rcode0 198.51.100.31');
	briefAt = Date.now();
}, { timeout: 180_000 });

after(async () => {
	done?.end?.();
	await done?.all;
	await internetDown();
}, { timeout: 120_000 });

const placeOf = (r) => (r.proto === 'dns' ? `dns:${r.name?.toLowerCase()}` : r.to);

for (const [name, what, verdict, far] of rows) {
	test(`probe: ${name}`, { timeout: 90_000 }, async () => {
		await news();
		assert.match(await probe(what), verdict.match);

		const places = (await news()).map(placeOf);

		if (verdict.seen)
			await until('the far end has seen it', async () => {
				places.push(...(await news()).map(placeOf));
				return places.includes(far);
			}, 20_000, 100);
		for (const place of new Set(places))
			assert.ok(far instanceof RegExp ? far.test(place) : place === far, `${place} has seen something`);
	});
}

const dataOf = (list) => list.filter((r) => r.what === 'data').map((r) => r.data).join('');

act('egress-probes', 'another Host on a connection that is open', { timeout: 90_000 }, async () => {
	await news();
	assert.match(await probe({ kind: 'raw', host: GOOD, pause: 1, step: http('good.example.com').length,
		data: `${http('good.example.com')}${http('evil.example.org').padEnd(http('good.example.com').length)}` }), /^got:HTTP\/1\.1 200/);

	const data = dataOf(await news());

	assert.ok(data.includes('good.example.com'));
	assert.ok(!data.includes('evil'), data);
});

act('egress-probes', 'another Host behind a chunked body', { timeout: 90_000 }, async () => {
	const first = http('good.example.com', 'POST / HTTP/1.1', 'Transfer-Encoding: chunked\r\n');

	await news();
	assert.match(await probe({ kind: 'raw', host: GOOD, data: `${first}3;x=y\r\nabc\r\n0\r\n\r\n${http('evil.example.org')}` }),
		/^(got:HTTP\/1\.1 200|reset|closed)/);

	const data = dataOf(await news());

	assert.ok(!data.includes('evil'), data);
});

act('egress-probes', 'advertisements change nothing on the host', { timeout: 90_000 }, async () => {
	const state = () => hostOut('sh', '-c', `ip -6 route; ip -6 neigh; ip -6 addr show dev dcl${sbx.sandboxId.slice(4)}; ip neigh show dev dcl${sbx.sandboxId.slice(4)}`);
	const before = await state();

	for (const type of [133, 134, 135, 136])
		await probe({ kind: 'ip6', type });
	await probe({ kind: 'frame', hex: `ffffffffffff0200000000010806${'0001080006040002'}${'020000000001'}${'0ad60001'}${'020000000001'}${'0ad60001'}` });
	assert.equal(await state(), before);
});

// resolved when the file began; a minute is the least that an address stays open, and 30 s more
act('egress-probes', 'a name that has expired', { timeout: 180_000 }, async () => {
	const brief = { kind: 'raw', host: '198.51.100.31', data: http('brief.example.com') };

	await until('its time is over', () => Date.now() > briefAt + 95_000, 120_000, 500);
	await news();
	assert.equal(await probe(brief), 'refused');
	assert.deepEqual(await news(), []);
	assert.equal(await probe({ kind: 'dns', name: 'brief.example.com' }), 'rcode0 198.51.100.31');
	assert.match(await probe(brief), /^got:HTTP\/1\.1 200/);
});

noneIsMissing('egress-probes');

test('programs that behave get through', { timeout: 60_000 }, async () => {
	const shown = (await get(`/sandboxes/${sbx.sandboxId}/network`)).json;

	assert.equal(shown.policy.mode, 'names');
	assert.equal(await sh(sbx, 'curl -sS -m 5 http://good.example.com/'), `hello from ${GOOD}:80\n`);
});

test('every verdict is in the audit', { timeout: 60_000 }, async () => {
	const text = JSON.stringify((await get(`/sandboxes/${sbx.sandboxId}/audit?limit=1000`)).json.events);

	for (const word of ['evil.example.org', 'encrypted_client_hello', 'wildcard_apex', 'address_of_another_name', '169.254.169.254'])
		assert.ok(text.includes(word), `${word} is not in the audit`);
});

test('the table in the documentation is the list of probes', () => {
	assert.equal(readFileSync(new URL('../../nft/PROBES.md', import.meta.url), 'utf8'), table(),
		'node tests/e2e/lib/probetable.mjs >nft/PROBES.md');
});
