/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The same work in several processes, so that all processors do it: instances.
 *
 * Instance 0 is the process that systemd knows, the others are its children. Nobody is sent a signal or waited for, which the
 * unit's filter would not let anyway: each has one end of a pipe to the other side, and who ends is heard of by the pipe's end.
 * A child whose parent has ended ends; when a child has ended, the parent fails, and systemd starts all of them anew, as
 * it would one. A child that hangs is ended by its own alarm clock, the parent by systemd's.
 */
#ifndef DECLAW_PROXY_PREFORK_H
#define DECLAW_PROXY_PREFORK_H

#include <systemd/sd-event.h>

#define PREFORK_MAX 16u

struct prefork {
	unsigned int instance, n, n_ready;
	int pipe[PREFORK_MAX];		/* instance 0: those of the children; a child: [0] to 0, [1] from 0 */
	unsigned int watchdog;		/* seconds; 0 = none, or it is systemd's */
};

/* How many are worth having: one a processor that this process may use, at most max */
unsigned int prefork_processors(unsigned int max);
/*
 * Before anything that a child must not share: returns 0 in each of n processes (1 to PREFORK_MAX), *ret says which. Negative in
 * the first when there were too few; those that there are end with it. Children lose $NOTIFY_SOCKET.
 */
int prefork_start(unsigned int n, struct prefork *ret);
/* This instance is set up. Ends the loop, with -ECHILD or 0, when the others have ended; instance 0 tells systemd when all are set up. */
int prefork_ready(struct prefork *p, sd_event *event);
/* At least every few seconds, or the child is ended */
void prefork_alive(const struct prefork *p);

#endif
