# shellcheck shell=bash disable=SC2154,SC2034 # variables of quickstart
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Debian packages: what the lists name and the machine does not have.

# packages_of FILE...: the names in package lists.
packages_of() { sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$@" | sort -u; }

packages_missing() {
	local have
	have=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null | awk '$2 == "installed" { print $1 }')
	comm -23 <(packages_of "$@") <(sort -u <<<"$have")
}

# A machine without package lists (a fresh container) or with outdated ones gets new lists; others
# are not asked for network at all.
packages_install() {
	local apt=(apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120)
	export DEBIAN_FRONTEND=noninteractive
	"${apt[@]}" --no-install-recommends install "$@" && return 0
	"${apt[@]}" update && "${apt[@]}" --no-install-recommends install "$@"
}

# need LIST...: lists are names in packaging/deps, or files.
need() {
	local files=() list missing
	for list in "$@"; do
		[ -f "$list" ] && files+=("$list") || files+=("$src/packaging/deps/$list.txt")
	done
	mapfile -t missing < <(packages_missing "${files[@]}")
	[ ${#missing[@]} -eq 0 ] && return 0
	command -v apt-get >/dev/null || die "not a Debian system; please install: ${missing[*]}"
	step "install ${#missing[@]} Debian packages" packages packages_install "${missing[@]}"
}

node_is_enough() {
	local version
	version=$(node --version 2>/dev/null) && version=${version#v} &&
		[ "${version%%.*}" -ge 18 ] && command -v npm >/dev/null
}

need_node() {
	need_localhost
	node_is_enough && return 0
	step "install Node.js" node packages_install nodejs npm
	node_is_enough || die "the tests need Node.js 18 or later"
}

# curl knows localhost by itself, Node.js asks the machine; one made by debootstrap has never heard of it.
need_localhost() {
	getent hosts localhost >/dev/null && return 0
	printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n' >>/etc/hosts
}
