# shellcheck shell=bash disable=SC2154,SC2034 # variables of quickstart
# SPDX-License-Identifier: GPL-2.0-or-later
#
# `quickstart test`: every runner in turn, cheap ones first. A runner says what it found in its own
# last line; these lines are repeated at the end, and one failed runner fails the whole.

summary=()
failed=0

# runner NAME PATTERN COMMAND...: runs one; its closing line is the last that matches PATTERN. One
# that succeeds without it did not run to its end.
runner() {
	local title=$1 pattern=$2 file="test-${1//[^a-z0-9]/-}" r line
	shift 2
	step "$title" "$file" "$@"; r=$?
	line=$(grep -E "$pattern" "$logs/$file.log" | tail -n 1)
	if [ $r = 0 ] && [ -z "$line" ]; then
		line="ended without its closing line (see $logs/$file.log)"
		r=1
	fi
	[ $r = 0 ] || failed=1
	printf '      %s\n' "${line:=failed, see $logs/$file.log}"
	summary+=("$(if [ $r = 0 ]; then echo ok; else echo FAIL; fi)|$title|$line")
}

check_in() {
	local kind=$1; shift
	build "$kind" "$@" || return 1
	# Tests that need a terminal or a colour do not exist; those that need time have their own limits. Most of them wait
	# most of the time, so that more than there are processors run at once.
	DECLAW_TEST_BOOT=$(images_dir)/boot make -C "$(build_dir "$kind")" -j"$((2 * $(nproc)))" check VERBOSE=1
	local r=$? suite
	# Automake prints totals but no closing line of its own.
	suite=$(build_dir "$kind")/test-suite.log
	[ -f "$suite" ] && awk -v kind="$kind" '
		/^# (TOTAL|PASS|SKIP|XFAIL|FAIL|XPASS|ERROR):/ { n[$2] = $3 }
		/^SKIP: .* - / { sub(/^SKIP: (.*\/)?/, ""); skipped = skipped (skipped ? "; " : " (") $0 }
		END {
			printf "%s: %d tests: %d passed, %d failed, %d skipped%s\n", kind, n["TOTAL:"],
				n["PASS:"] + n["XFAIL:"], n["FAIL:"] + n["XPASS:"] + n["ERROR:"], n["SKIP:"],
				skipped (skipped ? ")" : "")
		}' "$suite"
	return $r
}

# compile_beside KIND [ARG]...: what check_in compiles, with what the next steps leave of the processors, until compiled_beside. That
# it failed is for check_in to say, which does again what is missing. A session of its own, because processors are shared
# between sessions first (sched(7), autogrouping).
compile_beside() {
	(
		export src base
		export -f autotools configure build build_dir
		# shellcheck disable=SC2016 # for the other shell
		exec setsid bash -c '
			echo 19 >/proc/self/autogroup
			chrt --idle --pid 0 $$
			build "$@" && make -C "$(build_dir "$1")" -j"$(nproc)" check TESTS=' compile_beside "$@"
	) </dev/null >"$logs/compile-beside.log" 2>&1 &
	ui_beside=$!
}

# What is not compiled by now is left to check_in: beside somebody else who computes, it would hardly ever end, and nobody would see.
compiled_beside() {
	kill_beside
	wait "$ui_beside"
	ui_beside=
}

lint_scripts() {
	local scripts
	mapfile -t scripts < <(cd "$src" && git ls-files quickstart .ci packaging images |
		while read -r file; do
			head -n 1 "$file" | grep -qE '^#!.*sh$|^# shellcheck shell' && echo "$file"
		done)
	(cd "$src" && shellcheck -x -P SCRIPTDIR "${scripts[@]}") && echo "shellcheck: ${#scripts[@]} scripts clean"
}

# The source archive has the files of the checkout and what autotools make, whatever else lies in checkout and build. With --long it is
# also built, tested, installed and removed again.
check_archive() {
	local dir packed=$logs/archive.txt made='^(Makefile\.in|aclocal\.m4|build-aux/.*|config\.h\.in|configure)$'
	dir=$(build_dir "${product[0]}")
	rm -f "$dir"/declawd-*.tar.xz
	DECLAW_TEST_BOOT=$(images_dir)/boot make -C "$dir" -j"$((2 * $(nproc)))" "$([ -n "$long" ] && echo distcheck || echo dist)" || return 1
	tar -tf "$dir"/declawd-*.tar.xz | sed -e 's#^[^/]*/##' -e '/\/$/d' -e '/^$/d' | grep -vE "$made" | sort >"$packed"
	(cd "$src" && git ls-files --cached --others --exclude-standard) | grep -vxF .gitignore | sort | diff - "$packed" &&
		echo "archive: $(wc -l <"$packed") files, those of the checkout${long:+; built and tested}"
}

