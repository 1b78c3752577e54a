/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the resolver and the proxy are told, and what they ask: policies out, pins in.
 *
 * Every policy in force has a number that no other policy of any sandbox has, over restarts too; a pin for another
 * number is for a policy that has changed meanwhile and is refused. A pin is judged anew here (the workers parse what
 * guests send, so their word is no proof), goes into the kernel's set, then to the proxy, and only then is the resolver
 * told, which answers the guest.
 */
#ifndef DECLAW_EGRESSCTL_H
#define DECLAW_EGRESSCTL_H

#include "core/sandbox.h"
#include "net/firewall.h"

/* When recovery is through: until then workers know nobody, and refuse everything. */
void egressctl_start(struct manager *m);
void egressctl_stop(struct manager *m);
/* Its policy is another one from now on (or the first one). */
void egressctl_policy(struct sandbox *sb);
/* It has no network any more. */
void egressctl_gone(struct sandbox *sb);
/* Pins the policy still allows, for rules that are made anew; NULL when there are none. The caller frees. */
struct firewall_pin *egressctl_pins(const struct sandbox *sb, size_t *ret_n);
void egressctl_free(struct sandbox *sb);

#endif
