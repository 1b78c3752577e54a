/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fixed pool of threads for calls that block (libvirt, libnftables, large file work).
 *
 * A job is two functions over one heap argument: run() on a worker (plain values only: no sd-*, no MHD, no json-c,
 * no logging above debug) and done() on the loop thread. Jobs with the same strand run one at a time in the order of
 * submission; a WORK_URGENT job overtakes the queued (never the running) jobs of its strand and of the pool.
 * lane caps how many jobs of one kind run at once; libvirt has one for what is quick, one for whole memories, one for ends.
 *
 * A struct job is valid until its done() is entered; who keeps one drops it there.
 */
#ifndef DECLAW_WORKERS_H
#define DECLAW_WORKERS_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct workers;
struct job;

enum work_class { WORK_NORMAL, WORK_URGENT };
enum work_lane {
	WORK_LANE_VIRT, WORK_LANE_VIRT_BULK, WORK_LANE_VIRT_CTL, WORK_LANE_NFT, WORK_LANE_FILE, WORK_LANE_CONNTRACK, WORK_LANE_MAX
};

typedef void (*work_run_fn)(void *arg);
/* cancelled: run() was never called. Owns arg from here on. */
typedef void (*work_done_fn)(void *arg, bool cancelled);

/* threads 0: one for each slot of each lane, so that no lane waits for another one's slow calls. */
int workers_new(sd_event *event, unsigned int threads, struct workers **ret);
/* Cancels what is queued (done() is called with cancelled = true), waits for what runs. Not from within a done(). */
struct workers *workers_free(struct workers *w);
/* strand 0 = none. ret may be NULL. On error (-ENOMEM, -ESHUTDOWN) arg stays the caller's. */
int workers_submit(struct workers *w, enum work_lane lane, enum work_class cls, uint64_t strand,
		   work_run_fn run, work_done_fn done, void *arg, struct job **ret);
/* True: removed from the queue, done(arg, true) will follow from the loop. False: running or over. */
bool workers_cancel(struct workers *w, struct job *j);
/* Strand number for a name (FNV-1a, never 0). */
uint64_t workers_strand(const char *name);

#endif
