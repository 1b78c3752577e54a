/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children of the agent: one SIGCHLD descriptor, one reaping loop, one callback per known child. As PID 1
 * the agent also reaps whatever is orphaned to it.
 */
#ifndef DCLW_CHILD_H
#define DCLW_CHILD_H

#include <sys/types.h>

#include "util/list.h"

struct agent;

struct child {
	struct list link;
	pid_t pid;
	/* status as of wait(2). The child is no longer in the list. */
	void (*exited)(struct child *c, int status);
};

int children_init(struct agent *a);
void children_done(struct agent *a);
void child_watch(struct agent *a, struct child *c, pid_t pid, void (*exited)(struct child *, int));
void child_unwatch(struct child *c);
/* What waitpid() told; public for the fuzzer's pretended children. */
void child_exited(struct agent *a, pid_t pid, int status);
/* fork() for a helper that does slow work and ends with an errno as exit code: 0 in the child. */
pid_t child_fork(struct agent *a);

#endif
