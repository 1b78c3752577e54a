/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See http-fixture.h. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "http-fixture.h"

#define MUST(x) ((x) ? (void)0 : abort())

struct stream {
	struct fixture *f;
	struct http_request *req;
	uint64_t offset, size;
};

uint64_t fixture_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void note_callback(struct fixture *f)
{
	if (f->in_call)
		f->reentered = true;
}

static void on_cancel(void *userdata)
{
	struct fixture *f = userdata;

	note_callback(f);
	f->cancels++;
	f->held = NULL;
}

static void reply_text(struct http_request *req, int status, const char *text)
{
	http_reply(req, status, "application/json", text, strlen(text));
}

static void on_hello(struct http_request *req, void *userdata)
{
	((struct fixture *)userdata)->handled++;
	reply_text(req, 200, "{}");
}

static int on_defer(sd_event_source *source, void *userdata)
{
	reply_text(userdata, 200, "{\"later\":true}");
	sd_event_source_disable_unref(source);
	return 0;
}

static void on_later(struct http_request *req, void *userdata)
{
	struct fixture *f = userdata;
	sd_event_source *source = NULL;

	MUST(sd_event_add_defer(f->event, &source, on_defer, req) >= 0);
}

static void on_hold(struct http_request *req, void *userdata)
{
	struct fixture *f = userdata;

	f->handled++;
	f->held = req;
	if (!http_request_query(req, "silent", 0))
		http_request_on_cancel(req, on_cancel, f);
}

static bool count_header(void *userdata, const char *name _unused_, const char *value _unused_)
{
	++*(unsigned int *)userdata;
	return true;
}

static void on_item(struct http_request *req, void *userdata _unused_)
{
	const char *rest = http_request_param(req, "rest"), *raw = http_request_raw_param(req, "rest");
	const char *query = http_request_query(req, "q", 0), *second = http_request_query(req, "q", 1);
	unsigned int headers = 0;
	char text[2048];

	http_request_each_header(req, count_header, &headers);
	snprintf(text, sizeof(text), "%s %s id=%s rest=%s raw=%s q=%s,%s rawq=%s h=%u", http_request_method(req),
		 http_request_path(req), http_request_param(req, "id"), rest ? rest : "-", raw ? raw : "-",
		 query ? query : "-", second ? second : "-",
		 http_request_raw_query(req) ? http_request_raw_query(req) : "-", headers);
	reply_text(req, 200, text);
}

static void on_echo(struct http_request *req, void *userdata)
{
	size_t len;
	const char *body = http_request_body(req, &len);

	((struct fixture *)userdata)->handled++;
	http_reply(req, 200, "application/octet-stream", body, len);
}

static size_t on_take(void *userdata, const void *data, size_t len)
{
	struct fixture *f = userdata;
	size_t n = (size_t)MIN_OF(len, f->take_budget);

	note_callback(f);
	f->taken_bad |= !http_pattern_matches(data, n, f->taken);
	f->taken += n;
	f->take_budget -= n;
	f->biggest_take = MAX_OF(f->biggest_take, len);
	if (f->upload_reply_at && f->taken >= (uint64_t)f->upload_reply_at) {
		struct http_request *req = TAKE_PTR(f->upload);

		reply_text(req, 507, "{\"full\":true}");
	}
	return n;
}

static void on_end(void *userdata)
{
	struct fixture *f = userdata;
	char text[64];

	note_callback(f);
	f->ends++;
	snprintf(text, sizeof(text), "{\"size\":%llu}", (unsigned long long)f->taken);
	reply_text(TAKE_PTR(f->upload), 200, text);
}

static void on_upload_cancel(void *userdata)
{
	struct fixture *f = userdata;

	note_callback(f);
	f->cancels++;
	f->upload = NULL;
}

static void on_upload(struct http_request *req, void *userdata)
{
	static const struct http_body_ops ops = { on_take, on_end };
	struct fixture *f = userdata;

	f->upload = req;
	f->taken = 0;
	http_request_on_cancel(req, on_upload_cancel, f);
	f->in_call = true;
	MUST(http_body_start(req, &ops, f) == 0);
	f->in_call = false;
}

static void stream_stop(struct stream *s)
{
	s->f->streams--;
	if (s->f->stream == s->req)
		s->f->stream = NULL;
	free(s);
}

static void on_stream_cancel(void *userdata)
{
	struct stream *s = userdata;

	note_callback(s->f);
	s->f->cancels++;
	stream_stop(s);
}

