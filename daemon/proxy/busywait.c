/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See busywait.h. */
#include "proxy/busywait.h"

#include <sched.h>
#include <stdbool.h>

#include "util/clock.h"
#include "util/macro.h"

#define DENSE 4u			/* before the next one is worth waiting for */
#define COMPUTED_USEC 1000u		/* who only answers waits again before that; a slice of who computes is longer */
#define CROWDED_STEP 8u
#define CROWDED 16u			/* twice in short succession: once may be the hypervisor, which stops everybody */
#define PAUSE_MIN_USEC (100 * USEC_PER_MSEC)
#define PAUSE_MAX_USEC (10 * USEC_PER_SEC)

void busywait_init(struct busywait *w, uint64_t usec)
{
	*w = (struct busywait){ .usec = usec, .now = clock_monotonic, .yield = sched_yield };
}

static void heard(struct busywait *w, uint64_t now)
{
	w->dense = now - w->last <= w->usec ? MIN_OF(w->dense + 1, DENSE) : 0;
	w->last = now;
}

/* Who goes on soon after the last pause has learnt nothing by it */
static void pause_for_others(struct busywait *w, uint64_t now)
{
	bool again = w->pause && now - w->resume < w->pause;

	w->pause = again ? MIN_OF(w->pause * 2, PAUSE_MAX_USEC) : PAUSE_MIN_USEC;
	w->resume = now + w->pause;
	w->crowded = 0;
}

/* Lets others run. The time afterwards. */
static uint64_t give_way(struct busywait *w, uint64_t before)
{
	uint64_t now;

	w->yield();
	now = w->now();
	if (now - before > COMPUTED_USEC)
		w->crowded += CROWDED_STEP;
	else if (w->crowded > 0)
		w->crowded--;
	if (w->crowded >= CROWDED)
		pause_for_others(w, now);
	return now;
}

int busywait(struct busywait *w, int epoll, struct epoll_event *events, int max, int msec)
{
	int n = 0;

	if (w->dense == DENSE && msec != 0) {
		uint64_t now = w->now();

		while (now >= w->resume && (n = epoll_wait(epoll, events, max, 0)) == 0 && now - w->last < w->usec)
			now = give_way(w, now);
	}
	if (n == 0)
		n = epoll_wait(epoll, events, max, msec);
	if (n > 0 && w->usec > 0)
		heard(w, w->now());
	return n;
}
