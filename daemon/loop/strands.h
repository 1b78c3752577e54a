/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The queue behind the workers: which job may run next. No threads, no locks: workers.c holds its mutex around this.
 *
 * A strand (all jobs of one sandbox, say) keeps its waiting jobs in order and offers one of them, its head, to the
 * queue of that job's lane; the next is offered only when that one is over. So a lane's queue holds only jobs that
 * may run as soon as the lane has room, and picking one never searches. Jobs without a strand are offered at once.
 */
#ifndef DECLAW_STRANDS_H
#define DECLAW_STRANDS_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/workers.h"
#include "util/list.h"

enum job_state { JOB_WAITING, JOB_OFFERED, JOB_RUNNING, JOB_DONE };

struct strand;

struct job {
	struct list link;	/* strand's waiting list, a lane's queue, or the list of finished jobs */
	struct strand *strand;	/* NULL: none */
	enum work_lane lane;
	enum work_class cls;
	enum job_state state;
	bool cancelled;
	uint64_t seq;
	work_run_fn run;
	work_done_fn done;
	void *arg;
};

struct strand {
	struct list link;	/* hash bucket */
	uint64_t key;
	struct job *current;	/* offered or running */
	struct list waiting[2];	/* by work_class */
};

#define STRANDS_BUCKETS 64

struct strands {
	struct list buckets[STRANDS_BUCKETS];
	struct list offered[WORK_LANE_MAX][2];
	unsigned int running[WORK_LANE_MAX];
	uint64_t seq;
};

void strands_init(struct strands *s);
/* key 0: no strand. -ENOMEM leaves j alone. */
int strands_add(struct strands *s, struct job *j, uint64_t key);
/* The next job that may run, now marked running; NULL when there is none. */
struct job *strands_next(struct strands *s);
/* A running job is over; its strand offers the next one. */
void strands_finish(struct strands *s, struct job *j);
/* Takes a job that does not run yet out of the queue. */
void strands_withdraw(struct strands *s, struct job *j);
/* Any job that does not run yet, NULL when there is none (for emptying the queue). */
struct job *strands_first(struct strands *s);

#endif