static void on_room(void *userdata)
{
	struct stream *s = userdata;
	char piece[16 * 1024];

	note_callback(s->f);
	while (s->offset < s->size) {
		size_t n = MIN_OF(http_stream_room(s->req), sizeof(piece));

		n = (size_t)MIN_OF((uint64_t)n, s->size - s->offset);
		if (n == 0)
			return;
		http_pattern_fill(piece, n, s->offset);
		s->f->in_call = true;
		MUST(http_stream_write(s->req, piece, n) == 0);
		s->f->in_call = false;
		s->offset += n;
		s->f->produced += n;
	}
	s->f->in_call = true;
	http_stream_end(s->req);
	s->f->in_call = false;
	stream_stop(s);
}

static void on_stream(struct http_request *req, void *userdata)
{
	static const struct http_stream_ops ops = { on_room };
	struct fixture *f = userdata;
	struct stream *s = calloc(1, sizeof(*s));
	const char *n = http_request_query(req, "n", 0);

	MUST(s && n && str_to_u64(n, 0, UINT64_MAX, &s->size) == 0);
	s->f = f;
	s->req = f->stream = req;
	f->streams++;
	http_request_on_cancel(req, on_stream_cancel, s);
	f->in_call = true;
	MUST(http_stream_begin(req, 200, "application/octet-stream",
			       http_request_query(req, "sized", 0) ? (int64_t)s->size : -1, &ops, s) == 0);
	f->in_call = false;
	on_room(s);
}

static bool on_authorise(void *userdata _unused_, struct http_request *req, const char *key)
{
	static const int principal = 1;

	if (str_eq(key, "sesame")) {
		http_request_set_principal(req, &principal);
		return true;
	}
	reply_text(req, 401, "{\"code\":\"unauthorized\"}");
	return false;
}

static void on_secret(struct http_request *req, void *userdata _unused_)
{
	reply_text(req, 200, http_request_principal(req) ? "{\"in\":true}" : "{\"in\":false}");
}

static void on_not_found(void *userdata _unused_, struct http_request *req)
{
	reply_text(req, 404, "{\"code\":\"route_unknown\"}");
}

static void on_refused(void *userdata _unused_, struct http_request *req, int status)
{
	char text[64];

	snprintf(text, sizeof(text), "{\"refused\":%d}", status);
	reply_text(req, status, text);
}

static const struct http_route routes[] = {
	{ "GET", "/hello", HTTP_BODY_NONE, true, on_hello },
	{ "GET", "/later", HTTP_BODY_NONE, true, on_later },
	{ "GET", "/hold", HTTP_BODY_NONE, true, on_hold },
	{ "GET", "/items/{id}", HTTP_BODY_NONE, true, on_item },
	{ "PUT", "/items/{id}", HTTP_BODY_BUFFER, true, on_item },
	{ "DELETE", "/items/{id}", HTTP_BODY_BUFFER, true, on_item },
	{ "GET", "/items/{id}/files/{rest*}", HTTP_BODY_NONE, true, on_item },
	{ "POST", "/echo", HTTP_BODY_BUFFER, true, on_echo },
	{ "POST", "/streamecho", HTTP_BODY_STREAM, true, on_hold },
	{ "PUT", "/upload", HTTP_BODY_STREAM, true, on_upload },
	{ "GET", "/stream", HTTP_BODY_NONE, true, on_stream },
	{ "GET", "/secret", HTTP_BODY_NONE, false, on_secret },
	{ "*", "/any", HTTP_BODY_NONE, true, on_hello },
	{ 0 },
};

void fixture_start(struct fixture *f, const struct http_server_config *config)
{
	static const struct http_server_ops ops = { on_authorise, on_not_found, on_refused };
	static const char *const listen[] = { "127.0.0.1:0", NULL };
	struct http_server_config c = config ? *config : (struct http_server_config){};

	*f = (struct fixture){ .take_budget = UINT64_MAX };
	c.listen = listen;
	if (c.json_body_max == 0)
		c.json_body_max = FIXTURE_JSON_MAX;
	if (c.stream_pending_max == 0)
		c.stream_pending_max = FIXTURE_PENDING_MAX;
	MUST(sd_event_new(&f->event) >= 0);
	MUST(http_server_new(f->event, &c, routes, &ops, f, &f->server) == 0);
	f->port = http_server_port(f->server, 0);
	MUST(f->port != 0);
}

void fixture_stop(struct fixture *f)
{
	f->server = http_server_free(f->server);
	f->event = sd_event_unref(f->event);
}

void fixture_cancel_on(struct fixture *f, struct http_request *req)
{
	http_request_on_cancel(req, on_cancel, f);
}

void fixture_settle(struct fixture *f)
{
	while (sd_event_run(f->event, 0) > 0)
		;
}
