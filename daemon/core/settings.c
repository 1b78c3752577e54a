/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Configuration. Every key is a row here and a commented line with its default in units/declawd.conf; a test compares
 * the two. Values are checked at load: the daemon refuses to start on a file it does not understand.
 */
#include "core/settings.h"

#include <string.h>
#include <sys/stat.h>

#include "core/limits.h"
#include "core/tier.h"
#include "policy/policy.h"
#include "util/clock.h"
#include "util/conf.h"
#include "util/str.h"

#define ROW(sec, k, t, field, ...) { .section = sec, .key = k, .type = t, .offset = offsetof(struct settings, field), __VA_ARGS__ }
#define TIER(k, t, field, ...) { .section = "tier *", .key = k, .type = t, .offset = offsetof(struct tier, field), \
	.instance = settings_tier, __VA_ARGS__ }
#define RANGE(lo, hi) .min = (lo), .max = (hi)
#define HOUR (3600ull * USEC_PER_SEC)

static void *settings_tier(void *target, const char *name)
{
	struct settings *s = target;
	struct tier *more;

	for (size_t i = 0; i < s->n_tiers; i++)
		if (str_eq(s->tiers[i].name, name))
			return &s->tiers[i];
	more = reallocarray(s->tiers, s->n_tiers + 1, sizeof(*more));
	if (!more)
		return NULL;
	s->tiers = more;
	more += s->n_tiers++;
	memset(more, 0, sizeof(*more));
	snprintf(more->name, sizeof(more->name), "%s", name);
	return more;
}

