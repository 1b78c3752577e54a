/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streams as the host sees them: DATA, WINDOW, RESUME, RESET in, and the frames that go out.
 *
 * Every number from the host is compared before it is used: offsets against what was sent or announced,
 * so that differences below are never negative. A broken rule ends the session.
 */
#include <errno.h>
#include <string.h>

#include "agent.h"
#include "stream.h"
#include "streamwire.h"
#include "wire/le.h"

/* A WINDOW that nothing is in a hurry for waits this long for company. */
#define LAZY_NS (20ull * 1000 * 1000)
#define ABANDON_NS (60ull * 1000 * 1000 * 1000)
/* How long the connection window stays shut before stalled streams are taken out of it. */
#define SHUT_NS (100ull * 1000 * 1000)
/* Data goes into what is left of a write only if at least this much of it fits. */
#define CHUNK_MIN 1024u

static size_t sendable(const struct stream *s)
{
	uint64_t to = s->tail < s->limit ? s->tail : s->limit;
	uint64_t room = DCLW_CONN_WINDOW > s->agent->session.unacked ?
			DCLW_CONN_WINDOW - s->agent->session.unacked : 0;

	if (to <= s->sent)
		return 0;
	return to - s->sent < room ? (size_t)(to - s->sent) : (size_t)room;
}

static bool fin_due(const struct stream *s)
{
	return s->fin && !s->fin_sent && s->sent == s->tail;
}

/* The connection window is looked at when sending, not here: it opens for all streams at once. */
void stream_update_ready(struct stream *s)
{
	bool data = s->sent < s->tail && s->sent < s->limit;

	if (s->held || !(data || fin_due(s)))
		list_unlink(&s->ready);
	else if (list_empty(&s->ready))
		list_append(&s->agent->session.data_ready, &s->ready);
}

void stream_window_due(struct stream *s, bool lazy)
{
	struct session *session = &s->agent->session;

	if (list_empty(&s->control)) {
		list_append(&session->control_ready, &s->control);
		s->lazy = lazy;
	} else if (!lazy) {
		s->lazy = false;
	}
	if (s->lazy && session->lazy_at == 0)
		session->lazy_at = agent_now() + LAZY_NS;
}

int stream_on_data(struct agent *a, const struct wire_frame *f)
{
	const struct dclw_header *h = &f->header;
	struct stream *s = stream_find(a, h->stream);
	uint64_t end = h->offset + h->length, skip;
	bool fin = h->flags & DCLW_FIN;
	size_t took = 0;

	if (!s)
		return 0;	/* crossed our RESET or close */
	if (s->dir != STREAM_IN || end < h->offset || h->offset > s->tail || end > s->limit)
		return -EPROTO;
	if (s->fin && (end > s->tail || (fin && end != s->tail)))
		return -EPROTO;
	if (fin && end < s->tail)
		return -EPROTO;
	skip = s->tail - h->offset;
	if (skip < h->length) {
		if (s->ops && s->ops->take && s->head == s->tail)
			took = s->ops->take(s->owner, f->payload + skip, h->length - (size_t)skip);
		ring_copy_in(&s->ring, s->tail + took, f->payload + skip + took, h->length - (size_t)skip - took);
		s->tail = end;
		stream_consumed(s, took);
	}
	if (s->fin)
		return 0;
	s->fin = fin;
	if (s->ops)
		s->ops->kick(s->owner);
	return 0;
}

static void out_uncount(struct stream *s)
{
	uint64_t under_way = s->sent - s->head;

	if (s->counted > under_way) {
		s->agent->session.unacked -= s->counted - under_way;
		s->counted = under_way;
	}
}

/* Grows the ring with the host's credit: a faster reader gets a deeper pipe. */
static void out_grow(struct stream *s)
{
	size_t size = s->ring.size;

	if (size == 0)
		return;
	while (size < DCLW_WINDOW_MAX && s->limit - s->head > size)
		size *= 2;
	if (!s->fin && size > s->ring.size)
		ring_grow(&s->ring, size, s->head, s->tail);
}

/* All sent and acknowledged. */
static void out_over(struct stream *s)
{
	const struct stream_ops *ops = s->ops;
	void *owner = s->owner;

	session_remember_end(s->agent, s->id, s->tail);
	stream_drop(s);
	if (ops)
		ops->gone(owner, 0);
}

