// SPDX-License-Identifier: GPL-2.0-or-later
//
// The moments in which something is missing: a guest before it knows who it is, a sandbox while it is paused, the proxy,
// the resolver or the daemon killed in the middle of it. Nothing may be open that would not be otherwise, and what is
// killed comes back without touching a sandbox.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { promisify } from 'node:util';
import { get, request } from './lib/api.mjs';
import { assertOk } from './lib/check.mjs';
import { answers, sigkill, withConfig } from './lib/daemon.mjs';
import { hostOut } from './lib/host.mjs';
import { internetDown, internetUp, news } from './lib/internet.mjs';
import { act, noneIsMissing, prober } from './lib/prober.mjs';
import { EVIL, GOOD, http, LISTED } from './lib/probes.mjs';
import { BOOT_MS, sh, until, withSandbox } from './lib/sandbox.mjs';

const run = promisify(execFile);
const allowOut = ['good.example.com', LISTED];
const file = 'egress-windows';
const web = { kind: 'raw', host: GOOD, data: http('good.example.com') };
const range = { kind: 'udp', host: LISTED, port: 5000, data: 'range' };
const served = /^got:HTTP\/1\.1 200/;

before(internetUp, { timeout: 60_000 });
after(internetDown);

const systemctl = (...args) => hostOut('systemctl', ...args);

// --- a guest that sends from its first instruction on ---

// [name, mode, bytes] -> what the kernel unpacks over what came before
function cpio(entries) {
	const hex = (n) => n.toString(16).padStart(8, '0');
	const padded = (b) => Buffer.concat([b, Buffer.alloc((4 - (b.length % 4)) % 4)]);

	return Buffer.concat([...entries, ['TRAILER!!!', 0, Buffer.alloc(0)]].map(([name, mode, data], i) => {
		const head = `070701${[i + 1, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length + 1, 0].map(hex).join('')}${name}\0`;

		return Buffer.concat([padded(Buffer.from(head)), padded(data)]);
	}));
}

async function withEarlyGuest(fn) {
	const dir = mkdtempSync(join(tmpdir(), 'declaw-early-'));
	const image = '/var/lib/declaw/boot/initramfs';

	try {
		await run('gcc', ['-static', '-O1', '-Wall', '-Wextra', '-Werror', '-o', join(dir, 'early'),
			new URL('data/early.c', import.meta.url).pathname]);

		const archive = cpio([['agent', 0o100755, readFileSync(join(process.env.DECLAW_TEST_BUILD, 'declaw-agent'))],
			['init', 0o100755, readFileSync(join(dir, 'early'))]]);

		// the host's file may be a link to one that others use: a new one takes its place
		await hostOut('sh', '-c', `cp ${image} ${image}.e2e && truncate -s %4 ${image}.e2e`);
		for (let i = 0; i < archive.length; i += 90_000)
			await hostOut('sh', '-c', `echo ${archive.subarray(i, i + 90_000).toString('base64')} | base64 -d >>${image}.e2e`);
		await hostOut('sh', '-c', `mv ${image} ${image}.kept && mv ${image}.e2e ${image} && chmod 644 ${image}`);
		await fn();
	} finally {
		await hostOut('sh', '-c', `rm -f ${image}.e2e; if [ -e ${image}.kept ]; then mv ${image}.kept ${image}; fi`);
		rmSync(dir, { recursive: true });
	}
}

act(file, 'before the sandbox knows who it is', { timeout: 4 * BOOT_MS, skip: !process.env.DECLAW_TEST_BUILD }, () =>
	withEarlyGuest(async () => {
		await news();
		await withSandbox({ template: 'python', network: { allowOut: [LISTED] } }, async (sbx) => {
			const rows = [];

			// the sender works, or the rest proves nothing
			await until('it is heard, once it may be', async () => {
				rows.push(...await news());
				return rows.some((r) => r.to === LISTED && r.data?.startsWith('late'));
			}, 30_000, 500);
			assert.deepEqual(rows.filter((r) => r.to !== LISTED || r.data?.startsWith('early')), []);

			const { rules } = assertOk(await get(`/sandboxes/${sbx.sandboxId}/network`));

			assert.ok(rules.find((r) => r.counter === 'unknown').packets > 0, 'what it sent without an address of its own was seen and dropped');
		});
	}));

// --- paused ---

const SENDER = `python3 -c '
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    for host in ("${EVIL}", "${LISTED}"):
        try: s.sendto(b"beat", (host, 5000))
        except OSError: pass
    time.sleep(0.02)' >/dev/null 2>&1 </dev/null &`;

