/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Server-sent events, see sse.h. */
#include "api/sse.h"

#include <string.h>

#include "core/spool.h"
#include "util/base64.h"
#include "util/clock.h"

#define PING ": ping\n\n"
#define PING_MAX_USEC (10 * USEC_PER_SEC)
#define PING_MIN_USEC (USEC_PER_SEC / 10)
/* One entry of a spool with every byte escaped as \u00XX; clients read lines of 1 MiB */
#define EVENT_MAX (6u * SPOOL_ENTRY_MAX + 512u)
#define KEEP_MAX (64u << 10)	/* a larger buffer is given back when it is empty */

struct sse {
	struct http_request *req;
	const struct sse_ops *ops;
	void *userdata;
	struct buf pending;
	size_t sent;
	sd_event_source *ping;
	uint64_t ping_usec;
	bool ending;		/* nobody owns it any more */
};

static void sse_free(struct sse *s)
{
	sd_event_source_disable_unref(s->ping);
	buf_done(&s->pending);
	free(s);
}

bool sse_ready(const struct sse *s)
{
	return s->pending.len == 0;
}

static void finish(struct sse *s)
{
	http_request_on_cancel(s->req, NULL, NULL);
	http_stream_end(s->req);
	sse_free(s);
}

/* Hands on what the server has room for; negative when the client cannot get it any more. */
static int flush(struct sse *s)
{
	size_t n = MIN_OF(http_stream_room(s->req), s->pending.len - s->sent);
	int r = n > 0 ? http_stream_write(s->req, s->pending.data + s->sent, n) : 0;

	if (r < 0)
		return r;
	s->sent += n;
	if (s->sent < s->pending.len)
		return 0;
	s->sent = s->pending.len = 0;
	if (s->pending.size > KEEP_MAX) {
		buf_done(&s->pending);
		s->pending = (struct buf)BUF_INIT(EVENT_MAX);
	}
	return 0;
}

static void on_room(void *userdata)
{
	struct sse *s = userdata;

	/* -EPIPE: gone() follows */
	if (flush(s) < 0 || !sse_ready(s))
		return;
	if (s->ending)
		finish(s);
	else
		s->ops->pump(s->userdata);
}

static void on_gone(void *userdata)
{
	struct sse *s = userdata;

	if (!s->ending)
		s->ops->gone(s->userdata);
	sse_free(s);
}

/* Between events only, and only to a client that reads: the others are not waiting for a byte. */
static int on_ping(sd_event_source *source, uint64_t usec _unused_, void *userdata)
{
	struct sse *s = userdata;

	if (sse_ready(s) && http_stream_room(s->req) >= sizeof(PING) - 1)
		http_stream_write(s->req, PING, sizeof(PING) - 1);
	sd_event_source_set_time_relative(source, s->ping_usec);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static uint64_t ping_interval(double limit)
{
	double usec = limit * (double)USEC_PER_SEC / 3;

	if (limit <= 0 || usec > (double)PING_MAX_USEC)
		return PING_MAX_USEC;
	return MAX_OF((uint64_t)usec, PING_MIN_USEC);
}

int sse_begin(struct http_request *req, sd_event *event, double limit, const struct sse_ops *ops, void *userdata,
	      struct sse **ret)
{
	static const struct http_stream_ops stream_ops = { .room = on_room };
	struct sse *s = calloc(1, sizeof(*s));
	int r = s ? 0 : -ENOMEM;

	if (r == 0) {
		*s = (struct sse){ .req = req, .ops = ops, .userdata = userdata, .pending = BUF_INIT(EVENT_MAX) };
		s->ping_usec = ping_interval(limit);
		r = sd_event_add_time_relative(event, &s->ping, CLOCK_MONOTONIC, s->ping_usec, s->ping_usec / 16, on_ping, s);
	}
	if (r >= 0)
		r = http_reply_header(req, "Cache-Control", "no-cache");
	if (r >= 0) {
		http_request_on_cancel(req, on_gone, s);
		r = http_stream_begin(req, 200, "text/event-stream", -1, &stream_ops, s);
	} else {
		http_reply(req, 500, NULL, NULL, 0);
	}
	if (r < 0) {
		if (s)
			sse_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* --- events --- */

static int event_begin(struct sse *s, const char *name)
{
	return buf_printf(&s->pending, "event: %s\ndata: ", name);
}

static int event_end(struct sse *s)
{
	int r = buf_puts(&s->pending, "\n\n");

	if (r < 0)
		return r;
	r = flush(s);
	/* gone() is on its way, and does not want to be told in two ways */
	return r == -EPIPE ? 0 : r;
}

int sse_printf(struct sse *s, const char *name, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;
	int r = event_begin(s, name);

	va_start(ap, format);
	if (r == 0 && vasprintf(&text, format, ap) < 0) {
		text = NULL;
		r = -ENOMEM;
	}
	va_end(ap);
	if (r == 0)
		r = buf_puts(&s->pending, text);
	return r < 0 ? r : event_end(s);
}

int sse_text(struct sse *s, const char *name, struct json_escape_state *state, const void *data, size_t len)
{
	size_t start = s->pending.len, before;
	int r = event_begin(s, name);

	if (r == 0)
		r = buf_printf(&s->pending, "{\"type\":\"%s\",\"stream\":\"%s\",\"data\":\"", name, name);
	before = s->pending.len;
	if (r == 0)
		r = json_escape_append(&s->pending, state, data, len);
	if (r == 0 && s->pending.len == before) {
		s->pending.len = start;
		return 0;
	}
	if (r == 0)
		r = buf_puts(&s->pending, "\"}");
	return r < 0 ? r : event_end(s);
}

int sse_base64(struct sse *s, const char *name, const void *data, size_t len, uint64_t entry_id)
{
	_cleanup_free_ char *text = malloc(BASE64_SIZE(len) + 1);
	int r = text ? event_begin(s, name) : -ENOMEM;

	if (r < 0)
		return r;
	base64_encode(data, len, text);
	r = buf_puts(&s->pending, "{\"data\":\"");
	if (r == 0)
		r = buf_append(&s->pending, text, BASE64_SIZE(len));
	if (r == 0 && entry_id)
		r = buf_printf(&s->pending, "\",\"entry_id\":%llu}", (unsigned long long)entry_id);
	else if (r == 0)
		r = buf_puts(&s->pending, "\"}");
	return r < 0 ? r : event_end(s);
}

void sse_end(struct sse *s)
{
	s->ending = true;
	s->ping = sd_event_source_disable_unref(s->ping);
	if (sse_ready(s))
		finish(s);
}

void sse_abort(struct sse *s)
{
	http_request_on_cancel(s->req, NULL, NULL);
	http_stream_abort(s->req);
	sse_free(s);
}
