/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What sandboxes use, sampled every metrics_interval into a ring of metrics_kept per sandbox, which outlives the daemon
 * (metricsfile.h) and ends with the sandbox.
 *
 * Processor time is that of the whole QEMU process (the guest cannot lie about it), as percent of the vCPUs. Memory is
 * what the guest says it uses, of which it only fools itself, or QEMU's resident set when it does not answer. Disk is
 * what the overlay takes on the host.
 */
#ifndef DECLAW_METRICS_H
#define DECLAW_METRICS_H

#include <stdint.h>

#include "core/sandbox.h"

struct metrics_sample {
	uint64_t at_usec;		/* realtime */
	double cpu_percent, memory_mb, disk_mb;
};

typedef void (*metrics_fn)(void *userdata, const struct metrics_sample *s);

int metrics_start(struct manager *m);
/* When no agent is left that could answer */
void metrics_stop(struct manager *m);
/* One sample of now (of a killed sandbox: its last), not kept. fn is called once, never before this returns 0. */
int metrics_now(struct sandbox *sb, metrics_fn fn, void *userdata);
/* Who waits for it went away. */
void metrics_forget(struct sandbox *sb, const void *userdata);
/* Those kept, from and to included, oldest first */
void metrics_each(struct sandbox *sb, uint64_t from_usec, uint64_t to_usec, metrics_fn fn, void *userdata);
void metrics_free(struct sandbox *sb);

#endif
