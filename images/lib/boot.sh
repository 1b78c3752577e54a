# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# boot.sh - guest kernel and initramfs from Debian's cloud kernel package.
#
# Theory of operation: the package is unpacked, never installed. Its bzImage holds an LZ4
# compressed vmlinux; that ELF file has a PVH entry note, which QEMU's microvm boots directly, so
# the guest does not decompress 53 MB under emulation. The price is that the kernel runs at its
# link address (KASLR is the work of the decompressor). The initramfs is an uncompressed newc
# cpio: /init (the agent), the modules, /modules.list with their paths in load order.
# Kernel and modules depend on the package only and are kept in $CACHE/kernel/<sha256 of the
# package>; a new agent costs one cpio.

KERNEL_META=linux-image-cloud-amd64

# What the guest needs to find its disk, network and port; dependencies are added by the build.
GUEST_MODULES=(virtio_mmio virtio_blk virtio_net virtio_console)

# What this kernel should be started with, for the daemon to read from the manifest. Everywhere:
# no run-time self tests of crypto algorithms (0.5 s emulated). Under TCG also: no rewriting of
# lock prefixes and retpolines, which throws away translated code for nothing, no zeroing of pages
# that QEMU has just zeroed, no addresses of its own for each process, which would have all its code
# translated anew (bash: 130 ms instead of 17), and no timer check, which hangs there. TCG needs tsc_early_khz= and
# lpj= besides; they are the host's and so not ours to know.
CMDLINE='console=ttyS0 quiet panic=-1 cryptomgr.notests'
CMDLINE_TCG='no_timer_check noreplace-smp mitigations=off init_on_alloc=0 norandmaps'

# Little-endian unsigned number of $3 bytes at offset $2 of file $1.
le_number() { od -An -t"u$3" -j"$2" -N"$3" "$1" | tr -d ' '; }

# The ELF kernel inside bzImage $1 to $2, after the boot protocol: setup_sects at 0x1f1,
# payload_offset at 0x248 and payload_length at 0x24c; the last 4 bytes are the unpacked size.
vmlinux_extract() {
	local image=$1 out=$2 start length
	start=$((($(le_number "$image" 497 1) + 1) * 512 + $(le_number "$image" 584 4)))
	length=$(le_number "$image" 588 4)
	dd if="$image" bs=1M iflag=skip_bytes,count_bytes skip="$start" count=$((length - 4)) \
		status=none | lz4 -dc >"$out" || die "boot: the kernel image is not LZ4 compressed"
	[ "$(head -c 4 "$out" | tail -c 3)" = ELF ] || die "boot: no ELF file in the kernel image"
	[ "$(le_number "$image" $((start + length - 4)) 4)" = "$(stat -c %s "$out")" ] ||
		die "boot: the unpacked kernel is cut short"
}

# Names of the modules that module file $1 depends on, from its .modinfo strings.
module_depends() {
	grep -aoz '^depends=[a-zA-Z0-9_,-]*' "$1" | tr -d '\0' | sed 's/^depends=//' | tr ',' '\n'
}

# Copy module $1 of tree $2 to $3/modules after all it depends on, each once, and list it.
module_add() {
	local name=$1 tree=$2 dest=$3 file dep
	! grep -qx "/modules/$name.ko" "$dest/modules.list" || return 0
	# A name that is no file is built in: nothing to load.
	file=$(find "$tree" -name "$name.ko" -o -name "${name//_/-}.ko" | head -n 1)
	if [ -z "$file" ]; then
		grep -q "/$name.ko$" "$tree/../modules.builtin" || die "boot: no module $name"
		return 0
	fi
	for dep in $(module_depends "$file"); do
		module_add "$dep" "$tree" "$dest"
	done
	cp "$file" "$dest/modules/$name.ko"
	echo "/modules/$name.ko" >>"$dest/modules.list"
}

