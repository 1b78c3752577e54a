# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# fetch.sh - from a list of wanted packages to a directory of verified .deb files.
#
# Theory of operation: a lock file lists every package of an image as `name=version sha256`. The
# .deb files live in $CACHE/debs. A set is fetched in the first of these ways that works:
#   1. all files of the lock are in the cache: no network is touched;
#   2. the mirror still has every locked version: the missing ones are downloaded;
#   3. the mirror has moved on: the newest versions are resolved and downloaded, and the difference
#      is printed. --locked makes that an error; --update-lock starts here and rewrites the lock.
# The sets 1 and 2 are compared with the lock by sha256. Resolution runs in an apt root of its own
# below $CACHE, with an empty dpkg status, so nothing installed or configured on the host decides
# what goes into an image. Which mirrors to use is mmdebstrap's default (or --sources FILE).

SUITE=bookworm

# Everything apt must be told to work in the private root; the host's proxy settings still hold.
apt_private() {
	local tool=$1
	shift
	"$tool" -q -o Dir="$CACHE/apt" -o Dir::State::status="$CACHE/apt/var/lib/dpkg/status" \
		-o Dir::Etc::Trusted=/etc/apt/trusted.gpg \
		-o Dir::Etc::TrustedParts=/etc/apt/trusted.gpg.d \
		-o APT::Sandbox::User=root -o APT::Install-Recommends=false \
		-o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache=srcpkgcache.bin \
		-o APT::Get::Assume-Yes=true -o Debug::NoLocking=true "$@"
}

