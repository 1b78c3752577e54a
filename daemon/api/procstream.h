/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A reader of a process's output as server-sent events, until the process has ended and all of it was sent.
 *
 * How an entry looks is the style's matter; following, credit, the end and a client that leaves are the same for the
 * three streams of the contract. A reader that stalls holds its process (proc.h), never another one.
 */
#ifndef DECLAW_PROCSTREAM_H
#define DECLAW_PROCSTREAM_H

#include "api/api.h"
#include "api/sse.h"

struct procstream {
	struct sse *sse;
	struct proc *p;
	struct proc_reader reader;
	const struct procstream_style *style;
	struct json_escape_state text[2];	/* per stream, for styles that send text */
	double timeout;				/* of the command, for its sentence */
	unsigned int stage;			/* of the style's end */
};

struct procstream_style {
	/* Writes at most one event. Negative: give the client up. */
	int (*entry)(struct procstream *ps, const struct spool_entry *e, const void *data);
	/* The same for what follows the last entry: 1 = more to write, 0 = that was the last event. */
	int (*end)(struct procstream *ps);
	bool kill;	/* the process ends with its reader */
	bool marks;	/* what was sent is not sent to later readers */
};

/* Answers req. limit as of sse_begin(). */
void procstream_run(struct http_request *req, struct manager *m, struct proc *p, const struct spool_cursor *from,
		    double limit, const struct procstream_style *style, double timeout);
/* Exit code as stdio and PTY show it: -1 for everything that was no exit. */
int procstream_exit_code(const struct proc *p);

#endif
