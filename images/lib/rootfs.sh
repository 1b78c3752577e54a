# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# rootfs.sh - a template: packages to a tree (mmdebstrap) to an ext4 image (mke2fs -d).
#
# Theory of operation: the verified .deb files are put up as a flat local archive, and mmdebstrap
# installs from that alone, in root mode, without network. The tree becomes an ext4 image without
# any mount. Two builds of one package set are equal in every byte: SOURCE_DATE_EPOCH is the date
# of the youngest package, identifiers are derived from the template's name, and the change times
# mke2fs copies from the tree (which no tool can set there) are rewritten in the image.

# A fixed UUID derived from text $1.
uuid_of() {
	local h
	h=$(printf 'declaw %s' "$1" | sha256sum)
	printf '%s-%s-4%s-8%s-%s\n' "${h:0:8}" "${h:8:4}" "${h:13:3}" "${h:17:3}" "${h:20:12}"
}

# A flat archive of the packages in SET_LINES in directory $1: hard links and a Packages file.
archive_make() {
	local dir=$1 p sum f
	mkdir -p "$dir"
	while read -r p sum; do
		f=$(deb_path "$p")
		ln "$f" "$dir/" 2>/dev/null || cp "$f" "$dir/"
		dpkg-deb -f "$f"
		printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
			"$(basename "$f")" "$(stat -c %s "$f")" "$sum"
	done <<<"$SET_LINES" >"$dir/Packages"
}

# Run mmdebstrap in a mount namespace of its own where the machine allows one, so that nothing of
# /proc, /sys and /dev can stay mounted in the tree however the build ends.
isolated() {
	if unshare --mount --propagation private true 2>/dev/null; then
		unshare --mount --propagation private -- "$@"
	else
		"$@"
	fi
}

# Install template $1 from archive $2 into the new directory $3; $4 is the date.
tree_install() {
	local name=$1 archive=$2 tree=$3 epoch=$4 include
	include=$(list_read "$IMAGES/templates/$name/packages" | paste -sd,)
	SOURCE_DATE_EPOCH=$epoch DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
		isolated mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
		--include="$include" \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/info/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/lintian/*' \
		--dpkgopt='path-exclude=/usr/share/go-*/test/*' \
		--customize-hook="$IMAGES/lib/customize \"\$1\" '$CACHE/sources.list'" \
		'' "$tree" "deb [trusted=yes] copy:$archive ./"
	# mmdebstrap's own clean-up no longer knows the archive once the sources are replaced.
	find "$tree/var/lib/apt/lists" -mindepth 1 -delete
	mkdir -p "$tree/var/lib/apt/lists/partial"
}

# Numbers of the inodes in use in image $1: what dumpe2fs does not list as free.
inodes_used() {
	dumpe2fs "$1" 2>/dev/null | awk '
		/^Inodes per group:/ { per = $4; }
		/^Group [0-9]+:/ { base = per * substr($2, 1, length($2) - 1); }
		/^  Free inodes:/ {
			next_used = base + 1;
			sub(/^  Free inodes: */, "");
			n = split($0, range, /, */);
			for (i = 1; i <= n; i++) {
				if (range[i] == "") continue;
				m = split(range[i], ends, "-");
				for (; next_used < ends[1]; next_used++) print next_used;
				next_used = ends[m] + 1;
			}
			for (; next_used <= base + per; next_used++) print next_used;
		}'
}

# Give every inode of image $1 the access, change and creation time $2.
times_fix() {
	local image=$1 epoch=$2
	inodes_used "$image" | awk -v t="@$epoch" '
		$1 == 2 || $1 >= 11 {
			print "sif <" $1 "> atime " t; print "sif <" $1 "> ctime " t;
			print "sif <" $1 "> atime_extra 0"; print "sif <" $1 "> ctime_extra 0";
		}' >"$image.sif"
	E2FSPROGS_FAKE_TIME=$epoch debugfs -w -f "$image.sif" "$image" >/dev/null 2>"$image.log" ||
		die "cannot rewrite the times in $image"
	! grep -v '^debugfs 1' "$image.log" || die "cannot rewrite the times in $image"
	rm -f "$image.sif" "$image.log"
}

# ext4 image $1 of tree $2: $3 MiB, template $4, date $5.
image_make() {
	local image=$1 tree=$2 size=$3 name=$4 epoch=$5
	find "$tree" -newermt "@$epoch" -exec touch -h -d "@$epoch" {} +
	truncate -s "${size}M" "$image"
	E2FSPROGS_FAKE_TIME=$epoch mke2fs -q -t ext4 -d "$tree" -L "declaw-$name" -m 0 -i 16384 \
		-J size=16 -U "$(uuid_of "uuid $name")" \
		-E "hash_seed=$(uuid_of "hash $name"),lazy_itable_init=1,lazy_journal_init=1,nodiscard" \
		"$image"
	times_fix "$image" "$epoch"
	e2fsck -fn "$image" >"$image.log" 2>&1 || {
		cat "$image.log" >&2
		die "$name: the image does not pass e2fsck"
	}
	rm -f "$image.log"
}

template_key() {
	{
		files_hash "$IMAGES"/lib/{common,fetch,rootfs}.sh "$IMAGES/lib/customize" \
			"$IMAGES/templates/$1"/{packages,template.conf}
		lock_lines "$1"
		[ -z "$SOURCES" ] || file_hash "$SOURCES"
	} | sha256sum | cut -d' ' -f1
}

# Build $OUT/templates/$1.
template_build() {
	local name=$1 key epoch work new size want=()
	key=$(template_key "$name")
	if [ "$MODE" != update ] && output_fresh "$OUT/templates/$name" "$key"; then
		step "$name: up to date"
		return 0
	fi
	mapfile -t want < <(list_read "$IMAGES/templates/$name/packages")
	fetch_set "$name" resolve_template "${want[@]}"
	key=$(template_key "$name")
	epoch=$(set_epoch)
	size=$(conf_get "$IMAGES/templates/$name/template.conf" disk_mb)
	work=$(tmp_make)
	new=$(tmp_make)
	# mmdebstrap's apt reads the archive as another user.
	chmod 0755 "$work"
	step "$name: laying out the local archive"
	archive_make "$work/archive"
	step "$name: installing $(wc -l <<<"$SET_LINES") packages (a minute or two)"
	tree_install "$name" "$work/archive" "$work/tree" "$epoch" ||
		die "$name: mmdebstrap failed"
	step "$name: writing rootfs.ext4"
	image_make "$new/rootfs.ext4" "$work/tree" "$size" "$name" "$epoch"
	cut -d' ' -f1 <<<"$SET_LINES" >"$new/packages.list"
	cp "$IMAGES/templates/$name/template.conf" "$new/template.conf"
	chmod 0444 "$new/rootfs.ext4"
	step "$name: hashing"
	{
		echo "name=$name"
		manifest_files "$new" rootfs.ext4 template.conf packages.list
		echo "allocated_bytes=$(($(stat -c %b "$new/rootfs.ext4") * 512))"
		echo "packages=$(wc -l <<<"$SET_LINES")"
		echo "packages_sha256=$(sha256sum <<<"$SET_LINES" | cut -d' ' -f1)"
		echo "lock=$SET_LOCK"
		echo "inputs_sha256=$key"
		echo "inputs_date=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)"
	} >"$new/manifest"
	output_publish "$new" "$OUT/templates/$name"
	rm -rf --one-file-system "$work"
	step "$name: done"
}