static void out_acknowledged(struct stream *s, uint64_t offset)
{
	if (offset > s->head) {
		s->head = offset;
		if (s->sent < offset)
			s->sent = offset;
		out_uncount(s);
	}
	if (s->fin && s->head == s->tail && (s->fin_sent || (s->held && s->fin_ever))) {
		out_over(s);
		return;
	}
	out_grow(s);
	stream_update_ready(s);
	if (s->ops && s->starved && stream_room_len(s) >= s->ring.size / 4) {
		s->starved = false;
		s->ops->kick(s->owner);
	}
}

int stream_on_window(struct agent *a, const struct wire_frame *f)
{
	struct stream *s = stream_find(a, f->header.stream);
	uint64_t acked;

	if (f->header.length != 8)
		return -EPROTO;
	if (!s)
		return 0;
	acked = le64_load(f->payload);
	if (s->dir != STREAM_OUT || acked > s->sent_max)
		return -EPROTO;
	if (acked < s->head)
		acked = s->head;
	if (f->header.offset > s->limit) {
		uint64_t most = acked + DCLW_WINDOW_MAX;

		s->limit = f->header.offset < most ? f->header.offset : most > s->limit ? most : s->limit;
	}
	out_acknowledged(s, acked);
	return 0;
}

int stream_on_resume(struct agent *a, const struct wire_frame *f)
{
	struct stream *s = stream_find(a, f->header.stream);
	uint64_t from = f->header.offset, end;

	if (!s) {
		if (!session_find_end(a, f->header.stream, &end))
			session_queue_reset(a, f->header.stream, ENOENT);
		else if (from > end)
			session_queue_reset(a, f->header.stream, EPROTO);
		else
			session_queue_end(a, f->header.stream, from, end);
		return 0;
	}
	if (s->dir != STREAM_OUT || from > s->sent_max)
		return -EPROTO;
	s->held = false;
	s->fin_sent = false;
	if (from < s->head) {
		s->gap_from = from;
		s->gap_due = true;
		from = s->head;
		if (list_empty(&s->control))
			list_append(&a->session.control_ready, &s->control);
		s->lazy = false;
	}
	s->sent = from;
	out_acknowledged(s, from);
	return 0;
}

void stream_on_reset(struct agent *a, const struct wire_frame *f)
{
	struct stream *s = stream_find(a, f->header.stream);
	const struct stream_ops *ops;
	void *owner;

	if (!s)
		return;
	ops = s->ops;
	owner = s->owner;
	stream_drop(s);
	if (ops)
		ops->gone(owner, f->header.arg > 0 && f->header.arg < 4096 ? (int)f->header.arg : ECANCELED);
}

void streams_hello(struct agent *a)
{
	struct stream *s;

	a->session.unacked = 0;
	a->session.lazy_at = 0;
	for (unsigned int i = 0; i < SESSION_BUCKETS; i++) {
		list_foreach(&a->session.streams[i], s, struct stream, hash) {
			list_unlink(&s->control);
			if (s->dir == STREAM_IN) {
				stream_window_due(s, false);
				continue;
			}
			s->held = true;
			s->fin_sent = false;
			s->gap_due = false;
			s->counted = 0;
			list_unlink(&s->ready);
		}
	}
}

/* A stream whose end had been sent before the HELLO and that nobody resumed for a minute was received in
 * full, only the acknowledgement was lost. */
void streams_tick(struct agent *a)
{
	struct stream *s;

	if (agent_now() - a->session.hello_at < ABANDON_NS)
		return;
	for (unsigned int i = 0; i < SESSION_BUCKETS; i++) {
		list_foreach(&a->session.streams[i], s, struct stream, hash) {
			if (s->dir == STREAM_OUT && s->held && s->fin_ever)
				out_over(s);
		}
	}
}

/*
 * Readers that took nothing while the connection window was shut stop counting in it: a few that stall
 * must not shut it for all others. What they have not acknowledged is bounded by their own credit.
 */
static void uncount_stalled(struct agent *a, bool mark_only)
{
	struct stream *s;

	for (unsigned int i = 0; i < SESSION_BUCKETS; i++) {
		list_foreach(&a->session.streams[i], s, struct stream, hash) {
			if (s->dir != STREAM_OUT)
				continue;
			if (!mark_only && s->head == s->head_marked) {
				a->session.unacked -= s->counted;
				s->counted = 0;
			}
			s->head_marked = s->head;
		}
	}
}

