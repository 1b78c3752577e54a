/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The session with the host: what the frames mean, and what is to be sent (guest/PROTOCOL.md §3).
 *
 * Nothing is queued as frames. Everything the agent owes the host is state (a due flag, a reply kept in
 * its request, a window that moved), and frames are made from it when the port takes them: so a HELLO
 * voids what was not sent by clearing flags, and no queue can grow. What can be provoked without limit
 * (PONGs, RESETs) sits in short rings, and the port is not read while those are full.
 */
#ifndef DCLW_SESSION_H
#define DCLW_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "request.h"
#include "stream.h"
#include "util/list.h"
#include "wire/frame.h"
#include "wire/proto.h"

struct agent;

#define SESSION_PONGS 16u
#define SESSION_RESETS (2u * DCLW_STREAMS_MAX)
#define SESSION_ENDS 1024u
#define SESSION_BUCKETS 256u

struct session {
	bool open;			/* HELLO was good and nothing broke since */
	bool ack_due;
	bool goaway_due;
	uint32_t goaway_reason;
	char goaway_text[160];
	uint64_t epoch, instance, agent_id, hello_at;
	bool resumes_over;
	uint64_t stale;			/* frames of other epochs, dropped */

	struct { uint64_t offset; uint32_t arg; } pongs[SESSION_PONGS];
	unsigned int pong_first, pong_count;
	/* error 0: no RESET but the end of a stream that is gone, after a GAP if from < end */
	struct { uint32_t id; uint32_t error; uint64_t from, end; } resets[SESSION_RESETS];
	unsigned int reset_first, reset_count;

	struct request requests[REQUEST_SLOTS];
	uint64_t request_order;
	struct list replies_due;	/* struct request */
	uint32_t answered;		/* the host's newest `arg` */
	bool answered_known;
	/* A request that comes in fragments, as far as it is here; none when part_len is 0. One after the
	 * other, so one buffer will do; its pages cost nothing before the first large request. */
	uint64_t part_id;
	size_t part_len;
	uint8_t part[DCLW_REQUEST_MAX];

	struct list streams[SESSION_BUCKETS];
	unsigned int nstreams;
	uint64_t stream_serial;
	struct list data_ready, control_ready;
	uint64_t unacked;		/* counted bytes of all streams: the connection window */
	uint64_t shut_at;		/* when a shut connection window is looked into; 0 = open */
	uint64_t lazy_at;		/* when a lazy WINDOW goes without company; 0 = none */
	struct { uint32_t id; uint64_t end; } ends[SESSION_ENDS];	/* finished out streams */
	unsigned int end_next;

	struct wire_decoder *decoder;
	uint8_t *out;			/* DCLW_FRAME_MAX bytes: whole frames for one write */
	void *out_memory;
	size_t out_pos, out_len;
};

int session_init(struct agent *a);
void session_done(struct agent *a);
/* Read what is there and handle it; returns true when there may be more. */
bool session_receive(struct agent *a);
/* Send what is due as far as the port takes it. */
void session_send(struct agent *a);
void session_tick(struct agent *a);
/* ms until something must be sent although nothing happened; at most max. */
int session_timeout(const struct agent *a, int max);
/* The host broke a rule: say so and be silent. */
_printf_(2, 3) void session_protocol_error(struct agent *a, const char *fmt, ...);
void session_queue_reset(struct agent *a, uint32_t id, int error);
void session_queue_end(struct agent *a, uint32_t id, uint64_t from, uint64_t end);
void session_remember_end(struct agent *a, uint32_t id, uint64_t end);
void session_forget_end(struct agent *a, uint32_t id);
bool session_find_end(const struct agent *a, uint32_t id, uint64_t *ret_end);

/* session_fill.c: makes frames; returns the length in out. */
size_t session_fill(struct agent *a, uint8_t *out, size_t size);

#endif
