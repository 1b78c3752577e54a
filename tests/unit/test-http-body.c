/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Request bodies: caps, chunks, pauses, and answers that come before the body has. */
#include "util-test.h"
#include "../lib/http-fixture.h"

#define MIB (1024ull * 1024)

static struct fixture f;

static void start(void)
{
	fixture_start(&f, NULL);
}

static void stop(void)
{
	cr_assert(!f.reentered, "a callback came from inside a call");
	fixture_stop(&f);
	test_leaks();
}

static struct http_client *put(const char *method, const char *target, uint64_t len, bool chunked, const char *extra)
{
	struct http_client *c = http_client_new(f.event, f.port);
	char head[256];

	if (chunked)
		snprintf(head, sizeof(head), "Transfer-Encoding: chunked\r\n%s", extra ? extra : "");
	else
		snprintf(head, sizeof(head), "Content-Length: %llu\r\n%s", (unsigned long long)len, extra ? extra : "");
	http_client_request(c, method, target, head);
	http_client_upload(c, len, chunked);
	return c;
}

static void expect_upload(uint64_t len, bool chunked)
{
	struct http_client *c = put("PUT", "/upload", len, chunked, NULL);
	char text[64];

	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 200);
	snprintf(text, sizeof(text), "{\"size\":%llu}", (unsigned long long)len);
	cr_assert_str_eq(http_client_body(c), text);
	cr_assert(!f.taken_bad);
	cr_assert(!c->closed);
	http_client_free(c);
}

Test(http_body, collected)
{
	static const size_t sizes[] = { 1, 1000, 40000, FIXTURE_JSON_MAX };

	start();
	for (size_t i = 0; i < ELEMENTSOF(sizes) * 2; i++) {
		size_t n = sizes[i / 2];
		struct http_client *c = put("POST", "/echo", n, i % 2, NULL);

		AWAIT_ANSWER(&f, c);
		cr_assert_eq(c->status, 200);
		cr_assert_eq(c->body_len, n);
		cr_assert(http_pattern_matches(c->body.data, n, 0));
		http_client_free(c);
	}
	stop();
}

Test(http_body, empty)
{
	struct http_client *c;

	start();
	c = http_client_new(f.event, f.port);
	http_client_request(c, "POST", "/echo", "Content-Type: application/json\r\nContent-Length: 0\r\n");
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 200);
	cr_assert_eq(c->body_len, 0);
	http_client_next(c);
	http_client_request(c, "POST", "/echo", NULL);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 200);
	http_client_next(c);
	http_client_request(c, "POST", "/echo", "Transfer-Encoding: chunked\r\n");
	http_client_printf(c, "0\r\nX-Trailer: 1\r\n\r\n");
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 200);
	cr_assert_eq(f.handled, 3);
	http_client_free(c);
	expect_upload(0, false);
	cr_assert_eq(f.ends, 1);
	stop();
}

Test(http_body, on_get_and_delete)
{
	struct http_client *c;

	start();
	c = http_client_new(f.event, f.port);
	for (int i = 0; i < 3; i++) {
		http_client_request(c, i % 2 ? "DELETE" : "GET", "/items/1", "Content-Length: 15\r\n");
		http_client_send(c, "{\"owner\":\"me!\"}", 15);
		AWAIT_ANSWER(&f, c);
		cr_assert_eq(c->status, 200);
		http_client_next(c);
	}
	http_client_free(c);
	stop();
}

/* Content-Length is believed before anything is read; the answer comes while the client still sends. */
Test(http_body, announced_too_large)
{
	struct http_client *c;

	start();
	c = put("POST", "/echo", 0, false, NULL);
	http_client_free(c);
	c = http_client_new(f.event, f.port);
	http_client_request(c, "POST", "/echo", "Content-Length: 1000000000000\r\n");
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 413);
	cr_assert_str_eq(http_client_body(c), "{\"refused\":413}");
	http_client_free(c);

	c = put("POST", "/echo", 32 * MIB, false, NULL);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 413);
	cr_assert_eq(c->state, HTTP_CLIENT_DONE);
	http_client_free(c);
	stop();
}