check_layers() { (cd "$src" && tests/check-layers.sh) && echo "layers: clean"; }

# with_host NAME COMMAND...: runs COMMAND against an appliance of its own, which ends with it.
# The environment is the interface: see tests/e2e/lib/env.mjs.
with_host() {
	local r=0
	use_host "$1" "$(free_port)"; shift
	if host_is_this_machine && host status >/dev/null; then
		echo "the appliance is in use on this machine; ./quickstart down first"
		return 1
	fi
	host down >/dev/null
	# Sandboxes that a run left which failed are not in the way of the next
	host_is_this_machine || rm -rf "$(host_state)"
	if start_host && wait_healthy; then
		DECLAW_API_URL=$url DECLAW_API_KEY=$api_key DECLAW_TEST_BUILD=$(build_dir gcc) \
			DECLAW_HOST="$src/packaging/host/declaw-host --name $name" \
			DECLAW_HOST_EXEC="$src/packaging/host/declaw-host --name $name exec" "$@" || r=$?
	else
		r=1
	fi
	[ $r = 0 ] || { echo "----- journal of the appliance"; show_journal; echo "-----"; }
	host down || r=1
	host leaks || { echo "the host left these traces"; r=1; }
	return "$r"
}

# node's own reporter ends with counts on several lines; together they are the closing line.
test_e2e() {
	local out=$logs/e2e.tap r=0
	with_host test "$src/tests/e2e/run" "$@" >"$out" 2>&1 || r=1
	cat "$out"
	awk '
		/^# (tests|pass|fail|cancelled|skipped|todo) [0-9]+$/ { n[$2] = $3 }
		END {
			printf "e2e: %d tests: %d passed, %d failed, %d skipped\n", n["tests"], n["pass"],
				n["fail"] + n["cancelled"], n["skipped"] + n["todo"]
			exit n["tests"] == 0
		}' "$out" || r=1
	return $r
}

# What is sanitized is not optimized: it is compiled in a third of the time, and nothing is optimized away
sanitized=(asan CC=clang --enable-werror --enable-sanitizers CFLAGS="-g1 -O0" LDFLAGS=-fuse-ld=lld)

run_tests() {
	local from=$SECONDS
	runner "scripts" '^shellcheck: ' lint_scripts
	runner "layers" '^layers: ' check_layers
	runner "unit and protocol tests, gcc" '^gcc: ' check_in "${product[@]}"
	compile_beside "${sanitized[@]}"
	runner "source archive" '^archive: ' check_archive
	runner "throw-away host" '^host: ' "$src/packaging/host/selftest"
	runner "end to end" '^e2e: ' test_e2e
	compiled_beside
	runner "unit and protocol tests, clang with sanitizers" '^asan: ' check_in "${sanitized[@]}"
	[ -z "$long" ] || runner "end to end, long" '^e2e: ' test_e2e long
	runner "lifecycle figures" '^figures: ' with_host figures "$src/tests/figures/run" ${long:+--long}
	runner "cold boots beside busy neighbours" '^boot: ' with_host test "$src/tests/boot/run" \
		--count "$([ -n "$long" ] && echo 50 || echo 6)"
	print_summary $((SECONDS - from))
	return $failed
}

print_summary() {
	local row state title line
	printf '\n%sSummary%s\n' "$bold" "$plain"
	for row in "${summary[@]}"; do
		IFS='|' read -r state title line <<<"$row"
		printf '  %-4s  %-48s %s\n' "$state" "$title" "$line"
	done
	printf '%s in %d min %02d s (%s)\n' "$(if [ $failed = 0 ]; then echo "all passed"; else echo "FAILED"; fi)" \
		$(($1 / 60)) $(($1 % 60)) "${long:+long, }$(nproc) processors"
}
