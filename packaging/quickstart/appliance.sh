# shellcheck shell=bash disable=SC2154,SC2034 # variables of quickstart
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The appliance on a host: what it is configured with, starting it, and talking to its API.
#
# A host is named; `quickstart` answers on port 8080. The tests' and the benchmarks' hosts have
# names and ports of their own, so a running appliance is never disturbed by them.

host() { "$src/packaging/host/declaw-host" --name "$name" "$@"; }

host_is_this_machine() { [ -d /run/systemd/system ] && [ "$(cat /proc/1/comm)" = systemd ]; }

# free_port: one for a host that needs just any.
free_port() {
	local port
	for port in {18080..18179}; do
		ss -Hltn "sport = :$port" | grep -q . || { echo "$port"; return; }
	done
	return 1
}

# use_host NAME PORT: selects the host the functions below act on.
use_host() {
	name=$1 port=$2
	host_is_this_machine && port=8080
	url=http://localhost:$port
	api_key=$(api_key)
}

# The key is made once for each host; one from the environment is used instead, and not kept.
api_key() {
	local file=$base/keys/$name
	if [ -n "${DECLAW_API_KEY-}" ]; then printf '%s\n' "$DECLAW_API_KEY"; return; fi
	if [ ! -s "$file" ]; then
		(umask 077; mkdir -p "${file%/*}"; printf 'dcl_%s\n' "$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')" >"$file")
	fi
	cat "$file"
}

# write_config ROOT: our key (and only ours: other lines stay) and what the environment asks for.
write_config() {
	local etc=$1/etc/declaw line
	mkdir -p "$etc/declawd.conf.d"
	line=$(printf %s "$api_key" | "$(product_tree)/usr/sbin/declawd" --hash-key quickstart) || return 1
	touch "$etc/keys"
	sed -i '/^quickstart:/d' "$etc/keys" && printf '%s\n' "$line" >>"$etc/keys"
	chmod 640 "$etc/keys"
	{
		echo "# written by quickstart"
		[ -z "${DECLAW_SANDBOX_DOMAIN-}" ] || printf '[api]\nsandbox_domain = %s\n' "$DECLAW_SANDBOX_DOMAIN"
		[ "${DECLAW_TEMPLATE_FALLBACK-}" != 1 ] || printf '[sandbox]\ntemplate_fallback = yes\n'
	} >"$etc/declawd.conf.d/50-quickstart.conf"
}

start_host() {
	local config=$base/config/$name trees=()
	if host_is_this_machine; then
		write_config "" || return 1
		place_images /var/lib/declaw || return 1
	else
		rm -rf "$config" && write_config "$config" || return 1
		place_images "$(host_state)" || return 1
		# First: files of the first tree win in /etc.
		trees=(--tree "$config")
	fi
	host up "${trees[@]}" --tree "$(product_tree)" --port "$port"
}

# Where the host keeps /var/lib/declaw; the same rule as in packaging/host/lib.sh.
host_state() {
	if [ "$name" = quickstart ]; then printf '%s/state\n' "$base"; else printf '%s/state-%s\n' "$base" "$name"; fi
}

wait_healthy() {
	local end=$((SECONDS + ${1:-60}))
	until curl -fsS -m 5 "$url/healthz"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}

show_journal() {
	host exec journalctl -b --no-pager -q -n 40 -o short-monotonic -u declawd -u declaw-libvirtd
}

# What a running host was started with; a change takes effect with the next start only.
inputs() {
	{
		printf '%s\n' "${DECLAW_SANDBOX_DOMAIN-}" "${DECLAW_TEMPLATE_FALLBACK-}"
		cd "$(product_tree)" && find . -type f -print0 | sort -z | xargs -0 sha256sum
		cat "$(images_dir)"/boot/manifest "$(images_dir)"/templates/*/manifest
	} | sha256sum
}

already_up() {
	local with=$base/config/$name.inputs started_key
	host status >/dev/null || return 1
	say "      already up"
	started_key=$(cat "$base/config/$name.key" 2>/dev/null)
	if [ "$(inputs)" != "$(cat "$with" 2>/dev/null)" ] ||
		[ "${DECLAW_API_KEY:-$started_key}" != "$started_key" ]; then
		say "      with an older build or other settings; ./quickstart down first to apply these"
	fi
	api_key=${started_key:-$api_key}
}

# appliance_up: from nothing to an API that answers.
appliance_up() {
	already_up && return 0
	mkdir -p "$base/config"
	inputs >"$base/config/$name.inputs"
	(umask 077; printf '%s\n' "$api_key" >"$base/config/$name.key")
	step "start the appliance ($(host_kind))" "up-$name" start_host || return 1
	step "wait for $url/healthz" "health-$name" wait_healthy && return 0
	show_journal
	return 1
}

host_kind() {
	if host_is_this_machine; then echo "on this machine"; else echo "in a throw-away systemd host"; fi
}

# api METHOD PATH [JSON]: the answer's body; fails with the body on stderr unless 2xx.
api() {
	local method=$1 path=$2 out code
	out=$(curl -sS -m 120 -X "$method" "$url$path" -w '\n%{http_code}' \
		-H "Authorization: Bearer $api_key" ${3:+-H "Content-Type: application/json" -d "$3"}) || return 1
	code=${out##*$'\n'}
	out=${out%$'\n'*}
	if [[ $code == 2* ]]; then printf '%s\n' "$out"; return 0; fi
	printf '%s %s: HTTP %s: %s\n' "$method" "$path" "$code" "$out" >&2
	return 1
}

# run_in SANDBOX COMMAND: its output; fails if the command does.
run_in() {
	local answer
	answer=$(api POST "/sandboxes/$1/commands" "$(jq -nc --arg cmd "$2" '{$cmd}')") || return 1
	jq -r '.stdout, .stderr | select(. != "")' <<<"$answer"
	[ "$(jq -r .exit_code <<<"$answer")" = 0 ]
}

# demo: a sandbox through the API, two commands in it, and what that took.
demo() {
	local created id from=$EPOCHREALTIME made first_output uname sum accel
	created=$(api POST /sandboxes '{"template":"python","timeout":300}') || return 1
	made=$EPOCHREALTIME
	id=$(jq -r .sandbox_id <<<"$created")
	uname=$(run_in "$id" "uname -a") || return 1
	first_output=$EPOCHREALTIME
	sum=$(run_in "$id" "python3 -c 'print(sum(range(101)))'") || return 1
	accel=$(curl -sS -m 5 "$url/healthz" | jq -r '.accelerator // "unknown"')
	api DELETE "/sandboxes/$id" >/dev/null || return 1
	printf '\n  %s$ uname -a%s\n  %s\n' "$dim" "$plain" "${uname%$'\n'}"
	printf "  %s\$ python3 -c 'print(sum(range(101)))'%s\n  %s\n\n" "$dim" "$plain" "$sum"
	demo_row "sandbox" "$id"
	demo_row "create" "$(elapsed "$from" "$made") s"
	demo_row "first output" "$(elapsed "$from" "$first_output") s"
	demo_row "accelerator" "$accel"
	demo_row "API" "$url"
}

demo_row() { printf '  %s%-13s%s %s\n' "$bold" "$1" "$plain" "$2"; }
