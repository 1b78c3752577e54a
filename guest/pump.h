/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pumps move bytes between a non-blocking descriptor (pipe, PTY, socket) and a stream, and stop by
 * themselves when either side has no room: that is all of the backpressure.
 *
 * Descriptors are registered edge-triggered once; a pump runs when an edge comes and when its stream
 * kicks, and goes on until EAGAIN or a full ring, so no edge is ever owed.
 */
#ifndef DCLW_PUMP_H
#define DCLW_PUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "stream.h"

struct agent;

/* From a descriptor to the host. */
struct outpump {
	struct agent *agent;
	struct source source;
	int fd;
	struct stream *stream;
	bool socket;		/* whoever writes to it may as well learn that nobody reads: RESET does not drain it */
	bool leave;		/* end as soon as the descriptor was found empty (its process is gone) */
	bool done;
	/* Once; the stream has been finished or was reset. May free the pump's owner. */
	void (*ended)(struct outpump *p);
};

/* From the host to a descriptor. */
struct inpump {
	struct agent *agent;
	struct source source;
	int fd;
	struct stream *stream;
	bool socket;		/* the end is shutdown(SHUT_WR), not close() */
	bool done;
	/* Once: error 0 at the stream's end, ECANCELED by RESET, else what write() said. */
	void (*ended)(struct inpump *p, int error);
};

/* Takes fd in every case. The stream is the pump's from then on. */
int outpump_start(struct outpump *p, struct agent *a, int fd, size_t window, uint32_t id);
int inpump_start(struct inpump *p, struct agent *a, int fd, size_t window, uint32_t id);
/* The same in two steps, for a descriptor that is only to come: bytes wait in the stream. */
int outpump_open(struct outpump *p, struct agent *a, size_t window, uint32_t id);
int inpump_open(struct inpump *p, struct agent *a, size_t window, uint32_t id);
int outpump_attach(struct outpump *p, int fd);
int inpump_attach(struct inpump *p, int fd);
void outpump_run(struct outpump *p);
/* What is in the descriptor now is the last that is passed on; the rest is drained to nowhere. */
void outpump_leave(struct outpump *p);
/* Closes; a live stream is reset with error (0: dropped silently). No callback. */
void outpump_stop(struct outpump *p, int error);
void inpump_stop(struct inpump *p, int error);
/* Reads fd until its end and forgets what it read. Takes fd. */
void sink_start(struct agent *a, int fd);
void sinks_free(struct agent *a);

#endif
