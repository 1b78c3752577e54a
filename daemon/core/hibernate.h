/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Paused sandboxes on disk: their memory in <state>/sandboxes/<id>/memory, nothing of them on the host.
 *
 *	save      libvirt writes the memory, QEMU ends; then scope, tap and rules go; the record says on_disk
 *	restore   tap, closed rules, libvirt starts QEMU from the file (vCPUs stopped), scope, the file is removed, and
 *	          only then the vCPUs run: what ran on over a changed disk is never restored a second time
 *
 * A save that fails leaves the sandbox paused in memory, a restore that fails leaves it on disk. libvirt finishes a save
 * that the daemon did not live to see: recovery asks for it again and looks at the file.
 */
#ifndef DECLAW_HIBERNATE_H
#define DECLAW_HIBERNATE_H

#include "core/sandbox.h"

/* Paused in memory and at rest: to disk after paused_to_disk_after. */
void hibernate_schedule(struct sandbox *sb);
/* Now, from paused in memory and at rest; anything else is left alone. */
void hibernate_save(struct sandbox *sb);
/* Part of sandbox_resume(); goes on with pause_run(). */
void hibernate_restore(struct sandbox *sb);
#define HIBERNATE_RETRY_USEC 60000000ull	/* a save that failed is not tried again before */
/*
 * Of those in memory that no save was tried of since then (realtime), the longest paused goes to disk; false: there
 * is none.
 */
bool hibernate_next(struct manager *m, uint64_t since_usec);
/* Whether a complete memory image is there */
bool hibernate_image_ready(const struct sandbox *sb);
/* Recovery, of a paused sandbox whose domain is gone or was found; false: there is nothing to restore it from. */
bool hibernate_adopt(struct sandbox *sb);
void hibernate_forget_image(struct sandbox *sb);

#endif