async function pausedWindow(pause) {
	await withSandbox({ template: 'python', timeout: 600 }, async (sbx) => {
		const heard = async (host) => until(`${host} is heard`, async () => (await news()).some((r) => r.to === host), 20_000, 200);

		await sh(sbx, SENDER);
		await heard(EVIL);
		await pause(sbx.sandboxId);
		assertOk(await request('PATCH', `/sandboxes/${sbx.sandboxId}/network`, { json: { allow_out: [LISTED] } }));
		await news();
		assertOk(await request('POST', `/sandboxes/${sbx.sandboxId}/resume`));

		const rows = [];

		await until('it is heard where it may be', async () => {
			rows.push(...await news());
			return rows.filter((r) => r.to === LISTED).length > 20;
		}, 30_000, 200);
		assert.deepEqual(rows.filter((r) => r.to !== LISTED), []);
	});
}

const pause = async (id) => assertOk(await request('POST', `/sandboxes/${id}/pause`));

act(file, 'between pause and resume', { timeout: 3 * BOOT_MS }, () => pausedWindow(pause));

act(file, 'between pause to disk and resume', { timeout: 4 * BOOT_MS }, () =>
	withConfig('[sandbox]\npaused_to_disk_after = 500ms\n', () => pausedWindow(async (id) => {
		await pause(id);
		await until('it is on disk', async () => (await get('/healthz')).json.counters.paused_on_disk > 0, 60_000, 200);
	})));

// --- killed ---

let sbx, probe, done;

// A connection by name that stays: says a word when told to, and writes what it hears
const TALK = `
import os, socket
s = socket.create_connection(("${GOOD}", 80), 10); s.settimeout(15)
source = os.fdopen(os.open("/tmp/talk.in", os.O_RDWR), "r")
for line in source:
    try:
        s.sendall(b"GET /%s HTTP/1.1\\r\\nHost: good.example.com\\r\\n\\r\\n" % line.strip().encode())
        print("heard" if s.recv(4096).startswith(b"HTTP/1.1 200") else "closed", flush=True)
    except OSError as e:
        print("closed", flush=True)
`;
let talks = 0;

async function connection() {
	const out = `/tmp/talk.out${++talks}`;
	let words = 0;

	await sbx.files.write('/tmp/talk.py', TALK);
	await sh(sbx, `rm -f /tmp/talk.in; mkfifo /tmp/talk.in; setsid python3 /tmp/talk.py >${out} 2>&1 </dev/null &`, { user: 'root' });
	return async (word) => {
		await sh(sbx, `timeout 20 sh -c 'echo ${word} >/tmp/talk.in'; n=0
			until [ $(wc -l <${out}) -gt ${words} ] || [ $n = 100 ]; do sleep 0.2; n=$((n+1)); done`, { user: 'root', timeout: 60 });
		words++;
		return (await sh(sbx, `tail -n 1 ${out}`)).trim();
	};
}

const works = () => until('it works', async () => served.test(await probe(web)), 60_000, 300);
const pidOf = (unit) => systemctl('show', '-P', 'MainPID', unit).then(Number);

async function killUnit(unit) {
	const old = await pidOf(unit);

	await systemctl('kill', '-s', 'KILL', unit);
	await until(`${unit} is another process`, async () => ![0, old].includes(await pidOf(unit)), 30_000, 100);
}

const qemu = async () => (await hostOut('pgrep', '-f', `guest=${sbx.sandboxId}`)).trim();

before(async () => {
	await new Promise((resolve, reject) => {
		done = {};
		done.all = withConfig('[egress]\nupstream_dns = 203.0.113.53\n', () =>
			withSandbox({ template: 'python', timeout: 1800, network: { allowOut } }, (s) => new Promise((end) => {
				sbx = s;
				done.end = end;
				resolve();
			}))).catch(reject);
	});
	probe = await prober(sbx);
	await until('names resolve', async () => (await probe({ kind: 'dns', name: 'good.example.com' })) === `rcode0 ${GOOD}`, 30_000, 500);
}, { timeout: 180_000 });

after(async () => {
	await systemctl('start', 'declaw-proxy.socket', 'declaw-proxy.service', 'declaw-resolver.socket', 'declaw-resolver.service', 'declawd.service');
	done?.end?.();
	await done?.all;
}, { timeout: 120_000 });

