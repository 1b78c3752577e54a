/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parked sandboxes: clones made before anybody asks, distinct already, their first command behind them, vCPUs stopped.
 *
 * A parked one is a hidden sandbox in state creating (its record says so: a daemon that finds one at its start removes
 * it). It has its own id, scope, domain, disk, tap and closed rules, host name, machine id, address and MAC. Who claims it
 * gives it an owner, options and rules; then its vCPUs go, it is given entropy (and with that a new boot id) and the
 * time, and is an ordinary sandbox. If that fails it boots, as any clone does (fork.h).
 *
 * A prestarted one has come half as far: its QEMU is there, in its scope, with the template's memory and devices, and not
 * one instruction of its guest has run. It takes a quarter of the memory; who claims it waits for the rest of a fork.
 *
 * How many of a template: as many as were asked for at once lately, between parked_min and parked_max. They are made one
 * at a time, while nobody boots, in scopes of the least processor weight, and only where admission has room for them
 * beside everything else. They never count against a user: room for a user's guest is counted without them, and they go
 * when it is needed.
 */
#ifndef DECLAW_POOL_H
#define DECLAW_POOL_H

#include <stdbool.h>

#include "core/sandbox.h"

struct manager;
struct memsnap;

/* True: *ret is the user's now, as after sandbox_create(). Options are taken then. */
bool pool_claim(struct manager *m, const char *owner, struct sandbox_options *options, sandbox_done_fn fn, void *userdata,
		struct sandbox **ret);
/* Makes the next one, or removes those nobody wants, soon. */
void pool_kick(struct manager *m);
void pool_stop(struct manager *m);
/* Memory is wanted: one goes. False: there is none. */
bool pool_yield(struct manager *m);
/* create.c: a hidden clone has its identity */
void pool_identified(struct sandbox *sb);
/* create.c: a hidden clone could run now */
void pool_prestarted(struct sandbox *sb);
/* create.c: a claimed one has its identity; it runs when it has its rules, too */
void pool_joined(struct sandbox *sb);
/* Parked or prestarted, unclaimed, of that template; NULL = of any */
unsigned int pool_count(const struct manager *m, const struct template *t, bool prestart);

#endif
