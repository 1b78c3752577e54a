/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Waiting for events without sleeping, where more are about to come.
 *
 * A request wakes the proxy twice, and on a processor that halts when it is idle, most of all on a virtual one, waking takes
 * several times as long as relaying. So after events that came shortly one after the other it goes on asking for a moment, as
 * KVM does for a guest that has halted (halt_poll_ns), and sleeps when nothing came.
 *
 * It does so with time that nobody else wants: between questions it gives way to whoever can run on its processor
 * (sched_yield(2)). Those who do not stop soon compute, and beside them it must sleep: only who sleeps is woken before they
 * have finished. It tries again after a pause, which is the longer the longer they go on.
 *
 * Not thread-safe.
 */
#ifndef DECLAW_PROXY_BUSYWAIT_H
#define DECLAW_PROXY_BUSYWAIT_H

#include <stdint.h>
#include <sys/epoll.h>

#define BUSYWAIT_USEC 200u		/* where nobody says otherwise */
#define BUSYWAIT_USEC_MAX 10000u

/* Times are monotonic microseconds */
struct busywait {
	uint64_t usec;			/* goes on as long after an event; 0: never */
	uint64_t last;			/* event */
	unsigned int dense;		/* events with at most usec between them, up to the last */
	unsigned int crowded;		/* grows when somebody computed, and goes back each time that nobody did */
	uint64_t resume;		/* a pause until then */
	uint64_t pause;			/* the last one's length */

	/* What it goes by; tests have their own */
	uint64_t (*now)(void);
	int (*yield)(void);
};

void busywait_init(struct busywait *w, uint64_t usec);

/* epoll_wait(2), also in what it returns; a timeout of 0 is not waited for */
int busywait(struct busywait *w, int epoll, struct epoll_event *events, int max, int msec);

#endif