static const struct conf_key settings_keys[] = {
	ROW("api", "listen", CONF_LIST, listen),
	ROW("api", "keys_file", CONF_STRING, keys_file),
	ROW("api", "sandbox_domain", CONF_STRING, sandbox_domain),
	ROW("api", "connections_max", CONF_U64, connections_max, RANGE(16, 65536)),
	ROW("api", "connections_per_address_max", CONF_U64, connections_per_address_max, RANGE(1, 65536)),
	ROW("api", "idle_timeout", CONF_USEC, idle_timeout_usec, RANGE(USEC_PER_SEC, 24 * HOUR)),
	ROW("api", "raw_body_max", CONF_SIZE, raw_body_max, RANGE(1ull << 20, 1ull << 50)),
	ROW("sandbox", "template_fallback", CONF_BOOL, template_fallback),
	ROW("sandbox", "timeout_default", CONF_USEC, timeout_default_usec, RANGE(USEC_PER_SEC, 720 * HOUR)),
	ROW("sandbox", "boot_timeout", CONF_USEC, boot_timeout_usec, RANGE(USEC_PER_SEC, HOUR)),
	ROW("sandbox", "killed_retention", CONF_USEC, killed_retention_usec, RANGE(0, 720 * HOUR)),
	ROW("sandbox", "killed_max", CONF_U64, killed_max, RANGE(0, 1000000)),
	ROW("sandbox", "sandboxes_max", CONF_U64, sandboxes_max, RANGE(1, 4096)),
	ROW("sandbox", "boots_at_once", CONF_U64, boots_at_once, RANGE(1, 256)),
	ROW("sandbox", "metrics_interval", CONF_USEC, metrics_interval_usec, RANGE(0, 24 * HOUR)),
	ROW("sandbox", "metrics_kept", CONF_U64, metrics_kept, RANGE(0, 100000)),
	ROW("create", "fork", CONF_BOOL, fork),
	ROW("create", "snapshots_max", CONF_U64, snapshots_max, RANGE(0, 4096)),
	ROW("create", "parked_min", CONF_U64, parked_min, RANGE(0, 256)),
	ROW("create", "parked_max", CONF_U64, parked_max, RANGE(0, 256)),
	ROW("create", "prestarted_min", CONF_U64, prestarted_min, RANGE(0, 256)),
	ROW("create", "prestarted_max", CONF_U64, prestarted_max, RANGE(0, 256)),
	ROW("sandbox", "boot_queue_max", CONF_U64, boot_queue_max, RANGE(0, 4096)),
	ROW("sandbox", "boot_queue_timeout", CONF_USEC, boot_queue_usec, RANGE(0, HOUR)),
	ROW("sandbox", "memory_max", CONF_SIZE, memory_max, RANGE(0, 1ull << 50)),
	ROW("sandbox", "memory_reserve", CONF_SIZE, memory_reserve, RANGE(0, 1ull << 50)),
	ROW("sandbox", "spool_max", CONF_SIZE, spool_max, RANGE(2ull * READER_LAG, 1ull << 40)),
	ROW("sandbox", "paused_to_disk_after", CONF_USEC, paused_to_disk_usec, RANGE(0, 720 * HOUR)),
	ROW("host", "state_dir", CONF_STRING, state_dir),
	ROW("host", "run_dir", CONF_STRING, run_dir),
	ROW("host", "slice", CONF_STRING, slice),
	ROW("host", "vm_group", CONF_STRING, vm_group),
	ROW("host", "libvirt_uri", CONF_STRING, libvirt_uri),
	ROW("host", "libvirt_pid_dir", CONF_STRING, libvirt_pid_dir),
	ROW("host", "libvirt_log_dir", CONF_STRING, libvirt_log_dir),
	ROW("host", "emulator", CONF_STRING, emulator),
	ROW("host", "accelerator", CONF_ENUM, accelerator, .choices = "auto|kvm|tcg"),
	ROW("host", "accelerator_probe_timeout", CONF_USEC, accel_probe_usec, RANGE(USEC_PER_SEC, 600 * USEC_PER_SEC)),
	ROW("host", "tsc_khz", CONF_U64, tsc_khz, RANGE(0, 100000000)),
	ROW("host", "workers", CONF_U64, workers, RANGE(6, 64)),
	ROW("egress", "network", CONF_STRING, network),
	ROW("egress", "allow_private", CONF_LIST, allow_private),
	ROW("egress", "blocked", CONF_ENUM, blocked, .choices = "reset|drop"),
	ROW("egress", "upstream_dns", CONF_LIST, upstream_dns),
	ROW("egress", "proxy_user", CONF_STRING, proxy_user),
	ROW("egress", "resolver_user", CONF_STRING, resolver_user),
	ROW("egress", "audit_max", CONF_U64, audit_max, RANGE(16, 1000000)),
	ROW("egress", "audit_total", CONF_SIZE, audit_total, RANGE(1ull << 20, 1ull << 50)),
	ROW("log", "level", CONF_ENUM, log_level, .choices = "emerg|alert|crit|err|warning|notice|info|debug"),
	TIER("vcpus_max", CONF_U64, vcpus_max, RANGE(0, 1024)),
	TIER("memory_mb_max", CONF_U64, memory_mb_max, RANGE(0, 1ull << 30)),
	TIER("storage_gib_max", CONF_U64, storage_gib_max, RANGE(0, 1ull << 30)),
	TIER("sandboxes_max", CONF_U64, sandboxes_max, RANGE(0, 1ull << 30)),
	TIER("creates_per_second", CONF_U64, creates_per_second, RANGE(0, 1000000)),
	TIER("requests_per_second", CONF_U64, requests_per_second, RANGE(0, 1000000)),
	TIER("runtime_max", CONF_USEC, runtime_max_usec, RANGE(0, 87600 * HOUR)),
	{ .section = NULL },
};

