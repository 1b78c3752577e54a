// SPDX-License-Identifier: GPL-2.0-or-later
//
// Sandboxes, ways out and origins, each in a network namespace of its own, for measuring what a way costs:
//
//	client ──┬── ours ────┬── origin
//	         ├── plain ───┤
//	         └── rivals ──┘
//
// `ours` is a host as declawd makes it: its base rules, a chain for each sandbox, the shipped declaw-proxy and
// declaw-resolver; egress-host.c is declawd to them. `plain` forwards and masquerades, without any other rule. A rival
// is a way whose connections to an origin's ports are redirected to a program. The client chooses a way by the
// destination: the origin has a range of addresses for each. A sandbox's end of a tap is the other end of a veth.

import { execFile, spawn } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { Skip } from './skip.mjs';

const call = promisify(execFile);
const libexec = '/usr/libexec/declaw';
const PROXY = process.env.DECLAW_PROXY ?? `${libexec}/declaw-proxy`;
const RESOLVER = process.env.DECLAW_RESOLVER ?? `${libexec}/declaw-resolver`;
const TAP_MAC = '02:de:c1:aa:00:01';
const TAP_GROUP = 0xdec1;
// Debian's default, whatever this kernel's is: bbr, for one, sends smaller packets, with a timer for each
const CONGESTION = process.env.DECLAW_BENCH_CONGESTION ?? 'cubic';

export const NAME = 'api.allowed.test';
export const policies = {
	names: { allow_out: [NAME, '*.wild.test'] },
	both: { allow_out: [NAME, '*.wild.test', '9.9.9.9', '8.8.8.0/24', '140.82.112.0/20'] },
	ranges: { allow_out: ['203.0.113.0/24'] },
	nothing: { deny_out: ['*'] },
};
export const SANDBOXES = 200;
export const NEW_PORT = 8445;	// real handshakes
export const READY_PORT = 8446;	// answers made beforehand
export const ranges = { ours: '203.0.113', plain: '198.51.100', haproxy: '192.0.2', squid: '203.0.112',
	relay: '198.51.101' };

// The address of sandbox i's origin: there is one for each, because that is how it is given its own way.
export const origin = (way, i = 0) => `${ranges[way]}.${i + 1}`;
export const guest = (i) => `10.214.2.${i}`;

const tap = (i) => `dclaaaaaaa${String(i).padStart(3, '0')}`;
const mac = (i) => `02:00:00:00:00:${i.toString(16).padStart(2, '0')}`;

async function until(what, fn) {
	for (let i = 0; i < 200; i++) {
		if (await fn())
			return;
		await new Promise((done) => setTimeout(done, 50));
	}
	throw new Error(`${what}: not within ten seconds`);
}

export class World {
	constructor(bench) {
		this.bench = bench;
		this.dir = mkdtempSync(path.join(os.tmpdir(), 'declaw-bench-'));
		this.tool = path.join(bench.work, 'flow-bench');
		this.spaces = {};
		this.rivals = path.join(bench.work, 'rivals/network');
		chmodSync(this.dir, 0o755);	// Squid is nobody
		bench.later(() => Promise.resolve(rmSync(this.dir, { recursive: true })));
	}

	// --- processes ---

