/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One byte channel to a guest: connect, reconnect, frames in, frames out. Knows no session.
 *
 * Input goes from the socket into the decoder's buffer and from there to ops->frame() without a
 * copy.
 *
 * Output is pulled, not queued: when the socket has room, ops->fill() names the frames to send
 * next, and what the socket did not begin to take is forgotten again and asked for anew the next
 * time. So nothing that waits occupies memory here, a new control frame always overtakes waiting
 * data, and a reconnect has no stale queue to sort out. Only the rest of one frame that was cut by
 * a short write is copied.
 */
#ifndef DECLAW_AGENT_LINK_H
#define DECLAW_AGENT_LINK_H

#include <systemd/sd-event.h>

#include "wire/frame.h"

#define LINK_BATCH 16			/* frames of one writev */
#define LINK_SMALL 128			/* payload bytes that may live in the frame itself */

struct link;

/* One frame offered by ops->fill(). */
struct link_frame {
	struct dclw_header header;
	struct wire_ends ends;
	uint8_t small[LINK_SMALL];
	unsigned int kind;		/* owner's use */
	void *owner;			/* owner's use */
};

struct link_ops {
	/* Around every callback from the loop; the link may be freed by leave(). */
	void (*enter)(struct link *l);
	void (*leave)(struct link *l);
	void (*connected)(struct link *l);
	/* The peer closed or the socket failed; the link is closed already, link_retry() goes on.
	 */
	void (*gone)(struct link *l, int error);
	/* connect() has been failing for that long. */
	void (*refused)(struct link *l, int error, uint64_t usec);
	/* May close the link; no further frame comes then. */
	void (*frame)(struct link *l, const struct wire_frame *f);
	/* Calls link_add() until it returns NULL or nothing is left. */
	void (*fill)(struct link *l);
	/* The frame is on its way (wholly, or begun and the rest is safe). */
	void (*sent)(struct link *l, const struct link_frame *f);
};

struct link {
	sd_event *event;
	const struct link_ops *ops;
	char *path;
	int fd;
	sd_event_source *io, *timer;
	unsigned int serial;		/* changes with each open and close */
	uint64_t backoff;		/* of the next reconnect, usec */
	uint64_t refused_since;		/* 0: the last connect() worked */
	sd_event_source *pause;
	uint64_t pause_usec;		/* 0: read whenever something is there */
	bool want_out, broken, paused;
	struct wire_decoder *decoder;
	size_t preamble;		/* zero bytes still to send */
	uint8_t *tail;			/* rest of a frame the socket took in part */
	size_t tail_pos, tail_len;
	unsigned int n_frames;
	struct link_frame frames[LINK_BATCH];
	struct iovec iov[2 + 3 * LINK_BATCH];
};

/* path may be NULL: such a link can only be given a descriptor. */
int link_init(struct link *l, sd_event *event, const char *path, const struct link_ops *ops);
void link_done(struct link *l);
/* Connect soon, from the loop. -EDESTADDRREQ without a path. */
int link_open(struct link *l);
/* Takes fd in every case; ops->connected() is called before it returns. */
int link_open_fd(struct link *l, int fd);
void link_close(struct link *l);
/* Close and connect again after a pause that grows until link_settled(). */
int link_retry(struct link *l);
void link_settled(struct link *l);
static inline bool link_is_open(const struct link *l)
{
	return l->fd >= 0;
}

/* Only inside ops->fill(): NULL when the batch is full. The payload must stay until ops->sent() or
 * the next ops->fill(); NULL: it is in ->small, which the caller fills after the call. */
struct link_frame *link_add(struct link *l, const struct dclw_header *h, const void *payload);
/* Send what ops->fill() offers as far as the socket takes it. Never calls gone(). */
void link_flush(struct link *l);

#endif
