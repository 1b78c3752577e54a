/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers of the guest's kernel.
 */
#ifndef DCLW_STATS_H
#define DCLW_STATS_H

struct agent;

/* Notes an EVENT(OOM) when the kernel has killed for memory since the last call. */
void stats_check_oom(struct agent *a);

#endif
