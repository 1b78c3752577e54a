/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The server as clients see it: answers, keep-alive, refusals, limits, clients that leave. */
#include "util-test.h"
#include "../lib/http-fixture.h"

#include <netinet/in.h>
#include <sys/socket.h>

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

/* One request on a connection of its own; the caller frees the client. */
static struct http_client *ask(const char *method, const char *target, const char *extra)
{
	struct http_client *c = http_client_new(f.event, f.port);

	http_client_request(c, method, target, extra);
	AWAIT_ANSWER(&f, c);
	return c;
}

static void expect(const char *method, const char *target, const char *extra, int status, const char *body)
{
	struct http_client *c = ask(method, target, extra);

	cr_assert_eq(c->state, HTTP_CLIENT_DONE, "%s %s", method, target);
	cr_assert_eq(c->status, status, "%s %s: %d", method, target, c->status);
	cr_assert_str_eq(http_client_body(c), body, "%s %s", method, target);
	http_client_free(c);
}

Test(http_server, answers)
{
	start();
	expect("GET", "/hello", NULL, 200, "{}");
	expect("GET", "/later", NULL, 200, "{\"later\":true}");
	expect("GET", "/nowhere", "X-API-Key: sesame\r\n", 404, "{\"code\":\"route_unknown\"}");
	expect("GET", "/items/a%2Fb%20c?q=x+y%20z&q=2", NULL, 200,
	       "GET /items/a/b c id=a/b c rest=- raw=- q=x y z,2 rawq=q=x+y%20z&q=2 h=1");
	expect("GET", "/items/1/files/a%2Fb/c", NULL, 200,
	       "GET /items/1/files/a/b/c id=1 rest=a/b/c raw=a%2Fb/c q=-,- rawq=- h=1");
	expect("DELETE", "/items/1", "Content-Type: application/json\r\nContent-Length: 0\r\n", 200,
	       "DELETE /items/1 id=1 rest=- raw=- q=-,- rawq=- h=3");
	expect("REPORT", "/any", NULL, 200, "{}");
	expect("OPTIONS", "/any", NULL, 200, "{}");
	stop();
}

Test(http_server, keys)
{
	start();
	expect("GET", "/secret", NULL, 401, "{\"code\":\"unauthorized\"}");
	expect("GET", "/secret", "Authorization: Bearer wrong\r\n", 401, "{\"code\":\"unauthorized\"}");
	expect("GET", "/secret", "Authorization: Basic sesame\r\n", 401, "{\"code\":\"unauthorized\"}");
	expect("GET", "/secret", "Authorization: Bearer sesame\r\n", 200, "{\"in\":true}");
	expect("GET", "/secret", "authorization: bearer   sesame\r\n", 200, "{\"in\":true}");
	expect("GET", "/secret", "X-API-Key: sesame\r\n", 200, "{\"in\":true}");
	expect("GET", "/secret", "Authorization: Bearer \r\nX-API-Key: sesame\r\n", 200, "{\"in\":true}");
	expect("GET", "/secret", "X-API-Key: \r\n", 401, "{\"code\":\"unauthorized\"}");
	expect("GET", "/secret/unknown", NULL, 401, "{\"code\":\"unauthorized\"}");
	stop();
}

Test(http_server, other_methods)
{
	struct http_client *c;

	start();
	c = ask("HEAD", "/hello", NULL);
	cr_assert_eq(c->status, 200);
	cr_assert_str_eq(http_client_header(c, "Content-Length"), "2");
	http_client_next(c);
	http_client_request(c, "GET", "/hello", NULL);
	AWAIT_ANSWER(&f, c);
	cr_assert_str_eq(http_client_body(c), "{}");
	http_client_free(c);

	c = ask("POST", "/hello", "X-API-Key: sesame\r\nContent-Length: 0\r\n");
	cr_assert_eq(c->status, 405);
	cr_assert_str_eq(http_client_header(c, "Allow"), "GET, HEAD, OPTIONS");
	cr_assert_str_eq(http_client_body(c), "{\"refused\":405}");
	http_client_free(c);

	c = ask("OPTIONS", "/echo", "X-API-Key: sesame\r\n");
	cr_assert_eq(c->status, 200);
	cr_assert_str_eq(http_client_header(c, "Allow"), "POST, OPTIONS");
	http_client_free(c);
	stop();
}

