/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streams: table, life and death, resync. The two directions are in stream-in.c and stream-out.c.
 *
 * A stream is announced when the request that names its id goes to the wire, and nothing about it
 * is sent before. It is over when no byte can come or go any more. Its owner frees it whenever he
 * likes; if the guest may still have it, it lives on as a zombie until a PONG proves that the guest
 * has read our last word about it, because until then frames for it may be under way and because a
 * connection that is cut in that moment must repeat that word. Pings for this are lazy: the
 * periodic one does, unless many zombies wait.
 *
 * A frame for an id that is neither here nor among the last few retired ones is a lie.
 */
#include <string.h>

#include "agent/internal.h"
#include "util/ident.h"

static unsigned int bucket_of(uint32_t id)
{
	return id % STREAM_BUCKETS;
}

struct agent_stream *stream_find(const struct agent *a, uint32_t id)
{
	struct agent_stream *s = a->buckets[bucket_of(id)];

	while (s && s->id != id)
		s = s->bucket_next;
	return s;
}

static void table_remove(struct agent *a, struct agent_stream *s)
{
	struct agent_stream **p = &a->buckets[bucket_of(s->id)];

	while (*p && *p != s)
		p = &(*p)->bucket_next;
	if (*p)
		*p = s->bucket_next;
	a->n_streams--;
}

bool stream_retired(const struct agent *a, uint32_t id)
{
	for (unsigned int i = 0; i < RETIRED_MAX; i++)
		if (a->retired[i] == id)
			return true;
	return false;
}

/* Frees the memory, now or when the stack is clean. */
static void release(struct agent *a, struct agent_stream *s)
{
	if (a && a->depth > 0) {
		list_append(&a->grave, &s->link);
		return;
	}
	free(s->ring);
	free(s);
}

/* Out of the table for good. */
static void forget(struct agent *a, struct agent_stream *s)
{
	stream_over(s);
	list_unlink(&s->window);
	list_unlink(&s->reset);
	list_unlink(&s->link);
	table_remove(a, s);
	if (s->zombie)
		a->n_zombies--;
	if (s->announced) {
		a->retired[a->retired_at] = s->id;
		a->retired_at = (a->retired_at + 1) % RETIRED_MAX;
	}
}

void stream_over(struct agent_stream *s)
{
	s->over = true;
	stream_in_untold(s);
	list_unlink(&s->resume);
	list_unlink(&s->ready);
	if (!(s->dir == AGENT_STREAM_IN && s->fin))
		list_unlink(&s->window);
}

void stream_end(struct agent_stream *s, int error)
{
	struct agent *a = s->agent;

	if (s->over)
		return;
	stream_over(s);
	if (!s->zombie && s->ops.end)
		s->ops.end(s->userdata, error);
	if (!a->dead)
		event_release_exits(a);
}

static int stream_new(struct agent *a, uint32_t id, enum agent_stream_dir dir, uint32_t window,
		      const struct agent_stream_ops *ops, void *userdata, struct agent_stream **ret)
{
	struct agent_stream *s;

	if (a->n_streams >= DCLW_STREAMS_MAX)
		return -ENOBUFS;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct agent_stream) {
		.agent = a, .ops = *ops, .userdata = userdata, .id = id, .dir = dir,
		.size = MIN_OF(MAX_OF(window, DCLW_WINDOW_INITIAL), DCLW_WINDOW_MAX),
		.limit = DCLW_WINDOW_INITIAL, .credit_mark = DCLW_WINDOW_INITIAL,
	};
	list_init(&s->resume);
	list_init(&s->window);
	list_init(&s->reset);
	list_init(&s->ready);
	list_append(&a->streams, &s->link);
	s->bucket_next = a->buckets[bucket_of(id)];
	a->buckets[bucket_of(id)] = s;
	a->n_streams++;
	*ret = s;
	return 0;
}

int agent_stream_open(struct agent *a, enum agent_stream_dir dir, uint32_t window,
		      const struct agent_stream_ops *ops, void *userdata, struct agent_stream **ret)
{
	if (a->state == AGENT_LOST)
		return -ENOTCONN;
	do
		a->next_id++;
	while (a->next_id == 0 || stream_find(a, a->next_id) || stream_retired(a, a->next_id));
	return stream_new(a, a->next_id, dir, window, ops, userdata, ret);
}

int agent_stream_adopt(struct agent *a, uint32_t id, enum agent_stream_dir dir, uint64_t offset,
		       uint32_t window, const struct agent_stream_ops *ops, void *userdata,
		       struct agent_stream **ret)
{
	struct agent_stream *s;
	int r;

