/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Elements of the sets of nft/declaw-base.nft: what a sandbox is, to the kernel. Pure.
 *
 * A key is what the set's fields are side by side, each filled up to four bytes, as nftables compares it.
 */
#ifndef DECLAW_ELEMENTS_H
#define DECLAW_ELEMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/str.h"

enum nft_set {
	NFT_TAPS,
	NFT_MEMBERS,
	NFT_OPEN,
	NFT_NAMED,
	NFT_HAS_ALLOW,
	NFT_HAS_DENY,
	NFT_ALLOW8,	/* allow and deny: in steps of 8 bits */
	NFT_ALLOW16,
	NFT_ALLOW24,
	NFT_ALLOW32,
	NFT_DENY8,
	NFT_DENY16,
	NFT_DENY24,
	NFT_DENY32,
	NFT_EPOCHS,
	NFT_SENDS,
	NFT_HEARS,
	NFT_PROXIES,
	NFT_PINS,
	NFT_COUNTS,
	NFT_SET_MAX,
};

#define ELEM_KEY_MAX 28
#define ELEM_IFNAME 16

struct elem {
	enum nft_set set;
	uint32_t seconds;		/* its life; 0 = for good */
	uint64_t packets, bytes;	/* what it begins to count with */
	uint8_t key[ELEM_KEY_MAX];	/* and the value, of a map's; zeroes behind */
};

struct elems {
	struct elem *v;
	size_t n, room;
};

const char *elem_set_name(enum nft_set set);
size_t elem_key_len(enum nft_set set);
/* Behind the key; 0: no map */
size_t elem_value_len(enum nft_set set);

/* The fields, in their order; each number in host order. A set's that has no such field ignores it. */
struct elem_fields {
	const char *tap;
	uint8_t mac[6];
	uint32_t addr, other;	/* the sandbox's, and the other one's */
	uint32_t mark;
};

void elem_fill(struct elem *e, enum nft_set set, const struct elem_fields *f);
/* tap: in e */
void elem_read(const struct elem *e, struct elem_fields *ret);
bool elem_same(const struct elem *a, const struct elem *b);
int elems_add(struct elems *v, const struct elem *e);
int elems_add_all(struct elems *v, const struct elems *more);
/* In the order of sets and keys, each once, with the longest of its lives */
void elems_sort(struct elems *v);
/* Both sorted: what of a is not in b, behind what ret has */
int elems_minus(const struct elems *a, const struct elems *b, struct elems *ret);
/* Both sorted: all of both into an empty ret, b's where both have one */
int elems_merge(const struct elems *a, const struct elems *b, struct elems *ret);
void elems_done(struct elems *v);
#define _cleanup_elems_ _cleanup_(elems_done)

/* "dcl... . 02:... . 10.214.0.7", as nft writes it */
int elem_text(const struct elem *e, struct buf *ret);
/* Lines for nft that add them */
int elems_text(const struct elems *v, struct buf *ret);

#endif
