/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The writer of server-sent events over a real connection: framing, bounds, silence, and clients that leave. */
#include "util-test.h"
#include "../lib/http-fixture.h"
#include "api/sse.h"
/* The writer itself: this program links no more of the API */
#include "../../daemon/api/sse.c"

static struct fixture f;

struct owner {
	struct sse *sse;
	unsigned int pumps, gone, next, last;	/* next..last: events to write */
	size_t waiting_max;
};

static void write_more(void *userdata)
{
	static char data[30000];
	struct owner *o = userdata;

	o->pumps++;
	while (o->next < o->last && sse_ready(o->sse)) {
		http_pattern_fill(data, sizeof(data), o->next);
		cr_assert_eq(sse_base64(o->sse, "stdout", data, sizeof(data), ++o->next), 0);
		o->waiting_max = MAX_OF(o->waiting_max, o->sse->pending.len - o->sse->sent);
	}
}

static void on_owner_gone(void *userdata)
{
	struct owner *o = userdata;

	o->gone++;
	o->sse = NULL;
}

static const struct sse_ops owner_ops = { .pump = write_more, .gone = on_owner_gone };

static struct http_client *begin(struct owner *o, double limit)
{
	struct http_client *c = http_client_new(f.event, f.port);

	*o = (struct owner){ 0 };
	http_client_request(c, "GET", "/hold?silent", "");
	AWAIT(&f, f.held);
	cr_assert_eq(sse_begin(TAKE_PTR(f.held), f.event, limit, &owner_ops, o, &o->sse), 0);
	return c;
}

Test(sse, framing, .timeout = 30)
{
	struct json_escape_state state = { 0 };
	struct http_client *c;
	struct owner o;

	fixture_start(&f, NULL);
	c = begin(&o, 0);
	AWAIT(&f, c->state == HTTP_CLIENT_CHUNK_HEAD);
	cr_assert_str_eq(http_client_header(c, "Content-Type"), "text/event-stream");
	cr_assert_str_eq(http_client_header(c, "Cache-Control"), "no-cache");
	cr_assert(sse_ready(o.sse));
	cr_assert_eq(sse_text(o.sse, "stdout", &state, "a\r\nb\xe2\x80\xa8\xc2\x85\"", 10), 0);
	cr_assert_eq(sse_base64(o.sse, "stderr", "\0\xff", 2, 7), 0);
	cr_assert_eq(sse_base64(o.sse, "data", "x", 1, 0), 0);
	cr_assert_eq(sse_printf(o.sse, "exit", "{\"exit_code\":%d}", -1), 0);
	sse_end(o.sse);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->state, HTTP_CLIENT_DONE);
	cr_assert_str_eq(http_client_body(c),
			 "event: stdout\ndata: {\"type\":\"stdout\",\"stream\":\"stdout\",\"data\":\"a\\r\\nb\\u2028\\u0085\\\"\"}\n\n"
			 "event: stderr\ndata: {\"data\":\"AP8=\",\"entry_id\":7}\n\n"
			 "event: data\ndata: {\"data\":\"eA==\"}\n\n"
			 "event: exit\ndata: {\"exit_code\":-1}\n\n");
	cr_assert_eq(o.gone, 0);
	http_client_free(c);
	fixture_stop(&f);
	test_leaks();
}

Test(sse, characters_are_never_cut, .timeout = 30)
{
	static const char text[] = "\xc3\xbc\xf0\x9f\x8e\x89z\xff";
	struct json_escape_state state = { 0 };
	struct http_client *c;
	struct owner o;

	fixture_start(&f, NULL);
	c = begin(&o, 0);
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		cr_assert_eq(sse_text(o.sse, "t", &state, text + i, 1), 0);
	cr_assert_eq(sse_text(o.sse, "t", &state, NULL, 0), 0);
	sse_end(o.sse);
	AWAIT_ANSWER(&f, c);
#define EVENT(x) "event: t\ndata: {\"type\":\"t\",\"stream\":\"t\",\"data\":\"" x "\"}\n\n"
	cr_assert_str_eq(http_client_body(c), EVENT("\xc3\xbc") EVENT("\xf0\x9f\x8e\x89") EVENT("z") EVENT("\xef\xbf\xbd"));
	http_client_free(c);
	fixture_stop(&f);
	test_leaks();
}

