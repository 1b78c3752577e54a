/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent's event loop: epoll and nothing else. A source may be removed from inside any callback, also
 * when the kernel has already reported it in the batch under way: its report is struck out.
 */
#ifndef DCLW_LOOP_H
#define DCLW_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

struct source;
typedef void (*source_fn)(struct source *s, uint32_t events);

struct source {
	int fd;			/* borrowed; -1 when not in the loop */
	source_fn fn;
};

#define LOOP_BATCH 64

struct loop {
	int epfd;
	int count, pos;		/* the batch under way */
	struct epoll_event batch[LOOP_BATCH];
};

int loop_init(struct loop *l);
void loop_done(struct loop *l);
int loop_add(struct loop *l, struct source *s, int fd, uint32_t events, source_fn fn);
int loop_modify(struct loop *l, struct source *s, uint32_t events);
/* Before the descriptor is closed: a duplicate elsewhere would keep the registration alive. */
void loop_remove(struct loop *l, struct source *s);
/* One wait and its callbacks. */
int loop_turn(struct loop *l, int timeout_ms);

#endif
