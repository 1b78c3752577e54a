/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes to the guest.
 *
 * What was written stays in the stream's ring until the guest acknowledged it, so a cut loses
 * nothing: the guest says in HELLO_ACK which byte it wants next and sending goes on there. The ring
 * is allocated with the first byte and never grows. Streams that have something to send take turns,
 * a frame each.
 *
 * A guest need not acknowledge once more what it consumed together with the FIN, so behind each FIN
 * goes a PING: its PONG says that the guest has read everything before it.
 */
#include <string.h>

#include "agent/internal.h"
#include "wire/le.h"

static size_t ring_free(const struct agent_stream *s)
{
	return s->size - (size_t)(s->written - s->acked);
}

static void ring_put(struct agent_stream *s, const uint8_t *data, size_t len)
{
	size_t at = (size_t)(s->written % s->size);
	size_t first = MIN_OF(len, s->size - at);

	memcpy(s->ring + at, data, first);
	memcpy(s->ring, data + first, len - first);
	s->written += len;
}

static bool sendable(const struct agent_stream *s)
{
	if (!s->announced || s->over || s->unplaced)
		return false;
	return s->sent < MIN_OF(s->written, s->limit) ||
	       (s->fin && !s->fin_sent && s->sent == s->end);
}

void stream_out_ready(struct agent_stream *s)
{
	if (!sendable(s) || !list_empty(&s->ready))
		return;
	list_append(&s->agent->ready, &s->ready);
	agent_kick(s->agent);
}

ssize_t agent_stream_write(struct agent_stream *s, const void *data, size_t len)
{
	if (!s->agent || s->over)
		return -EPIPE;
	if (s->dir != AGENT_STREAM_OUT || s->fin)
		return -EINVAL;
	if (!s->ring && !(s->ring = malloc(s->size)))
		return -ENOMEM;
	if (s->unplaced || ring_free(s) < len) {
		s->blocked = true;
		len = s->unplaced ? 0 : ring_free(s);
	}
	if (len > 0)
		ring_put(s, data, len);
	stream_out_ready(s);
	return (ssize_t)len;
}

int agent_stream_finish(struct agent_stream *s)
{
	if (!s->agent || s->over)
		return -EPIPE;
	if (s->dir != AGENT_STREAM_OUT)
		return -EINVAL;
	if (s->fin)
		return 0;
	s->fin = true;
	s->end = s->written;
	stream_out_ready(s);
	return 0;
}

uint64_t agent_stream_offset(const struct agent_stream *s)
{
	return s->written;
}

/* The next frame of a stream after s->planned; false: nothing more, or no room in the batch. */
static bool plan_frame(struct agent *a, struct agent_stream *s, bool *full)
{
	uint64_t stop = MIN_OF(s->written, s->limit);
	size_t at = (size_t)(s->planned % s->size);
	size_t len = 0;
	struct dclw_header h;
	struct link_frame *f;
	bool fin;

	if (s->planned < stop)
		len = MIN_OF(MIN_OF((size_t)(stop - s->planned), (size_t)s->size - at),
			     DCLW_PAYLOAD_MAX);
	fin = s->fin && s->planned + len == s->end;
	if ((len == 0 && !fin) || s->fin_planned)
		return false;
	h = agent_header(a, DCLW_DATA, s->id, (uint32_t)len, s->planned);
	h.flags = fin ? DCLW_FIN : 0;
	f = link_add(&a->link, &h, len ? s->ring + at : NULL);
	if (!f) {
		*full = true;
		return false;
	}
	f->kind = FRAME_DATA;
	f->owner = s;
	s->planned += len;
	s->fin_planned = fin;
	return true;
}

