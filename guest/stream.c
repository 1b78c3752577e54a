/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stream table and what owners do with streams. What the host does to them is in streamwire.c.
 *
 * A stream that has all gone (end sent and acknowledged) leaves its id and end in the session's list of
 * ends: if the last frame was lost in a splice, the host's RESUME can still be answered.
 */
#include <errno.h>
#include <string.h>

#include "agent.h"
#include "stream.h"
#include "streamwire.h"

static struct list *bucket(struct agent *a, uint32_t id)
{
	return &a->session.streams[(id * 2654435761u >> 16) % SESSION_BUCKETS];
}

struct stream *stream_find(struct agent *a, uint32_t id)
{
	struct stream *s;

	list_foreach(bucket(a, id), s, struct stream, hash) {
		if (s->id == id)
			return s;
	}
	return NULL;
}

int stream_open(struct agent *a, uint32_t id, enum stream_dir dir, size_t window, const struct stream_ops *ops,
		void *owner, struct stream **ret)
{
	struct stream *s;
	int r;

	if (id == 0)
		return -EINVAL;
	if (stream_find(a, id))
		return -EEXIST;
	if (a->session.nstreams >= DCLW_STREAMS_MAX)
		return -EMFILE;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	r = window > 0 ? ring_alloc(&s->ring, window) : 0;
	if (r < 0) {
		free(s);
		return r;
	}
	s->agent = a;
	s->id = id;
	s->dir = dir;
	s->ops = ops;
	s->owner = owner;
	s->serial = ++a->session.stream_serial;
	s->limit = DCLW_WINDOW_INITIAL;
	list_init(&s->ready);
	list_init(&s->control);
	list_append(bucket(a, id), &s->hash);
	a->session.nstreams++;
	session_forget_end(a, id);
	if (dir == STREAM_IN && window > DCLW_WINDOW_INITIAL)
		stream_window_due(s, false);
	*ret = s;
	return 0;
}

int stream_open_source(struct agent *a, uint32_t id, const struct stream_ops *ops, void *owner, struct stream **ret)
{
	int r = stream_open(a, id, STREAM_OUT, 0, ops, owner, ret);

	if (r < 0)
		return r;
	(*ret)->tail = UINT64_MAX;	/* until fetch() finds the end */
	stream_update_ready(*ret);
	return 0;
}

void stream_drop(struct stream *s)
{
	s->agent->session.unacked -= s->counted;
	s->agent->session.nstreams--;
	list_unlink(&s->hash);
	list_unlink(&s->ready);
	list_unlink(&s->control);
	ring_free(&s->ring);
	free(s);
}

void stream_reset(struct stream *s, int error)
{
	session_queue_reset(s->agent, s->id, error > 0 ? error : EIO);
	stream_drop(s);
}

void stream_close(struct stream *s)
{
	stream_drop(s);
}

/* --- out --- */

size_t stream_room_len(const struct stream *s)
{
	return s->fin ? 0 : s->ring.size - (size_t)(s->tail - s->head);
}

bool stream_has_room(struct stream *s, size_t len)
{
	bool room = stream_room_len(s) >= len;

	s->starved = !room;
	return room;
}

int stream_room(struct stream *s, struct iovec iov[static 2])
{
	size_t room = stream_room_len(s);

	s->starved = room == 0;
	return ring_slices(&s->ring, s->tail, s->tail + room, iov);
}

void stream_produced(struct stream *s, size_t len)
{
	s->tail += len;
	stream_update_ready(s);
}

void stream_put(struct stream *s, const void *data, size_t len)
{
	ring_copy_in(&s->ring, s->tail, data, len);
	stream_produced(s, len);
}

void stream_finish(struct stream *s)
{
	s->fin = true;
	s->ops = NULL;
	s->owner = NULL;
	stream_update_ready(s);
}

bool stream_all_sent(struct agent *a, uint32_t id, uint64_t serial, bool resumes_over)
{
	struct stream *s = id ? stream_find(a, id) : NULL;

	if (!s || s->serial != serial || s->fin_sent)
		return true;
	/* Sent before the HELLO, and the host did not ask again: it had it all. */
	return s->held && s->fin_ever && resumes_over;
}

/* --- in --- */

int stream_peek(const struct stream *s, struct iovec iov[static 2])
{
	return ring_slices(&s->ring, s->head, s->tail, iov);
}

/* A WINDOW is a write of its own with a notification, dear to an emulated guest: it waits until half the ring is to be told of. */
void stream_consumed(struct stream *s, size_t len)
{
	uint64_t untold;

	s->head += len;
	untold = s->head - s->head_told;
	if (untold >= s->ring.size / 2)
		stream_window_due(s, false);
	else if (untold > 0)
		stream_window_due(s, true);
}

bool stream_at_end(const struct stream *s)
{
	return s->fin && s->head == s->tail;
}
