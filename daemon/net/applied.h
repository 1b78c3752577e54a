/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each sandbox has in the kernel, so that a change is the difference: its cost is that sandbox's, whatever the others have.
 *
 * The kernel is asked once, at the first use; after that only this changes these sets, and what is known changes when the
 * kernel has taken it. Blocking: one thread at a time.
 */
#ifndef DECLAW_APPLIED_H
#define DECLAW_APPLIED_H

#include "net/ruleset.h"

struct applied;

struct change {
	enum {
		CHANGE_SET,	/* all it has is `want`, sorted */
		CHANGE_PIN,	/* `pins` as well, for their seconds from now */
		CHANGE_REMOVE,
	} kind;
	const char *id;		/* short, checked */
	struct elems want;
	const struct firewall_pin *pins;
	size_t n_pins;
};

int applied_new(struct applied **ret);
struct applied *applied_free(struct applied *a);
/*
 * One transaction; no two of one sandbox. -ENOENT: no base, or addresses for a sandbox that is closed or unknown.
 * -ENOSPC: too many addresses. Nothing is changed then.
 */
int applied_run(struct applied *a, const struct change *v, size_t n);
/* The tables have been made or deleted: what is known is asked again */
void applied_forget(struct applied *a);
/* Sandboxes that the kernel knows, short ids; malloc'ed. None without a base */
int applied_list(struct applied *a, char (**ret)[16], size_t *ret_n);
/* {"nftables": [{"set": ..., "elem": [...]}, {"counter": ..., "packets": ..., "bytes": ...}]}, malloc'ed. -ENOENT */
int applied_show(struct applied *a, const char *id, char **ret);

#endif
