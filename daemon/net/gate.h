/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who is who: a table of the family netdev for each tap, named like it, that sees what its guest sends before the rest of the
 * host does. Pure: netlink messages.
 *
 * What it lets by has the mark GATE_MARK, without which no rule of nft/declaw-base.nft lets anything of a tap by. Constants of one
 * sandbox are compared faster than found in a hash, and answers, which go to a tap, do not pass here at all. In a table of
 * its own, because the kernel walks through all rules of a table for each new one.
 */
#ifndef DECLAW_GATE_H
#define DECLAW_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GATE_MARK 0xdec10000u
#define GATE_BYTES 8192u	/* more than its messages take */
#define GATE_COUNTS 4u

struct gate {
	char tap[16];
	bool open;		/* else nothing comes in, and mac and addr are nobody's */
	uint8_t mac[6];
	uint32_t addr;		/* host order */
};

struct nlmsghdr;

/* What becomes of one: it is made, in the place of what is there, or removed, whether it is there or not */
struct gate_change {
	struct gate gate;
	bool make;
};

struct gate_count {
	uint64_t packets, bytes;
};

/* The marks of what a gate drops, in the order of its rules; a closed one has only the last two */
extern const uint32_t gate_marks[GATE_COUNTS];

bool gate_same(const struct gate *a, const struct gate *b);
/* Its messages, to *buf and on; 0 or -ENOMEM */
int gate_put(const struct gate_change *c, char **buf, uint32_t *seq, struct nlmsghdr **last);

#endif
