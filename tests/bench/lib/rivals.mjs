// SPDX-License-Identifier: GPL-2.0-or-later
//
// What people otherwise run commands in a VM with, for real: OpenSSH over the VM's network card with a
// multiplexed master, and qemu-ga on a port of its own. Both live in a bare VM (lib/bare.mjs); their
// programs come from fetch-rivals, unpacked below /opt/rivals in the guest.

import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { findPort } from './bare.mjs';
import { Skip } from './skip.mjs';

const call = promisify(execFile);
const libs = 'LD_LIBRARY_PATH=/opt/rivals/usr/lib/x86_64-linux-gnu';
const network = { host: '198.18.77.1', guest: '198.18.77.2' };	// of the range for benchmarks

export async function unpackRivals(bench, bare) {
	const tar = path.join(bench.work, 'rivals/guest.tar');

	if (!existsSync(tar))
		throw new Skip('the packages of OpenSSH and qemu-ga could not be had');
	await bare.op('put', `${tar} /opt/rivals/guest.tar`);
	await inGuest(bare, 'tar -C /opt/rivals -xf /opt/rivals/guest.tar');
}

// A command as root that is over when its marker file is there; `exec` of the raw client runs as user.
async function inGuest(bare, command) {
	const marker = `/tmp/done-${process.hrtime.bigint()}`;

	await bare.op('spawn', `${command} && touch ${marker} || touch ${marker} ${marker}.failed`);
	await bare.op('exec', `until [ -e ${marker} ]; do sleep 0.1; done`);

	const [, , , code] = await bare.op('exec', `[ ! -e ${marker}.failed ]`);

	if (code !== 0)
		throw new Error(`in the guest: \`${command}\` failed`);
}

export class Ssh {
	constructor(bench, bare) {
		this.bare = bare;
		this.dir = path.join(bench.work, 'ssh');
		this.program = path.join(bench.work, 'rivals/client/usr/bin/ssh');
		this.options = [
			'-F', 'none', '-i', path.join(this.dir, 'key'), '-o', `ControlPath=${this.dir}/master`,
			'-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR',
			'-o', 'BatchMode=yes', `user@${network.guest}`,
		];
		this.env = { PATH: process.env.PATH, LD_LIBRARY_PATH: `${bench.work}/rivals/client/usr/lib/x86_64-linux-gnu` };
	}

	async start() {
		const keygen = path.join(path.dirname(this.program), 'ssh-keygen');
		const config = [
			'HostKey /opt/rivals/hostkey', 'AuthorizedKeysFile /opt/rivals/key.pub', 'StrictModes no', 'UsePAM no',
			'PidFile none', 'UseDNS no',
		];

		mkdirSync(this.dir, { recursive: true, mode: 0o700 });
		writeFileSync(path.join(this.dir, 'sshd_config'), `${config.join('\n')}\n`);
		for (const name of ['key', 'hostkey'])
			await call(keygen, ['-q', '-t', 'ed25519', '-N', '', '-f', path.join(this.dir, name)], { env: this.env });
		for (const name of ['sshd_config', 'hostkey', 'key.pub'])
			await this.bare.op('put', `${path.join(this.dir, name)} /opt/rivals/${name}`);
		await call('ip', ['address', 'add', `${network.host}/30`, 'dev', this.bare.tap]);
		await inGuest(this.bare, `ip link set eth0 up && ip address add ${network.guest}/30 dev eth0`
			+ ' && chown root: /opt/rivals/* && chmod 600 /opt/rivals/hostkey && mkdir -p /run/sshd'
			+ ' && echo "sshd:x:105:65534::/run/sshd:/usr/sbin/nologin" >> /etc/passwd'
			+ " && sed -i 's/^user:[^:]*:/user:*:/' /etc/shadow"
			+ ` && ${libs} /opt/rivals/usr/sbin/sshd -f /opt/rivals/sshd_config`);
		await call(this.program, ['-M', '-N', '-f', ...this.options], { env: this.env, timeout: 60_000 });
	}

	async run(command) {
		await call(this.program, [...this.options, command], { env: this.env, timeout: 60_000 });
	}

	async stop() {
		await call(this.program, ['-O', 'exit', ...this.options], { env: this.env }).catch(() => {});
	}
}

export class GuestAgent {
	constructor(bare) {
		this.bare = bare;
		this.text = '';
		this.waiting = [];
	}

	async start() {
		await inGuest(this.bare, `${findPort('org.qemu.guest_agent.0')}${libs} /opt/rivals/usr/sbin/qemu-ga`
			+ ' -d -m virtio-serial -p $port -t /run -l /dev/null');
		this.socket = net.connect(this.bare.guestAgentPort);
		this.socket.setEncoding('utf8');
		this.socket.on('data', (chunk) => this.read(chunk));
		this.socket.on('error', (e) => this.waiting.splice(0).forEach((w) => w.reject(e)));
		await this.ask('guest-sync', { id: 4711 });
	}

	read(chunk) {
		this.text += chunk;
		for (let end; (end = this.text.indexOf('\n')) >= 0;) {
			const answer = JSON.parse(this.text.slice(0, end));
			const waiter = this.waiting.shift();

			this.text = this.text.slice(end + 1);
			if (answer.error)
				waiter?.reject(new Error(answer.error.desc));
			else
				waiter?.resolve(answer.return);
		}
	}

	ask(execute, args) {
		return new Promise((resolve, reject) => {
			this.waiting.push({ resolve, reject });
			this.socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
		});
	}

	// It does not tell when a command is over: ask until it is.
	async run(command) {
		const { pid } = await this.ask('guest-exec',
			{ path: '/bin/bash', arg: ['-c', command], 'capture-output': true });

		for (;;) {
			const status = await this.ask('guest-exec-status', { pid });

			if (status.exited)
				return;
		}
	}

	stop() {
		this.socket?.destroy();
	}
}