bool stream_out_fill(struct agent *a)
{
	struct agent_stream *s;
	bool full = false, more = true;

	list_foreach(&a->ready, s, struct agent_stream, ready) {
		if (!sendable(s))
			list_unlink(&s->ready);
		s->planned = s->sent;
		s->fin_planned = s->fin_sent;
	}
	while (more && !full) {
		more = false;
		list_foreach(&a->ready, s, struct agent_stream, ready)
			if (!full && plan_frame(a, s, &full))
				more = true;
	}
	return !full;
}

void stream_out_sent(struct agent_stream *s, const struct link_frame *f)
{
	s->sent = f->header.offset + f->header.length;
	s->high = MAX_OF(s->high, s->sent);
	if (f->header.flags & DCLW_FIN) {
		s->fin_sent = true;
		s->barrier = s->agent->ping_seq + 1;
		s->agent->ping_due = true;
	}
	/* To the end of the line, or out of it. */
	list_unlink(&s->ready);
	stream_out_ready(s);
}

/* The guest has everything before `to`. */
static void acknowledge(struct agent_stream *s, uint64_t to)
{
	struct agent *a = s->agent;
	bool moved = to > s->acked;

	s->acked = to;
	s->sent = MAX_OF(s->sent, to);
	if (moved && s->ops.acked && !s->zombie)
		s->ops.acked(s->userdata, to);
	if (a->dead || s->over || s->zombie)
		return;
	if (s->fin && s->fin_sent && s->acked == s->end) {
		stream_end(s, 0);
	} else if (s->blocked && !s->fin && ring_free(s) >= s->size / 4) {
		s->blocked = false;
		if (s->ops.writable)
			s->ops.writable(s->userdata);
	}
}

void stream_out_ponged(struct agent_stream *s, uint64_t seq)
{
	if (!s->over && s->fin_sent && s->barrier <= seq)
		acknowledge(s, s->end);
}

void stream_out_window(struct agent_stream *s, const struct wire_frame *f)
{
	struct agent *a = s->agent;
	uint64_t limit = f->header.offset, acked;

	if (f->header.length != 8)
		return agent_violation(a, "WINDOW of a wrong size");
	acked = le64_load(f->payload);
	if (acked > s->high)
		return agent_violation(a, "acknowledgement of bytes never sent");
	if (limit > acked && limit - acked > DCLW_WINDOW_MAX)
		return agent_violation(a, "WINDOW too large");
	if (acked < s->acked || (acked == s->acked && limit <= s->limit))
		agent_noise(a);
	s->limit = MAX_OF(s->limit, limit);
	acknowledge(s, MAX_OF(acked, s->acked));
	if (!a->dead && !s->over && !s->zombie)
		stream_out_ready(s);
}

void stream_out_state(struct agent_stream *s, uint64_t next)
{
	struct agent *a = s->agent;

	if (s->unplaced) {
		s->unplaced = false;
		s->acked = s->sent = s->written = s->high = s->limit = next;
		if (s->fin)
			s->end = next;
	} else if (next < s->acked || next > s->high) {
		return agent_violation(a, "HELLO_ACK wants bytes that cannot be missing");
	}
	s->stated_in = a->session;
	s->sent = next;
	s->fin_sent = false;
}

/*
 * Not in the HELLO_ACK: either the guest never had it because the request was lost, which is about
 * to be sent again, or it is over there and the last frame about it was lost.
 */
static void absent(struct agent_stream *s)
{
	struct agent *a = s->agent;

	if (request_names(a, s->id)) {
		s->announced = s->acked > 0;
		s->sent = s->acked;
		s->fin_sent = false;
		list_unlink(&s->ready);
		return;
	}
	stream_end(s, s->fin && s->fin_sent && s->high == s->end ? 0 : EPIPE);
}

void stream_out_resync(struct agent_stream *s)
{
	struct agent *a = s->agent;

	if (s->over)
		return;
	if (s->stated_in != a->session) {
		absent(s);
		return;
	}
	list_unlink(&s->ready);
	acknowledge(s, s->sent);
	if (!a->dead && !s->over && !s->zombie)
		stream_out_ready(s);
}