# Let mmdebstrap lay out an apt root with its default mirrors and fetch the package lists.
apt_update() {
	local new line opts=()
	[ "$(cat "$CACHE/apt/updated-by" 2>/dev/null)" != "$$ $BUILD_START" ] || return 0
	step "fetch: reading the package lists of $SUITE"
	while read -r line; do
		opts+=("--aptopt=$line")
	done < <(apt-config dump 2>/dev/null | grep -E '^Acquire::https?::Proxy')
	new=$(tmp_make)
	mmdebstrap --quiet --simulate --mode=root --variant=custom --skip=cleanup \
		--aptopt='Acquire::Languages "none"' "${opts[@]}" \
		"$SUITE" "$new/apt" ${SOURCES:+"$SOURCES"} >"$new/log" 2>&1 || {
		cat "$new/log" >&2
		die "cannot read the package lists (no network?)"
	}
	rm -f "$new"/apt/etc/apt/apt.conf.d/*mmdebstrap*
	mkdir -p "$new/apt/var/cache/apt/archives/partial" "$new/apt/var/lib/apt/lists/partial"
	rm -rf --one-file-system "$CACHE/apt"
	echo "$$ $BUILD_START" >"$new/apt/updated-by"
	mv -T "$new/apt" "$CACHE/apt"
	cp "$CACHE/apt/etc/apt/sources.list" "$CACHE/sources.list.new"
	mv "$CACHE/sources.list.new" "$CACHE/sources.list"
}

# The newest versions of a template's packages with all they depend on: lines `name=version`.
# The minimal system is Essential: yes, Priority: required and apt, as mmdebstrap's minbase.
resolve_template() {
	local want=("$@") log
	mapfile -t -O "${#want[@]}" want < <(apt_private apt-cache dumpavail | awk '
		/^Package: / { name = $2; }
		/^Essential: yes/ || /^Priority: required/ { print name; }' | LC_ALL=C sort -u)
	log=$(tmp_make)/log
	apt_private apt-get --simulate install apt "${want[@]}" >"$log" 2>&1 || {
		cat "$log" >&2
		die "apt cannot resolve the package list"
	}
	awk '$1 == "Inst" { print $2 "=" substr($3, 2); }' "$log"
}

# The kernel image the meta package in $1 stands for: one line `name=version`.
resolve_kernel() {
	local image version
	image=$(apt_private apt-cache depends --important "$1" |
		awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit; }')
	[ -n "$image" ] || die "$1 depends on no kernel image"
	version=$(apt_private apt-cache show "$image" |
		awk '/^Version: / { print $2; exit; }')
	echo "$image=$version"
}

# Path of the cached file of `name=version`; fails when it is not there.
deb_path() {
	local name=${1%%=*} version=${1#*=} f
	for f in "$CACHE/debs/${name}_${version//:/%3a}"_{amd64,all}.deb; do
		[ -f "$f" ] || continue
		echo "$f"
		return 0
	done
	return 1
}

# Download the packages `name=version` that the cache lacks; fails when the mirror lacks one.
debs_download() {
	local p missing=() tmp
	for p; do
		deb_path "$p" >/dev/null || missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	step "fetch: downloading ${#missing[@]} of $# packages"
	tmp=$(tmp_make)
	if ! (cd "$tmp" && apt_private apt-get download "${missing[@]}") >"$tmp/log" 2>&1; then
		grep '^E: ' "$tmp/log" >&2 || true
		return 1
	fi
	mv -f "$tmp"/*.deb "$CACHE/debs/"
}

# The lock lines of packages `name=version` whose files are in the cache, sorted by name.
debs_lines() {
	local p f
	for p; do
		f=$(deb_path "$p") || return 1
		echo "$p $(file_hash "$f")"
	done | LC_ALL=C sort
}

lock_lines() { sed -e '/^#/d' "$IMAGES/lock/$1.lock" 2>/dev/null || true; }

lock_request() { sed -n 's/^# request //p' "$IMAGES/lock/$1.lock" 2>/dev/null || true; }

lock_write() {
	local what=$1 request=$2 lines=$3
	cat >"$IMAGES/lock/$what.lock.new" <<-EOF
		# SPDX-License-Identifier: GPL-2.0-or-later
		# Every package of $what: name=version sha256. Written by images/build --update-lock.
		# request $request
		$lines
	EOF
	mv "$IMAGES/lock/$what.lock.new" "$IMAGES/lock/$what.lock"
	step "$what: lock written, $(wc -l <<<"$lines") packages"
}

# Try the ways 1 and 2: exactly what the lock says. Leaves the lines in SET_LINES.
fetch_locked() {
	local what=$1 want=() lines
	mapfile -t want < <(lock_lines "$what" | cut -d' ' -f1)
	[ ${#want[@]} -gt 0 ] || return 1
	if [ ! -f "$CACHE/sources.list" ] || ! debs_lines "${want[@]}" >/dev/null 2>&1; then
		apt_update
		debs_download "${want[@]}" || return 1
	fi
	lines=$(debs_lines "${want[@]}") || return 1
	[ "$lines" = "$(lock_lines "$what")" ] || {
		diff <(lock_lines "$what") <(echo "$lines") >&2 || true
		die "$what: a package file differs from the lock in its contents"
	}
	SET_LINES=$lines
}

# Way 3: whatever the mirror has now. Leaves the lines in SET_LINES.
fetch_newest() {
	local what=$1 resolver=$2 found=() list
	shift 2
	apt_update
	step "$what: resolving the newest versions"
	list=$("$resolver" "$@")
	mapfile -t found <<<"$list"
	debs_download "${found[@]}" || die "$what: download failed"
	SET_LINES=$(debs_lines "${found[@]}")
}

report_drift() {
	local what=$1
	warn "$what: the mirror has moved on from images/lock/$what.lock (< locked, > now):"
	diff <(lock_lines "$what" | cut -d' ' -f1) <(cut -d' ' -f1 <<<"$SET_LINES") |
		grep '^[<>]' >&2 || true
	[ "$MODE" != locked ] || die "$what: not what the lock says, and --locked was given"
	warn "$what: going on with the newer packages; --update-lock makes them the pinned ones"
}

# fetch_set WHAT RESOLVER ARGS...: sets SET_LINES (the packages) and SET_LOCK (matches, drift).
# One at a time: the jobs share the private apt root.
fetch_set() {
	local lock
	mkdir -p "$CACHE/debs"
	exec {lock}>"$CACHE/.lock"
	flock "$lock"
	fetch_one "$@"
	exec {lock}>&-
}

# shellcheck disable=SC2034 # SET_LOCK is read by the parts that build
fetch_one() {
	local what=$1 resolver=$2 request
	shift 2
	request=$(printf '%s\n' "$@" | LC_ALL=C sort | sha256sum | cut -d' ' -f1)
	SET_LOCK=matches
	if [ "$MODE" = update ]; then
		fetch_newest "$what" "$resolver" "$@"
		lock_write "$what" "$request" "$SET_LINES"
		return 0
	fi
	if [ "$(lock_request "$what")" != "$request" ]; then
		warn "$what: the lock is missing or was made for another package list"
	elif fetch_locked "$what"; then
		step "$what: matches lock, $(wc -l <<<"$SET_LINES") packages"
		return 0
	fi
	fetch_newest "$what" "$resolver" "$@"
	SET_LOCK=drift
	report_drift "$what"
}

# Date of the youngest package of SET_LINES in seconds: the time stamp dpkg-deb wrote into the
# ar header of each file. A function of the package set alone, so a rebuild has the same.
set_epoch() {
	local p f t max=0
	while read -r p _; do
		f=$(deb_path "$p")
		t=$(head -c 36 "$f" | tail -c 12 | tr -d ' ')
		[ "$t" -le "$max" ] || max=$t
	done <<<"$SET_LINES"
	echo "$max"
}
