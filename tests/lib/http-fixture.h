/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server of daemon/http with handlers that tests can steer, on an ephemeral port of the loopback.
 *
 * GET /hello          answers {} at once
 * GET /later          answers from another event
 * GET /hold[?silent]  keeps the request in f->held until the test answers it; silent: without a cancel callback
 * GET /items/{id}, GET /items/{id}/files/{rest*}, PUT /items/{id}, DELETE /items/{id}   say what they got
 * POST /echo          gives the body back
 * POST /streamecho    HTTP_BODY_STREAM whose handler keeps the request (f->held) and starts nothing
 * PUT /upload         streamed body, checked against the pattern; takes at most f->take_budget bytes
 * GET /stream?n=&sized=   n bytes of the pattern; sized: with Content-Length
 * GET /secret         needs the key "sesame"
 * ANY /any            answers {} to every method
 */
#ifndef DECLAW_TEST_HTTP_FIXTURE_H
#define DECLAW_TEST_HTTP_FIXTURE_H

#include "http-client.h"
#include "http/http.h"

#define FIXTURE_JSON_MAX (64 * 1024)
#define FIXTURE_PENDING_MAX (64 * 1024)

struct fixture {
	sd_event *event;
	struct http_server *server;
	uint16_t port;
	struct http_request *held;
	unsigned int cancels, handled, ends;
	bool in_call;			/* inside a call of http.h: no callback may come */
	bool reentered;
	uint64_t take_budget;		/* bytes take() accepts before it pauses */
	uint64_t taken;
	bool taken_bad;
	size_t biggest_take;
	struct http_request *upload;
	int upload_reply_at;		/* answer 507 from take() when this many bytes were taken; 0: never */
	uint64_t produced;
	unsigned int streams;		/* running */
	struct http_request *stream;	/* the latest */
};

/* config may be NULL; listen is set here. */
void fixture_start(struct fixture *f, const struct http_server_config *config);
void fixture_stop(struct fixture *f);
/* Sets the cancel callback that counts. */
void fixture_cancel_on(struct fixture *f, struct http_request *req);
/* Runs the loop until nothing is due at once. */
void fixture_settle(struct fixture *f);
uint64_t fixture_now(void);		/* monotonic, microseconds */

/* Runs the loop until cond holds; fails the test after ten seconds. */
#define AWAIT(f, cond)										\
	do {											\
		uint64_t _end = fixture_now() + 25 * 1000000;					\
		while (!(cond)) {								\
			cr_assert_lt(fixture_now(), _end, "still waiting for: %s", #cond);	\
			cr_assert_geq(sd_event_run((f)->event, 1000000), 0);			\
		}										\
	} while (0)
/* ... until the client has a whole answer. */
#define AWAIT_ANSWER(f, c) AWAIT(f, (c)->state >= HTTP_CLIENT_DONE || (c)->closed)

#endif
