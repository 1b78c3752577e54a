/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of bus/: the connection and the operations on it.
 *
 * An operation is one public call. It may take several bus calls (a timer is replaced by stop and start), and a job of
 * systemd is over only when JobRemoved names its path. Operations on one unit run one after the other, except kills,
 * which never wait.
 */
#ifndef DECLAW_BUS_INTERNAL_H
#define DECLAW_BUS_INTERNAL_H

#include <systemd/sd-bus.h>

#include "bus/bus.h"
#include "util/list.h"
#include "util/str.h"

#define SYSTEMD_NAME "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"

enum op_kind { OP_SCOPE, OP_TIMER, OP_STOP, OP_KILL, OP_WEIGHT, OP_LIST };

/* The step whose reply or job is awaited. */
enum op_step { STEP_QUEUED, STEP_START, STEP_RESET, STEP_STOP, STEP_KILL, STEP_WEIGHT, STEP_LIST };

/* Copies of what bus_scope_start() and bus_timer_set() were given. */
struct unit_spec {
	char *description, *slice;
	pid_t pid;
	uint64_t memory_max, tasks_max, cpu_quota_usec, cpu_weight;
	uint64_t due_usec;	/* monotonic */
};

struct op {
	struct list link;
	struct bus *bus;
	enum op_kind kind;
	enum op_step step;
	bool refused;
	bool retried;		/* the one more attempt after UnitExists has been made */
	int error;		/* of a refused one */
	char *unit;		/* or the glob of a list */
	struct unit_spec spec;
	sd_bus_slot *slot;	/* of the call in flight */
	char *job;		/* path that JobRemoved must name */
	char *early_job, *early_result;	/* a JobRemoved of our unit that came before we knew the path */
	union {
		bus_done_fn done;
		bus_list_fn list;
	} fn;
	void *userdata;
};

struct bus {
	sd_event *event;
	sd_bus *bus;		/* NULL between two attempts */
	bool up;		/* subscribed to systemd's signals */
	char *prefix;
	const struct bus_ops *ops;
	void *userdata;
	struct list ops_list;	/* struct op, in order of submission */
	sd_event_source *retry;
	sd_event_source *refused;
	uint64_t backoff;
};

/* op.c: the queue of operations */
struct op *op_new(struct bus *b, enum op_kind kind, const char *unit, void *userdata);
struct op *op_free(struct op *o);
/* Begins when nothing older on its unit is under way. Takes o. */
void op_submit(struct op *o);
/* Answers and frees. */
void op_finish(struct op *o, int error, const char *message);
void op_fail_all(struct bus *b, int error);
/* Answers one that cannot begin, from a defer source. */
void op_refuse(struct op *o, int error);

/* job.c: the steps of an operation */
void job_begin(struct op *o);
void job_removed(struct bus *b, const char *job, const char *unit, const char *result);

/* spec.c */
int spec_append(const struct op *o, sd_bus_message *m);
void spec_done(struct unit_spec *s);

/* list.c */
int list_send(struct op *o);

#endif
