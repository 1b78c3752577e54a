// SPDX-License-Identifier: GPL-2.0-or-later
//
// The command line of a sandbox's QEMU, as libvirt wrote it, turned into one that runs by itself: same
// machine, accelerator, processor, memory, kernel, initramfs and devices, but a disk overlay, a tap and
// sockets of its own, running at once instead of waiting for a monitor. What belongs to libvirt's
// supervision (monitor, secrets, seccomp filter, passed descriptors) goes.

const dropped = new Set(['-S', '-name', '-uuid', '-sandbox', '-mon', '-msg', '-add-fd', '-no-shutdown']);
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

function blockdev(value, own) {
	const node = JSON.parse(value);

	// The overlay is the only file opened for writing; its backing file is shared.
	if (node.driver === 'file' && !node['read-only'])
		node.filename = own.disk;
	return JSON.stringify(node);
}

// own: { socket, disk, tap }. -> { args, disk: the sandbox's overlay, backing: its backing file }
export function bareArgs(argv, own) {
	const args = [];
	const found = { disk: null, backing: null };

	for (const [option, value] of pairUp(argv)) {
		let kept = value;

		if (dropped.has(option) || (option === '-object' && /"qom-type":"secret"|^secret,/.test(value)))
			continue;
		if (option === '-chardev')
			kept = chardev(value, own);
		if (option === '-blockdev') {
			const node = JSON.parse(value);

			if (node.driver === 'file')
				found[node['read-only'] ? 'backing' : 'disk'] = node.filename;
			kept = blockdev(value, own);
		}
		if (option === '-netdev')
			kept = `tap,id=${idOf(value) ?? JSON.parse(value).id},ifname=${own.tap},script=no,downscript=no`;
		if (kept !== null)
			args.push(...(kept === undefined ? [option] : [option, kept]));
	}
	return { args, ...found };
}

// A second port for bytes without a protocol; the controller must have room for it.
export function withBenchPort(args, socket) {
	const roomy = args.map((a) => a.replace(/^((?:virtio-serial-device|\{"driver":"virtio-serial-device").*max_ports"?[=:])\d+/, '$14'));

	return [...roomy, '-chardev', `socket,id=charbench,path=${socket},server=on,wait=off`,
		'-device', 'virtserialport,chardev=charbench,id=bench0,name=org.declaw.bench.0'];
}
