/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Creating by fork: a clone of the template's stopped guest instead of a boot.
 *
 * The same steps as a boot (create.c), with three differences: the disk lies on the snapshot's frozen overlay, the domain
 * is fed with a device state, and what answers is a twin until it has its identity. Entropy, boot id, machine id, host
 * name, MAC, address, clock: the guest sets all of them or says no, and a twin that says no is never served.
 *
 * Whatever goes wrong before the sandbox is its user's: the clone is removed from libvirt, systemd and disk, and the same
 * sandbox boots. Unless it is one of a user's snapshot (snapshot.h): then its creation fails.
 */
#ifndef DECLAW_FORK_H
#define DECLAW_FORK_H

#include <stdbool.h>

struct sandbox;

/* Decides how it is made, at its first step. */
void fork_choose(struct sandbox *sb);
/* A clone does not take as long as a boot: it answers soon, or never. */
void fork_arm(struct sandbox *sb);
void fork_disarm(struct sandbox *sb);
/* It failed. True: it was a clone, and boots now. */
bool fork_fall_back(struct sandbox *sb, const char *why);

#endif
