/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent taps, made before QEMU starts so that rules can name them. Needs CAP_NET_ADMIN, /dev/net/tun, and
 * /proc/sys/net writable. Creating takes a fraction of a millisecond, so it is done on the loop; removing waits for
 * grace periods of the kernel (about 20 ms), so it has a form that runs on a worker.
 */
#ifndef DECLAW_TAP_H
#define DECLAW_TAP_H

#include <sys/types.h>

struct workers;

/* Every tap is in this group, by which rules know them for less than by their names (iifgroup, nft/declaw-base.nft) */
#define TAP_GROUP 0xdec1u
/* Creates (or adopts) a persistent tap usable by `gid`, up, without IPv6 and ARP. */
int tap_create(const char *name, gid_t gid);
/* Gives the host's end its addresses and makes the guest known; any number of times. */
int tap_network(const char *name, const char *gateway, const char *guest, const char *mac);
/* The host forwards IPv4; what is forwarded for sandboxes is the firewall's business. */
int tap_forwarding(void);
/* The host's end of every tap; guests have it as their gateway's */
#define TAP_MAC "02:de:c1:aa:00:01"
/* 0 also when absent; -EBUSY while a QEMU has it. Any thread. */
int tap_remove(const char *name);
/* The same on a worker. fn (may be NULL) is called exactly once, on the loop; before this returns only on -ENOMEM. */
typedef void (*tap_done_fn)(void *userdata, int error);
void tap_remove_async(struct workers *workers, const char *name, tap_done_fn fn, void *userdata);
/* Calls fn for each interface whose name starts with prefix. */
int tap_foreach(const char *prefix, void (*fn)(void *userdata, const char *name), void *userdata);
/* Deterministic locally administered MAC of a sandbox: 02:... from its id. */
void tap_mac(const char *sandbox_id, char ret[18]);

#endif