/* A streamed answer to HEAD: the header, no body, and the producer is told to stop. */
Test(http_server, head_of_a_stream)
{
	struct http_client *c;

	start();
	c = ask("HEAD", "/stream?n=10000000", NULL);
	cr_assert_eq(c->status, 200);
	AWAIT(&f, f.cancels == 1 && f.streams == 0);
	AWAIT(&f, c->closed);
	cr_assert_eq(c->in.len, 0, "a body after HEAD");
	http_client_free(c);

	c = ask("HEAD", "/stream?n=10000000&sized", NULL);
	cr_assert_eq(c->status, 200);
	cr_assert_str_eq(http_client_header(c, "Content-Length"), "10000000");
	AWAIT(&f, f.cancels == 2 && f.streams == 0);
	http_client_next(c);
	http_client_request(c, "GET", "/hello", NULL);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 200);
	http_client_free(c);
	stop();
}

Test(http_server, keep_alive_and_pipelining)
{
	struct http_client *c;

	start();
	c = http_client_new(f.event, f.port);
	for (int i = 0; i < 500; i++) {
		http_client_request(c, "GET", i % 2 ? "/later" : "/hello", NULL);
		AWAIT_ANSWER(&f, c);
		cr_assert_eq(c->status, 200);
		http_client_next(c);
	}
	for (int i = 0; i < 50; i++)
		http_client_request(c, "GET", i % 3 ? "/later" : "/nowhere", "X-API-Key: sesame\r\n");
	for (int i = 0; i < 50; i++) {
		AWAIT_ANSWER(&f, c);
		cr_assert_eq(c->status, i % 3 ? 200 : 404);
		http_client_next(c);
	}
	cr_assert(!c->closed);
	http_client_free(c);
	stop();
}

Test(http_server, refusals_keep_the_connection)
{
	struct http_client *c;

	start();
	c = http_client_new(f.event, f.port);
	for (int i = 0; i < 20; i++) {
		http_client_request(c, "POST", i % 2 ? "/nowhere" : "/secret", "Content-Length: 10\r\n");
		http_client_send(c, "0123456789", 10);
		AWAIT_ANSWER(&f, c);
		cr_assert_eq(c->status, 401);
		http_client_next(c);
		http_client_request(c, "GET", "/bad%00path", NULL);
		AWAIT_ANSWER(&f, c);
		cr_assert_eq(c->status, 400);
		cr_assert_str_eq(http_client_body(c), "{\"refused\":400}");
		http_client_next(c);
	}
	http_client_request(c, "GET", "/hello", NULL);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 200);
	cr_assert(!c->closed);
	http_client_free(c);
	stop();
}

/* In our own error form, then closed: where such a request ends is uncertain. */
Test(http_server, doubtful_framing)
{
	static const char *const heads[] = {
		"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\n\r\nx",
		"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\nx",
		"GET /hello HTTP/1.1\r\n\r\n",
		"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	};

	start();
	for (size_t i = 0; i < ELEMENTSOF(heads); i++) {
		struct http_client *c = http_client_new(f.event, f.port);

		http_client_send(c, heads[i], strlen(heads[i]));
		AWAIT_ANSWER(&f, c);
		cr_assert_eq(c->status, 400, "%s: %d", heads[i], c->status);
		cr_assert_str_eq(http_client_body(c), "{\"refused\":400}");
		AWAIT(&f, c->closed);
		http_client_free(c);
	}
	cr_assert_eq(f.handled, 0);
	stop();
}

/* What MHD refuses by itself: not our error form, but an answer or a close, and nobody is called. */
Test(http_server, garbage)
{
	static const char *const texts[] = {
		"\r\n\r\n\r\nGARBAGE\r\n\r\n",
		"GET /hello HTTP/9.9\r\nHost: t\r\n\r\n",
		"GET /hello\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999999999999999\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX",
		"GET /hello HTTP/1.1\r\nno colon here\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	};

	start();
	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		struct http_client *c = http_client_new(f.event, f.port);

		http_client_send(c, texts[i], strlen(texts[i]));
		shutdown(c->fd, SHUT_WR);
		AWAIT(&f, c->closed);
		cr_assert(c->status == 0 || c->status >= 400, "%zu: %d", i, c->status);
		http_client_free(c);
	}
	cr_assert_eq(f.handled, 0);
	expect("GET", "/hello", NULL, 200, "{}");
	stop();
}

Test(http_server, huge_headers)
{
	static const size_t sizes[] = { 1000, 30000, 40000, 70000, 1000000 };
	char *value = malloc(1000001);

	start();
	for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
		struct http_client *c = http_client_new(f.event, f.port);

		memset(value, 'x', sizes[i]);
		http_client_printf(c, "GET /hello HTTP/1.1\r\nHost: t\r\nX-Big: ");
		http_client_send(c, value, sizes[i]);
		http_client_printf(c, "\r\n\r\n");
		AWAIT_ANSWER(&f, c);
		cr_assert_eq(c->status, sizes[i] <= 30000 ? 200 : 431, "%zu: %d", sizes[i], c->status);
		http_client_free(c);
	}
	free(value);
	stop();
}

