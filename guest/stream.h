/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streams of one session: a ring of bytes per stream under absolute offsets (guest/PROTOCOL.md §4).
 *
 *	out (to the host):	head <= sent <= tail	head: acknowledged, tail: produced
 *	in (from the host):	head <= tail <= limit	head: consumed, tail: received
 *
 * A stream belongs to the session's table; its owner (a pump, an upload) gets told through two callbacks
 * and gives it up by stream_finish(), stream_close() or stream_reset(), or has it taken by gone().
 */
#ifndef DCLW_STREAM_H
#define DCLW_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "util/list.h"
#include "wire/frame.h"

struct agent;
struct stream;

enum stream_dir { STREAM_OUT, STREAM_IN };

struct stream_ops {
	/* out: there is room again. in: bytes or the end arrived. */
	void (*kick)(void *owner);
	/* The host reset it, or (error 0) took the last of a source; the pointer is dead when this returns. */
	void (*gone)(void *owner, int error);
	/* in, optional: takes bytes past the ring when that is empty; returns how many. Must not touch the
	 * stream; kick() follows. */
	size_t (*take)(void *owner, const uint8_t *data, size_t len);
	/* out, for stream_open_source(): bytes at that offset, fewer only at the end; -errno. */
	ssize_t (*fetch)(void *owner, uint64_t offset, uint8_t *buf, size_t len);
};

struct ring {
	uint8_t *buf;
	size_t size;		/* a power of two */
};

struct stream {
	struct list hash;		/* by id */
	struct list ready;		/* in session.data_ready while something may be sent */
	struct list control;		/* in session.control_ready while a WINDOW or GAP is due */
	struct agent *agent;
	uint32_t id;
	enum stream_dir dir;
	uint64_t serial;		/* tells two users of one id apart */
	const struct stream_ops *ops;	/* NULL: no owner */
	void *owner;
	struct ring ring;
	uint64_t head, tail;
	uint64_t limit;			/* in: as announced */
	bool fin;			/* tail is the end */
	/* out */
	uint64_t sent, sent_max;
	uint64_t counted;		/* bytes counted in the connection window */
	uint64_t gap_from;
	bool gap_due, fin_sent, fin_ever, held, starved;
	uint64_t head_marked;
	/* in */
	uint64_t head_told;		/* acknowledged in the last WINDOW */
	bool lazy;			/* a WINDOW may wait for company */
};

/* -EEXIST, -EINVAL (id 0), -EMFILE, -ENOMEM. window: size of the ring. */
int stream_open(struct agent *a, uint32_t id, enum stream_dir dir, size_t window, const struct stream_ops *ops,
		void *owner, struct stream **ret);
/* An out stream without a ring: bytes are fetched when they are sent, and again when they are replayed. The
 * owner stays until gone(). */
int stream_open_source(struct agent *a, uint32_t id, const struct stream_ops *ops, void *owner, struct stream **ret);
struct stream *stream_find(struct agent *a, uint32_t id);

/* out: room as up to two pieces; returns their number, 0 = no room. */
int stream_room(struct stream *s, struct iovec iov[static 2]);
size_t stream_room_len(const struct stream *s);
/* false: kick() comes when a good part of the ring is free. */
bool stream_has_room(struct stream *s, size_t len);
void stream_produced(struct stream *s, size_t len);
/* Copies; only when stream_room_len() >= len. */
void stream_put(struct stream *s, const void *data, size_t len);
/* No more bytes, no more callbacks; the stream lives on until the host has it all. */
void stream_finish(struct stream *s);

/* in: received bytes as up to two pieces; 0 = none now. */
int stream_peek(const struct stream *s, struct iovec iov[static 2]);
void stream_consumed(struct stream *s, size_t len);
bool stream_at_end(const struct stream *s);
/* After the end was consumed. */
void stream_close(struct stream *s);

/* Either: over at once, the host is told (error > 0). No callback. */
void stream_reset(struct stream *s, int error);
/* Over without a word to the host and without a callback: its request failed. */
void stream_drop(struct stream *s);

/* For the session: */
int stream_on_data(struct agent *a, const struct wire_frame *f);
int stream_on_window(struct agent *a, const struct wire_frame *f);
int stream_on_resume(struct agent *a, const struct wire_frame *f);
void stream_on_reset(struct agent *a, const struct wire_frame *f);
void streams_hello(struct agent *a);
void streams_tick(struct agent *a);
/* After sending: opens a connection window that stalled readers keep shut. */
void streams_check_shut(struct agent *a);
/* Puts one frame of the stream at out; 0: nothing to send or too little room. */
size_t stream_fill_control(struct stream *s, uint8_t *out, size_t size);
size_t stream_fill_data(struct stream *s, uint8_t *out, size_t size);
/* May an exit that waits for this stream be reported? */
bool stream_all_sent(struct agent *a, uint32_t id, uint64_t serial, bool resumes_over);

/* Rings (ring.c): the sum of all is bounded, small ones are kept for reuse. */
int ring_alloc(struct ring *r, size_t size);
void ring_free(struct ring *r);
/* A larger ring with bytes [head, tail) in place; -ENOMEM leaves it as it was. */
int ring_grow(struct ring *r, size_t size, uint64_t head, uint64_t tail);
int ring_slices(const struct ring *r, uint64_t from, uint64_t to, struct iovec iov[static 2]);
void ring_copy_out(const struct ring *r, uint64_t from, void *to, size_t len);
void ring_copy_in(const struct ring *r, uint64_t at, const void *from, size_t len);

#endif
