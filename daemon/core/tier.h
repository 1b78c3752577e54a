/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tiers: what the owner of an API key may use. A key's line names its tier, [tier NAME] in declawd.conf says what that
 * means; 0 is no limit. They bind when a sandbox is created and when its deadline is set; changing a tier changes
 * nothing for what runs until then.
 */
#ifndef DECLAW_TIER_H
#define DECLAW_TIER_H

#include <stdint.h>

#include "core/fault.h"
#include "util/list.h"

struct manager;
struct sandbox;
struct sandbox_options;
struct settings;

struct tier {
	char name[65];
	uint64_t vcpus_max, memory_mb_max, storage_gib_max;	/* of the template */
	uint64_t sandboxes_max;					/* alive, paused ones too */
	uint64_t creates_per_second, requests_per_second;
	uint64_t runtime_max_usec;				/* of one run: pausing begins a new one */
};

/* What one owner did in the last second: buckets that leak */
struct tier_leak {
	uint64_t at_usec, used_usec;
};

struct tier_bucket {
	struct list link;
	struct tier_leak creates, requests;
	char owner[];
};

const struct tier *tier_find(const struct settings *s, const char *name);
/* ret_detail lives as long as options. Whether options (with a tier; without one nothing is limited) may become a sandbox of owner. */
enum fault tier_admit(struct manager *m, const char *owner, const struct sandbox_options *options, const char **ret_detail);
/* Whether owner, whose key is of that tier, may ask for anything at all just now */
enum fault tier_request(struct manager *m, const char *owner, const char *tier);
/* Longest run of sb; 0 = any */
uint64_t tier_runtime_max(const struct sandbox *sb);
void tier_done(struct manager *m);

#endif
