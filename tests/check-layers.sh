#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Who may include whom. Lower layers never include higher ones and adapters never include each other;
# the one exception is daemon/loop, which any adapter may use. The guest agent shares the wire code, and
# of util only the headers that are macros and nothing to link. Every quoted include is resolved the way
# the compiler does it (own directory, -Idaemon, -Iguest), so a path trick does not get around a rule.
#
# Usage: check-layers.sh [SOURCE_ROOT]; prints TAP, one test per area, offenders as file:line.

set -eu
LC_ALL=C
export LC_ALL
cd "${1:-$(dirname "$0")/..}"

# The areas that the area $1 may include, besides itself.
allowed()
{
	case $1 in
	util|wire) echo "" ;;
	policy) echo "util" ;;
	chan) echo "util policy" ;;
	proxy) echo "util policy chan" ;;
	loop) echo "util wire" ;;
	bus|virt|agent|http) echo "util wire loop" ;;
	net) echo "util loop policy" ;;
	egress) echo "util wire loop policy chan" ;;
	resolver) echo "util policy chan" ;;
	core) echo "util wire policy chan loop bus virt net agent egress http" ;;
	# The agent: a file or a stream of the guest is pumped to the client without core in between
	api) echo "util policy chan core http agent egress" ;;
	main) echo "util wire policy chan loop bus virt net agent egress http core api" ;;
	guest) echo "wire" ;;
	esac
}

# daemon/<dir>/... is <dir>, daemon/*.[ch] is main, guest/wire/... is wire, the rest of guest/ is guest.
area_of()
{
	case $1 in
	guest/wire/*) echo wire ;;
	guest/*) echo guest ;;
	daemon/*/*) area=${1#daemon/}; echo "${area%%/*}" ;;
	daemon/*) echo main ;;
	*) echo outside ;;
	esac
}

# a/b/../c is a/c; a path that leaves the tree stays odd and is found to be outside.
normalize()
{
	printf '%s\n' "$1" | sed -e ':a' -e 's#/\./#/#g; s#///*#/#g; s#[^/][^/]*/\.\./##; ta'
}

# Where the header $2 included by the file $1 is.
resolve()
{
	# made from nft/declaw-base.nft when building
	[ "$2" != net/nft-base.h ] || { echo daemon/net/nft-base.h; return; }
	for candidate in "$(dirname "$1")/$2" "daemon/$2" "guest/$2"; do
		if [ -f "$candidate" ]; then
			normalize "$candidate"
			return
		fi
	done
	echo "missing/$2"
}

# FILE:LINE:HEADER of every quoted include.
includes()
{
	find daemon guest -name '*.[ch]' -type f -exec grep -HnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' {} + |
		sed -E 's/^([^:]*:[0-9]+):[^"]*"([^"]*)".*/\1:\2/' | sort -t: -k1,1 -k2,2n
}

verdict()
{
	to=$(area_of "$2")
	[ "$to" = "$1" ] && return
	case $1:$2 in
	guest:daemon/util/macro.h|guest:daemon/util/list.h) return ;;
	*:missing/config.h) return ;;	# configure makes it, maybe in another directory
	esac
	case " $(allowed "$1") " in
	*" $to "*) ;;
	*)
		case $2 in
		missing/*) echo "$3: \"${2#missing/}\" is not in this tree" ;;
		*) echo "$3: $1 must not include $2 ($to)" ;;
		esac ;;
	esac
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
includes >"$work/includes"
[ -s "$work/includes" ] || { echo "Bail out! no sources below $(pwd)"; exit 99; }

: >"$work/bad"
while IFS=: read -r file line header; do
	from=$(area_of "$file")
	verdict "$from" "$(resolve "$file" "$header")" "$file:$line" | sed "s/^/$from /" >>"$work/bad"
done <"$work/includes"

# A directory nobody gave a layer would otherwise be allowed nothing and blamed for everything.
areas="util wire policy chan resolver proxy loop bus virt net agent egress http core api main guest"
for dir in daemon/*/; do
	name=$(basename "$dir")
	case " $areas " in
	*" $name "*) ;;
	*) echo "layout daemon/$name has no layer in $0" >>"$work/bad" ;;
	esac
done

n=0
status=0
for area in layout $areas; do
	n=$((n + 1))
	if grep -q "^$area " "$work/bad"; then
		echo "not ok $n - $area"
		sed -n "s/^$area /# /p" "$work/bad"
		status=1
	else
		echo "ok $n - $area"
	fi
done
echo "1..$n"
exit $status