/* A client that does not read costs the server's buffer and one event; then all of it comes, in order. */
Test(sse, a_reader_that_stalls, .timeout = 60)
{
	struct http_client *c;
	struct owner o;

	fixture_start(&f, NULL);
	c = begin(&o, 0);
	AWAIT(&f, c->state == HTTP_CLIENT_CHUNK_HEAD);
	http_client_pause(c, true);
	o.last = 800;
	write_more(&o);
	for (unsigned int i = 0; i < 200; i++)
		sd_event_run(f.event, 1000);
	cr_assert_lt(o.next, 600, "the kernel's and our buffers are all it wrote into");
	cr_assert(!sse_ready(o.sse));
	cr_assert_lt(o.waiting_max, 41000, "one event");
	c->body.max = SIZE_MAX / 2;
	http_client_pause(c, false);
	AWAIT(&f, o.next == o.last);
	sse_end(o.sse);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->state, HTTP_CLIENT_DONE);
	cr_assert_geq(c->body_len, 800u * 40000u);
	http_client_free(c);
	fixture_stop(&f);
}

Test(sse, ended_while_the_client_stalls, .timeout = 60)
{
	struct http_client *c;
	struct owner o;

	fixture_start(&f, NULL);
	c = begin(&o, 0);
	http_client_pause(c, true);
	o.last = 800;
	write_more(&o);
	for (unsigned int i = 0; i < 50; i++)
		sd_event_run(f.event, 1000);
	cr_assert(!sse_ready(o.sse));
	sse_end(TAKE_PTR(o.sse));
	c->body.max = SIZE_MAX / 2;
	http_client_pause(c, false);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->state, HTTP_CLIENT_DONE);
	cr_assert_eq(memcmp(c->body.data + c->body.len - 2, "\n\n", 2), 0, "the last event is whole");
	cr_assert_eq(o.gone, 0, "it had no owner any more");
	http_client_free(c);
	fixture_stop(&f);
	test_leaks();
}

Test(sse, silence_is_filled, .timeout = 30)
{
	struct http_client *c;
	struct owner o;
	uint64_t from;

	fixture_start(&f, NULL);
	c = begin(&o, 0.9);	/* so every 0.3 s */
	from = fixture_now();
	AWAIT(&f, c->body_len >= 24);
	cr_assert_geq(fixture_now() - from, 800000, "three times");
	cr_assert_str_eq(http_client_body(c), ": ping\n\n: ping\n\n: ping\n\n");
	sse_end(o.sse);
	AWAIT_ANSWER(&f, c);
	http_client_free(c);
	cr_assert_eq(ping_interval(0), 10000000);
	cr_assert_eq(ping_interval(60), 10000000);
	cr_assert_eq(ping_interval(6), 2000000);
	cr_assert_eq(ping_interval(0.001), PING_MIN_USEC);
	fixture_stop(&f);
	test_leaks();
}

Test(sse, clients_that_leave, .timeout = 30)
{
	struct http_client *c;
	struct owner o;

	fixture_start(&f, NULL);
	c = begin(&o, 0);
	AWAIT(&f, c->state == HTTP_CLIENT_CHUNK_HEAD);
	http_client_free(c);
	AWAIT(&f, o.gone);
	cr_assert_eq(o.gone, 1);
	/* While there is more to write than anybody takes */
	c = begin(&o, 0);
	http_client_pause(c, true);
	o.last = 800;
	write_more(&o);
	http_client_free(c);
	AWAIT(&f, o.gone);
	/* And when nobody owns it any more */
	c = begin(&o, 0);
	http_client_pause(c, true);
	o.last = 800;
	write_more(&o);
	sse_end(TAKE_PTR(o.sse));
	http_client_free(c);
	for (unsigned int i = 0; i < 50; i++)
		sd_event_run(f.event, 1000);
	cr_assert_eq(o.gone, 0);
	/* The server goes first */
	c = begin(&o, 0);
	fixture_stop(&f);
	cr_assert_eq(o.gone, 1);
	http_client_free(c);
	test_leaks();
}

Test(sse, aborted, .timeout = 30)
{
	struct http_client *c;
	struct owner o;

	fixture_start(&f, NULL);
	c = begin(&o, 0);
	AWAIT(&f, c->state == HTTP_CLIENT_CHUNK_HEAD);
	sse_abort(TAKE_PTR(o.sse));
	AWAIT_ANSWER(&f, c);
	cr_assert_neq(c->state, HTTP_CLIENT_DONE, "that was no end");
	http_client_free(c);
	fixture_stop(&f);
	test_leaks();
}
