/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Standard input of a process: queued writes, each answered when the guest has taken its last byte. */
#ifndef DECLAW_PROCIN_H
#define DECLAW_PROCIN_H

#include "core/proc.h"

int procin_open(struct proc *p, struct agent *a);
int procin_adopt(struct proc *p, struct agent *a, uint32_t id);
/* Every queued write ends with that fault. */
void procin_fail(struct proc *p, enum fault fault);

/* proc.c, shared with procstore.c */
struct proc *proc_new(struct sandbox *sb, enum proc_kind kind, uint64_t token);
/* Ends those that are recorded as alive, but that the guest does not know */
void proc_lost_all(struct sandbox *sb);
int proc_open_streams(struct proc *p, struct agent *a);
int proc_adopt_streams(struct proc *p, struct agent *a, uint32_t out, uint32_t err, uint32_t in);

#endif
