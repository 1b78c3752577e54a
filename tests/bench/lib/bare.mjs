// SPDX-License-Identifier: GPL-2.0-or-later
//
// Baselines without declawd and libvirt: a bare QEMU of a sandbox's own making, and the raw client on
// its agent's port.

import { execFile, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { hostOut, scopeOf } from '../../e2e/lib/host.mjs';
import { bareArgs, withPorts } from './qemuargs.mjs';

const call = promisify(execFile);

// What a living sandbox's QEMU is made of: { argv: [program, argument...], pid, diskBytes }.
export async function qemuOf(id) {
	const group = (await hostOut('systemctl', 'show', '-P', 'ControlGroup', scopeOf(id))).trim();
	const pids = readFileSync(`/sys/fs/cgroup${group}/cgroup.procs`, 'utf8').trim().split('\n');

	for (const pid of pids) {
		const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);

		if (/qemu/.test(argv[0]))
			return { argv, pid, diskBytes: await diskBytes(bareArgs(argv.slice(1), {}).disk) };
	}
	throw new Error(`no QEMU in ${scopeOf(id)}`);
}

async function diskBytes(file) {
	const { stdout } = await call('qemu-img', ['info', '-U', '--output=json', file]);

	return JSON.parse(stdout)['virtual-size'];
}

// Shell text that leaves in $port the device of the port of that name.
export const findPort = (name) => `for p in /sys/class/virtio-ports/*; do grep -qx ${name} $p/name && `
	+ 'port=/dev/${p##*/}; done; ';

export class BareVm {
	// like: of qemuOf(). Everything it makes is below bench.work and gone after stop().
	constructor(bench, like, name) {
		this.dir = path.join(bench.work, name);
		this.tap = `bench-${name}`.slice(0, 15);
		this.client = path.join(bench.work, 'raw-agent');
		this.socket = path.join(this.dir, 'agent.sock');
		this.port = path.join(this.dir, 'bench.sock');
		this.guestAgentPort = path.join(this.dir, 'qga.sock');
		this.like = like;
	}

	async prepare({ clone = false } = {}) {
		const own = { socket: this.socket, disk: path.join(this.dir, 'disk.qcow2'), tap: this.tap };
		const { args, backing, memory } = bareArgs(this.like.argv.slice(1), own, { clone });

		if (clone && !memory)
			throw new Error('the sandbox is no clone');
		this.memory = memory;

		mkdirSync(this.dir, { recursive: true });
		this.args = args;
		// The same size and format as the sandbox's, empty: the guest's first boot writes to both
		await call('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', clone ? 'qcow2' : 'raw', '-b', backing, own.disk,
			String(this.like.diskBytes)]);
		await call('ip', ['tuntap', 'add', 'dev', this.tap, 'mode', 'tap']);
		await call('ip', ['link', 'set', this.tap, 'up']);
	}

	async remove() {
		await call('ip', ['link', 'delete', this.tap]).catch(() => {});
		rmSync(this.dir, { recursive: true, force: true });
	}

	// One cold boot: {connected, greeted, output, exit} in ms since QEMU was spawned; it is gone afterwards.
	async boot(command) {
		try {
			await this.prepare();

			const { stdout } = await call(this.client,
				['boot', this.socket, command, '--', this.like.argv[0], ...this.args], { timeout: 150_000 });
			const m = /^boot (\d+) (\d+) (\d+) (\d+)$/m.exec(stdout);

			if (!m)
				throw new Error(`bare boot: ${stdout}`);

			const [connected, greeted, output, exit] = m.slice(1).map((n) => Number(n) / 1000);

			return { connected, greeted, output, exit };
		} finally {
			await this.remove();
		}
	}

	// A VM that stays, with the raw client attached, a port for bytes and one for qemu-ga.
	async start() {
		await this.prepare();
		this.qemu = spawn(this.like.argv[0], withPorts(this.args, [
			['org.declaw.bench.0', this.port], ['org.qemu.guest_agent.0', this.guestAgentPort],
		]), { stdio: ['ignore', 'ignore', 'inherit'] });
		await this.attach();
	}

	// A clone of the same memory, as QEMU makes it by itself, with the raw client attached.
	async fork() {
		await this.prepare({ clone: true });

		const state = openSync(path.join(path.dirname(this.memory), 'state'), 'r');

		this.qemu = spawn(this.like.argv[0], this.args, { stdio: ['pipe', 'pipe', 'inherit', state] });
		closeSync(state);

		const lines = createInterface({ input: this.qemu.stdout })[Symbol.asyncIterator]();
		const until = async (wanted) => {
			for (;;) {
				const { value, done } = await lines.next(), message = done ? { error: 'its end' } : JSON.parse(value);

				if (message.error || message.data?.status === 'failed')
					throw new Error(`bare clone: ${done ? 'its end' : value}`);
				if (wanted(message))
					return message;
			}
		};
		const command = async (execute, args) => {
			this.qemu.stdin.write(JSON.stringify({ execute, arguments: args }));
			return (await until((m) => 'return' in m)).return;
		};

		await until((m) => m.QMP);
		await command('qmp_capabilities');
		await command('migrate-set-capabilities', { capabilities: [{ capability: 'x-ignore-shared', state: true }] });
		await command('migrate-incoming', { uri: 'fd:3' });
		for (let status = ''; status !== 'completed';) {
			({ status } = await command('query-migrate'));
			if (status === 'failed')
				throw new Error('bare clone: the device state is refused');
		}
		await command('cont');
		await this.attach();
	}

	async attach() {
		this.repl = spawn(this.client, [this.socket, '-'], { stdio: ['pipe', 'pipe', 'inherit'] });
		this.lines = createInterface({ input: this.repl.stdout })[Symbol.asyncIterator]();
		await this.expect('ready');
	}

	async expect(word) {
		const { value, done } = await this.lines.next();

		if (done || !value.startsWith(`${word} `) && value !== word)
			throw new Error(`raw client: wanted ${word}, got ${done ? 'its end' : value}`);
		return value.split(' ').slice(1).map(Number);
	}

	// One operation of raw-agent; its figures as numbers.
	async op(name, arg = '') {
		this.repl.stdin.write(`${name} ${arg}\n`);
		return this.expect(name);
	}

	async stop() {
		this.repl?.kill('SIGKILL');
		if (this.qemu && this.qemu.exitCode === null && this.qemu.signalCode === null) {
			const gone = new Promise((r) => this.qemu.once('exit', r));

			this.qemu.kill('SIGKILL');
			await gone;
		}
		await this.remove();
	}
}
