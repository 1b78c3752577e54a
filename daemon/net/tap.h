/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent taps, made before QEMU starts so that rules can name them. Needs CAP_NET_ADMIN and /dev/net/tun; netlink
 * through ioctl and sysfs only, a few microseconds each, so these run on the loop.
 */
#ifndef DECLAW_TAP_H
#define DECLAW_TAP_H

#include <sys/types.h>

/* Creates (or adopts) a persistent tap usable by `gid`, up, IPv6 off on it. */
int tap_create(const char *name, gid_t gid);
/* 0 also when absent. */
int tap_remove(const char *name);
/* Calls fn for each interface whose name starts with prefix. */
int tap_foreach(const char *prefix, void (*fn)(void *userdata, const char *name), void *userdata);
/* Deterministic locally administered MAC of a sandbox: 02:... from its id. */
void tap_mac(const char *sandbox_id, char ret[18]);

#endif
