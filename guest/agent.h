/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent: one loop, one port, one session, and the tables of what it runs. Everything is reached from
 * struct agent, so that several can live in one process (the fuzzer's) one after the other.
 *
 * Modules: port (channel) -> session (frames, HELLO, sending) -> request (reply cache), stream (bytes
 * with credit) -> pump (descriptors to streams) -> proc, file*, watch, connect, ... (operations, named in
 * one table in ops.c). child.c reaps.
 */
#ifndef DCLW_AGENT_H
#define DCLW_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop.h"
#include "port.h"
#include "session.h"
#include "util/list.h"

#define AGENT_VERSION "1.0"

struct spawn_spec;
struct spawn_result;

struct agent {
	struct loop loop;
	struct port port;
	struct session session;

	struct list children;		/* struct child */
	struct source signals;
	int signal_fd;

	struct list procs, exits_due;	/* struct proc */
	unsigned int nprocs;
	int (*spawn)(const struct spawn_spec *spec, struct spawn_result *ret);

	struct list uploads;		/* struct upload */
	struct list jobs;		/* struct job: everything else that holds a stream */
	struct list sinks;		/* descriptors drained to nowhere */
	unsigned int nsinks;

	bool init;			/* PID 1 of a guest */
	bool more;			/* the port had more than one turn's worth */
	bool dry;			/* nothing outside this process is touched (fuzzing) */
	bool frozen;
	uint64_t frozen_at;		/* CLOCK_MONOTONIC, ns */
	uint64_t oom_kills;		/* the kernel's count when last looked at */
	bool oom_due;
	enum { AGENT_RUN, AGENT_STOP, AGENT_POWEROFF } verdict;
};

/* a is zeroed memory; the port is opened by the caller afterwards. */
int agent_init(struct agent *a);
void agent_done(struct agent *a);
/* One turn of the loop and the sending that follows from it. */
int agent_turn(struct agent *a, int timeout_ms);
int agent_run(struct agent *a);
uint64_t agent_now(void);

#endif
