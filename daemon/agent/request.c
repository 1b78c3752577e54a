/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests: `waiting` ones are to be sent, `sent` ones wait for their reply, both in the order of
 * their ids. After a resync the sent ones are waiting again, under the same id, and the guest's
 * reply cache makes sure that none is carried out twice. At most DCLW_REQUESTS_MAX - 1 are sent at
 * a time.
 *
 * The payload is kept here until the reply, so that the link never copies it. One that is larger
 * than a frame goes as fragments. Nothing may come between those (§3.3), so the first of the waiting
 * ones stays where it is until its last fragment is out, whatever becomes of it: cancelled, or
 * answered by an operation that a connection before had begun.
 */
#include <string.h>

#include "agent/internal.h"
#include "wire/le.h"

#define SENT_MAX (DCLW_REQUESTS_MAX - 1)

static void free_later(struct agent *a, struct agent_request *r)
{
	if (a->depth > 0)
		list_append(&a->request_grave, &r->link);
	else
		free(r);
}

static void unlink_request(struct agent *a, struct agent_request *r)
{
	list_unlink(&r->link);
	if (r->is_sent)
		a->n_sent--;
	else
		a->n_waiting--;
}

/* What a frame cannot hold; small ones are bounded by their number. */
static size_t large(const struct agent_request *r)
{
	return r->length > DCLW_PAYLOAD_MAX ? r->length : 0;
}

/* For good. */
static void discard(struct agent *a, struct agent_request *r)
{
	unlink_request(a, r);
	a->large -= large(r);
	free_later(a, r);
}

int request_new(struct agent *a, uint16_t op, const struct wire_writer *payload,
		request_handler handler, struct agent_stream *const streams[REQUEST_STREAMS],
		struct agent_request **ret)
{
	size_t len = payload ? payload->len : 0;
	struct agent_request *r;

	if (payload && payload->error < 0)
		return -E2BIG;
	if (len > DCLW_REQUEST_MAX - 2)
		return -E2BIG;
	if (a->state == AGENT_LOST)
		return -ENOTCONN;
	if (a->n_waiting >= WAITING_MAX ||
	    (len + 2 > DCLW_PAYLOAD_MAX && len + 2 > LARGE_MAX - a->large))
		return -ENOBUFS;
	r = calloc(1, sizeof(*r) + len + 2);
	if (!r)
		return -ENOMEM;
	r->agent = a;
	r->id = ++a->next_request;
	r->handler = handler;
	r->length = (uint32_t)len + 2;
	le16_store(r->payload, op);
	if (len > 0)
		memcpy(r->payload + 2, payload->buf, len);
	for (unsigned int i = 0; streams && i < REQUEST_STREAMS; i++)
		r->streams[i] = streams[i] ? streams[i]->id : 0;
	list_append(&a->waiting, &r->link);
	a->n_waiting++;
	a->large += large(r);
	agent_kick(a);
	*ret = r;
	return 0;
}

static void plain_handler(struct agent_request *r, int error, const uint8_t *reply, size_t len)
{
	if (r->fn.reply)
		r->fn.reply(r->userdata, error, reply, len);
}

int agent_request_send(struct agent *a, uint16_t op, const struct wire_writer *payload,
		       agent_reply_fn fn, void *userdata, struct agent_request **ret)
{
	struct agent_request *r;
	int e = request_new(a, op, payload, plain_handler, NULL, &r);

	if (e < 0)
		return e;
	r->fn.reply = fn;
	r->userdata = userdata;
	if (ret)
		*ret = r;
	return 0;
}

/* Its streams, if any, will not be used by the guest. */
static void unname(struct agent *a, struct agent_request *r, bool refused)
{
	for (unsigned int i = 0; i < REQUEST_STREAMS; i++)
		if (r->streams[i])
			stream_unnamed(a, r->streams[i], refused);
}

void agent_request_cancel(struct agent_request *r)
{
	struct agent *a;

	if (!r)
		return;
	a = r->agent;
	r->handler = NULL;
	if (r->ever_sent || r->pos > 0 || list_empty(&r->link))
		return;
	unname(a, r, false);
	discard(a, r);
}

bool request_names(const struct agent *a, uint32_t stream)
{
	const struct list *heads[] = { &a->waiting, &a->sent };
	struct agent_request *r;

	for (unsigned int h = 0; h < ELEMENTSOF(heads); h++)
		list_foreach((struct list *)(uintptr_t)heads[h], r, struct agent_request, link)
			for (unsigned int i = 0; i < REQUEST_STREAMS; i++)
				if (r->streams[i] == stream)
					return true;
	return false;
}

static uint64_t oldest(const struct agent *a)
{
	struct agent_request *s = list_first(&a->sent, struct agent_request, link);
	struct agent_request *w = list_first(&a->waiting, struct agent_request, link);
	uint64_t id = a->next_request + 1;

	if (s)
		id = MIN_OF(id, s->id);
	if (w)
		id = MIN_OF(id, w->id);
	return id;
}

