/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Streamed answers: every byte, at once, in bounded memory, fairly, and to their end. */
#include "util-test.h"
#include "../lib/http-fixture.h"

#include <malloc.h>

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

static struct http_client *get(const char *target)
{
	struct http_client *c = http_client_new(f.event, f.port);

	c->pattern = true;
	http_client_request(c, "GET", target, NULL);
	return c;
}

static void expect_whole(struct http_client *c, uint64_t len)
{
	cr_assert_eq(c->state, HTTP_CLIENT_DONE);
	cr_assert_eq(c->status, 200);
	cr_assert_eq(c->body_len, len);
	cr_assert(!c->pattern_bad);
}

Test(http_stream, whole)
{
	static const char *const sizes[] = { "0", "1", "65535", "65536", "65537", "131071", "131072", "131073", "5000000" };

	start();
	for (size_t i = 0; i < ELEMENTSOF(sizes) * 2; i++) {
		struct http_client *c;
		char target[64];

		snprintf(target, sizeof(target), "/stream?n=%s%s", sizes[i / 2], i % 2 ? "&sized" : "");
		c = get(target);
		AWAIT_ANSWER(&f, c);
		expect_whole(c, strtoull(sizes[i / 2], NULL, 10));
		cr_assert_eq(c->chunked, i % 2 == 0);
		http_client_next(c);
		http_client_request(c, "GET", "/hello", NULL);
		AWAIT_ANSWER(&f, c);
		cr_assert_eq(c->status, 200, "keep-alive after %s", target);
		http_client_free(c);
	}
	cr_assert_eq(f.streams, 0);
	cr_assert_eq(f.cancels, 0);
	stop();
}

Test(http_stream, http_1_0_ends_with_the_connection)
{
	struct http_client *c;

	start();
	c = http_client_new(f.event, f.port);
	c->pattern = true;
	http_client_printf(c, "GET /stream?n=300000 HTTP/1.0\r\n\r\n");
	AWAIT_ANSWER(&f, c);
	expect_whole(c, 300000);
	cr_assert(c->closed && !c->chunked);
	http_client_free(c);
	stop();
}

/* Header first, then each write by itself, without waiting for more. */
Test(http_stream, immediate)
{
	struct http_client *c;
	struct http_request *req;

	start();
	c = http_client_new(f.event, f.port);
	http_client_request(c, "GET", "/hold", NULL);
	AWAIT(&f, f.held);
	req = f.held;
	cr_assert_eq(http_reply_header(req, "Cache-Control", "no-cache"), 0);
	cr_assert_eq(http_stream_begin(req, 200, "text/event-stream", -1, NULL, NULL), 0);
	AWAIT(&f, c->status == 200);
	cr_assert_str_eq(http_client_header(c, "Cache-Control"), "no-cache");
	for (unsigned int i = 1; i <= 200; i++) {
		uint64_t before = fixture_now();

		cr_assert_eq(http_stream_write(req, "tick", 4), 0);
		AWAIT(&f, c->body_len == 4 * i);
		cr_assert_lt(fixture_now() - before, 30000, "held back for 40 ms: Nagle");
	}
	http_stream_end(req);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->state, HTTP_CLIENT_DONE);
	http_client_free(c);
	cr_assert_eq(f.cancels, 0);
	stop();
}

