# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# common.sh - what every part of the image build shares.
#
# Theory of operation: every output is a directory that is written elsewhere, synced and then
# renamed to its name, so a reader sees all of it or none. Each output carries a `manifest` of
# key=value lines; its `inputs_sha256` names everything that went in. Equal inputs: nothing to do.
# Work in progress lives in $OUT/.tmp.*, which belongs to the one build that holds $OUT/.lock;
# whatever an interrupted build left there is removed by the next one.

BUILD_START=${EPOCHREALTIME/[^0-9]/}

elapsed() {
	local us=$((${EPOCHREALTIME/[^0-9]/} - BUILD_START))
	printf '%d.%d' $((us / 1000000)) $((us / 100000 % 10))
}

step() { printf 'images [%6ss] %s\n' "$(elapsed)" "$*"; }

warn() { printf 'images [%6ss] warning: %s\n' "$(elapsed)" "$*" >&2; }

die() {
	printf 'images [%6ss] error: %s\n' "$(elapsed)" "$*" >&2
	exit 1
}

# Hash of the named files: names relative to images/ and contents, in the order given.
files_hash() {
	local f
	for f; do
		printf '%s ' "${f#"$IMAGES"/}"
		sha256sum <"$f" || return 1
	done | sha256sum | cut -d' ' -f1
}

# openssl is three times as fast as sha256sum, which matters for images of several GiB.
file_hash() { openssl dgst -sha256 -r <"$1" | cut -d' ' -f1; }

# Package names of a list file: comments and empty lines dropped.
list_read() { sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$1"; }

# One value of a manifest; empty when the file or the key is missing.
manifest_get() { sed -n "s/^$2=//p" "$1" 2>/dev/null || true; }

# One value of the [template] section of a template.conf.
conf_get() { sed -n "s/^$2[[:space:]]*=[[:space:]]*//p" "$1"; }

# True when the output in $1 was made from inputs $2 and is complete: every file its manifest
# names with a `size.` key is there in that size. With --locked, it must also match its lock.
output_fresh() {
	local dir=$1 want=$2 key value
	[ "$(manifest_get "$dir/manifest" inputs_sha256)" = "$want" ] || return 1
	if [ "$MODE" = locked ]; then
		[ "$(manifest_get "$dir/manifest" lock)" = matches ] || return 1
	fi
	while IFS='=' read -r key value; do
		[ "$(stat -c %s "$dir/$key" 2>/dev/null)" = "$value" ] || return 1
	done < <(sed -n 's/^size\.//p' "$dir/manifest")
}

# A new empty directory for work in progress, on the file system of the outputs.
tmp_make() { mktemp -d "$OUT/.tmp.XXXXXXXX"; }

tmp_clean() {
	local d
	for d in "$OUT"/.tmp.*; do
		[ -d "$d" ] || continue
		rm -rf --one-file-system "$d"
	done
}

# Put the finished directory $1 in the place of $2. The old one is moved aside first, because a
# rename cannot replace a directory that has something in it.
output_publish() {
	local new=$1 final=$2 old
	find "$new" -type f -exec sync {} +
	chmod 0755 "$new"
	mkdir -p "$(dirname "$final")"
	if [ -e "$final" ]; then
		old=$(tmp_make)
		mv -T "$final" "$old/old"
		mv -T "$new" "$final"
		rm -rf --one-file-system "$old"
	else
		mv -T "$new" "$final"
	fi
	sync "$(dirname "$final")"
}

# The lines size.<file>= and sha256.<file>= for files of directory $1.
manifest_files() {
	local dir=$1 f
	shift
	for f; do
		printf 'size.%s=%s\n' "$f" "$(stat -c %s "$dir/$f")"
		printf 'sha256.%s=%s\n' "$f" "$(file_hash "$dir/$f")"
	done
}
