/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the host has room for a guest's memory: what all guests in memory were promised stays below memory_max (by
 * default twice what there is: guests seldom touch all of theirs), and what the kernel says is available covers the new
 * one and memory_reserve. Processors are rationed by the boot queue.
 */
#ifndef DECLAW_ADMISSION_H
#define DECLAW_ADMISSION_H

#include <stdbool.h>

struct manager;
struct sandbox;

enum admission {
	ADMISSION_NOW,
	ADMISSION_LATER,	/* when others have ended, or have gone to disk */
	ADMISSION_NEVER,	/* not even alone */
};

enum admission admission_memory(const struct manager *m, const struct sandbox *sb);
/* Parked sandboxes and all others are promised more than memory_max: a parked one is to go. */
bool admission_crowded(const struct manager *m);
/* Every now and then: paused sandboxes go to disk while the kernel has less than memory_reserve. */
void admission_relieve(struct manager *m);

#endif
