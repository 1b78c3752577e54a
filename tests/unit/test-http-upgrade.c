/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 101 over real connections: an echo that stalls on demand. The raw sockets here are the test's own, because what
 * follows a 101 is no HTTP.
 */
#include <netinet/in.h>
#include <sys/socket.h>

#include "util-test.h"
#include "../lib/http-fixture.h"

#define HELLO "GET /hold?silent HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
#define ANSWER "HTTP/1.1 101 Switching Protocols\r\n"

static struct fixture f;

struct echo {
	struct http_request *req;
	char held[16384];		/* taken, not yet written back */
	size_t held_len, held_at;
	bool stalled;			/* takes nothing */
	unsigned int ends, gone;
	uint64_t taken;
};

static void echo_push(struct echo *e)
{
	ssize_t n;

	if (e->held_at < e->held_len) {
		n = http_upgrade_write(e->req, e->held + e->held_at, e->held_len - e->held_at);
		if (n > 0)
			e->held_at += (size_t)n;
	}
	if (e->held_at == e->held_len && e->held_len > 0) {
		e->held_at = e->held_len = 0;
		http_upgrade_continue(e->req);
	}
}

static size_t echo_take(void *userdata, const void *data, size_t len)
{
	struct echo *e = userdata;

	if (e->stalled || e->held_len > 0)
		return 0;
	len = MIN_OF(len, sizeof(e->held));
	memcpy(e->held, data, len);
	e->held_len = len;
	e->taken += len;
	echo_push(e);
	return len;
}

static void echo_room(void *userdata)
{
	echo_push(userdata);
}

static void echo_end(void *userdata)
{
	struct echo *e = userdata;

	e->ends++;
	http_request_on_cancel(e->req, NULL, NULL);
	http_upgrade_end(TAKE_PTR(e->req));
}

static void echo_gone(void *userdata)
{
	struct echo *e = userdata;

	e->gone++;
	e->req = NULL;
}

