#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every source and script says its licence in the first five lines, and no C file outgrows 600 lines.
# What counts: the files git tracks (in an unpacked tarball: all that were not made by autotools or in building) that have a
# name of a source or begin with #!. Recorded data (fuzz corpora, golden files, locks) has no place for a comment.
#
# Usage: check-spdx.sh [SOURCE_ROOT]; prints TAP.

set -eu
LC_ALL=C
export LC_ALL
cd "${1:-$(dirname "$0")/..}"

LICENSE='SPDX-License-Identifier: GPL-2.0-or-later'
LINES_MAX=600

list()
{
	if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
		git ls-files
	else
		find . \( -name build-aux -o -name autom4te.cache -o -path './_*' -o -path ./net \) -prune -o \
			-type f ! -name configure ! -name aclocal.m4 ! -name 'config.*' -print | sed 's#^\./##'
	fi | grep -vE '(^|/)(corpus|golden|node_modules|autom4te\.cache)/|-lock\.json$' | sort
}

is_source()
{
	[ -f "$1" ] || return 1		# removed in the working tree, or a link to nowhere
	case $1 in
	*.c|*.h|*.sh|*.py|*.js|*.mjs|*.ts|*.go|*.m4|*.mk|*.rules|*.conf|*.catalog) return 0 ;;
	*.service|*.socket|*.slice|*.timer|*.target|*.path|*.mount) return 0 ;;
	*/Makefile.am|Makefile.am|configure.ac) return 0 ;;
	esac
	[ "$(head -c 2 "$1" | tr -d '\0')" = '#!' ]
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/unlicensed"
: >"$work/long"
count=0
list >"$work/files"
while IFS= read -r file; do
	is_source "$file" || continue
	count=$((count + 1))
	head -n 5 "$file" | grep -qF "$LICENSE" || echo "# $file:1: no $LICENSE" >>"$work/unlicensed"
	case $file in
	*.c|*.h)
		lines=$(wc -l <"$file")
		[ "$lines" -le $LINES_MAX ] || echo "# $file:$lines: more than $LINES_MAX lines" >>"$work/long" ;;
	esac
done <"$work/files"
[ $count -gt 0 ] || { echo "Bail out! no sources below $(pwd)"; exit 99; }

status=0
report()
{
	if [ -s "$2" ]; then
		echo "not ok $1"
		cat "$2"
		status=1
	else
		echo "ok $1"
	fi
}
report "1 - $count sources name their licence" "$work/unlicensed"
report "2 - C files have at most $LINES_MAX lines" "$work/long"
echo "1..2"
exit $status
