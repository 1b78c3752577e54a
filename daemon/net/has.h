/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is known of each sandbox's elements: between applied.c, which changes them, and shown.c, which tells.
 */
#ifndef DECLAW_HAS_H
#define DECLAW_HAS_H

#include "net/applied.h"
#include "net/nftset.h"
#include "util/clock.h"
#include "util/list.h"
#include "util/map.h"

struct has {
	struct list link;
	char id[16];
	uint32_t addr;		/* 0: closed */
	struct elems elems;	/* sorted, without pins */
	struct gate gate;
	unsigned int at;	/* the interface that the gate is at; 0: not known */
	struct elems pins;	/* sorted; seconds: of the monotonic clock, when each ends */
};

struct applied {
	struct nftset *nft;
	struct map *by_id;
	struct list all;
	bool known;
};

static inline uint32_t has_now(void)
{
	return (uint32_t)(clock_monotonic() / USEC_PER_SEC);
}

/* The short id in an interface's name; NULL when it is none of ours */
const char *has_id_of(const struct elem *e);
/* Of pins, what has not ended, behind ret */
int has_pins_left(const struct elems *pins, struct elems *ret);
/* Without a base nothing is known, and every change says so itself */
int applied_learn(struct applied *a);

#endif
