// SPDX-License-Identifier: GPL-2.0-or-later
//
// Policies of addresses, from inside real microVMs, with an internet that says what arrived.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, request } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { forget, seen, useInternet } from './lib/internet.mjs';
import { BOOT_MS, sh, until, withSandbox } from './lib/sandbox.mjs';

useInternet();

const patch = (id, json) => request('PATCH', `/sandboxes/${id}/network`, { json });

// -> "open", "refused" or "timeout" as a program sees it, within 5 s
const CONNECT = (host, port) => `python3 -c '
import socket
try:
    socket.create_connection(("${host}", ${port}), 5); print("open", end="")
except ConnectionRefusedError: print("refused", end="")
except TimeoutError: print("timeout", end="")
except OSError as e: print(e, end="")'`;

const UDP = (host, port) => `python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3)
s.connect(("${host}", ${port})); s.send(b"hello")
try: print(s.recv(100).decode(), end="")
except ConnectionRefusedError: print("refused", end="")
except OSError as e: print("refused" if e.errno in (111, 113) else type(e).__name__, end="")'`;

async function check(sbx, rows) {
	for (const [host, port, expected] of rows)
		assert.equal(await sh(sbx, CONNECT(host, port)), expected, `${host}:${port}`);
}

const CLOSED = ['169.254.169.254', '127.0.0.2', '10.0.0.1', '172.16.0.1', '192.168.1.1', '100.64.0.1',
	'100.100.100.200', '168.63.129.16', '203.0.113.1', '10.214.0.1', '0.0.0.0', '224.0.0.1', '255.255.255.255'];

test('without a policy the internet is there, and nothing that is private', { timeout: 2 * BOOT_MS }, () =>
	withSandbox({ template: 'python' }, async (sbx) => {
		assert.equal(await sh(sbx, 'curl -sS -m 5 http://93.184.216.34/'), 'hello from 93.184.216.34:80\n');
		assert.equal(await sh(sbx, UDP('9.9.9.9', 5000)), 'hello');
		// a connection to a resolver of one's own choice is a connection like any other; the tests' internet has none
		await check(sbx, [['1.1.1.1', 443, 'open'], ['1.2.3.4', 5000, 'open']]);

		const rows = await seen();

		// what arrives comes from the host, not from an address that only the host knows
		assert.ok(rows.filter((r) => r.peer).every((r) => r.peer === '203.0.113.1'), JSON.stringify(rows));
		await forget();
		for (const host of CLOSED)
			assert.notEqual(await sh(sbx, CONNECT(host, 80)), 'open', host);
		assert.equal(await sh(sbx, CONNECT('203.0.113.1', 8080)), 'refused', 'the API of the host');
		assert.equal(await sh(sbx, CONNECT('10.214.0.1', 9040)), 'refused', 'the proxy itself');
		assert.deepEqual(await seen(), []);
	}));

test('ranges: what is listed is open, for TCP and UDP, all else is refused at once', { timeout: 2 * BOOT_MS }, () =>
	withSandbox({ template: 'python', network: { allowOut: ['198.51.100.0/24', '9.9.9.9'] } }, async (sbx) => {
		await check(sbx, [['198.51.100.7', 80, 'open'], ['9.9.9.9', 5000, 'open']]);
		assert.equal(await sh(sbx, UDP('9.9.9.9', 5000)), 'hello');
		await forget();
		await check(sbx, [['198.51.101.1', 80, 'refused'], ['9.9.9.8', 5000, 'refused'], ['8.8.8.8', 53, 'refused']]);
		assert.equal(await sh(sbx, UDP('9.9.9.8', 5000)), 'refused');
		assert.equal(await sh(sbx, 'ping -c 1 -W 2 1.1.1.1 >/dev/null 2>&1 && echo yes || echo no'), 'no\n');
		assert.deepEqual(await seen(), []);
	}));

test('deny_out of a range under an open policy', { timeout: 2 * BOOT_MS }, () =>
	withSandbox({ template: 'python', network: { denyOut: ['198.51.100.0/24'], allowOut: [] } }, async (sbx) => {
		await check(sbx, [['198.51.100.7', 80, 'refused'], ['198.51.101.1', 80, 'open']]);
	}));

test('metadata stays closed, also when it is allow-listed', { timeout: 2 * BOOT_MS }, () =>
	withSandbox({ template: 'python', network: { allowOut: ['169.254.169.254', '169.254.0.0/16', '10.0.0.0/8', '203.0.113.1'] } },
		async (sbx) => {
			await check(sbx, [['169.254.169.254', 80, 'refused'], ['10.0.0.1', 80, 'refused'],
				['203.0.113.1', 8080, 'refused']]);
			assert.deepEqual((await seen()).filter((r) => r.to?.startsWith('169.254')), []);
		}));