	if (id == 0)
		return -EINVAL;
	if (stream_find(a, id))
		return -EEXIST;
	r = stream_new(a, id, dir, window, ops, userdata, &s);
	if (r < 0)
		return r;
	s->announced = true;
	s->announced_in = 0;
	s->next = s->acked = s->sent = s->written = s->acked_told = offset;
	s->limit = dir == AGENT_STREAM_IN ? offset + s->size : offset;
	s->credit_mark = s->size;
	s->high = offset;
	s->unplaced = dir == AGENT_STREAM_OUT;
	s->gap_end = offset;
	if (agent_is_talking(a) && dir == AGENT_STREAM_IN) {
		stream_in_resync(s);
		agent_kick(a);
	}
	*ret = s;
	return 0;
}

uint32_t agent_stream_id(const struct agent_stream *s)
{
	return s->id;
}

void stream_announced(struct agent_stream *s)
{
	struct agent *a = s->agent;

	if (!s->announced) {
		s->announced = true;
		s->announced_in = a->session;
	}
	if (s->over && s->barrier == 0)
		list_move(&a->reset, &s->reset);
	else if (s->dir == AGENT_STREAM_OUT)
		stream_out_ready(s);
}

void stream_unnamed(struct agent *a, uint32_t id, bool refused)
{
	struct agent_stream *s = stream_find(a, id);

	if (!s)
		return;
	if (refused) {
		stream_over(s);
		s->announced = false;
		list_unlink(&s->reset);
	}
	if (s->zombie && (refused || !s->announced)) {
		forget(a, s);
		release(a, s);
	} else if (refused) {
		agent_kick(a);
	}
}

static void reset_due(struct agent *a, struct agent_stream *s)
{
	s->barrier = 0;
	list_move(&a->reset, &s->reset);
}

/* Does the guest have to hear something before the stream can be forgotten? */
static bool last_word(struct agent *a, struct agent_stream *s)
{
	if (!s->announced)
		return request_names(a, s->id);
	if (!s->over) {
		reset_due(a, s);
		return true;
	}
	if (s->dir == AGENT_STREAM_IN && s->fin && s->acked_told < s->end) {
		s->unconsumed = 0;
		stream_in_credit(s);
		return true;
	}
	return !list_empty(&s->reset) || s->barrier > a->pong_seq;
}

struct agent_stream *agent_stream_free(struct agent_stream *s)
{
	struct agent *a;

	if (!s)
		return NULL;
	a = s->agent;
	if (!a) {
		release(NULL, s);
		return NULL;
	}
	if (last_word(a, s)) {
		s->zombie = true;
		a->n_zombies++;
		stream_over(s);
		if (s->reset_error == 0)
			s->reset_error = ECANCELED;
		free(TAKE_PTR(s->ring));
		agent_kick(a);
		return NULL;
	}
	forget(a, s);
	agent_kick(a);
	release(a, s);
	return NULL;
}

void agent_stream_reset(struct agent_stream *s, int error)
{
	struct agent *a = s->agent;

	if (!a || s->over)
		return;
	s->reset_error = error > 0 ? (uint32_t)error : ECANCELED;
	stream_over(s);
	if (s->announced)
		reset_due(a, s);
	agent_kick(a);
}

bool stream_reset_fill(struct agent *a)
{
	struct agent_stream *s;

	list_foreach(&a->reset, s, struct agent_stream, reset) {
		struct dclw_header h = agent_header(a, DCLW_RESET, s->id, 0, 0);
		struct link_frame *f;

		h.arg = s->reset_error;
		f = link_add(&a->link, &h, NULL);
		if (!f)
			return false;
		f->kind = FRAME_RESET;
		f->owner = s;
	}
	return true;
}

void stream_told(struct agent *a, struct agent_stream *s)
{
	s->barrier = a->ping_seq + 1;
	if (a->n_zombies >= ZOMBIES_LAZY)
		a->ping_due = true;
}

void stream_reset_sent(struct agent *a, struct agent_stream *s)
{
	list_unlink(&s->reset);
	stream_told(a, s);
}

static void stale(struct agent *a, const struct wire_frame *f)
{
	a->counters.stale++;
	if (f->header.type != DCLW_DATA)
		agent_noise(a);
}