void streams_check_shut(struct agent *a)
{
	struct session *session = &a->session;

	if (session->unacked < DCLW_CONN_WINDOW || list_empty(&session->data_ready)) {
		session->shut_at = 0;
	} else if (session->shut_at == 0) {
		session->shut_at = agent_now() + SHUT_NS;
		uncount_stalled(a, true);
	} else if (agent_now() >= session->shut_at) {
		session->shut_at = 0;
		uncount_stalled(a, false);
	}
}

static size_t fill_gap(struct stream *s, uint8_t *out, size_t size)
{
	uint8_t to[8];
	struct dclw_header h = {
		.type = DCLW_GAP, .epoch = (uint16_t)s->agent->session.epoch, .stream = s->id,
		.length = sizeof(to), .offset = s->gap_from,
	};
	size_t n;

	le64_store(to, s->head);
	n = wire_frame_put(out, size, &h, to);
	if (n > 0) {
		s->gap_due = false;
		list_unlink(&s->control);
	}
	return n;
}

size_t stream_fill_control(struct stream *s, uint8_t *out, size_t size)
{
	uint8_t acked[8];
	uint64_t limit = s->head + s->ring.size;
	struct dclw_header h = {
		.type = DCLW_WINDOW, .epoch = (uint16_t)s->agent->session.epoch, .stream = s->id,
		.length = sizeof(acked),
	};
	size_t n;

	if (s->dir == STREAM_OUT)
		return fill_gap(s, out, size);
	h.offset = limit > s->limit ? limit : s->limit;
	le64_store(acked, s->head);
	n = wire_frame_put(out, size, &h, acked);
	if (n > 0) {
		s->limit = h.offset;
		s->head_told = s->head;
		list_unlink(&s->control);
	}
	return n;
}

/* A source's bytes straight into the frame. Returns their number, or -1: the stream is gone. */
static ssize_t fetch(struct stream *s, uint8_t *to, size_t len)
{
	ssize_t n = s->ops->fetch(s->owner, s->sent, to, len);

	if (n < 0) {
		const struct stream_ops *ops = s->ops;
		void *owner = s->owner;

		stream_reset(s, (int)-n);
		ops->gone(owner, (int)-n);
		return -1;
	}
	if ((size_t)n < len) {
		/* also when the file got shorter between a sending and its replay */
		s->tail = s->sent + (uint64_t)n;
		s->sent_max = MIN_OF(s->sent_max, s->tail);
		s->fin = true;
	}
	return n;
}

/* What was put into a frame is under way; the stream goes to the back: one frame a turn. */
static void out_sent(struct stream *s, size_t len, bool fin)
{
	s->sent += len;
	if (s->sent > s->sent_max)
		s->sent_max = s->sent;
	s->counted += len;
	s->agent->session.unacked += len;
	list_unlink(&s->ready);
	if (fin)
		s->fin_sent = s->fin_ever = true;
	/* nothing to acknowledge: nobody will */
	if (fin && s->head == s->tail)
		out_over(s);
	else
		stream_update_ready(s);
}

size_t stream_fill_data(struct stream *s, uint8_t *out, size_t size)
{
	const size_t ends = DCLW_HEADER_SIZE + DCLW_SEAL_SIZE;
	size_t len = sendable(s), n;
	struct dclw_header h = {
		.type = DCLW_DATA, .epoch = (uint16_t)s->agent->session.epoch, .stream = s->id,
		.offset = s->sent,
	};

	if (size < ends || (len == 0 && !fin_due(s)))
		return 0;
	if (len > size - ends) {
		len = size - ends;
		if (len < CHUNK_MIN)
			return 0;
	}
	if (len > 0 && s->ops && s->ops->fetch) {
		ssize_t got = fetch(s, out + DCLW_HEADER_SIZE, len);

		if (got < 0)
			return 0;
		len = (size_t)got;
	} else if (s->ring.size > 0) {
		ring_copy_out(&s->ring, s->sent, out + DCLW_HEADER_SIZE, len);
	}
	h.length = (uint32_t)len;
	if (s->fin && s->sent + len == s->tail)
		h.flags = DCLW_FIN;
	n = wire_frame_put(out, size, &h, NULL);
	out_sent(s, len, h.flags & DCLW_FIN);
	return n;
}
