/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The clock of a guest that has been away: it is told the time until it has certainly heard it within CLOCK_ERROR_USEC,
 * because an answer that comes that soon leaves no room for more. On a machine too busy for that the best of several
 * tries counts.
 */
#ifndef DECLAW_CLOCKSET_H
#define DECLAW_CLOCKSET_H

struct sandbox;

/* A step of creating, see manager.h: fn when it is through; create_fail() when the guest refuses. */
void clockset_run(struct sandbox *sb, void (*fn)(struct sandbox *sb));

#endif
