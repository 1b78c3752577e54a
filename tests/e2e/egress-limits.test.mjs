// SPDX-License-Identifier: GPL-2.0-or-later
//
// What one sandbox may have of what all share: addresses, connections, attempts, questions. The limits hold, a neighbour
// is served meanwhile, and nothing of it is left when the sandbox has gone.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { get, request } from './lib/api.mjs';
import { assertOk } from './lib/check.mjs';
import { withConfig } from './lib/daemon.mjs';
import { hostOut, onHost } from './lib/host.mjs';
import { internetDown, internetUp, news } from './lib/internet.mjs';
import { act, noneIsMissing, prober } from './lib/prober.mjs';
import { GOOD, http, LISTED } from './lib/probes.mjs';
import { sh, until, withSandbox } from './lib/sandbox.mjs';

const file = 'egress-limits';
const allowOut = ['good.example.com', '*.wild.example.com', LISTED];

let sbx, neighbour, probe, done;

before(async () => {
	await internetUp();
	await new Promise((resolve, reject) => {
		done = {};
		done.all = withConfig('[egress]\nupstream_dns = 203.0.113.53\n', () =>
			withSandbox({ template: 'python', timeout: 1800, network: { allowOut } }, (a) =>
				withSandbox({ template: 'python', timeout: 1800, network: { allowOut } }, (b) => new Promise((end) => {
					sbx = a;
					neighbour = b;
					done.end = end;
					resolve();
				})))).catch(reject);
	});
	probe = await prober(sbx);
	await until('names resolve', async () => (await probe({ kind: 'dns', name: 'good.example.com' })) === `rcode0 ${GOOD}`, 30_000, 500);
}, { timeout: 240_000 });

after(async () => {
	done?.end?.();
	await done?.all;
	await internetDown();
}, { timeout: 120_000 });

const patch = async (json) => assertOk(await request('PATCH', `/sandboxes/${sbx.sandboxId}/network`, { json }));
const addressOf = async (s) => assertOk(await get(`/sandboxes/${s.sandboxId}/network`)).address;

// Runs a flood and, beside it, a neighbour that asks for a name and for a page -> [what the flood says, seconds it took]
async function beside(flood) {
	const from = Date.now();
	const [told] = await Promise.all([
		probe(flood, 120).then((answer) => [answer, (Date.now() - from) / 1000]),
		sh(neighbour, 'curl -sS -m 40 --retry 3 http://good.example.com/', { timeout: 60 }).then((out) =>
			assert.equal(out, `hello from ${GOOD}:80\n`)),
	]);

	return told;
}

// Connections the kernel knows that address to have opened
async function tracked(address, to = '') {
	const key = `src=${address} dst=${to}`;

	return (await hostOut('cat', '/proc/net/nf_conntrack')).split('\n')
		.filter((line) => line.slice(line.indexOf('src=')).startsWith(key)).length;
}

act(file, 'more connections than are allowed', { timeout: 240_000 }, async () => {
	await news();
	assert.equal((await beside({ kind: 'many', what: 'flows', host: LISTED, port: 5000, n: 1600 }))[0], 'done');

	const arrived = (await news()).filter((r) => r.to === LISTED && r.data === 'flow').length;

	assert.ok(arrived > 500 && arrived <= 1024, `${arrived} connections`);
});

act(file, 'what ended leaves nothing behind', { timeout: 240_000 }, async () => {
	const address = await addressOf(sbx);
	let other;

	assert.equal(await probe({ kind: 'udp', host: LISTED, port: 5000, data: 'x' }), 'timeout', 'it has all it may have');
	assert.ok(await tracked(address, LISTED) > 500);
	await patch({ allow_out: ['9.9.9.9'] });
	await until('what the policy closes is forgotten', async () => (await tracked(address, LISTED)) === 0, 20_000, 100);
	await patch({ allow_out: allowOut });
	assert.equal(await probe({ kind: 'udp', host: LISTED, port: 5000, data: 'x' }), 'got:x', 'there is room again');

	await withSandbox({ template: 'python', network: { allowOut } }, async (s) => {
		other = await addressOf(s);
		await sh(s, `curl -sS -m 20 http://${LISTED}/; curl -sS -m 20 http://good.example.com/`);
		assert.ok(await tracked(other) > 0);
	});
	await until('a sandbox that ended is forgotten', async () => (await tracked(other)) === 0, 20_000, 100);
	assert.ok(await tracked(address) > 0, 'its neighbour is not');
});

// Packets of that verdict, as GET network shows them
const counted = async (id, verdict) =>
	assertOk(await get(`/sandboxes/${id}/network`)).rules.find((r) => r.counter === verdict).packets;