/* Small enough to read on: the connection can be used again. */
Test(http_body, slightly_too_large_keeps_the_connection)
{
	struct http_client *c;

	start();
	c = put("POST", "/echo", FIXTURE_JSON_MAX + 1, false, NULL);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 413);
	http_client_next(c);
	http_client_request(c, "GET", "/hello", NULL);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 200);
	http_client_free(c);
	stop();
}

Test(http_body, chunked_too_large)
{
	static const char *const targets[] = { "/echo", "/any" };

	start();
	for (size_t i = 0; i < ELEMENTSOF(targets) * 2; i++) {
		struct http_client *c = put("POST", targets[i / 2], i % 2 ? FIXTURE_JSON_MAX + 1 : 16 * MIB, true, NULL);

		AWAIT_ANSWER(&f, c);
		cr_assert_eq(c->status, 413);
		cr_assert_eq(c->state, HTTP_CLIENT_DONE);
		AWAIT(&f, c->closed);
		http_client_free(c);
	}
	cr_assert_eq(f.handled, 0);
	stop();
}

/* It is not read for ever: an endless body ends with the connection. */
Test(http_body, endless_body_after_the_answer)
{
	struct http_client *c;

	start();
	c = put("POST", "/echo", UINT64_MAX / 2, true, NULL);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 413);
	AWAIT(&f, c->error < 0);
	cr_assert_lt(c->upload_offset, 200 * MIB);
	http_client_free(c);
	stop();
}

Test(http_body, expect_continue)
{
	struct http_client *c;

	start();
	c = http_client_new(f.event, f.port);
	http_client_request(c, "POST", "/echo", "Expect: 100-continue\r\nContent-Length: 5\r\n");
	AWAIT(&f, c->continues == 1);
	http_client_send(c, "hello", 5);
	AWAIT_ANSWER(&f, c);
	cr_assert_str_eq(http_client_body(c), "hello");
	http_client_next(c);
	http_client_request(c, "PUT", "/upload", "Expect: 100-continue\r\nContent-Length: 1000\r\n");
	AWAIT(&f, c->continues == 2);
	http_client_upload(c, 1000, false);
	AWAIT_ANSWER(&f, c);
	cr_assert_str_eq(http_client_body(c), "{\"size\":1000}");
	http_client_next(c);
	http_client_request(c, "POST", "/echo", "Expect: 100-continue\r\nContent-Length: 100000000\r\n");
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 413);
	cr_assert_eq(c->continues, 2);
	http_client_free(c);
	stop();
}

Test(http_body, streamed)
{
	start();
	expect_upload(1, false);
	expect_upload(1, true);
	expect_upload(3 * MIB + 17, false);
	expect_upload(3 * MIB + 17, true);
	stop();
}

/* The consumer takes little pieces and pauses after each; nothing is lost, the client is held back. */
static void paused_upload(bool chunked)
{
	const uint64_t len = 24 * MIB;
	struct http_client *c;

	start();
	f.take_budget = 10;
	c = put("PUT", "/upload", len, chunked, NULL);
	AWAIT(&f, f.taken == 10);
	fixture_settle(&f);
	cr_assert_eq(f.taken, 10);
	cr_assert_gt(c->upload_left, 0, "the client is not held back");
	while (f.upload) {
		f.take_budget = 777777;
		f.in_call = true;
		http_body_continue(f.upload);
		f.in_call = false;
		AWAIT(&f, f.take_budget == 0 || !f.upload);
		fixture_settle(&f);
	}
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 200);
	cr_assert_eq(f.taken, len);
	cr_assert(!f.taken_bad);
	cr_assert_leq(f.biggest_take, 64 * 1024);
	http_client_free(c);
	stop();
}

Test(http_body, pauses)
{
	paused_upload(false);
}

Test(http_body, pauses_chunked)
{
	paused_upload(true);
}

Test(http_body, client_leaves_while_paused)
{
	struct http_client *c;
	uint64_t before;

	start();
	f.take_budget = 10;
	/* It must fit into the socket's buffers: an end that waits behind unread data is invisible to anybody. */
	c = put("PUT", "/upload", 50000, false, NULL);
	AWAIT(&f, f.taken == 10 && c->upload_left == 0 && c->out_sent == c->out.len);
	fixture_settle(&f);
	before = fixture_now();
	http_client_free(c);
	AWAIT(&f, f.cancels == 1);
	cr_assert_lt(fixture_now() - before, 100000);
	fixture_settle(&f);
	cr_assert_eq(f.cancels, 1);
	cr_assert_eq(f.ends, 0);
	stop();
}

