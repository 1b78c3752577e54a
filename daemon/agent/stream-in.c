/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes from the guest: order, credit, gaps.
 *
 * Credit is a limit in absolute offsets and is raised only when the owner consumed bytes, so a
 * consumer that stalls stops its own process and nobody else. WINDOW frames are few: one when the
 * credit left has fallen to three quarters and at least half a window can be added, so a short
 * command causes none.
 *
 * The guest keeps at most DCLW_CONN_WINDOW bytes unacknowledged over all streams. Many streams with
 * less than half a window each would fill that, so when the sum of what could be acknowledged gets
 * large, all of them are. Large is half of it: an acknowledgement costs an emulated guest about as much
 * as sending five frames does, and what is left lasts for longer than it is under way.
 */
#include "agent/internal.h"
#include "wire/le.h"

/* What the guest may forget: everything delivered and consumed. */
static uint64_t acked_offset(const struct agent_stream *s)
{
	uint64_t behind_gap = s->next - s->gap_end;

	if (s->unconsumed <= behind_gap)
		return s->next - s->unconsumed;
	return s->gap_start - (s->unconsumed - behind_gap);
}

static uint64_t limit_wanted(const struct agent_stream *s)
{
	uint64_t limit = s->next - s->unconsumed + s->size;

	return MAX_OF(limit, s->limit);
}

void stream_in_credit(struct agent_stream *s)
{
	struct agent *a = s->agent;
	uint64_t limit = limit_wanted(s);

	if (!s->announced || !list_empty(&s->window))
		return;
	if (s->fin) {
		if (s->unconsumed > 0 || s->acked_told >= s->end)
			return;
	} else if (s->over || limit - s->limit < s->size / 2 ||
		   s->limit - s->next > s->credit_mark / 4 * 3) {
		return;
	}
	list_append(&a->window, &s->window);
	agent_kick(a);
}

/* The guest was told (or will be, or need not be) that everything before `to` may be forgotten. */
static void told(struct agent_stream *s, uint64_t to)
{
	s->agent->ackable -= MIN_OF(s->ackable, s->agent->ackable);
	s->ackable = 0;
	s->acked_told = MAX_OF(s->acked_told, to);
}

void stream_in_untold(struct agent_stream *s)
{
	told(s, 0);
}

static void acknowledge_all(struct agent *a)
{
	struct agent_stream *s;

	list_foreach(&a->streams, s, struct agent_stream, link)
		if (s->ackable > 0 && s->announced && !s->over && list_empty(&s->window))
			list_append(&a->window, &s->window);
	agent_kick(a);
}

void agent_stream_consumed(struct agent_stream *s, size_t len)
{
	struct agent *a = s->agent;
	uint64_t n = MIN_OF((uint64_t)len, s->unconsumed);

	if (!a || s->dir != AGENT_STREAM_IN)
		return;
	s->unconsumed -= n;
	if (!s->over) {
		s->ackable += n;
		a->ackable += n;
	}
	stream_in_credit(s);
	if (a->ackable >= DCLW_CONN_WINDOW / 2)
		acknowledge_all(a);
}

static void deliver(struct agent_stream *s, const uint8_t *data, uint64_t len)
{
	uint64_t offset = s->next;

	s->next += len;
	s->may_gap = false;
	if (s->zombie)
		return;
	s->unconsumed += len;
	s->ops.data(s->userdata, offset, data, (size_t)len);
}

void stream_in_data(struct agent_stream *s, const struct wire_frame *f)
{
	struct agent *a = s->agent;
	uint64_t offset = f->header.offset, len = f->header.length;
	bool fin = f->header.flags & DCLW_FIN;
	uint64_t skip;

	if (offset > UINT64_MAX - len || offset + len > s->limit)
		return agent_violation(a, "DATA beyond its credit");
	if (offset > s->next)
		return agent_violation(a, "DATA with a hole before it");
	/* Only a resync may make the guest say something twice. */
	if (offset < s->next && s->announced_in == a->session)
		return agent_violation(a, "DATA repeated");
	if (offset + len < s->next && fin)
		return agent_violation(a, "end of a stream before what was sent");
	if (len == 0 && !fin)
		return agent_noise(a);
	skip = MIN_OF(s->next - offset, len);
	if (len > skip)
		deliver(s, f->payload + skip, len - skip);
	if (!fin || a->dead || s->over || !s->agent)
		return;
	s->fin = true;
	s->end = s->next;
	stream_end(s, 0);
	stream_in_credit(s);
}

void stream_in_gap(struct agent_stream *s, const struct wire_frame *f)
{
	struct agent *a = s->agent;
	uint64_t from = f->header.offset, to;

	if (f->header.length != 8)
		return agent_violation(a, "GAP of a wrong size");
	to = le64_load(f->payload);
	if (!s->may_gap || from != s->next || to <= from || to > s->limit)
		return agent_violation(a, "GAP where none can be");
	s->may_gap = false;
	s->gap_start = from;
	s->gap_end = s->next = to;
	if (!s->zombie && s->ops.gap)
		s->ops.gap(s->userdata, from, to);
}

void stream_in_resync(struct agent_stream *s)
{
	struct agent *a = s->agent;

	list_unlink(&s->window);
	if (s->over && (!s->fin || s->unconsumed > 0))
		return;
	if (!s->over) {
		list_move(&a->resume, &s->resume);
		s->may_gap = true;
	}
	list_append(&a->window, &s->window);
}

static bool fill_resume(struct agent *a)
{
	struct agent_stream *s;

	list_foreach(&a->resume, s, struct agent_stream, resume) {
		struct dclw_header h = agent_header(a, DCLW_RESUME, s->id, 0, s->next);
		struct link_frame *f = link_add(&a->link, &h, NULL);

		if (!f)
			return false;
		f->kind = FRAME_RESUME;
		f->owner = s;
	}
	return true;
}

static bool fill_window(struct agent *a)
{
	struct agent_stream *s;

	list_foreach(&a->window, s, struct agent_stream, window) {
		struct dclw_header h = agent_header(a, DCLW_WINDOW, s->id, 8, limit_wanted(s));
		struct link_frame *f = link_add(&a->link, &h, NULL);

		if (!f)
			return false;
		f->kind = FRAME_WINDOW;
		f->owner = s;
		le64_store(f->small, acked_offset(s));
	}
	return true;
}

/* The window of a stream only after its RESUME, so RESUMEs go first. */
bool stream_in_fill(struct agent *a)
{
	return fill_resume(a) && fill_window(a);
}

void stream_in_sent(struct agent *a, const struct link_frame *f)
{
	struct agent_stream *s = f->owner;

	if (f->kind == FRAME_RESUME) {
		list_unlink(&s->resume);
		return;
	}
	list_unlink(&s->window);
	s->limit = f->header.offset;
	s->credit_mark = s->limit - s->next;
	told(s, acked_offset(s));
	if (s->zombie)
		stream_told(a, s);
}
