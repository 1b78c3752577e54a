/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many clients that do anything at any time: requests cut at any byte, pauses, departures in every phase, pipelines.
 * What it checks is what must hold for all of them: every handler is told the end of its request exactly once, nothing
 * stays behind, the server goes on answering. HTTP_CHAOS_SEED=n tries another order.
 */
#include "util-test.h"
#include "../lib/http-fixture.h"

#define CLIENTS 24
#define STEPS 20000

static struct fixture f;
static uint64_t seed = 0x9e3779b97f4a7c15ull;

static unsigned int chance(unsigned int n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned int)(seed >> 33) % n;
}

static const char *const texts[] = {
	"GET /hello HTTP/1.1\r\nHost: t\r\n\r\n",
	"GET /later HTTP/1.1\r\nHost: t\r\n\r\n",
	"GET /later HTTP/1.1\r\nHost: t\r\n\r\nGET /hello HTTP/1.1\r\nHost: t\r\n\r\nGET /later HTTP/1.1\r\nHost: t\r\n\r\n",
	"GET /stream?n=0 HTTP/1.1\r\nHost: t\r\n\r\n",
	"GET /stream?n=3000000 HTTP/1.1\r\nHost: t\r\n\r\n",
	"GET /stream?n=3000000&sized HTTP/1.1\r\nHost: t\r\n\r\n",
	"HEAD /stream?n=1000 HTTP/1.1\r\nHost: t\r\n\r\n",
	"GET /stream?n=200000 HTTP/1.0\r\n\r\n",
	"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello",
	"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999\r\n\r\nhello",
	"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX",
	"POST /echo HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
	"POST /nowhere HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello",
	"POST /streamecho HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello",
	"GET /hold HTTP/1.1\r\nHost: t\r\n\r\n",
	"PUT /hello HTTP/1.1\r\nHost: t\r\nX-API-Key: sesame\r\n\r\n",
	"GET /% HTTP/1.1\r\nHost: t\r\n\r\n",
	"BAD\r\n\r\n",
};

/* The fixture keeps the latest held request; those it lost sight of end when their client leaves. */
static void settle_held(void)
{
	struct http_request *req = TAKE_PTR(f.held);
	static const char text[] = "held";

	if (!req)
		return;
	switch (chance(4)) {
	case 0:
		http_reply(req, 200, NULL, text, 4);
		break;
	case 1:
		if (http_stream_begin(req, 200, NULL, -1, NULL, NULL) == 0) {
			http_request_on_cancel(req, NULL, NULL);
			http_stream_write(req, text, 4);
			http_stream_end(req);
		}
		break;
	case 2:
		if (http_stream_begin(req, 200, NULL, 4, NULL, NULL) == 0) {
			http_request_on_cancel(req, NULL, NULL);
			http_stream_abort(req);
		}
		break;
	default:
		http_reply(req, 413, "text/plain", text, 4);
		break;
	}
}

static struct http_client *step(struct http_client *c)
{
	if (!c) {
		c = http_client_new(f.event, f.port);
		c->pattern = true;
		return c;
	}
	if (c->closed || chance(12) == 0)
		return http_client_free(c);
	if (c->state == HTTP_CLIENT_DONE)
		http_client_next(c);
	if (chance(4) == 0) {
		http_client_pause(c, !c->paused);
	} else if (c->out.len - c->out_sent < 1000) {
		const char *text = texts[chance(ELEMENTSOF(texts))];

		http_client_send(c, text, chance(5) ? strlen(text) : chance((unsigned int)strlen(text)));
	}
	return c;
}

Test(http_chaos, everything_ends_once, .timeout = 300)
{
	struct http_server_config config = { .connections_max = CLIENTS - 2 };
	struct http_client *c[CLIENTS] = { 0 };

	if (getenv("HTTP_CHAOS_SEED"))
		seed ^= strtoull(getenv("HTTP_CHAOS_SEED"), NULL, 10) << 8;
	fixture_start(&f, &config);
	for (int i = 0; i < STEPS; i++) {
		struct http_client **one = &c[chance(CLIENTS)];

		*one = step(*one);
		for (unsigned int n = chance(4); n > 0; n--)
			cr_assert_geq(sd_event_run(f.event, 0), 0);
		if (chance(8) == 0)
			settle_held();
	}
	for (int i = 0; i < CLIENTS; i++)
		http_client_free(c[i]);
	AWAIT(&f, f.streams == 0);
	fixture_settle(&f);
	settle_held();
	c[0] = http_client_new(f.event, f.port);
	http_client_request(c[0], "GET", "/hello", NULL);
	AWAIT_ANSWER(&f, c[0]);
	cr_assert_eq(c[0]->status, 200);
	http_client_free(c[0]);
	cr_assert(!f.reentered);
	cr_assert_gt(f.handled, 300, "%u", f.handled);
	cr_assert_gt(f.cancels, 20, "%u", f.cancels);
	fixture_stop(&f);
	test_leaks();
}
