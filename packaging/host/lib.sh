# shellcheck shell=bash disable=SC2034,SC2016,SC2154 # for those who include this
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Names, paths and small tools shared by declaw-host and its two inner scripts.
#
# Everything a throw-away host owns on the outside is derived from its name:
#   /run/declaw-host/NAME/     volatile: leader, keeper, forwarder (each a pid and its start time),
#                              port, state, trees, binds, boot_id, and mount points
#   declaw-host-NAME           its cgroup2 subtree
#   DECLAW_HOST_BASE/state*    on disk: becomes /var/lib/declaw inside
#   DECLAW_HOST_BASE/hosts/    on disk: per host its last start: namespaces, processes, log
# so that several hosts live side by side and a crashed one can be recognised and cleaned.

DECLAW_HOST_BASE=${DECLAW_HOST_BASE:-/var/lib/declaw-quickstart}
DECLAW_HOST_RUN=/run/declaw-host

die() { printf 'declaw-host: %s\n' "$*" >&2; exit 1; }

# host_paths NAME: sets the variables that all other functions use.
host_paths() {
	[[ $1 =~ ^[a-z][a-z0-9-]{0,23}$ ]] || die "bad host name '$1' (want [a-z][a-z0-9-]*)"
	name=$1
	run=$DECLAW_HOST_RUN/$name
	group=declaw-host-$name
	state=$DECLAW_HOST_BASE/state
	[ "$name" = quickstart ] || state=$DECLAW_HOST_BASE/state-$name
	[ ! -s "$run/state" ] || state=$(cat "$run/state")
	record=$DECLAW_HOST_BASE/hosts/$name
	log=$DECLAW_HOST_BASE/hosts/$name.log
}

# start_time PID: field 22 of stat, which tells a process from a later one with the same pid. Fails
# for what is dead, even if nobody has collected it yet.
start_time() {
	local line rest
	read -r line 2>/dev/null <"/proc/$1/stat" || return 1
	rest=${line##*) }
	# shellcheck disable=SC2086 # word splitting is the point
	set -- $rest
	[[ $1 != [ZX] ]] && printf '%s\n' "${20}"
}

# alive FILE: is the process recorded in FILE ("pid starttime") still that process?
alive() {
	local pid when
	read -r pid when 2>/dev/null <"$1" && [ -n "$when" ] && [ "$(start_time "$pid")" = "$when" ]
}

pid_of() { local pid; read -r pid _ <"$1" && printf '%s\n' "$pid"; }

# remember FILE: records the calling shell. /proc belongs to the outer pid namespace even for the
# host's init (before it mounts its own), therefore not $$.
remember() {
	local pid
	read -r pid _ </proc/self/stat
	printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$1"
}

systemd_is_init() { [ -d /run/systemd/system ] && [ "$(cat /proc/1/comm)" = systemd ]; }

# copy_tree FROM TO: an installed tree over a root. Existing directories keep their owner and mode,
# symbolic links to directories stay, and what an administrator has in /etc is not overwritten.
copy_tree() {
	tar -C "$1" --exclude=./etc -cf - . | tar -C "$2" --no-overwrite-dir --keep-directory-symlink -xpf - || return 1
	[ ! -d "$1/etc" ] || cp -an "$1/etc/." "$2/etc/"
}

# with_cgroup2 COMMAND...: runs COMMAND in a private mount namespace in which $cg is the caller's
# cgroup2 root, whether or where this machine mounts one.
with_cgroup2() {
	mkdir -p "$run/cg"
	cg=$run/cg unshare --mount --propagation private -- bash -c '
		mount -t cgroup2 cgroup2 "$cg" && exec "$@"' with_cgroup2 "$@"
}

# kill_group: ends every process below the host's cgroup and removes it. Wants $cg.
kill_group() {
	local sub=$cg/$group turn pid
	[ -d "$sub" ] || return 0
	for turn in $(seq 200); do
		grep -q 'populated 0' "$sub/cgroup.events" && break
		if [ -e "$sub/cgroup.kill" ]; then
			echo 1 >"$sub/cgroup.kill"
		else
			find "$sub" -name cgroup.procs -exec cat {} + 2>/dev/null |
				while read -r pid; do kill -KILL "$pid" 2>/dev/null; done
		fi
		sleep 0.02
	done
	find "$sub" -depth -type d -exec rmdir {} + && [ "$turn" -lt 200 ]
}

# sweep: removes every outside trace of the host. Nothing is removed recursively here: $run/cg may
# be a mounted cgroup tree.
sweep() {
	local file
	for file in forwarder keeper; do
		[ -e "$run/$file" ] && [ "$(pid_of "$run/$file")" != $$ ] && alive "$run/$file" &&
			kill -KILL "$(pid_of "$run/$file")"
	done
	kill_group
	umount -l "$cg" 2>/dev/null
	rm -f "$run"/{leader,leader.new,keeper,forwarder,port,state,trees,binds,boot_id}
	rmdir "$run"/{cg,mem,root} "$run" 2>/dev/null
	rmdir "$DECLAW_HOST_RUN" 2>/dev/null
	[ ! -e "$run" ]
}
