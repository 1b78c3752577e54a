/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A command in a guest that nobody has yet, so that the first one of its user is not the first one: page tables, caches
 * and, under emulation, translated code.
 */
#ifndef DECLAW_WARM_H
#define DECLAW_WARM_H

#include <stdbool.h>

struct agent_exit;
struct sandbox;

/* The script, that many times; fn once, unless the sandbox ends before. */
void warm_run(struct sandbox *sb, const char *script, unsigned int times, void (*fn)(struct sandbox *sb, bool ok));
/* From the agent: a process of a hidden sandbox has ended. */
void warm_exited(struct sandbox *sb, const struct agent_exit *ex);

#endif
