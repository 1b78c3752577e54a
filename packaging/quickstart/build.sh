# shellcheck shell=bash disable=SC2154 # variables of quickstart
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Building: always outside the source tree, one directory for each kind of build and checkout, so
# that a second run finds everything made.

build_dir() { printf '%s/build/%s-%s\n' "$base" "$1" "$(md5sum <<<"$src" | cut -c1-8)"; }

autotools() {
	[ -x "$src/configure" ] && [ ! "$src/configure.ac" -nt "$src/configure" ] && return 0
	(cd "$src" && autoreconf -i)
}

# configure KIND [ARG]...: once; a changed configure.ac is make's business (it has rules for that).
configure() {
	local dir
	dir=$(build_dir "$1"); shift
	autotools || return 1
	mkdir -p "$dir" && cd "$dir" || return 1
	[ -f config.status ] && [ "$(cat .arguments 2>/dev/null)" = "$*" ] && return 0
	"$src/configure" --prefix=/usr --sysconfdir=/etc --localstatedir=/var \
		--libexecdir=/usr/libexec "$@" && printf '%s\n' "$*" >.arguments
}

build() {
	local kind=$1; shift
	configure "$kind" "$@" && make -C "$(build_dir "$kind")" -j"$(nproc)"
}

# The product, as make installs it, in a directory that a host is given.
product_tree() { printf '%s/tree\n' "$base"; }

build_product() {
	local tree
	tree=$(product_tree)
	build product || return 1
	rm -rf "$tree.new"
	make -C "$(build_dir product)" install DESTDIR="$tree.new" || return 1
	rm -rf "$tree" && mv "$tree.new" "$tree"
}

images_dir() { printf '%s/images\n' "$base"; }

agent_path() { printf '%s/declaw-agent\n' "$(build_dir product)"; }

build_images() {
	[ -x "$(agent_path)" ] || { echo "no agent at $(agent_path)"; return 1; }
	"$src/images/build" --out "$(images_dir)" --agent "$(agent_path)" all
}

# place_images DIR: the images as /var/lib/declaw/{boot,templates} of a host. Hard links where the
# file system allows: nothing writes to them, and a new build makes new files.
place_images() {
	local to=$1 from image
	from=$(images_dir)
	mkdir -p "$to/templates"
	for image in boot $(cd "$from" && find templates -mindepth 1 -maxdepth 1 -type d); do
		cmp -s "$from/$image/manifest" "$to/$image/manifest" && continue
		rm -rf "$to/$image.new"
		cp -al "$from/$image" "$to/$image.new" 2>/dev/null || {
			rm -rf "$to/$image.new"
			cp -a --reflink=auto --sparse=always "$from/$image" "$to/$image.new" || return 1
		}
		chown -R root:root "$to/$image.new"
		chmod -R u=rwX,go=rX "$to/$image.new"
		rm -rf "${to:?}/$image" && mv "$to/$image.new" "$to/$image" || return 1
	done
}
