/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sandboxes' network rules: one worker lane, one transaction for each change.
 *
 * Table `inet declaw` has the rules, the same for all sandboxes, made once by libnftables. A sandbox is the gate of its
 * tap (net/gate.h) and elements of these sets, which go in by netlink messages (libnftnl), because a change must cost the
 * same beside 400 sandboxes: the kernel walks through all chains and sets of a table for a rule or set of one sandbox's
 * own, and libnftables reads all of the host's before any command. An interface of ours without an element is dropped: closed is the default.
 *
 * error: 0, -ENOENT, -EEXIST, -EIO, -ECANCELED (firewall_free() was called: it may still take effect), -EINVAL (a bad
 * name; this one and -ENOMEM may be answered before the function returns), -E2BIG (too many ranges), -ENOSPC (too many pins);
 * message: a sentence, valid during the call. Each callback comes exactly once, on the loop. Transactions run in the
 * order of the calls; changes of several sandboxes that wait for their turn are one transaction, each on its own when
 * that fails. Order of the end: firewall_free(), workers_free().
 */
#ifndef DECLAW_FIREWALL_H
#define DECLAW_FIREWALL_H

#include <stddef.h>

#include "net/ruleset.h"

struct firewall;
struct workers;

typedef void (*firewall_done_fn)(void *userdata, int error, const char *message);
/* names: short ids (10 characters) of the sandboxes that the kernel knows */
typedef void (*firewall_list_fn)(void *userdata, int error, const char (*names)[16], size_t n);

int firewall_new(struct workers *workers, struct firewall **ret);
struct firewall *firewall_free(struct firewall *f);
/* {"nftables": [...]}: a sandbox's elements and counters, see net/applied.h; NULL on error. Borrowed. */
typedef void (*firewall_show_fn)(void *userdata, int error, const char *json);

/* Creates the tables, sets and chains when absent, leaves sandboxes' elements alone: safe at every start. */
void firewall_setup(struct firewall *f, const struct firewall_config *config, firewall_done_fn fn, void *userdata);
/* Puts the policy's rules in the place of what the sandbox had. */
void firewall_sandbox_set(struct firewall *f, const struct firewall_sandbox *sb, firewall_done_fn fn, void *userdata);
/* -ENOENT without firewall_sandbox_set() before */
void firewall_pin(struct firewall *f, const char *short_id, const struct firewall_pin *pins, size_t n,
		  firewall_done_fn fn, void *userdata);
void firewall_show(struct firewall *f, const char *short_id, firewall_show_fn fn, void *userdata);
/* Closed: everything from the tap is counted and dropped. Replaces what the sandbox had, it stays known. */
void firewall_sandbox_close(struct firewall *f, const char *short_id, const char *tap, firewall_done_fn fn,
			    void *userdata);
/* 0 also when absent. */
void firewall_sandbox_remove(struct firewall *f, const char *short_id, const char *tap, firewall_done_fn fn,
			    void *userdata);
void firewall_list(struct firewall *f, firewall_list_fn fn, void *userdata);
/* Removes the table: `quickstart down`, package removal. */
void firewall_teardown(struct firewall *f, firewall_done_fn fn, void *userdata);

#endif
