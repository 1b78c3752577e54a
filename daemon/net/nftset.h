/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Elements into the sets of table `inet declaw`, by netlink messages, and back.
 *
 * libnftables reads every chain, set and range of the host before it writes one element: a change would cost the more the
 * more others have in their tables. These cost the same beside anything. One thread at a time.
 */
#ifndef DECLAW_NFTSET_H
#define DECLAW_NFTSET_H

#include "net/elements.h"
#include "net/gate.h"

struct nftset;

/* Speaks to the tables of the network namespace it was made in. */
int nftset_new(struct nftset **ret);
struct nftset *nftset_free(struct nftset *s);
/*
 * One transaction: `gone`, each once, are not there afterwards, whether they were or not, and `want` are; what has a life has
 * all of it again. Both sorted; what is in both stays. With them go gates, one change of each at most. -ENOENT: no such table,
 * or interface.
 */
int nftset_run(struct nftset *s, const struct elems *gone, const struct elems *want, const struct gate_change *gates, size_t n_gates);

/* e->seconds: what is left of its life. < 0 ends it with that error. */
typedef int (*nftset_fn)(void *userdata, const struct elem *e);
int nftset_dump(struct nftset *s, enum nft_set set, nftset_fn fn, void *userdata);
/* Packets and bytes that an element counted. -ENOENT: it is not there */
int nftset_count(struct nftset *s, const struct elem *e, uint64_t *ret_packets, uint64_t *ret_bytes);
/* What the gate of that tap has dropped; zeroes where there is none */
int nftset_gate_count(struct nftset *s, const char *tap, struct gate_count ret[GATE_COUNTS]);

#endif