	start(argv, options = {}) {
		const child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'ignore', 'inherit'], ...options });

		this.bench.later(() => new Promise((done) => {
			if (child.exitCode !== null || child.signalCode !== null)
				return done();
			child.on('exit', done);
			child.kill('SIGTERM');
			setTimeout(() => child.kill('SIGKILL'), 3000).unref();
		}));
		return child;
	}

	inside(space, argv) {
		return ['nsenter', '-t', String(this.spaces[space]), '-n', '--', ...argv];
	}

	async run(space, ...argv) {
		const [program, ...args] = this.inside(space, argv);

		return (await call(program, args, { maxBuffer: 1 << 26 })).stdout;
	}

	// The lines are commands of `ip` or rules of `nft`.
	async feed(space, argv, lines) {
		const file = path.join(this.dir, `batch-${process.hrtime.bigint()}`);

		writeFileSync(file, `${lines.join('\n')}\n`);
		await this.run(space, ...argv, file);
	}

	ip(space, lines) {
		return this.feed(space, ['ip', '-batch'], lines);
	}

	// flow-bench in the client's namespace -> what it says, parsed
	async flow(...args) {
		return JSON.parse(await this.run('client', this.tool, ...args.map(String)));
	}

	// --- the ways ---

	async space(name) {
		const holder = this.start(['unshare', '--net', 'sleep', 'infinity']);
		const net = (pid) => call('readlink', [`/proc/${pid}/ns/net`]).then((r) => r.stdout).catch(() => '');
		const mine = await net('self');

		this.spaces[name] = holder.pid;
		await until('a network namespace', async () => ![mine, ''].includes(await net(holder.pid)));
		await this.run(name, 'sh', '-c', 'ip link set lo up; cd /proc/sys/net; echo 1 >ipv6/conf/all/disable_ipv6;'
			+ ' for f in ipv4/conf/*/rp_filter; do echo 0 >$f; done; echo "1024 65000" >ipv4/ip_local_port_range; echo 1 >ipv4/tcp_tw_reuse'
			+ `; echo ${CONGESTION} >ipv4/tcp_congestion_control`);
	}

	// A namespace between client and origin, and the origin's addresses behind it
	async way(name) {
		const k = Object.keys(ranges).indexOf(name);

		await this.space(name);
		await this.ip(name, [
			`link add uplink type veth peer name ${name} netns ${this.spaces.origin}`,
			`addr add 172.31.${k}.1/30 dev uplink`, 'link set uplink up',
		]);
		await this.ip('origin', [
			`addr add 172.31.${k}.2/30 dev ${name}`, `link set ${name} up`, `route add local ${ranges[name]}.0/24 dev lo`,
		]);
		await this.ip(name, [`route add default via 172.31.${k}.2`]);
		if (name === 'ours')
			return;
		await this.ip(name, [
			`link add inner type veth peer name ${name} netns ${this.spaces.client}`,
			`addr add 10.9.${k}.1/30 dev inner`, 'link set inner up',
		]);
		await this.ip('client', [
			`addr add 10.9.${k}.2/30 dev ${name}`, `link set ${name} up`, `route add ${ranges[name]}.0/24 via 10.9.${k}.1`,
		]);
		await this.run(name, 'sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward');
		await this.nft(name, ['table ip way {', 'chain out {', 'type nat hook postrouting priority 100;', 'oifname uplink masquerade', '}', '}']);
	}

	nft(space, lines) {
		return this.feed(space, ['nft', '-f'], lines);
	}

	async open(...ways) {
		if (!existsSync(this.tool))
			throw new Skip('flow-bench and egress-host were not built');
		if (!existsSync(path.join(this.rivals, 'usr/sbin/nginx')))
			throw new Skip('the packages of nginx, HAProxy and Squid could not be had');
		await this.space('client');
		await this.space('origin');
		for (const name of ways)
			await this.way(name);
		await this.startOrigin();
	}

	// A host without sandboxes' interfaces, for what needs no packets
	async openAlone() {
		if (!existsSync(this.tool))
			throw new Skip('flow-bench and egress-host were not built');
		await this.space('origin');
		await this.way('ours');
		await this.startHost();
	}

	// Connections that are kept go to a server of one process, new ones to one of as many as there are processors: a
	// handshake costs it more than any of the ways, and one process would be what limits them all.
	async startOrigin() {
		const pem = path.join(this.dir, 'origin.pem');

		mkdirSync(path.join(this.dir, 'www'), { recursive: true });
		writeFileSync(path.join(this.dir, 'www/1k'), 'x'.repeat(1024));
		await call(this.tool, ['cert', NAME, pem]);
		this.startNginx('kept', pem, 443, 'master_process off');
		this.startNginx('new', pem, NEW_PORT, `user root; worker_processes ${os.cpus().length}`);
		this.start(this.inside('origin', [this.tool, 'source', '8443']));
		this.start(this.inside('origin', [this.tool, 'quiet', '8444']));
		this.start(this.inside('origin', [path.join(this.bench.work, 'ready-origin'), String(READY_PORT), pem]));
	}

	startNginx(name, pem, port, processes) {
		const conf = path.join(this.dir, `${name}.conf`);

		writeFileSync(conf, `daemon off; ${processes}; pid ${this.dir}/${name}.pid; error_log stderr error;
			events { worker_connections 8192; multi_accept on; }
			http { access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; open_file_cache max=10;
				client_body_temp_path ${this.dir}/t1; proxy_temp_path ${this.dir}/t2; fastcgi_temp_path ${this.dir}/t3;
				uwsgi_temp_path ${this.dir}/t4; scgi_temp_path ${this.dir}/t5;
				server { listen ${port} ssl backlog=4096; ssl_certificate ${pem}; ssl_certificate_key ${pem};
					ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off; root ${this.dir}/www; } }\n`);
		this.start(this.inside('origin', [path.join(this.rivals, 'usr/sbin/nginx'), '-p', this.dir, '-c', conf]));
	}

	// --- ours ---

	async openOurs(sandboxes = SANDBOXES) {
		const all = [...Array(sandboxes).keys()];

		await this.ip('ours', all.map((i) => `link add ${tap(i)} type veth peer name g${i} netns ${this.spaces.client}`));
		await this.ip('ours', all.map((i) => `link set ${tap(i)} group ${TAP_GROUP} up`));
		await this.ip('client', all.flatMap((i) => [
			`link set g${i} address ${mac(i)} up`, `addr add ${guest(i)}/32 dev g${i}`,
			`neigh add 10.214.0.1 lladdr ${TAP_MAC} dev g${i} nud permanent`,
			`route add ${origin('ours', i)}/32 via 10.214.0.1 dev g${i} onlink src ${guest(i)}`,
		]));
		await this.startHost();
	}

	async startHost() {
		const host = path.join(this.bench.work, 'egress-host');

		this.start(this.inside('ours', [this.tool, 'answers', '5353']));
		this.hostProcess = this.start(this.inside('ours', [host, PROXY, RESOLVER, '127.0.0.1:5353']), { stdio: ['pipe', 'pipe', 'inherit'] });
		this.lines = createInterface(this.hostProcess.stdout)[Symbol.asyncIterator]();
		this.workers = await this.answer();
	}

	async answer() {
		const { value, done } = await this.lines.next();

		if (done)
			throw new Error('egress-host ended');
		return JSON.parse(value);
	}

	// One of egress-host's commands
	host(...words) {
		this.hostProcess.stdin.write(`${words.map((w) => (typeof w === 'object' ? JSON.stringify(w) : w)).join(' ')}\n`);
		return this.answer();
	}

	async setNames(first, n) {
		await this.host('set', first, n, policies.names);
		await this.host('pin', first, n, NAME, origin('ours', first));
	}

	// --- rivals ---

	rivalEnv() {
		return { ...process.env, LD_LIBRARY_PATH: `${this.rivals}/usr/lib/x86_64-linux-gnu:${this.rivals}/lib/x86_64-linux-gnu` };
	}

	redirect(way, port) {
		return this.nft(way, ['table ip rival {', 'chain in {', 'type nat hook prerouting priority -100;',
			`iifname inner tcp dport { 443, 8443, ${NEW_PORT}, ${READY_PORT} } redirect to :${port}`, '}', '}']);
	}

	async startRelay() {
		await this.redirect('relay', 9043);
		this.start(this.inside('relay', [path.join(this.bench.work, 'bare-relay'), '9043']));
		await this.listening('relay', 9043);
	}

	async startHaproxy() {
		const conf = path.join(this.dir, 'haproxy.cfg');

		writeFileSync(conf, `global
	maxconn 4000
defaults
	mode tcp
	option splice-auto
	timeout connect 5s
	timeout client 60s
	timeout server 60s
frontend sni
	bind *:9041 backlog 4096
	tcp-request inspect-delay 5s
	tcp-request content accept if { req.ssl_hello_type 1 }
	use_backend origin if { req.ssl_sni -i ${NAME} }
backend origin
	server origin ${origin('haproxy')}:443\n`);
		await this.redirect('haproxy', 9041);
		this.start(this.inside('haproxy', [path.join(this.rivals, 'usr/sbin/haproxy'), '-db', '-q', '-f', conf]), { env: this.rivalEnv() });
		await this.listening('haproxy', 9041);
	}

	async startSquid() {
		const conf = path.join(this.dir, 'squid.conf');

		for (const what of ['share/squid', 'share/squid-langpack', 'lib/squid/unlinkd'])
			cpSync(path.join(this.rivals, 'usr', what), path.join(this.dir, path.basename(what)), { recursive: true, verbatimSymlinks: true });
		writeFileSync(path.join(this.dir, 'hosts'), `${origin('squid')} ${NAME}\n`);
		writeFileSync(conf, `http_port 127.0.0.1:3128
https_port 9042 intercept ssl-bump cert=${this.dir}/origin.pem generate-host-certificates=off
acl allowed ssl::server_name ${NAME}
acl hello at_step SslBump1
ssl_bump peek hello
ssl_bump splice allowed
ssl_bump terminate all
http_access allow all
cache deny all
access_log stdio:${this.dir}/squid.log
cache_log /dev/null
cache_store_log none
pid_filename none
hosts_file ${this.dir}/hosts
dns_nameservers 127.0.0.1
visible_hostname bench
cache_effective_user nobody
cache_effective_group nogroup
mime_table ${this.dir}/squid/mime.conf
icon_directory ${this.dir}/squid/icons
error_directory ${this.dir}/squid-langpack/templates
coredump_dir none
unlinkd_program ${this.dir}/unlinkd
pinger_enable off
max_filedescriptors 65535
shutdown_lifetime 1 second\n`);
		// It asks for every new client's name, and for each connection again while nobody answers: a list of questions that it
		// searches for each new one. And it writes down what it let through, as declaw-proxy does.
		this.start(this.inside('squid', [this.tool, 'answers', '53']));
		writeFileSync(path.join(this.dir, 'squid.log'), '');
		chmodSync(path.join(this.dir, 'squid.log'), 0o666);
		await this.redirect('squid', 9042);
		this.start(this.inside('squid', [path.join(this.rivals, 'usr/sbin/squid'), '-N', '-f', conf]), { env: this.rivalEnv() });
		await this.listening('squid', 9042);
	}

	async listening(space, port) {
		await until(`port ${port}`, async () => (await this.run(space, 'ss', '-Hltn', `sport = :${port}`)) !== '');
	}

	// Proportional set size of a process and its children, in bytes
	pss(pid) {
		const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(/\s+/).filter(Boolean);
		const own = Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]) * 1024;

		return children.reduce((sum, child) => sum + this.pss(child), own);
	}
}
