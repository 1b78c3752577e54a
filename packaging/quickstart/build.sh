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

# Kind and arguments of the build that is installed. `quickstart test` makes its own: the one that it tests.
product=(product)

build_product() {
	local tree
	tree=$(product_tree)
	build "${product[@]}" || return 1
	rm -rf "$tree.new"
	make -C "$(build_dir "${product[0]}")" install DESTDIR="$tree.new" || return 1
	rm -rf "$tree" && mv "$tree.new" "$tree"
}

images_dir() { printf '%s/images\n' "$base"; }

agent_path() { printf '%s/declaw-agent\n' "$(build_dir "${product[0]}")"; }

build_images() {
	[ -x "$(agent_path)" ] || { echo "no agent at $(agent_path)"; return 1; }
	"$src/images/build" --out "$(images_dir)" --agent "$(agent_path)" all
}

# place_images DIR: the images as /var/lib/declaw/{boot,templates} of a host. A template is a link to a
# version of it, which never changes: disks of sandboxes that are paused or running are built on theirs.
place_images() {
	local to=$1 from template name version
	from=$(images_dir)
	mkdir -p "$to/templates/.versions"
	cmp -s "$from/boot/manifest" "$to/boot/manifest" || place_copy "$from/boot" "$to/boot" || return 1
	for template in "$from"/templates/*/; do
		name=$(basename "$template")
		version=.versions/$name-$(sha256sum <"$template/manifest" | cut -c 1-16)
		[ -d "$to/templates/$version" ] || place_copy "$template" "$to/templates/$version" || return 1
		# From before there were versions
		[ -L "$to/templates/$name" ] || rm -rf "${to:?}/templates/$name"
		ln -sfn "$version" "$to/templates/$name.new" && mv -T "$to/templates/$name.new" "$to/templates/$name" || return 1
	done
	remove_old_versions "$to"
}

# place_copy FROM TO: hard links where the file system allows, since nothing writes to images.
place_copy() {
	rm -rf "$2.new"
	cp -al "$1" "$2.new" 2>/dev/null || {
		rm -rf "$2.new"
		cp -a --reflink=auto --sparse=always "$1" "$2.new" || return 1
	}
	chown -R root:root "$2.new"
	chmod -R u=rwX,go=rX "$2.new"
	rm -rf "${2:?}" && mv "$2.new" "$2"
}

# Versions that are no template any more and under nobody's disk: a qcow2 file names what it is built on in its first block.
remove_old_versions() {
	local to=$1 used version
	used=$(find -L "$to/templates" -mindepth 1 -maxdepth 1 -type d -exec readlink {} + 2>/dev/null
		find "$to" -name '*.qcow2' -exec head -qc 4096 {} + 2>/dev/null |
			grep -aoE 'templates/\.versions/[^/]+' | sed 's,^templates/,,')
	for version in "$to"/templates/.versions/*/; do
		version=.versions/$(basename "$version")
		grep -qxF "$version" <<<"$used" || rm -rf "${to:?}/templates/$version"
	done
}
