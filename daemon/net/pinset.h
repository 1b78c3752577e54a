/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses into a sandbox's set pin_<id>, one transaction, by netlink messages instead of text.
 *
 * A guest waits for its DNS answer meanwhile. libnftables reads every chain and set of the host before it writes one
 * element, so that an address costs the more the more sandboxes there are; this costs the same with any number.
 */
#ifndef DECLAW_PINSET_H
#define DECLAW_PINSET_H

#include "net/ruleset.h"

#define PINSET_MAX 512u		/* addresses at once */

struct pinset;

/* Speaks to the tables of the network namespace it was made in. */
int pinset_new(struct pinset **ret);
struct pinset *pinset_free(struct pinset *p);
/* Each holds for its seconds from now, whatever was left of it. One thread at a time. -ENOENT: no such set. */
int pinset_add(struct pinset *p, const char *set, const struct firewall_pin *pins, size_t n);

#endif
