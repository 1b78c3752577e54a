// SPDX-License-Identifier: GPL-2.0-or-later
//
// The command line of a sandbox's QEMU, as libvirt wrote it, turned into one that runs by itself: same
// machine, accelerator, processor, memory, kernel, initramfs and devices, but a disk overlay, a tap and
// sockets of its own, running at once instead of waiting for a monitor. What belongs to libvirt's
// supervision (monitor, secrets, seccomp filter, passed descriptors) goes.

const dropped = new Set(['-S', '-name', '-uuid', '-sandbox', '-mon', '-msg', '-add-fd', '-no-shutdown', '-qmp']);
const alone = /^-(S|no-user-config|nodefaults|no-shutdown|no-reboot|no-acpi|no-hpet|daemonize)$/;

// ["-m", "512", "-S"] -> [["-m", "512"], ["-S"]]
export function pairUp(argv) {
	const out = [];

	for (let i = 0; i < argv.length; i++)
		out.push(alone.test(argv[i]) ? [argv[i]] : [argv[i], argv[++i]]);
	return out;
}

const idOf = (value) => /(?:^|,)id=([^,]+)/.exec(value)?.[1];

function chardev(value, own) {
	if (idOf(value) === 'charmonitor')
		return null;
	if (idOf(value).startsWith('charchannel'))
		return `socket,id=${idOf(value)},path=${own.socket},server=on,wait=off`;
	return `null,id=${idOf(value)}`;	// the console: libvirt's end reads nothing either
}

// Each image is two nodes, format over file. -> { disk, backing, frozen }: the file nodes' names. A clone has a
// frozen overlay between the two, which a VM that boots does not.
function fileNodes(pairs) {
	const nodes = pairs.filter(([option]) => option === '-blockdev').map(([, value]) => JSON.parse(value));
	const overlays = nodes.filter((n) => n.driver === 'qcow2');
	const top = overlays.find((n) => !overlays.some((o) => o.backing === n['node-name']));
	const frozen = overlays.find((n) => n !== top);

	return { nodes, top, frozen, disk: top?.file, backing: nodes.find((n) => n.driver === 'raw')?.file };
}

function blockdev(value, own, { top, frozen, disk }) {
	const node = JSON.parse(value);

	if (frozen && [frozen['node-name'], frozen.file].includes(node['node-name']))
		return null;
	if (frozen && node['node-name'] === top['node-name'])
		node.backing = frozen.backing;
	if (node['node-name'] === disk)
		node.filename = own.disk;
	return JSON.stringify(node);
}

// What makes a clone one: its memory out of a file, and waiting for a state
const ofClone = ([option, value]) => option === '-incoming' ||
	(option === '-object' && /^memory-backend-\w+,id=declaw-ram\b/.test(value)) ||
	(option === '-machine' && value === 'memory-backend=declaw-ram');

// own: { socket, disk, tap }; clone: a clone's copy is to be one, too, and not to boot: it waits for the device state
// to be told by its monitor, on standard input and output.
// -> { args, disk: the sandbox's overlay, backing: what lies under it, memory: a clone's memory file }
export function bareArgs(argv, own, { clone = false } = {}) {
	const args = [];
	const pairs = pairUp(argv);
	const all = fileNodes(pairs);
	const found = clone ? { ...all, frozen: undefined, backing: all.frozen?.file } : all;
	const fileOf = (name) => found.nodes.find((n) => n['node-name'] === name)?.filename;

	for (const [option, value] of pairs) {
		let kept = value;

		if (clone && ofClone([option, value])) {
			args.push(option, value);
			continue;
		}
		if (dropped.has(option) || ofClone([option, value]) || (option === '-object' && /"qom-type":"secret"|^secret,/.test(value)))
			continue;
		if (option === '-chardev')
			kept = chardev(value, own);
		if (option === '-blockdev')
			kept = blockdev(value, own, found);
		if (option === '-netdev')
			kept = `tap,id=${idOf(value) ?? JSON.parse(value).id},ifname=${own.tap},script=no,downscript=no`;
		if (kept !== null)
			args.push(...(kept === undefined ? [option] : [option, kept]));
	}
	if (clone)
		args.push('-qmp', 'stdio');
	check(args, own, found);
	return { args, disk: fileOf(found.disk), backing: fileOf(found.backing), memory: /mem-path=([^,]+)/.exec(argv.join(' '))?.[1] };
}

// A baseline that lacks something would be a faster one, and nobody would notice.
function check(args, own, found) {
	const text = args.join(' ');
	const parts = {
		'a disk over a backing file': found.disk && found.backing,
		'the agent\'s port': text.includes(`path=${own.socket}`) && text.includes('org.declaw.agent.0'),
		'a network card': text.includes(`ifname=${own.tap}`) && /virtio-net-device/.test(text),
		'a console': /isa-serial/.test(text),
		'kernel, initramfs and command line': ['-kernel', '-initrd', '-append'].every((o) => args.includes(o)),
		'machine, accelerator, processor and memory': ['-machine', '-accel', '-cpu', '-m'].every((o) => args.includes(o)),
		'nothing passed by descriptor': !/\bfd=\d|"fd":/.test(text),
	};

	for (const [what, there] of Object.entries(parts))
		if (!there)
			throw new Error(`the sandbox's command line was not understood: the copy lacks ${what}`);
}

// More ports on the guest's virtio-serial bus: [[name, socket path]...]. The controller must have room
// for them. QEMU makes devices given as JSON after all others, so these are given as JSON, too.
export function withPorts(args, ports) {
	const max = 2 + ports.length;
	const roomy = args.map((a) =>
		a.replace(/^(\{"driver":"virtio-serial-device".*"max_ports":)\d+/, (_, head) => `${head}${max}`));

	return [...roomy, ...ports.flatMap(([name, socket], i) => [
		'-chardev', `socket,id=charmore${i},path=${socket},server=on,wait=off`,
		'-device', JSON.stringify({ driver: 'virtserialport', chardev: `charmore${i}`, id: `more${i}`, name }),
	])];
}
