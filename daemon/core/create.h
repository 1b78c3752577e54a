/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inside of creating: what create.c and those who take other ways to the same end share. */
#ifndef DECLAW_CREATE_H
#define DECLAW_CREATE_H

#include "core/sandbox.h"

struct manager;
struct template;

/* Its turn has come: the first step. */
void create_begin(struct sandbox *sb);
/* A prestarted one that was claimed: its vCPUs go, and what follows is as for any clone. */
void create_go_on(struct sandbox *sb);
/* Its disk, and everything behind: where a clone that failed begins again as a boot. */
void create_disk(struct sandbox *sb);
/*
 * A sandbox that is nobody's, behind those that users wait for. fn as with sandbox_create(), but without a fault it is
 * never called: memsnap_booted() or pool_identified() is. *ret is a reference.
 */
int create_hidden(struct manager *m, enum sandbox_role role, const struct template *t, const char *snapshot,
		  sandbox_done_fn fn, void *userdata, struct sandbox **ret);
/* All is done: it is its user's. */
void create_running(struct sandbox *sb);
/* Ends it; who waits for it is told why. */
void create_fail(struct sandbox *sb, enum fault fault, const char *detail);

#endif
