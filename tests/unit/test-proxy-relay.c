/* SPDX-License-Identifier: GPL-2.0-or-later */
/* proxy/relay: what a flow that was judged keeps in memory while it talks, waits, and uploads. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/relay.h"

#define HEAD "GET / HTTP/1.1\r\nHost: good.example.com\r\n\r\n"

struct pair {
	struct flow flow;
	struct proxy proxy;
	int client, origin;
};

static void setup(struct pair *p, bool http)
{
	int guest[2], server[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, guest), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, server), 0);
	memset(p, 0, sizeof(*p));
	p->client = guest[0];
	p->origin = server[0];
	p->flow.phase = FLOW_RELAY;
	p->flow.proxy = &p->proxy;
	p->flow.guest = (struct flow_end){ .flow = &p->flow, .fd = guest[1], .in = true, .out = true };
	p->flow.server = (struct flow_end){ .flow = &p->flow, .fd = server[1], .in = true, .out = true };
	p->flow.up = p->flow.down = (struct flow_pipe){ .fd = { -EBADF, -EBADF } };
	snprintf(p->flow.name, sizeof(p->flow.name), "good.example.com");
	if (http)
		p->flow.http = request_parser_new();
}

static void teardown(struct pair *p)
{
	close(p->client);
	close(p->origin);
	close(p->flow.guest.fd);
	close(p->flow.server.fd);
	for (int i = 0; i < 2; i++) {
		fd_close(p->flow.up.fd[i]);
		fd_close(p->flow.down.fd[i]);
	}
	request_parser_free(p->flow.http);
	free(p->flow.buf);
}

static bool again(struct pair *p)
{
	p->flow.guest.in = p->flow.guest.out = p->flow.server.in = p->flow.server.out = true;
	return relay(&p->flow);
}

Test(relay, nobody_who_waits_holds_a_buffer)
{
	char got[4096];
	struct pair p;

	setup(&p, true);
	cr_assert(again(&p));
	cr_assert_null(p.flow.buf, "nothing was said so far");
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(send(p.client, HEAD, strlen(HEAD), 0), (ssize_t)strlen(HEAD));
		cr_assert(again(&p));
		cr_assert_eq(recv(p.origin, got, sizeof(got), 0), (ssize_t)strlen(HEAD), "request %d", i);
		cr_assert_null(p.flow.buf, "after request %d", i);
		cr_assert_eq(p.flow.size, 0);
	}
	teardown(&p);
}

Test(relay, half_a_head_is_kept_and_no_more)
{
	char got[4096];
	struct pair p;

	setup(&p, true);
	cr_assert_eq(send(p.client, HEAD, 20, 0), 20);
	cr_assert(again(&p));
	cr_assert_eq(recv(p.origin, got, sizeof(got), 0), -1, "not judged");
	cr_assert_eq(p.flow.len, 20);
	cr_assert_leq(p.flow.size, 4096, "%zu", p.flow.size);
	cr_assert_eq(send(p.client, &HEAD[20], strlen(HEAD) - 20, 0), (ssize_t)strlen(HEAD) - 20);
	cr_assert(again(&p));
	cr_assert_eq(recv(p.origin, got, sizeof(got), 0), (ssize_t)strlen(HEAD));
	cr_assert_null(p.flow.buf);
	teardown(&p);
}

/* An upload that the server does not take is kept back in a buffer of bounded size, byte for byte */
Test(relay, an_upload_fills_what_is_allowed)
{
	enum { BODY = 1 << 20 };
	static char body[BODY], got[BODY];
	char head[128];
	size_t sent = 0, have = 0, most = 0;
	struct pair p;
	int n = snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nHost: good.example.com\r\nContent-Length: %d\r\n\r\n", BODY);

	setup(&p, true);
	for (size_t i = 0; i < BODY; i++)
		body[i] = (char)(i * 31 >> 3);
	cr_assert_eq(send(p.client, head, (size_t)n, 0), n);
	cr_assert(again(&p));
	cr_assert_eq(recv(p.origin, got, sizeof(got), 0), n);
	while (have < BODY) {
		ssize_t r = sent < BODY ? send(p.client, body + sent, BODY - sent, 0) : -1;

		sent += r > 0 ? (size_t)r : 0;
		cr_assert(again(&p));
		most = MAX_OF(most, p.flow.size);
		cr_assert_leq(p.flow.size, RELAY_BUF_MAX);
		r = recv(p.origin, got + have, 50000, 0);
		have += r > 0 ? (size_t)r : 0;
	}
	cr_assert_eq(memcmp(body, got, BODY), 0);
	cr_assert_eq(most, RELAY_BUF_MAX, "it went in small pieces: %zu", most);
	cr_assert(again(&p));
	cr_assert_null(p.flow.buf);
	teardown(&p);
}
