// SPDX-License-Identifier: GPL-2.0-or-later
//
// An internet for tests: a network namespace on the appliance's host that answers for every address, and the host's
// default route to it. What arrived there is what counts, see data/internet.py.

import { readFileSync } from 'node:fs';
import { after, before } from 'node:test';
import { hostOut, onHost } from './host.mjs';
import { until } from './sandbox.mjs';

const LOG = '/run/e2e-internet.log';
const UNIT = 'e2e-internet.service';

// wan0 is the host's end; the other one routes everything that comes to itself.
const up = `
set -e
ip netns add e2enet
ip link add wan0 type veth peer name eth0 netns e2enet
ip addr add 203.0.113.1/24 dev wan0
ip link set wan0 up
ip -n e2enet addr add 203.0.113.254/24 dev eth0
ip -n e2enet link set lo up
ip -n e2enet link set eth0 up
ip -n e2enet route add local 0.0.0.0/0 dev lo
ip -n e2enet rule del pref 0
ip -n e2enet rule add pref 10 to 203.0.113.1/32 lookup main
ip -n e2enet rule add pref 20 lookup local
ip -n e2enet rule add pref 30 iif eth0 lookup 255
ip route add default via 203.0.113.254 dev wan0
: >${LOG}
`;

async function write(path, text) {
	await hostOut('sh', '-c', `echo ${Buffer.from(text).toString('base64')} | base64 -d >${path}`);
}

export async function internetUp() {
	await internetDown();
	await write('/run/e2e-internet.py', readFileSync(new URL('../data/internet.py', import.meta.url), 'utf8'));
	await hostOut('sh', '-c', up);
	await hostOut('systemd-run', '-q', `--unit=${UNIT}`, '--collect', 'ip', 'netns', 'exec', 'e2enet',
		'python3', '/run/e2e-internet.py', LOG);
	await until('the internet is there', async () => (await seen()).some((r) => r.what === 'ready'), 20_000);
}

export async function internetDown() {
	await onHost('sh', '-c', `systemctl stop ${UNIT}; ip route del default dev wan0; ip link del wan0;
		ip netns del e2enet; rm -f ${LOG} /run/e2e-internet.py`);
}

// Everything that arrived since the log was emptied.
export async function seen() {
	return (await hostOut('cat', LOG)).split('\n').filter(Boolean).map((line) => JSON.parse(line))
		.filter((row) => row.what !== 'close');
}

// Everything that arrived since the last call; one look instead of two
let looked = 0;

export async function news() {
	const text = await hostOut('cat', LOG);
	const fresh = text.slice(text.length < looked ? 0 : looked);

	looked = text.length;
	return fresh.split('\n').filter(Boolean).map((line) => JSON.parse(line)).filter((row) => row.what !== 'close' && row.what !== 'ready');
}

export const forget = () => hostOut('sh', '-c', `: >${LOG}`);

export function useInternet() {
	before(internetUp, { timeout: 60_000 });
	after(internetDown);
}
