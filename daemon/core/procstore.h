/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records of processes, so that a restarted daemon finds them: <state>/sandboxes/<id>/proc/<token>.{json,spool}.
 * Foreground commands have none: their client is gone with the daemon, and so are they.
 */
#ifndef DECLAW_PROCSTORE_H
#define DECLAW_PROCSTORE_H

#include "core/proc.h"

char *procstore_path(const struct sandbox *sb, uint64_t token, const char *suffix);
int procstore_dir(const struct sandbox *sb);
void procstore_save(const struct proc *p);
/* Records, and empty spools that go on where they are now, of all that runs: into dir, as if it were a sandbox's proc/. */
int procstore_copy(const struct sandbox *sb, const char *dir);
void procstore_remove(const struct proc *p);

#endif