test('another policy holds at once, for old connections too', { timeout: 2 * BOOT_MS }, () =>
	withSandbox({ template: 'python' }, async (sbx) => {
		const id = sbx.sandboxId;

		// one connection that says a word each time it is told to, and writes what it hears
		await sbx.files.write('/tmp/talk.py', `
import socket, sys
s = socket.create_connection(('198.51.100.9', 5000), 5); s.settimeout(3)
for line in sys.stdin:
    try:
        s.sendall(line.encode()); print('heard', s.recv(100).decode().strip(), flush=True)
    except OSError as e: print('broken', flush=True); break
`);
		await sh(sbx, 'mkfifo /tmp/in; (python3 /tmp/talk.py </tmp/in >/tmp/out 2>&1 &); exec 3>/tmp/in; echo one >&3; (sleep 600 >/tmp/in &)');
		await until('it is heard', async () => (await sh(sbx, 'cat /tmp/out || :')) === 'heard one\n', 60_000);
		await forget();

		const after = assertOk(await patch(id, { allow_out: ['9.9.9.9'] }));

		assert.equal(after.policy_enforcement.egress, 'addresses');
		assert.deepEqual((await get(`/sandboxes/${id}`)).json.network, { allow_out: ['9.9.9.9'] });
		await sh(sbx, 'echo two >/tmp/in; until [ $(wc -l </tmp/out) = 2 ]; do sleep 0.2; done', { timeout: 30 });
		assert.equal(await sh(sbx, 'cat /tmp/out'), 'heard one\nbroken\n');
		await check(sbx, [['198.51.100.9', 5000, 'refused'], ['9.9.9.9', 5000, 'open']]);
		assert.deepEqual((await seen()).filter((r) => r.what === 'data'), []);

		const shown = assertOk(await get(`/sandboxes/${id}/network`));

		assert.ok(shown.rules.some((r) => r.set === 'allow32' && r.elem.some((e) => e.endsWith(' . 9.9.9.9'))), 'the live ranges');
		assert.ok(['forwarded', 'answered', 'denied'].every((name) => shown.rules.some((r) => r.counter === name && r.packets > 0)),
			`and counters: ${JSON.stringify(shown.rules)}`);
		assertOk(await patch(id, { allow_out: null }));
		await check(sbx, [['198.51.100.9', 5000, 'open']]);
		assertError(await patch(id, { allow_out: ['http://x'] }), 400);
		assert.equal((await get(`/sandboxes/${id}`)).json.policy_enforcement.egress, 'open');
	}));

test('another policy silences a far end that only talks', { timeout: 2 * BOOT_MS }, () =>
	withSandbox({ template: 'python' }, async (sbx) => {
		// a line for each datagram, and the kernel's queue is part of what was heard before
		await sbx.files.write('/tmp/listen.py', `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b'talk', ('198.51.100.9', 5001))
while True: print(s.recv(100), flush=True)
`);
		await sh(sbx, '(python3 /tmp/listen.py >/tmp/heard 2>&1 &)');
		await until('it talks', async () => Number(await sh(sbx, 'wc -l </tmp/heard')) >= 3, 20_000);
		assertOk(await patch(sbx.sandboxId, { allow_out: ['9.9.9.9'] }));

		const heard = await sh(sbx, 'sleep 2; wc -l </tmp/heard');

		assert.equal(await sh(sbx, 'sleep 3; wc -l </tmp/heard'), heard);
		assertOk(await patch(sbx.sandboxId, { allow_out: ['198.51.100.0/24'] }));
		// what was cut stays cut; who speaks again is answered
		assert.equal(await sh(sbx, 'sleep 2; wc -l </tmp/heard'), heard);
		assert.equal(await sh(sbx, UDP('198.51.100.9', 5001)), 'hello');
	}));

test('nobody reaches another sandbox, nobody forges an address', { timeout: 3 * BOOT_MS }, () =>
	withSandbox({ template: 'python' }, (a) => withSandbox({ template: 'python' }, async (b) => {
		const address = assertOk(await get(`/sandboxes/${b.sandboxId}/network`)).address;

		assert.match(address, /^10\.214\./);
		await sh(b, '(python3 -m http.server 8000 --bind 0.0.0.0 >/dev/null 2>&1 &)');
		await sh(b, 'curl -sS --retry 30 --retry-delay 1 --retry-connrefused -o /dev/null http://127.0.0.1:8000/', { timeout: 60 });
		await check(a, [[address, 8000, 'refused'], [address, 22, 'refused']]);
		await forget();
		// as root, with its neighbour's address, another MAC, and IPv6
		await a.commands.run(`
			ip addr add ${address}/32 dev eth0
			curl -sS -m 3 --interface ${address} http://198.51.100.1/ || true
			ip addr del ${address}/32 dev eth0
			ip -6 addr add 2001:db8::5/64 dev eth0; ip -6 route add default dev eth0
			curl -sS -m 3 -6 'http://[2001:db8::1]/' || true
			ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:99; ip link set eth0 up
			ip route add 10.214.0.1 dev eth0; ip route add default via 10.214.0.1
			ip neigh add 10.214.0.1 lladdr 02:de:c1:aa:00:01 dev eth0 nud permanent
			curl -sS -m 3 http://198.51.100.1/ || true`, { user: 'root', timeout: 90 });
		assert.deepEqual(await seen(), []);
	})));
