#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every fuzz target, built as a plain program, over its corpus: inputs once found stay tests. TAP.
dir=${srcdir:-.}/tests/fuzz/corpus
n=0
for runner in tests/fuzz/fuzz-*; do
	if [ ! -x "$runner" ] || [ ! -f "$runner" ]; then continue; fi
	n=$((n + 1))
	name=${runner##*/fuzz-}
	if "$runner" "$dir/$name" >"$runner.out" 2>&1; then
		echo "ok $n - $name, $(find "$dir/$name" -type f | wc -l) inputs"
	else
		sed 's/^/# /' "$runner.out"
		echo "not ok $n - $name"
	fi
done
[ "$n" -gt 0 ] || echo "not ok 1 - no target was built"
echo "1..$((n > 0 ? n : 1))"