act(file, 'a flood of connection attempts', { timeout: 240_000 }, async () => {
	await news();

	const [answer, seconds] = await beside({ kind: 'many', what: 'syn', host: LISTED, port: 80, n: 5000 });
	const arrived = (await news()).filter((r) => r.to === LISTED && r.what === 'packet' && r.proto === 6).length;

	assert.equal(answer, 'done');
	assert.ok(arrived > 100 && arrived <= 400 + 200 * Math.ceil(seconds), `${arrived} in ${seconds} s`);
	// a guest that is too slow for the limit has met none
	assert.ok(arrived === 5000 || await counted(sbx.sandboxId, 'syn_rate') > 0);
});

act(file, 'a flood of questions', { timeout: 240_000 }, async () => {
	const [answer, seconds] = await beside({ kind: 'many', what: 'dns', name: 'good.example.com', n: 4000 });
	const answered = Number(answer.slice('answered:'.length));

	assert.ok(answered > 0 && answered <= 400 + 200 * Math.ceil(seconds), `${answered} in ${seconds} s`);
});

act(file, 'new names without end below a wildcard', { timeout: 240_000 }, async () => {
	await news();

	const [, seconds] = await beside({ kind: 'many', what: 'dns', name: 'secret#.wild.example.com', n: 300, slow: 0.01 });
	const asked = new Set((await news()).filter((r) => r.name?.startsWith('secret')).map((r) => r.name));

	assert.ok(asked.size > 0 && asked.size <= 120 + Math.ceil(seconds) + 1, `${asked.size} in ${seconds} s`);
	assert.ok(JSON.stringify((await get(`/sandboxes/${sbx.sandboxId}/audit?order=desc&limit=1000`)).json).match(/"(new_names|rate_limit)"/));
});

act(file, 'more names than the set holds', { timeout: 300_000 }, async () => {
	const names = Array.from({ length: 160 }, (_, i) => `n${i}.many.example.com`);
	const page = (i) => ({ kind: 'raw', host: `11.${1 + Math.floor(i / 100)}.${i % 100}.1`, data: http(names[i]) });

	await patch({ allow_out: ['good.example.com', ...names] });
	assert.equal(await probe({ kind: 'dns', name: 'good.example.com' }), `rcode0 ${GOOD}`);

	// 28 addresses each, one of good.example.com: 146 names fit into 4096
	const answer = await probe({ kind: 'many', what: 'dns', name: 'n#.many.example.com', n: 160, slow: 0.07 }, 180);

	assert.equal(answer, 'answered:146');
	await news();
	assert.equal(await probe(page(159)), 'refused');
	assert.deepEqual(await news(), []);
	assert.match(await probe(page(0)), /^got:HTTP\/1\.1 200/);
	assert.match(await probe({ kind: 'raw', host: GOOD, data: http('good.example.com') }), /^got:HTTP\/1\.1 200/);
	assert.ok((await get(`/sandboxes/${sbx.sandboxId}/audit?rule=pin_limit`)).json.events.length > 0);
	assert.equal(await sh(neighbour, 'curl -sS -m 40 http://good.example.com/'), `hello from ${GOOD}:80\n`);
});

act(file, 'the workers\' own users', { timeout: 120_000 }, async () => {
	const reaches = async (user, kind, host, port) => (await onHost('runuser', '-u', user, '--', 'python3', '-c', `
import socket
s = socket.socket(socket.AF_INET, socket.${kind}); s.settimeout(3)
s.connect(("${host}", ${port}))
if "${kind}" == "SOCK_DGRAM":
    s.send(b"\\x12\\x67\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\4good\\7example\\3com\\0\\0\\1\\0\\1"); s.recv(512)
`)).code === 0;

	for (const host of ['127.0.0.1', '203.0.113.1', '10.214.0.1'])
		for (const user of ['declaw-proxy', 'declaw-dns'])
			assert.equal(await reaches(user, 'SOCK_STREAM', host, 8080), false, `${user}: the API at ${host}`);
	for (const host of ['169.254.169.254', '10.0.0.1', '192.168.1.1', '100.64.0.1'])
		for (const user of ['declaw-proxy', 'declaw-dns'])
			assert.equal(await reaches(user, 'SOCK_STREAM', host, 80), false, `${user}: ${host}`);
	assert.equal(await reaches('declaw-proxy', 'SOCK_STREAM', LISTED, 80), true);
	assert.equal(await reaches('declaw-dns', 'SOCK_STREAM', LISTED, 80), false);
	assert.equal(await reaches('declaw-dns', 'SOCK_DGRAM', '8.8.8.8', 53), false);
	assert.equal(await reaches('declaw-dns', 'SOCK_DGRAM', '203.0.113.53', 53), true);
});

noneIsMissing(file);
