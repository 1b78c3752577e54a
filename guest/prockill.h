/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Signals to what a started process has become.
 */
#ifndef DCLW_PROCKILL_H
#define DCLW_PROCKILL_H

#include <stdbool.h>
#include <sys/types.h>

/* pid led a session of its own when it was started; alive: it was not reaped yet. 0 or -errno. */
int proc_kill(pid_t pid, int sig, bool group, bool alive);

#endif