act(file, 'the proxy is killed', { timeout: 180_000 }, async () => {
	const before = await qemu();
	const say = await connection();

	assert.equal(await say('one'), 'heard');
	await killUnit('declaw-proxy.service');
	await news();
	assert.equal(await say('two'), 'closed');
	assert.deepEqual((await news()).filter((r) => r.data?.includes('/two')), []);
	await works();
	assert.equal(await qemu(), before);
});

const processes = async () => (await hostOut('pgrep', '-x', 'declaw-proxy')).trim().split('\n').map(Number);

// They share connections: which one has this one is not known, and whichever dies, it is over for all
act(file, 'one of the proxy\'s processes is killed', { timeout: 180_000 }, async () => {
	const dropin = '/run/systemd/system/declaw-proxy.service.d';
	const reload = () => systemctl('daemon-reload').then(() => systemctl('restart', 'declaw-proxy.service'));

	await hostOut('sh', '-c', `mkdir -p ${dropin} && printf '[Service]\\nEnvironment=DECLAW_PROXY_PROCESSES=3\\n' >${dropin}/e2e.conf`);
	try {
		await reload();
		await works();

		const before = await qemu(), main = await pidOf('declaw-proxy.service'), all = await processes();
		const say = await connection();

		assert.equal(all.length, 3);
		assert.ok(all.includes(main));
		assert.equal(await say('one'), 'heard');
		await hostOut('kill', '-KILL', String(all.find((pid) => pid !== main)));
		await until('it is another process', async () => ![0, main].includes(await pidOf('declaw-proxy.service')), 30_000, 100);
		await news();
		assert.equal(await say('two'), 'closed');
		assert.deepEqual((await news()).filter((r) => r.data?.includes('/two')), []);
		await works();
		assert.equal((await processes()).filter((pid) => all.includes(pid)).length, 0);
		assert.equal(await qemu(), before);
	} finally {
		await hostOut('rm', '-r', dropin);
		await reload();
	}
	await works();
});

// More connections than can have come to one process by chance
act(file, 'connections are shared out', { timeout: 180_000 }, async () => {
	const all = await processes(), many = 20 * all.length;

	await sh(sbx, `cat >/tmp/hold.py <<'EOF'
import socket, time
held = [socket.create_connection(("${GOOD}", 80), 10) for _ in range(${many})]
for s in held:
    s.sendall(b"GET /held HTTP/1.1\\r\\nHost: good.example.com\\r\\n\\r\\n")
print(sum(s.recv(4096).startswith(b"HTTP/1.1 200") for s in held), flush=True)
time.sleep(120)
EOF
		setsid python3 /tmp/hold.py >/tmp/hold.out 2>&1 </dev/null & `, { user: 'root' });
	await until('all are answered', async () => (await sh(sbx, 'cat /tmp/hold.out')).trim() === String(many), 60_000, 300);

	const held = await Promise.all(all.map(async (pid) =>
		(await hostOut('sh', '-c', `ss -Htnp 'sport = :9040' | grep -c pid=${pid}, || true`)).trim()));

	assert.ok(held.reduce((sum, n) => sum + Number(n), 0) >= many, String(held));
	for (const n of held)
		assert.ok(Number(n) > 0, `${held} of ${all}`);
	await sh(sbx, 'pkill -f hold.py', { user: 'root' });
});

// Whoever takes one of these processes over finds nothing to become: no shell, also not as root
act(file, 'nothing else runs where the proxy and the resolver do', { timeout: 60_000 }, async () => {
	for (const pid of [...await processes(), await pidOf('declaw-resolver.service')])
		for (const program of ['/usr/bin/true', '/bin/sh', '/usr/lib/systemd/systemd-socket-proxyd', '/usr/sbin/nft'])
			assert.match(await hostOut('sh', '-c', `nsenter -m -t ${pid} ${program} 2>&1; echo "exit $?"`), /Permission denied\nexit 126\n?$/, program);
});

// ... and may not look for it: each sets a filter, here where it is the only one (tests/unit/test-noexec.c says what it does)
act(file, 'the proxy and the resolver give up executing by themselves', { timeout: 60_000 }, async () => {
	const bin = '/usr/libexec/declaw', filters = (pid) => `sed -n 's/^Seccomp_filters:[[:space:]]*//p' /proc/${pid}/status`;
	const started = (command, poke) => hostOut('bash', '-c', `${command} >/dev/null 2>&1 & p=$!; trap 'kill $p' EXIT
		for _ in $(seq 100); do ${poke}; n=$(${filters('$p')}); [ "$n" = 0 ] || break; sleep 0.1; done; echo "$n"`);

	assert.equal((await hostOut('sh', '-c', filters('self'))).trim(), '0');
	assert.equal((await started(`${bin}/declaw-resolver --listen 127.0.0.1:5399 --control /nonexistent`, ':')).trim(), '1');
	assert.equal((await started(`systemd-socket-activate -l 127.0.0.1:5398 ${bin}/declaw-proxy /nonexistent`,
		'(: </dev/tcp/127.0.0.1/5398) 2>/dev/null')).trim(), '1');
});