/* Written as text so that defaults pass through the same checks as a file. */
static const char settings_defaults[] =
	"[api]\n"
	"listen = 127.0.0.1:8080, [::1]:8080\n"
	"keys_file = /etc/declaw/keys\n"
	"sandbox_domain = declaw.local\n"
	"connections_max = 2048\n"
	"connections_per_address_max = 2048\n"
	"idle_timeout = 5min\n"
	"raw_body_max = 500M\n"
	"[sandbox]\n"
	"template_fallback = no\n"
	"timeout_default = 5min\n"
	"boot_timeout = 2min\n"
	"killed_retention = 1h\n"
	"killed_max = 10000\n"
	"sandboxes_max = 256\n"
	"boots_at_once = 4\n"
	"metrics_interval = 10s\n"
	"metrics_kept = 360\n"
	"boot_queue_max = 128\n"
	"boot_queue_timeout = 30s\n"
	"memory_max = 0\n"
	"memory_reserve = 512M\n"
	"spool_max = 64M\n"
	"paused_to_disk_after = 10min\n"
	"[create]\n"
	"fork = yes\n"
	"snapshots_max = 16\n"
	"parked_min = 0\n"
	"parked_max = 0\n"
	"prestarted_min = 0\n"
	"prestarted_max = 0\n"
	"[host]\n"
	"state_dir = /var/lib/declaw\n"
	"run_dir = /run/declaw\n"
	"slice = declaw.slice\n"
	"vm_group = declaw-vm\n"
	"libvirt_uri = qemu:///session?socket=/run/declaw/libvirt/libvirt/libvirt-sock\n"
	"libvirt_pid_dir = /run/declaw/libvirt/libvirt/qemu/run\n"
	"libvirt_log_dir = /var/lib/declaw/vm/cache/libvirt/qemu/log\n"
	"emulator = /usr/bin/qemu-system-x86_64\n"
	"accelerator = auto\n"
	"accelerator_probe_timeout = 20s\n"
	"tsc_khz = 0\n"
	"workers = 16\n"
	"[egress]\n"
	"network = 10.214.0.0/16\n"
	"allow_private = none\n"
	"blocked = reset\n"
	"upstream_dns = system\n"
	"proxy_user = declaw-proxy\n"
	"resolver_user = declaw-dns\n"
	"audit_max = 4096\n"
	"audit_total = 512M\n"
	"[log]\n"
	"level = info\n"
	"[tier default]\n"
	"vcpus_max = 0\n"
	"memory_mb_max = 0\n"
	"storage_gib_max = 0\n"
	"sandboxes_max = 0\n"
	"creates_per_second = 0\n"
	"requests_per_second = 0\n"
	"runtime_max = 0\n"
	"[tier base]\n"
	"vcpus_max = 4\n"
	"memory_mb_max = 4096\n"
	"storage_gib_max = 10\n"
	"sandboxes_max = 25\n"
	"creates_per_second = 2\n"
	"requests_per_second = 0\n"
	"runtime_max = 1h\n"
	"[tier pro]\n"
	"vcpus_max = 16\n"
	"memory_mb_max = 16384\n"
	"storage_gib_max = 50\n"
	"sandboxes_max = 500\n"
	"creates_per_second = 10\n"
	"requests_per_second = 0\n"
	"runtime_max = 24h\n";

bool settings_list_is(char *const *list, const char *word)
{
	return list && list[0] && !list[1] && str_eq(list[0], word);
}

/* Ranges are text to the table of keys; here they must be ranges */
static int check_egress(const struct settings *s, char **ret_error)
{
	struct policy_net n;

	if (policy_net_parse(s->network, &n) < 0 || n.bits < 8 || n.bits > 24) {
		*ret_error = str_format("[egress] network = %s: must be a range of IPv4 addresses from /8 to /24", s->network);
		return -EINVAL;
	}
	for (size_t i = 0; s->allow_private && s->allow_private[i] && !settings_list_is(s->allow_private, "none"); i++)
		if (policy_net_parse(s->allow_private[i], &n) < 0) {
			*ret_error = str_format("[egress] allow_private: %s is no range of IPv4 addresses", s->allow_private[i]);
			return -EINVAL;
		}
	for (size_t i = 0; s->upstream_dns && s->upstream_dns[i] && !settings_list_is(s->upstream_dns, "system"); i++)
		if (policy_net_parse(s->upstream_dns[i], &n) < 0 || n.bits != 32) {
			*ret_error = str_format("[egress] upstream_dns: %s is no IPv4 address", s->upstream_dns[i]);
			return -EINVAL;
		}
	return 0;
}

int settings_load(struct settings *s, const char *path, bool required, char **ret_error)
{
	_cleanup_free_ char *dir = NULL;
	struct stat st;
	int r;

	memset(s, 0, sizeof(*s));
	r = conf_parse("defaults", settings_defaults, sizeof(settings_defaults) - 1, settings_keys, s, ret_error);
	if (r < 0)
		return r;
	if (required || stat(path, &st) == 0) {
		r = conf_load(path, settings_keys, s, ret_error);
		if (r < 0)
			return r;
	}
	dir = str_format("%s.d", path);
	if (!dir)
		return -ENOMEM;
	r = conf_load_dir(dir, settings_keys, s, ret_error);
	return r < 0 ? r : check_egress(s, ret_error);
}

void settings_done(struct settings *s)
{
	conf_done(settings_keys, s);
	free(s->tiers);
	s->tiers = NULL;
	s->n_tiers = 0;
}