Test(http_body, client_leaves_in_the_middle)
{
	struct http_client *c;

	start();
	c = http_client_new(f.event, f.port);
	http_client_request(c, "PUT", "/upload", "Content-Length: 1000\r\n");
	http_client_upload(c, 500, false);
	AWAIT(&f, f.taken == 500);
	http_client_free(c);
	AWAIT(&f, f.cancels == 1);
	c = http_client_new(f.event, f.port);
	http_client_request(c, "POST", "/echo", "Content-Length: 1000\r\n");
	http_client_upload(c, 500, false);
	AWAIT(&f, c->upload_left == 0 && c->out_sent == c->out.len);
	http_client_free(c);
	fixture_settle(&f);
	cr_assert_eq(f.handled, 0);
	stop();
}

/* The consumer fails (disk full): a small rest is read and the connection stays, a large one is not waited for. */
Test(http_body, answered_in_the_middle)
{
	static const struct { uint64_t len; bool chunked, stays; } cases[] = {
		{ 500000, false, true }, { 40 * MIB, false, false }, { 40 * MIB, true, false },
	};

	start();
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct http_client *c;

		f.upload_reply_at = 100;
		c = put("PUT", "/upload", cases[i].len, cases[i].chunked, NULL);
		AWAIT_ANSWER(&f, c);
		cr_assert_eq(c->status, 507);
		cr_assert_str_eq(http_client_body(c), "{\"full\":true}");
		if (cases[i].stays) {
			http_client_next(c);
			http_client_request(c, "GET", "/hello", NULL);
			AWAIT_ANSWER(&f, c);
			cr_assert_eq(c->status, 200);
		} else {
			AWAIT(&f, c->closed);
		}
		http_client_free(c);
	}
	cr_assert_eq(f.ends, 0);
	cr_assert_eq(f.cancels, 0);
	stop();
}

/* A streamed answer waits until the body was read and dropped; a body without an end ends the connection. */
Test(http_body, streamed_answer_before_the_body)
{
	struct http_client *c;
	struct http_request *req;

	start();
	c = put("POST", "/streamecho", 8 * MIB, false, NULL);
	AWAIT(&f, f.held);
	req = TAKE_PTR(f.held);
	cr_assert_eq(http_stream_begin(req, 200, NULL, -1, NULL, NULL), 0);
	cr_assert_eq(http_stream_write(req, "early", 5), 0);
	AWAIT(&f, c->body_len == 5);
	cr_assert_eq(c->upload_left, 0);
	http_stream_end(req);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->state, HTTP_CLIENT_DONE);
	http_client_free(c);
	cr_assert_eq(f.cancels, 0);

	c = put("POST", "/streamecho", UINT64_MAX / 2, true, NULL);
	AWAIT(&f, f.held);
	cr_assert_eq(http_stream_begin(f.held, 200, NULL, -1, NULL, NULL), 0);
	AWAIT(&f, f.cancels == 1);
	http_client_free(c);
	stop();
}

/* A handler that has not yet asked for the body holds the client back, and may answer instead. */
Test(http_body, not_started)
{
	struct http_client *c;

	start();
	c = put("POST", "/streamecho", 32 * MIB, false, NULL);
	AWAIT(&f, f.held);
	fixture_settle(&f);
	cr_assert_gt(c->upload_left, 0);
	cr_assert_eq(http_request_content_length(f.held), (int64_t)(32 * MIB));
	cr_assert_eq(http_reply(TAKE_PTR(f.held), 409, NULL, "no", 2), 0);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 409);
	http_client_free(c);

	c = put("POST", "/streamecho", 1000, true, NULL);
	AWAIT(&f, f.held);
	cr_assert_eq(http_request_content_length(f.held), -1);
	http_client_free(c);
	AWAIT(&f, f.cancels == 1);
	stop();
}
