/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which addresses are a name's, for how long: one table per sandbox, kept by declawd (to tell a proxy that comes back)
 * and by the proxy (to judge). Times are of the monotonic clock. Bounded: addresses per name and addresses altogether.
 */
#ifndef DECLAW_CHAN_PINS_H
#define DECLAW_CHAN_PINS_H

#include "chan/msg.h"

#define PINS_MAX 4096u		/* addresses of one sandbox; the kernel's set has as many places */

struct pins;

struct pins *pins_new(void);
struct pins *pins_free(struct pins *p);
/* Until then at least: an address that holds for longer stays. -ENOSPC beyond the bounds, nothing is changed then. */
int pins_add(struct pins *p, const char *name, const struct in_addr *addrs, size_t n, uint64_t until_usec,
	     uint64_t now_usec);
/* Whether addr is name's now */
bool pins_has(const struct pins *p, const char *name, struct in_addr addr, uint64_t now_usec);
/* Until when any name has it; 0 = none has */
uint64_t pins_until(const struct pins *p, struct in_addr addr);
/* Drops what is over; called by pins_add() when there is no room. */
void pins_expire(struct pins *p, uint64_t now_usec);
void pins_clear(struct pins *p);
size_t pins_count(const struct pins *p);
/* Names whose addresses still hold; ttl is the least of their remaining seconds. */
void pins_each(const struct pins *p, uint64_t now_usec,
	       void (*fn)(void *userdata, const char *name, const struct in_addr *addrs, size_t n, uint32_t ttl),
	       void *userdata);

#endif