/* The frames of one request from where it stands. */
static bool fill_one(struct agent *a, struct agent_request *r, uint64_t oldest_id)
{
	for (uint32_t pos = r->pos; pos < r->length;) {
		uint32_t len = MIN_OF(r->length - pos, DCLW_PAYLOAD_MAX);
		struct dclw_header h = agent_header(a, DCLW_REQUEST, 0, len, r->id);
		struct link_frame *f;

		h.flags = pos + len < r->length ? DCLW_MORE : 0;
		h.arg = (uint32_t)oldest_id;
		f = link_add(&a->link, &h, r->payload + pos);
		if (!f)
			return false;
		f->kind = FRAME_REQUEST;
		f->owner = r;
		pos += len;
	}
	return true;
}

bool request_fill(struct agent *a)
{
	unsigned int n = a->n_sent;
	struct agent_request *r;

	list_foreach(&a->waiting, r, struct agent_request, link) {
		if (n++ >= SENT_MAX)
			return true;
		if (!fill_one(a, r, oldest(a)))
			return false;
	}
	return true;
}

void request_sent(struct agent *a, struct agent_request *r, uint32_t len)
{
	r->pos += len;
	if (r->pos < r->length)
		return;
	if (r->answered)
		return discard(a, r);
	unlink_request(a, r);
	r->is_sent = r->ever_sent = true;
	list_append(&a->sent, &r->link);
	a->n_sent++;
	for (unsigned int i = 0; i < REQUEST_STREAMS; i++) {
		struct agent_stream *s = r->streams[i] ? stream_find(a, r->streams[i]) : NULL;

		if (s)
			stream_announced(s);
	}
}

static struct agent_request *find(struct agent *a, uint64_t id)
{
	struct list *heads[] = { &a->sent, &a->waiting };
	struct agent_request *r;

	for (unsigned int h = 0; h < ELEMENTSOF(heads); h++)
		list_foreach(heads[h], r, struct agent_request, link)
			if (r->id == id)
				return r->ever_sent && !r->answered ? r : NULL;
	return NULL;
}

/* What the guest says about a failure, for agent_message(): bounded, and its bytes are its own
 * affair until escaped. */
static void keep_message(struct agent *a, int error, const uint8_t *reply, size_t len)
{
	const uint8_t *text;
	size_t n;

	a->message[0] = '\0';
	if (error > 0 && reply && wire_find(reply, len, DCLW_TAG_MESSAGE, &text, &n) > 0)
		snprintf(a->message, sizeof(a->message), "%.*s",
			 (int)MIN_OF(n, sizeof(a->message) - 1), (const char *)text);
}

const char *agent_message(const struct agent *a)
{
	return a->message;
}

/* Told, and forgotten unless a part of it is on the wire again. */
static void finish(struct agent *a, struct agent_request *r, int error, const uint8_t *reply,
		   size_t len)
{
	bool stays = !r->is_sent && r->pos > 0;

	if (stays) {
		r->answered = true;
	} else {
		unlink_request(a, r);
		a->large -= large(r);
	}
	if (error != 0)
		unname(a, r, error > 0);
	memset(r->streams, 0, sizeof(r->streams));
	keep_message(a, error, reply, len);
	if (r->handler)
		r->handler(r, error, reply, len);
	if (!stays)
		free_later(a, r);
}

void request_reply(struct agent *a, const struct wire_frame *f)
{
	struct agent_request *r = find(a, f->header.offset);

	if (f->header.arg > 4095)
		return agent_violation(a, "REPLY with an impossible errno");
	if (!wire_well_formed(f->payload, f->header.length))
		return agent_violation(a, "REPLY with malformed TLVs");
	if (r) {
		finish(a, r, (int)f->header.arg, f->payload, f->header.length);
		return;
	}
	/* After a resync a reply may come twice: because the operation ended, and because we asked
	 * again. */
	if (f->header.offset == 0 || f->header.offset > a->next_request || a->session < 2)
		return agent_violation(a, "REPLY to nothing");
	a->counters.stale++;
	agent_noise(a);
}

void request_resync(struct agent *a)
{
	struct agent_request *r = list_first(&a->waiting, struct agent_request, link);

	/* Only the first can have been cut. */
	if (r && r->answered)
		discard(a, r);
	else if (r)
		r->pos = 0;
	while (!list_empty(&a->sent)) {
		r = container_of(a->sent.prev, struct agent_request, link);
		unlink_request(a, r);
		r->is_sent = false;
		r->pos = 0;
		list_prepend(&a->waiting, &r->link);
		a->n_waiting++;
	}
}

void request_fail(struct agent *a, bool all, int error)
{
	struct agent_request *r;
	struct list doomed;

	list_init(&doomed);
	request_resync(a);
	list_foreach(&a->waiting, r, struct agent_request, link)
		if (all || r->ever_sent)
			list_move(&doomed, &r->link);
	while (!a->dead && (r = list_first(&doomed, struct agent_request, link)))
		finish(a, r, error, NULL, 0);
	while ((r = list_first(&doomed, struct agent_request, link))) {
		list_unlink(&r->link);
		list_append(&a->waiting, &r->link);
	}
}

static void free_list(struct list *head)
{
	struct agent_request *r;

	while ((r = list_first(head, struct agent_request, link))) {
		list_unlink(&r->link);
		free(r);
	}
}

void request_sweep(struct agent *a)
{
	free_list(&a->request_grave);
}

void request_drop(struct agent *a)
{
	free_list(&a->waiting);
	free_list(&a->sent);
	free_list(&a->request_grave);
	a->n_waiting = a->n_sent = 0;
	a->large = 0;
}
