/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of processes that the host started (guest/PROTOCOL.md §5, §5.1).
 */
#ifndef DCLW_PROC_H
#define DCLW_PROC_H

#include <stddef.h>
#include <stdint.h>

struct agent;

void procs_init(struct agent *a);
/* Kills what runs and forgets all. */
void procs_free(struct agent *a);
/* Unforgotten exits are to be reported again. */
void procs_hello(struct agent *a);
/* Frames for exits whose streams have been sent to their end; bytes put at out. */
size_t procs_fill_exits(struct agent *a, uint8_t *out, size_t size);

#endif