act(file, 'the proxy is gone', { timeout: 180_000 }, async () => {
	await systemctl('stop', 'declaw-proxy.socket', 'declaw-proxy.service');
	try {
		await news();
		assert.equal(await probe(web), 'refused');
		assert.deepEqual(await news(), []);
		assert.equal(await probe(range), 'got:range');
	} finally {
		await systemctl('start', 'declaw-proxy.socket', 'declaw-proxy.service');
	}
	await works();
});

act(file, 'the resolver is killed', { timeout: 180_000 }, async () => {
	const before = await qemu();
	const say = await connection();

	assert.equal(await say('one'), 'heard');
	await killUnit('declaw-resolver.service');
	assert.equal(await say('two'), 'heard');
	await until('names resolve', async () => (await probe({ kind: 'dns', name: 'good.example.com' })) === `rcode0 ${GOOD}`, 30_000, 300);
	assert.equal(await probe({ kind: 'dns', name: 'evil.example.org' }), 'rcode3 ');
	assert.equal(await qemu(), before);
});

act(file, 'the resolver is gone', { timeout: 180_000 }, async () => {
	await systemctl('stop', 'declaw-resolver.socket', 'declaw-resolver.service');
	try {
		await news();
		for (const name of ['good.example.com', 'evil.example.org'])
			assert.match(await probe({ kind: 'dns', name }), /^(refused|timeout|rcode2 )$/);
		assert.match(await probe({ kind: 'dns', name: 'good.example.com', server: '8.8.8.8' }), /^(refused|timeout|rcode2 )$/);
		assert.deepEqual(await news(), []);
	} finally {
		await systemctl('start', 'declaw-resolver.socket', 'declaw-resolver.service');
	}
	await until('names resolve', async () => (await probe({ kind: 'dns', name: 'good.example.com' })) === `rcode0 ${GOOD}`, 30_000, 300);
});

act(file, 'the daemon is killed', { timeout: 180_000 }, async () => {
	const before = await qemu();
	const say = await connection();

	assert.equal(await say('one'), 'heard');
	await sigkill();
	// five seconds without the daemon would have cut it; a slow machine may need them
	assert.match(await say('two'), /^(heard|closed)$/);
	await works();
	await news();
	assert.match(await probe({ kind: 'raw', host: GOOD, data: http('evil.example.org') }), /^(reset|closed)$/);
	assert.deepEqual(await news(), []);
	assert.equal(await qemu(), before);
});

act(file, 'the daemon is gone', { timeout: 240_000 }, async () => {
	const before = await qemu();
	const say = await connection();

	// nobody can be asked to start programs in the sandbox meanwhile: it waits, does it all, and writes it down
	assert.equal(await say('one'), 'heard');
	await sbx.files.write('/tmp/gone.py', `
import socket, time
def probe(host, port, data):
    try:
        s = socket.create_connection((host, port), 5); s.settimeout(5); s.sendall(data)
        return "answered" if s.recv(4096) else "closed"
    except OSError: return "closed"
time.sleep(15)
print(probe("${GOOD}", 80, b"GET /gone HTTP/1.1\\r\\nHost: good.example.com\\r\\n\\r\\n"), probe("${LISTED}", 5000, b"x"), flush=True)
`);
	await sh(sbx, 'setsid python3 /tmp/gone.py >/tmp/gone.out 2>&1 </dev/null &');
	await news();
	await systemctl('stop', 'declawd.service');
	try {
		const rows = [];

		// the range is the second thing it tries
		await until('ranges go on', async () => {
			rows.push(...await news());
			return rows.some((r) => r.to === LISTED);
		}, 90_000, 500);
		assert.deepEqual(rows.filter((r) => r.data?.includes('/gone')), []);
	} finally {
		await systemctl('start', 'declawd.service');
		await answers();
	}
	await until('it is written down', async () => (await sh(sbx, 'cat /tmp/gone.out')) === 'closed answered\n', 20_000, 300);
	assert.equal(await say('two'), 'closed');
	await works();
	assert.equal(await qemu(), before);
});

noneIsMissing(file);