# Unpack package $1 into the kernel cache directory $2: vmlinuz, release, modules, modules.list.
kernel_unpack() {
	local deb=$1 dest=$2 tmp release module
	step "boot: unpacking $(basename "$deb")"
	tmp=$(tmp_make)
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tmp" --wildcards './boot/vmlinuz-*' './lib/modules/*'
	release=$(basename "$tmp"/lib/modules/*)
	mkdir -p "$tmp/out/modules"
	: >"$tmp/out/modules.list"
	echo "$release" >"$tmp/out/release"
	step "boot: extracting vmlinux"
	vmlinux_extract "$tmp/boot/vmlinuz-$release" "$tmp/out/vmlinuz"
	# A driver of the core must be listed before the one that registers with it: virtio_ring
	# before virtio is what the dependencies say too.
	for module in "${GUEST_MODULES[@]}"; do
		module_add "$module" "$tmp/lib/modules/$release/kernel" "$tmp/out"
	done
	chmod 0444 "$tmp/out/vmlinuz"
	find "$tmp/out" -type f -exec sync {} +
	mkdir -p "$CACHE/kernel"
	mv -T "$tmp/out" "$dest"
}

# The initramfs of agent $1 and kernel cache $2 to $3. Everything in it has the time stamp of the
# package, owner root and sorted names: equal inputs, equal bytes.
initramfs_make() {
	local agent=$1 kernel=$2 out=$3 epoch=$4 tree
	tree=$(tmp_make)
	mkdir -p "$tree"/{dev,modules,newroot,proc,sys}
	install -m 0755 "$agent" "$tree/init"
	install -m 0644 "$kernel"/modules/*.ko "$tree/modules/"
	install -m 0644 "$kernel/modules.list" "$tree/modules.list"
	chmod 0755 "$tree"
	find "$tree" -exec touch -h -d "@$epoch" {} +
	(cd "$tree" && find . | LC_ALL=C sort |
		cpio -o -H newc --quiet --reproducible --owner=+0:+0) >"$out"
}

boot_key() {
	{
		files_hash "$IMAGES"/lib/{common,fetch,boot}.sh
		file_hash "$AGENT"
		lock_lines boot
	} | sha256sum | cut -d' ' -f1
}

# Build $OUT/boot from the package set of the lock and the agent.
boot_build() {
	local key deb lines kernel tmp epoch
	[ -n "$AGENT" ] || die "boot: --agent PATH is needed"
	[ -f "$AGENT" ] || die "boot: no agent at $AGENT"
	key=$(boot_key)
	if [ "$MODE" != update ] && output_fresh "$OUT/boot" "$key"; then
		step "boot: up to date"
		return 0
	fi
	fetch_set boot resolve_kernel "$KERNEL_META"
	key=$(boot_key)
	lines=$SET_LINES
	deb=$(deb_path "${lines%% *}")
	epoch=$(set_epoch)
	kernel=$CACHE/kernel/${lines##* }-$(file_hash "$IMAGES/lib/boot.sh" | head -c 16)
	[ -f "$kernel/modules.list" ] || kernel_unpack "$deb" "$kernel"
	step "boot: writing the initramfs"
	tmp=$(tmp_make)
	ln "$kernel/vmlinuz" "$tmp/vmlinuz"
	initramfs_make "$AGENT" "$kernel" "$tmp/initramfs" "$epoch"
	chmod 0644 "$tmp/initramfs"
	{
		echo "kernel_release=$(cat "$kernel/release")"
		echo "kernel_package=${lines%% *}"
		echo "kernel_package_sha256=${lines##* }"
		echo "kernel_format=elf-pvh"
		echo "cmdline=$CMDLINE"
		echo "cmdline_tcg=$CMDLINE_TCG"
		manifest_files "$tmp" vmlinuz initramfs
		echo "agent_sha256=$(file_hash "$AGENT")"
		echo "lock=$SET_LOCK"
		echo "inputs_sha256=$key"
		echo "inputs_date=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)"
	} >"$tmp/manifest"
	output_publish "$tmp" "$OUT/boot"
	step "boot: done"
}