Test(http_stream, bounds)
{
	static char big[FIXTURE_PENDING_MAX + 1];
	struct http_client *c;
	struct http_request *req;

	start();
	c = http_client_new(f.event, f.port);
	http_client_request(c, "GET", "/hold", NULL);
	AWAIT(&f, f.held);
	req = f.held;
	cr_assert_eq(http_stream_write(req, "x", 1), -EINVAL, "not begun");
	cr_assert_eq(http_stream_begin(req, 200, NULL, 10, NULL, NULL), 0);
	cr_assert_eq(http_stream_begin(req, 200, NULL, 10, NULL, NULL), -EALREADY);
	cr_assert_eq(http_stream_room(req), 10);
	cr_assert_eq(http_stream_write(req, "01234567890", 11), -EMSGSIZE);
	cr_assert_eq(http_stream_write(req, "01234", 5), 0);
	cr_assert_eq(http_stream_room(req), 5);
	http_stream_end(req);	/* too early: the client must see that it is not whole */
	AWAIT(&f, c->closed);
	cr_assert_eq(c->state, HTTP_CLIENT_BROKEN);
	http_client_free(c);

	c = http_client_new(f.event, f.port);
	f.held = NULL;
	http_client_request(c, "GET", "/hold", NULL);
	AWAIT(&f, f.held);
	req = f.held;
	cr_assert_eq(http_stream_begin(req, 200, NULL, -1, NULL, NULL), 0);
	cr_assert_eq(http_stream_room(req), FIXTURE_PENDING_MAX);
	cr_assert_eq(http_stream_write(req, big, FIXTURE_PENDING_MAX + 1), -ENOBUFS);
	cr_assert_eq(http_stream_write(req, big, FIXTURE_PENDING_MAX), 0);
	cr_assert_eq(http_stream_room(req), 0);
	cr_assert_eq(http_stream_write(req, big, 1), -ENOBUFS);
	AWAIT(&f, c->body_len == FIXTURE_PENDING_MAX);
	http_stream_abort(req);
	AWAIT(&f, c->closed);
	cr_assert_eq(c->state, HTTP_CLIENT_BROKEN, "an abort is not a clean end");
	http_client_free(c);
	stop();
}

/* All bytes of a known size are out before the handler says that it is through. */
Test(http_stream, end_after_the_last_byte_was_sent)
{
	struct http_client *c;
	struct http_request *req;

	start();
	c = http_client_new(f.event, f.port);
	http_client_request(c, "GET", "/hold", NULL);
	AWAIT(&f, f.held);
	req = f.held;
	cr_assert_eq(http_stream_begin(req, 200, NULL, 3, NULL, NULL), 0);
	cr_assert_eq(http_stream_write(req, "abc", 3), 0);
	AWAIT_ANSWER(&f, c);
	http_client_next(c);
	http_client_request(c, "GET", "/hello", NULL);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 200);
	http_client_free(c);
	fixture_settle(&f);
	cr_assert_eq(f.cancels, 0);
	cr_assert_eq(http_stream_room(req), 0);
	http_stream_end(req);
	stop();
}

static void slow_reader(const char *target)
{
	const uint64_t len = 64 * MIB;
	struct http_client *c;
	size_t heap, most = 0;

	start();
	c = get(target);
	c->read_max = 16 * 1024;
	AWAIT(&f, c->body_len > 0);
	http_client_pause(c, true);
	fixture_settle(&f);
	cr_assert_eq(http_stream_room(f.stream), 0, "a stalled reader fills the buffer");
	cr_assert_lt(f.produced, 24 * MIB, "and then stops the producer");
	heap = mallinfo2().uordblks;
	http_client_pause(c, false);
	for (uint64_t step = 0; c->state < HTTP_CLIENT_DONE; step += MIB) {
		AWAIT(&f, c->body_len >= step || c->state >= HTTP_CLIENT_DONE);
		most = MAX_OF(most, mallinfo2().uordblks);
		cr_assert_lt(f.produced - c->body_len, 24 * MIB);
	}
	expect_whole(c, len);
	cr_assert_lt(most, heap + 256 * 1024);
	http_client_free(c);
	stop();
}

Test(http_stream, slow_reader, .timeout = 120)
{
	slow_reader("/stream?n=67108864");
}

Test(http_stream, slow_reader_of_known_size, .timeout = 120)
{
	slow_reader("/stream?n=67108864&sized");
}

/* A reader that stalls costs nobody else anything. */
Test(http_stream, stalled_neighbour)
{
	struct http_client *stalled, *c;

	start();
	stalled = get("/stream?n=1000000000");
	AWAIT(&f, stalled->body_len > 0);
	http_client_pause(stalled, true);
	fixture_settle(&f);
	c = get("/stream?n=8000000");
	AWAIT_ANSWER(&f, c);
	expect_whole(c, 8000000);
	http_client_free(c);
	http_client_free(stalled);
	AWAIT(&f, f.cancels == 1 && f.streams == 0);
	stop();
}

Test(http_stream, client_leaves)
{
	start();
	for (unsigned int i = 0; i < 20; i++) {
		struct http_client *c = get(i % 2 ? "/stream?n=1000000000" : "/stream?n=1000000000&sized");

		AWAIT(&f, c->body_len > (i + 1) * 100000);
		if (i % 3 == 0) {
			http_client_pause(c, true);
			fixture_settle(&f);
		}
		http_client_free(c);
		AWAIT(&f, f.cancels == i + 1);
		cr_assert_eq(f.streams, 0);
	}
	stop();
}