Test(http_server, too_many_connections)
{
	struct http_server_config config = { .connections_max = 4 };
	struct http_client *c[6];

	fixture_start(&f, &config);
	for (size_t i = 0; i < ELEMENTSOF(c); i++) {
		c[i] = http_client_new(f.event, f.port);
		http_client_request(c[i], "GET", "/hello", NULL);
		AWAIT_ANSWER(&f, c[i]);
		cr_assert_eq(c[i]->status, i < 4 ? 200 : 503);
		if (i >= 4)
			AWAIT(&f, c[i]->closed);
	}
	c[0] = http_client_free(c[0]);
	c[4] = http_client_free(c[4]);
	fixture_settle(&f);
	expect("GET", "/hello", NULL, 200, "{}");
	for (size_t i = 1; i < ELEMENTSOF(c); i++)
		http_client_free(c[i]);
	stop();
}

Test(http_server, too_many_of_one_address)
{
	struct http_server_config config = { .connections_max = 100, .connections_per_address_max = 2 };
	struct http_client *c[3];

	fixture_start(&f, &config);
	for (size_t i = 0; i < ELEMENTSOF(c); i++) {
		c[i] = http_client_new(f.event, f.port);
		http_client_request(c[i], "GET", "/hello", NULL);
		AWAIT_ANSWER(&f, c[i]);
		cr_assert_eq(c[i]->status, i < 2 ? 200 : 503);
	}
	for (size_t i = 0; i < ELEMENTSOF(c); i++)
		http_client_free(c[i]);
	stop();
}

Test(http_server, idle_clients_are_closed)
{
	struct http_server_config config = { .idle_timeout_sec = 1 };
	struct http_client *c[3];
	uint64_t before;

	fixture_start(&f, &config);
	before = fixture_now();
	for (size_t i = 0; i < ELEMENTSOF(c); i++)
		c[i] = http_client_new(f.event, f.port);
	http_client_printf(c[1], "GET /hel");
	http_client_request(c[2], "GET", "/hold", NULL);	/* is not idle: the server owes the answer */
	AWAIT(&f, c[0]->closed && c[1]->closed);
	cr_assert_lt(fixture_now() - before, 4000000);
	cr_assert(!c[2]->closed && f.held);
	cr_assert_eq(http_reply(f.held, 200, NULL, "x", 1), 0);
	AWAIT_ANSWER(&f, c[2]);
	cr_assert_eq(c[2]->status, 200);
	for (size_t i = 0; i < ELEMENTSOF(c); i++)
		http_client_free(c[i]);
	stop();
}

Test(http_server, a_client_that_leaves_is_noticed_at_once)
{
	start();
	for (int i = 0; i < 50; i++) {
		struct http_client *c = http_client_new(f.event, f.port);
		uint64_t before;

		http_client_request(c, "GET", "/hold", NULL);
		AWAIT(&f, f.held);
		before = fixture_now();
		http_client_free(c);
		AWAIT(&f, f.cancels == (unsigned int)i + 1);
		cr_assert_lt(fixture_now() - before, 100000);
		cr_assert_null(f.held);
		fixture_settle(&f);
		cr_assert_eq(f.cancels, (unsigned int)i + 1, "once");
	}
	stop();
}

/* The end of the connection may have come before the request that is suspended. */
Test(http_server, a_client_that_left_before_is_noticed)
{
	struct http_client *c;

	start();
	c = http_client_new(f.event, f.port);
	http_client_request(c, "GET", "/later", NULL);
	http_client_request(c, "GET", "/later", NULL);
	http_client_request(c, "GET", "/hold", NULL);
	while (c->out_sent < c->out.len)
		sd_event_run(f.event, 1000);
	http_client_free(c);
	AWAIT(&f, f.cancels == 1 || (f.handled == 0 && f.held == NULL && (fixture_settle(&f), true)));
	cr_assert_null(f.held);
	stop();
}

Test(http_server, without_a_cancel_callback_the_request_stays_valid)
{
	struct http_client *c;

	start();
	c = http_client_new(f.event, f.port);
	http_client_request(c, "GET", "/hold?silent", NULL);
	AWAIT(&f, f.held);
	http_client_free(c);
	fixture_settle(&f);
	cr_assert_str_eq(http_request_path(f.held), "/hold");
	cr_assert_null(http_request_header(f.held, "Host"));
	cr_assert_eq(http_reply(f.held, 200, NULL, "x", 1), -ECANCELED);

	c = http_client_new(f.event, f.port);
	http_client_request(c, "GET", "/hold?silent", NULL);
	f.held = NULL;
	AWAIT(&f, f.held);
	http_client_free(c);
	fixture_settle(&f);
	stop();
}