static void on_reset(struct agent_stream *s, const struct wire_frame *f)
{
	struct agent *a = s->agent;

	if (f->header.arg > 4095) {
		agent_violation(a, "RESET with an impossible errno");
		return;
	}
	/* The answer to our RESUME for a stream whose request is being repeated: it is about to be
	 * made. */
	if (s->announced_in != a->session && f->header.arg == ENOENT && request_names(a, s->id))
		return;
	if (s->over)
		agent_noise(a);
	stream_end(s, f->header.arg ? (int)f->header.arg : ECONNRESET);
}

/* The stream exists and its state allows frames of the guest. */
static void known_frame(struct agent_stream *s, const struct wire_frame *f)
{
	struct agent *a = s->agent;
	bool in = f->header.type == DCLW_DATA || f->header.type == DCLW_GAP;

	if (!s->announced)
		agent_violation(a, "frame for a stream not announced");
	else if (f->header.type == DCLW_RESET)
		on_reset(s, f);
	else if (in != (s->dir == AGENT_STREAM_IN))
		agent_violation(a, "stream used against its direction");
	else if (s->over)
		stale(a, f);
	else if (f->header.type == DCLW_DATA)
		stream_in_data(s, f);
	else if (f->header.type == DCLW_GAP)
		stream_in_gap(s, f);
	else
		stream_out_window(s, f);
}

void stream_frame(struct agent *a, const struct wire_frame *f)
{
	struct agent_stream *s = stream_find(a, f->header.stream);

	if (s) {
		known_frame(s, f);
	} else if (stream_retired(a, f->header.stream)) {
		stale(a, f);
	} else {
		agent_violation(a, "frame for an unknown stream");
	}
}

/*
 * An owner's callback may free any stream, so what calls owners walks a list that shrinks from its
 * front. take_all() makes one of all streams, put_back() ends the walk early or late.
 */
static void take_all(struct agent *a, struct list *ret)
{
	list_init(ret);
	while (!list_empty(&a->streams))
		list_move(ret, a->streams.next);
}

static void put_back(struct agent *a, struct list *rest)
{
	while (!list_empty(rest))
		list_move(&a->streams, rest->next);
}

/* May call owners: see take_all(). */
void stream_ponged(struct agent *a, uint64_t seq)
{
	struct agent_stream *s;
	struct list todo;

	take_all(a, &todo);
	while (agent_is_talking(a) && (s = list_first(&todo, struct agent_stream, link))) {
		list_move(&a->streams, &s->link);
		if (s->zombie && s->barrier > 0 && s->barrier <= seq) {
			forget(a, s);
			release(a, s);
		} else if (s->dir == AGENT_STREAM_OUT && !s->zombie) {
			stream_out_ponged(s, seq);
		}
	}
	put_back(a, &todo);
}

/* all: also those the guest never heard of. */
void stream_fail(struct agent *a, bool all, int error)
{
	struct agent_stream *s;
	struct list todo;

	take_all(a, &todo);
	while (!a->dead && (s = list_first(&todo, struct agent_stream, link))) {
		list_move(&a->streams, &s->link);
		if (!all && !s->announced)
			continue;
		list_unlink(&s->reset);
		if (s->zombie) {
			forget(a, s);
			release(a, s);
			continue;
		}
		s->announced = false;
		list_unlink(&s->window);
		stream_end(s, error);
	}
	put_back(a, &todo);
}

static void resync_one(struct agent *a, struct agent_stream *s)
{
	s->barrier = 0;
	if (s->zombie || (s->over && s->reset_error)) {
		list_unlink(&s->window);
		list_move(&a->reset, &s->reset);
	} else if (s->dir == AGENT_STREAM_IN) {
		stream_in_resync(s);
	} else {
		stream_out_resync(s);
	}
}

void stream_resync(struct agent *a)
{
	struct agent_stream *s;
	struct list todo;

	take_all(a, &todo);
	while (agent_is_talking(a) && (s = list_first(&todo, struct agent_stream, link))) {
		list_move(&a->streams, &s->link);
		if (s->announced)
			resync_one(a, s);
	}
	put_back(a, &todo);
}

void stream_sweep(struct agent *a)
{
	struct agent_stream *s;

	while ((s = list_first(&a->grave, struct agent_stream, link))) {
		list_unlink(&s->link);
		free(s->ring);
		free(s);
	}
}

void stream_orphan_all(struct agent *a)
{
	struct agent_stream *s;

	while ((s = list_first(&a->streams, struct agent_stream, link))) {
		list_unlink(&s->link);
		list_unlink(&s->resume);
		list_unlink(&s->window);
		list_unlink(&s->reset);
		list_unlink(&s->ready);
		s->agent = NULL;
		s->over = true;
		if (s->zombie)
			release(NULL, s);
	}
	stream_sweep(a);
}
