/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Putting the agent together, and its turn: wait, let the sources run, take what the host said, send what
 * is due. Sending comes last, so everything one turn produced shares as few writes as possible.
 */
#include <errno.h>
#include <time.h>

#include "agent.h"
#include "child.h"
#include "file.h"
#include "filewrite.h"
#include "freeze.h"
#include "proc.h"
#include "pump.h"
#include "stats.h"

#define TICK_MS 1000

uint64_t agent_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int agent_init(struct agent *a)
{
	int r;

	list_init(&a->uploads);
	list_init(&a->jobs);
	list_init(&a->sinks);
	a->port.fd = a->port.listen_fd = -1;
	a->port.source.fd = a->port.listen_source.fd = -1;
	a->port.loop = &a->loop;
	procs_init(a);
	r = session_init(a);
	if (r == 0)
		r = loop_init(&a->loop);
	if (r == 0)
		r = children_init(a);
	if (r == 0) {
		stats_check_oom(a);
		a->oom_due = false;	/* of before our time */
	}
	return r;
}

void agent_done(struct agent *a)
{
	struct job *j;

	procs_free(a);
	uploads_free(a);
	while ((j = list_first(&a->jobs, struct job, link)))
		j->stop(j);
	session_done(a);
	sinks_free(a);
	port_close(&a->port);
	children_done(a);
	loop_done(&a->loop);
}

static void agent_tick(struct agent *a)
{
	port_tick(&a->port);
	session_tick(a);
	freeze_tick(a);
}

int agent_turn(struct agent *a, int timeout_ms)
{
	int r = loop_turn(&a->loop, timeout_ms);

	if (r < 0)
		return r;
	a->more = session_receive(a);
	session_send(a);
	streams_check_shut(a);
	return 0;
}

int agent_run(struct agent *a)
{
	uint64_t tick_at = agent_now();

	while (a->verdict == AGENT_RUN) {
		uint64_t now = agent_now();
		int wait, r;

		if (now >= tick_at) {
			agent_tick(a);
			tick_at = now + TICK_MS * 1000000ull;
		}
		wait = a->more ? 0 : session_timeout(a, (int)((tick_at - now) / 1000000) + 1);
		r = agent_turn(a, wait);
		if (r < 0)
			return r;
		if (a->port.ended)
			a->verdict = AGENT_STOP;
	}
	session_send(a);
	return 0;
}