static int dial(const char *text)
{
	struct sockaddr_in sa = {
		.sin_family = AF_INET, .sin_port = htons(f.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(send(fd, text, strlen(text), 0), (ssize_t)strlen(text));
	return fd;
}

static void upgrade(struct echo *e)
{
	static const struct http_upgrade_ops ops = { .take = echo_take, .room = echo_room, .end = echo_end };

	AWAIT(&f, f.held);
	*e = (struct echo){ .req = TAKE_PTR(f.held) };
	http_request_on_cancel(e->req, echo_gone, e);
	cr_assert_eq(http_reply_header(e->req, "X-Mine", "yes"), 0);
	cr_assert_eq(http_upgrade(e->req, "echo", &ops, e), 0);
	cr_assert_eq(http_upgrade(e->req, "echo", &ops, e), -EALREADY);
}

/* Exactly len bytes, running the loop meanwhile */
static void receive(int fd, void *ret, size_t len)
{
	uint64_t end = fixture_now() + 10000000;
	size_t have = 0;

	while (have < len) {
		ssize_t n = recv(fd, (char *)ret + have, len - have, MSG_DONTWAIT);

		cr_assert(n > 0 || (n < 0 && errno == EAGAIN), "%zu of %zu bytes, then %zd", have, len, n);
		have += n > 0 ? (size_t)n : 0;
		cr_assert_lt(fixture_now(), end, "still waiting for %zu of %zu bytes", len - have, len);
		sd_event_run(f.event, 1000);
	}
}

static void receive_head(int fd, char *ret, size_t size)
{
	size_t n = 0;

	while (n < 4 || memcmp(ret + n - 4, "\r\n\r\n", 4) != 0) {
		cr_assert_lt(n + 1, size);
		receive(fd, ret + n++, 1);
		ret[n] = '\0';
	}
}

Test(upgrade, both_ways, .timeout = 60)
{
	char head[512], text[8] = "";
	struct echo e;
	int fd;

	fixture_start(&f, NULL);
	/* The client does not wait for the answer */
	fd = dial(HELLO "early");
	upgrade(&e);
	receive_head(fd, head, sizeof(head));
	cr_assert_eq(memcmp(head, ANSWER, strlen(ANSWER)), 0, "%s", head);
	cr_assert_not_null(strstr(head, "\r\nUpgrade: echo\r\n"));
	cr_assert_not_null(strstr(head, "\r\nConnection: Upgrade\r\n"));
	cr_assert_not_null(strstr(head, "\r\nX-Mine: yes\r\n"));
	receive(fd, text, 5);
	cr_assert_str_eq(text, "early");
	cr_assert_eq(send(fd, "later", 5, 0), 5);
	receive(fd, text, 5);
	cr_assert_str_eq(text, "later");
	shutdown(fd, SHUT_WR);
	AWAIT(&f, e.ends);
	fixture_settle(&f);
	cr_assert_eq(recv(fd, text, 1, 0), 0, "a clean end");
	cr_assert_eq(e.gone, 0);
	close(fd);
	fixture_stop(&f);
	test_leaks();
}

/* What nobody takes is not read, and what nobody reads is not taken; nothing is lost over it. */
Test(upgrade, backpressure, .timeout = 120)
{
	enum { TOTAL = 20000000 };
	static char out[65536], in[65536];
	uint64_t sent = 0, got = 0, stuck = 0, before = 1;
	unsigned int pauses = 0;
	char head[512];
	struct echo e;
	int fd;

	fixture_start(&f, NULL);
	fd = dial(HELLO);
	upgrade(&e);
	receive_head(fd, head, sizeof(head));
	e.stalled = true;
	while (stuck < 200) {
		ssize_t n;

		http_pattern_fill(out, sizeof(out), sent);
		n = send(fd, out, sizeof(out), MSG_DONTWAIT);
		sent += n > 0 ? (uint64_t)n : 0;
		stuck = sent == before ? stuck + 1 : 0;
		before = sent;
		sd_event_run(f.event, 0);
	}
	cr_assert_eq(e.taken, 0);
	cr_assert_lt(sent, TOTAL);
	e.stalled = false;
	http_upgrade_continue(e.req);
	while (got < TOTAL) {
		size_t want = (size_t)MIN_OF((uint64_t)sizeof(out), TOTAL - sent);
		ssize_t n;

		http_pattern_fill(out, want, sent);
		n = want ? send(fd, out, want, MSG_DONTWAIT) : 0;
		sent += n > 0 ? (uint64_t)n : 0;
		/* Not at all for a while in the middle, so that the other side cannot write */
		n = got > TOTAL / 4 && pauses++ < 500 ? 0 : recv(fd, in, sizeof(in), MSG_DONTWAIT);
		if (n > 0)
			cr_assert(http_pattern_matches(in, (size_t)n, got), "at %llu", (unsigned long long)got);
		got += n > 0 ? (uint64_t)n : 0;
		sd_event_run(f.event, 0);
	}
	cr_assert_eq(got, TOTAL);
	close(fd);
	AWAIT(&f, e.gone || e.ends);
	fixture_stop(&f);
	test_leaks();
}

Test(upgrade, leaving, .timeout = 60)
{
	const struct linger now = { .l_onoff = 1 };
	struct echo e;
	char head[512];
	int fd;

	fixture_start(&f, NULL);
	/* A reset */
	fd = dial(HELLO);
	upgrade(&e);
	receive_head(fd, head, sizeof(head));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
	AWAIT(&f, e.gone);
	cr_assert_eq(e.ends, 0);
	/* Before it was answered */
	fd = dial(HELLO);
	AWAIT(&f, f.held);
	close(fd);
	fixture_settle(&f);
	upgrade(&e);
	AWAIT(&f, e.gone || e.ends);
	/* The handler ends at once */
	fd = dial(HELLO);
	upgrade(&e);
	http_request_on_cancel(e.req, NULL, NULL);
	http_upgrade_end(TAKE_PTR(e.req));
	receive_head(fd, head, sizeof(head));
	fixture_settle(&f);
	cr_assert_eq(recv(fd, head, 1, 0), 0);
	close(fd);
	/* The server goes first */
	fd = dial(HELLO);
	upgrade(&e);
	receive_head(fd, head, sizeof(head));
	fixture_stop(&f);
	cr_assert_eq(e.gone, 1);
	cr_assert_leq(recv(fd, head, 1, 0), 0);
	close(fd);
	test_leaks();
}

Test(upgrade, refused, .timeout = 30)
{
	static const struct http_upgrade_ops ops = { .take = echo_take, .room = echo_room, .end = echo_end };
	struct http_client *c;

	fixture_start(&f, NULL);
	c = http_client_new(f.event, f.port);
	http_client_request(c, "POST", "/streamecho", "Content-Length: 5\r\n");
	AWAIT(&f, f.held);
	cr_assert_eq(http_upgrade(f.held, "echo", &ops, NULL), -EINVAL, "it has a body");
	cr_assert_eq(http_reply(f.held, 200, NULL, "{}", 2), 0);
	http_client_printf(c, "hello");
	AWAIT_ANSWER(&f, c);
	http_client_free(c);
	fixture_stop(&f);
	test_leaks();
}
