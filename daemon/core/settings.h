/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /etc/declaw/declawd.conf and /etc/declaw/declawd.conf.d/: one struct, one table, one documented default per key. */
#ifndef DECLAW_SETTINGS_H
#define DECLAW_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tier;

enum { ACCEL_AUTO, ACCEL_KVM, ACCEL_TCG };
enum { BLOCKED_RESET, BLOCKED_DROP };

struct settings {
	/* [api] */
	char **listen;
	char *keys_file, *sandbox_domain;
	uint64_t connections_max, connections_per_address_max, idle_timeout_usec, raw_body_max;
	/* [sandbox] */
	bool template_fallback;
	uint64_t timeout_default_usec, boot_timeout_usec, killed_retention_usec, killed_max, sandboxes_max, boots_at_once;
	uint64_t spool_max, paused_to_disk_usec, metrics_interval_usec, metrics_kept, boot_queue_max, boot_queue_usec, memory_max, memory_reserve;
	/* [create] */
	bool fork;
	uint64_t parked_min, parked_max, prestarted_min, prestarted_max, snapshots_max;
	/* [host] */
	char *state_dir, *run_dir, *slice, *vm_group, *libvirt_uri, *libvirt_pid_dir, *libvirt_log_dir, *emulator;
	int accelerator;
	uint64_t accel_probe_usec, tsc_khz, workers;
	/* [egress] */
	char *network, *proxy_user, *resolver_user;
	char **allow_private, **upstream_dns;
	int blocked;
	uint64_t audit_max, audit_total;
	/* [log] */
	int log_level;
	/* [tier NAME] */
	struct tier *tiers;
	size_t n_tiers;
};

/* Defaults, then path (may be absent when !required), then path + ".d". error: malloc'ed sentence. */
int settings_load(struct settings *s, const char *path, bool required, char **ret_error);
/* The list is this one word, which stands for something else than itself (none, system) */
bool settings_list_is(char *const *list, const char *word);
void settings_done(struct settings *s);

#endif