Test(http_stream, client_leaves_while_nothing_is_pending)
{
	struct http_client *c;
	uint64_t before;

	start();
	c = http_client_new(f.event, f.port);
	http_client_request(c, "GET", "/hold", NULL);
	AWAIT(&f, f.held);
	cr_assert_eq(http_stream_begin(f.held, 200, "text/event-stream", -1, NULL, NULL), 0);
	AWAIT(&f, c->status == 200);
	before = fixture_now();
	http_client_free(c);
	AWAIT(&f, f.cancels == 1);
	cr_assert_lt(fixture_now() - before, 100000);
	stop();
}

/* Without a cancel callback the producer finds out by writing. */
Test(http_stream, client_leaves_unannounced)
{
	struct http_client *c;
	struct http_request *req;

	start();
	c = http_client_new(f.event, f.port);
	http_client_request(c, "GET", "/hold?silent", NULL);
	AWAIT(&f, f.held);
	req = f.held;
	cr_assert_eq(http_stream_begin(req, 200, NULL, -1, NULL, NULL), 0);
	AWAIT(&f, c->status == 200);
	http_client_free(c);
	AWAIT(&f, http_stream_write(req, "x", 1) == -EPIPE);
	fixture_settle(&f);
	cr_assert_eq(http_stream_room(req), FIXTURE_PENDING_MAX);
	http_stream_abort(req);
	stop();
}

/* The client had left before the stream began, or before anybody asked to be told. */
Test(http_stream, client_left_before)
{
	for (int i = 0; i < 4; i++) {
		struct http_client *c;
		struct http_request *req;

		start();
		c = http_client_new(f.event, f.port);
		http_client_request(c, "GET", "/hold?silent", NULL);
		AWAIT(&f, f.held);
		req = TAKE_PTR(f.held);
		http_client_free(c);
		fixture_settle(&f);
		if (i & 1)
			fixture_cancel_on(&f, req);
		cr_assert_eq(http_stream_begin(req, 200, NULL, i & 2 ? 5 : -1, NULL, NULL), 0);
		cr_assert_neq(http_stream_room(req), 0);
		cr_assert_eq(http_stream_write(req, "abc", 3), -EPIPE);
		cr_assert_eq(f.cancels, 0, "not from inside a call");
		if (i & 1)
			AWAIT(&f, f.cancels == 1);
		else
			http_stream_end(req);
		stop();
	}
}

/* The end was said, the client still reads: all of it arrives. */
Test(http_stream, the_rest_is_delivered_after_the_end)
{
	static char piece[50000];
	struct http_client *c;

	start();
	c = http_client_new(f.event, f.port);
	c->pattern = true;
	c->read_max = 1000;
	http_client_request(c, "GET", "/hold", NULL);
	AWAIT(&f, f.held);
	http_pattern_fill(piece, sizeof(piece), 0);
	cr_assert_eq(http_stream_begin(f.held, 200, NULL, -1, NULL, NULL), 0);
	cr_assert_eq(http_stream_write(f.held, piece, sizeof(piece)), 0);
	http_stream_end(f.held);
	AWAIT_ANSWER(&f, c);
	expect_whole(c, sizeof(piece));
	http_client_free(c);
	stop();
}

/* When the first of a hundred is through, the slowest has at least half of the mean. */
Test(http_stream, hundred_at_once, .timeout = 120)
{
	enum { N = 100 };
	struct http_client *c[N];
	uint64_t sum = 0, least = UINT64_MAX;
	bool first = false;

	start();
	for (int i = 0; i < N; i++)
		c[i] = get("/stream?n=4000000");
	while (!first) {
		cr_assert_geq(sd_event_run(f.event, 1000000), 0);
		for (int i = 0; i < N; i++)
			first |= c[i]->state >= HTTP_CLIENT_DONE;
	}
	for (int i = 0; i < N; i++) {
		sum += c[i]->body_len;
		least = MIN_OF(least, c[i]->body_len);
	}
	cr_assert_geq(least, sum / N / 2, "slowest %llu, mean %llu", (unsigned long long)least,
		      (unsigned long long)(sum / N));
	for (int i = 0; i < N; i++) {
		AWAIT_ANSWER(&f, c[i]);
		expect_whole(c[i], 4000000);
		http_client_free(c[i]);
	}
	stop();
}
