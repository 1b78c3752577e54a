/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Creations wait here for their turn, first come first served: for one of boots_at_once, because booting takes a
 * processor, and for memory (admission.h). Who is first and does not fit holds up those behind, or large guests would
 * never start; after boot_queue_timeout it fails and the next one is first.
 */
#ifndef DECLAW_BOOTQUEUE_H
#define DECLAW_BOOTQUEUE_H

#include <stdbool.h>

struct manager;
struct sandbox;

/* No turn is free and boot_queue_max wait already. */
bool boot_queue_full(const struct manager *m);
/* create_begin() is called from the loop when it is its turn. */
void boot_queue_add(struct sandbox *sb);
/* Something that nobody's turn comes without has happened. */
void boot_queue_wake(struct manager *m);
/* create_slot_release() (manager.h) gives the turn back, or the place in the queue */

#endif