Test(http_server, answer_headers)
{
	struct http_client *c;

	start();
	c = http_client_new(f.event, f.port);
	http_client_request(c, "GET", "/hold", NULL);
	AWAIT(&f, f.held);
	cr_assert_eq(http_reply_header(f.held, "Retry-After", "5"), 0);
	cr_assert_eq(http_reply_header(f.held, "X-Bad", "a\r\nInjected: 1"), -EINVAL);
	cr_assert_eq(http_reply_header(f.held, "X\nBad", "a"), -EINVAL);
	cr_assert_eq(http_reply(f.held, 429, "application/json", "{}", 2), 0);
	AWAIT_ANSWER(&f, c);
	cr_assert_eq(c->status, 429);
	cr_assert_str_eq(http_client_header(c, "Retry-After"), "5");
	cr_assert_str_eq(http_client_header(c, "Content-Type"), "application/json");
	cr_assert_null(http_client_header(c, "Injected"));
	http_client_free(c);
	stop();
}

Test(http_server, stopping_cancels)
{
	struct http_client *c[4];

	start();
	for (size_t i = 0; i < ELEMENTSOF(c); i++)
		c[i] = http_client_new(f.event, f.port);
	http_client_request(c[0], "GET", "/hold", NULL);
	http_client_request(c[1], "GET", "/stream?n=1000000000", NULL);
	http_client_request(c[2], "PUT", "/upload", "Content-Length: 1000\r\n");
	http_client_printf(c[3], "GET /hel");
	http_client_pause(c[1], true);
	AWAIT(&f, f.held && f.streams && f.upload);
	fixture_settle(&f);
	f.server = http_server_free(f.server);
	cr_assert_eq(f.cancels, 3);
	AWAIT(&f, c[0]->closed && c[2]->closed && c[3]->closed);
	for (size_t i = 0; i < ELEMENTSOF(c); i++)
		http_client_free(c[i]);
	stop();
}

Test(http_server, bad_addresses)
{
	static const char *const bad[] = { "", "127.0.0.1", "localhost:80", "127.0.0.1:", "127.0.0.1:65536", "[::1:80",
					   "[]:80", "::1:80", "127.0.0.1:80x" };
	static const struct http_route none[] = { { 0 } };
	struct http_server_ops ops = { 0 };
	sd_event *event = NULL;

	cr_assert_geq(sd_event_new(&event), 0);
	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		const char *const listen[] = { bad[i], NULL };
		struct http_server_config config = { .listen = listen };
		struct http_server *s = NULL;

		cr_assert_eq(http_server_new(event, &config, none, &ops, NULL, &s), -EINVAL, "%s", bad[i]);
		cr_assert_null(s);
	}
	sd_event_unref(event);
	test_leaks();
}

/* Sockets of the service manager stay its own: also blocking ones, and they outlive the server. */
Test(http_server, adopted_sockets)
{
	static const struct http_route none[] = { { 0 } };
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct http_server_ops ops = { 0 };
	int fds[2] = { socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	struct http_server_config config = { .listen_fds = fds, .n_listen_fds = 1 };
	struct http_server *s = NULL;
	sd_event *event = NULL;

	cr_assert_geq(sd_event_new(&event), 0);
	cr_assert_eq(bind(fds[0], (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(http_server_new(event, &config, none, &ops, NULL, &s), -EINVAL, "does not listen yet");
	cr_assert_eq(listen(fds[0], 10), 0);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(http_server_new(event, &config, none, &ops, NULL, &s), 0);
		cr_assert_neq(http_server_port(s, 0), 0);
		s = http_server_free(s);
	}
	config.n_listen_fds = 2;	/* the second does not listen: the first must be undone */
	cr_assert_eq(http_server_new(event, &config, none, &ops, NULL, &s), -EINVAL);
	cr_assert_null(s);
	close(fds[0]);
	close(fds[1]);
	sd_event_unref(event);
	test_leaks();
}

Test(http_server, several_sockets)
{
	static const char *const listen_on[] = { "127.0.0.1:0", "[::1]:0", NULL };
	static const struct http_route none[] = { { 0 } };
	struct http_server_config config = { .listen = listen_on };
	struct http_server_ops ops = { 0 };
	struct http_server *s = NULL;
	sd_event *event = NULL;
	int r;

	cr_assert_geq(sd_event_new(&event), 0);
	r = http_server_new(event, &config, none, &ops, NULL, &s);
	if (r != -EADDRNOTAVAIL && r != -EAFNOSUPPORT) {	/* no IPv6 here */
		cr_assert_eq(r, 0);
		cr_assert_neq(http_server_port(s, 0), 0);
		cr_assert_neq(http_server_port(s, 1), 0);
		cr_assert_eq(http_server_port(s, 2), 0);
	}
	http_server_free(s);
	sd_event_unref(event);
	test_leaks();
}
