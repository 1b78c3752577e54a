/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The request table. Linear over its slots: a request costs a process or a file, so the scan is noise.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "agent.h"
#include "ops.h"
#include "wire/le.h"

static void request_free(struct request *r)
{
	list_unlink(&r->due);
	free(r->reply);
	r->reply = NULL;
	r->len = 0;
	r->state = REQUEST_FREE;
}

static bool passed(uint32_t oldest, uint64_t id)
{
	return (int32_t)((uint32_t)id - oldest) < 0;
}

void requests_answered(struct agent *a, uint32_t oldest)
{
	struct session *s = &a->session;

	if (s->answered_known && (int32_t)(oldest - s->answered) <= 0)
		return;
	s->answered = oldest;
	s->answered_known = true;
	for (unsigned int i = 0; i < REQUEST_SLOTS; i++) {
		struct request *r = &s->requests[i];

		if (r->state == REQUEST_DONE && passed(oldest, r->id))
			request_free(r);
	}
}

/* NULL: more requests are running than the protocol allows. */
static struct request *request_slot(struct agent *a, uint64_t id, bool *ret_known)
{
	struct request *slot = NULL, *oldest = NULL;
	unsigned int running = 0;

	*ret_known = false;
	for (unsigned int i = 0; i < REQUEST_SLOTS; i++) {
		struct request *r = &a->session.requests[i];

		if (r->state == REQUEST_FREE) {
			slot = slot ?: r;
			continue;
		}
		if (!r->orphan && r->id == id) {
			*ret_known = true;
			return r;
		}
		if (r->state == REQUEST_RUNNING)
			running++;
		else if (list_empty(&r->due) && (!oldest || r->order < oldest->order))
			oldest = r;
	}
	if (running >= DCLW_REQUESTS_MAX)
		return NULL;
	if (!slot && oldest) {
		request_free(oldest);
		slot = oldest;
	}
	return slot;
}

static void request_due(struct request *r)
{
	list_unlink(&r->due);
	list_append(&r->agent->session.replies_due, &r->due);
}

static void request_whole(struct agent *a, const struct dclw_header *h, const uint8_t *payload, size_t len)
{
	struct request *r;
	bool known;

	if (h->offset == 0 || len < 2) {
		session_protocol_error(a, "request without an id or operation");
		return;
	}
	requests_answered(a, h->arg);
	if (passed(a->session.answered, h->offset))
		return;		/* the host said that it does not wait for this one */
	r = request_slot(a, h->offset, &known);
	if (!r) {
		session_protocol_error(a, "more than %u requests", DCLW_REQUESTS_MAX);
		return;
	}
	if (known) {
		if (r->state == REQUEST_DONE)
			request_due(r);
		return;
	}
	r->state = REQUEST_RUNNING;
	r->orphan = false;
	r->id = h->offset;
	r->op = le16_load(payload);
	ops_dispatch(r, payload + 2, len - 2);
}

/* Adds a fragment to what is there. 1: that was the last one, 0: there are more, -EPROTO. */
static int request_assemble(struct session *s, const struct wire_frame *f)
{
	if (s->part_len > 0 && f->header.offset != s->part_id)
		return -EPROTO;
	if (f->header.length == 0 || f->header.length > sizeof(s->part) - s->part_len)
		return -EPROTO;
	s->part_id = f->header.offset;
	memcpy(s->part + s->part_len, f->payload, f->header.length);
	s->part_len += f->header.length;
	return !(f->header.flags & DCLW_MORE);
}

void request_on_frame(struct agent *a, const struct wire_frame *f)
{
	struct session *s = &a->session;
	const uint8_t *payload = f->payload;
	size_t len = f->header.length;

	if (s->part_len > 0 || (f->header.flags & DCLW_MORE)) {
		int r = request_assemble(s, f);

		if (r < 0)
			session_protocol_error(a, "fragment of request %llu of %u bytes behind %zu bytes of request %llu",
					       (unsigned long long)f->header.offset, f->header.length, s->part_len,
					       (unsigned long long)s->part_id);
		if (r <= 0)
			return;
		payload = s->part;
		len = s->part_len;
		s->part_len = 0;
	}
	request_whole(a, &f->header, payload, len);
}

static void request_finish(struct request *r, int error, const uint8_t *reply, size_t len)
{
	if (r->state != REQUEST_RUNNING)
		return;
	r->state = REQUEST_DONE;
	r->order = ++r->agent->session.request_order;
	if (r->orphan) {
		request_free(r);
		return;
	}
	r->error = error;
	r->reply = len > 0 ? malloc(len) : NULL;
	r->len = r->reply ? len : 0;
	if (len > 0 && !r->reply)
		r->error = ENOMEM;
	else if (len > 0)
		memcpy(r->reply, reply, len);
	request_due(r);
	if (passed(r->agent->session.answered, r->id))
		request_free(r);
}

void request_done(struct request *r, const struct wire_writer *w)
{
	if (w && (w->error || w->len > DCLW_PAYLOAD_MAX))
		request_fail(r, EMSGSIZE, "the reply does not fit a frame");
	else
		request_finish(r, 0, w ? w->buf : NULL, w ? w->len : 0);
}

void request_fail(struct request *r, int error, const char *fmt, ...)
{
	uint8_t buf[512];
	char text[400];
	struct wire_writer w;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_str(&w, DCLW_TAG_MESSAGE, text);
	request_finish(r, error > 0 ? error : EIO, buf, w.len);
}

void requests_hello(struct agent *a, bool same_instance)
{
	struct session *s = &a->session;

	s->part_len = 0;
	for (unsigned int i = 0; i < REQUEST_SLOTS; i++) {
		struct request *r = &s->requests[i];

		/* The host repeats what it waits for; unasked replies would be frames it does not expect. */
		list_unlink(&r->due);
		if (same_instance || r->state == REQUEST_FREE)
			continue;
		r->orphan = true;
		if (r->state == REQUEST_DONE)
			request_free(r);
	}
	if (!same_instance) {
		s->answered = 0;
		s->answered_known = false;
	}
}

void requests_free(struct agent *a)
{
	for (unsigned int i = 0; i < REQUEST_SLOTS; i++) {
		if (a->session.requests[i].state != REQUEST_FREE)
			request_free(&a->session.requests[i]);
	}
}
