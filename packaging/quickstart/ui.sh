# shellcheck shell=bash disable=SC2154,SC2034 # variables of quickstart
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What quickstart shows: one line a step with the time it took, everything else in log files, and
# the end of the right log file when a step fails.

if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
	ui_tty=1 bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
	ui_tty='' bold='' dim='' red='' green='' plain=''
fi
ui_child=	# the step that runs, and what goes on beside steps
ui_beside=

say() { printf '%s\n' "$*"; }
die() { printf '%squickstart: %s%s\n' "$red" "$*" "$plain" >&2; exit 1; }

# elapsed FROM TO: two values of EPOCHREALTIME as seconds with one decimal.
elapsed() {
	local ms=$((${2//[.,]/} / 1000 - ${1//[.,]/} / 1000))
	printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100))
}

# While a step runs: a running clock on a terminal, a sign of life every 30 s elsewhere.
ui_watch() {
	local title=$1 from=$2 ticks=0
	while kill -0 "$ui_child" 2>/dev/null; do
		[ -z "$ui_tty" ] ||
			printf '\r%s  %s %ss%s ' "$dim" "$title" "$(elapsed "$from" "$EPOCHREALTIME")" "$plain"
		[ -n "$ui_tty" ] || [ $((ticks % 150)) != 149 ] ||
			printf '  %s ... %ss\n' "$title" "$(elapsed "$from" "$EPOCHREALTIME")"
		ticks=$((ticks + 1))
		read -rt 0.2 -u "$ui_pipe" || :
	done
}

# step TITLE LOG COMMAND...: runs COMMAND with its output in LOG (a name), shows TITLE and the time.
step() {
	local title=$1 file=$logs/$2.log from=$EPOCHREALTIME r
	shift 2
	mkdir -p "$logs"
	printf '%s  $ %s\n' "$(date -Is)" "$*" >"$file"
	("$@") </dev/null >>"$file" 2>&1 &
	ui_child=$!
	ui_watch "$title" "$from"
	wait "$ui_child"; r=$?
	ui_child=
	[ -z "$ui_tty" ] || printf '\r\e[K'
	if [ $r = 0 ]; then
		printf '%s  ok%s  %s %s(%ss)%s\n' "$green" "$plain" "$title" "$dim" \
			"$(elapsed "$from" "$EPOCHREALTIME")" "$plain"
		return 0
	fi
	printf '%sFAIL%s  %s (%ss)\n' "$red" "$plain" "$title" "$(elapsed "$from" "$EPOCHREALTIME")"
	show_failure "$file"
	return $r
}

# show_failure LOG: what its runner says did not pass (TAP, Automake, the figures' table, what a host left behind),
# shortly, since a reader may see only the first lines below FAIL. Only a log without such lines is shown by its end.
show_failure() {
	local found
	found=$(awk '/^ *not ok/ { show = 14 } /^ *ok |^PASS/ { show = 0 }
		show-- > 0 || /^(FAIL|ERROR|XPASS|tests\/[a-z0-9]+): |: FAILED|IT IS NOT|could not be taken|  NO *$|^left[ :]|left behind/' \
		"$1" | cut -c 1-300 | head -n 80)
	if [ -n "$found" ]; then
		printf '%s\n' "----- what failed" "$found"
	else
		printf '%s\n' "----- last lines of $1"
		tail -n 40 "$1"
	fi
	printf '%s\n' "----- all of it: $1"
}

# A wait that costs no process: reading from a pipe nobody writes to.
ui_start() {
	local fifo
	fifo=$(mktemp -u)
	mkfifo "$fifo" && exec {ui_pipe}<>"$fifo" && rm -f "$fifo"
}

ui_interrupt() {
	[ -z "$ui_child" ] || kill_tree "$ui_child"
	kill_beside
	exit 130
}

kill_tree() {
	local children child
	read -ra children <"/proc/$1/task/$1/children" 2>/dev/null
	for child in "${children[@]}"; do kill_tree "$child"; done
	kill -TERM "$1" 2>/dev/null
}

# It may have ended long ago, and its number be another's
kill_beside() { ! jobs -pr | grep -qx "$ui_beside" || kill_tree "$ui_beside"; }
