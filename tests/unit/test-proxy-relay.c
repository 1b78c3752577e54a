/* SPDX-License-Identifier: GPL-2.0-or-later */
/* proxy/relay: what a flow that was judged keeps in memory while it talks, waits, and uploads. */
#include <criterion/criterion.h>
#include <fcntl.h>
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

/* As flow_over() */
static void over(struct pair *p)
{
	p->flow.guest.fd = fd_close(p->flow.guest.fd);
	p->flow.server.fd = fd_close(p->flow.server.fd);
}

static void teardown(struct pair *p)
{
	close(p->client);
	close(p->origin);
	over(p);
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

/* What is more than short goes through a larger pipe, as long as not too many have one, and it is given back */
Test(relay, a_larger_pipe_for_a_few)
{
	enum { N = LARGE_PER_SANDBOX + 2 };
	static char data[100000];
	static struct pair p[N];
	struct worker_sandbox ws = { .n = N };
	struct chan_sandbox sb = { .userdata = &ws };
	struct proxy proxy = { .n_flows = N, .prefork = { .n = 1 } };

	list_init(&proxy.over);
	for (int i = 0; i < N; i++) {
		setup(&p[i], false);
		p[i].flow.sandbox = &sb;
		p[i].flow.proxy = &proxy;
		cr_assert_eq(send(p[i].origin, data, sizeof(data), 0), (ssize_t)sizeof(data));
		cr_assert(again(&p[i]));
		cr_assert_eq(p[i].flow.down.large, i < (int)LARGE_PER_SANDBOX, "flow %d", i);
		cr_assert_eq(fcntl(p[i].flow.down.fd[0], F_GETPIPE_SZ), p[i].flow.down.large ? (int)RELAY_PIPE : 65536, "flow %d", i);
	}
	cr_assert_eq(ws.n_large, LARGE_PER_SANDBOX);
	cr_assert_eq(proxy.n_large, LARGE_PER_SANDBOX);
	for (int i = 0; i < N; i++) {
		struct flow *f = calloc(1, sizeof(*f));

		*f = p[i].flow;	/* it is freed */
		list_init(&f->link);
		list_init(&f->sandbox_link);
		flow_cut(f);
		flows_sweep(&proxy);
		close(p[i].client);
		close(p[i].origin);
	}
	cr_assert_eq(ws.n_large + proxy.n_large + ws.n + proxy.n_flows, 0);
}

/* --- nothing is lost, repeated, or waited for in vain: only what epoll tells makes it go on --- */

struct side {
	int fd;
	uint64_t sent, got, total;
	unsigned int seed;
	bool shut, eof;
};

/* Bytes that are different at every place, for either direction */
static char byte_at(uint64_t i, uint64_t way)
{
	return (char)((i * 2654435761u + way) >> 11);
}

/* Writes and reads something of random size, or nothing. False: it has done and seen everything. */
static bool side_turn(struct side *s, uint64_t way)
{
	static const size_t sizes[] = { 1, 100, 8191, 8192, 8193, 65536, 300000 };
	static char data[300000];
	size_t n = sizes[(size_t)rand_r(&s->seed) % ELEMENTSOF(sizes)];
	ssize_t r;

	n = MIN_OF(n, s->total - s->sent);
	if (n > 0 && rand_r(&s->seed) % 3) {
		for (size_t i = 0; i < n; i++)
			data[i] = byte_at(s->sent + i, way);
		r = send(s->fd, data, n, MSG_NOSIGNAL);
		s->sent += r > 0 ? (uint64_t)r : 0;
	} else if (s->sent == s->total && !s->shut) {
		s->shut = shutdown(s->fd, SHUT_WR) == 0;
	}
	if (rand_r(&s->seed) % 3) {
		r = recv(s->fd, data, sizes[(size_t)rand_r(&s->seed) % ELEMENTSOF(sizes)], 0);
		s->eof = s->eof || r == 0;
		for (ssize_t i = 0; i < r; i++)
			cr_assert_eq(data[i], byte_at(s->got + (uint64_t)i, !way), "byte %llu of way %d",
				     (unsigned long long)s->got + (unsigned long long)i, (int)!way);
		s->got += r > 0 ? (uint64_t)r : 0;
	}
	return !s->eof || !s->shut;
}

static void exchange(unsigned int seed)
{
	struct epoll_event e[4];
	struct side client, origin;
	bool busy = true, relayed = true;
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	unsigned int idle = 0;
	const int small = 4096;
	struct pair p;

	setup(&p, false);
	/* so that what is sent is taken in part */
	cr_assert_eq(setsockopt(p.flow.guest.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	cr_assert_eq(setsockopt(p.flow.server.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	/* as an accepted one, or as a dialled one */
	p.proxy.epoll = epoll;
	cr_assert_eq((seed % 2 ? relay_watch_in : relay_watch)(epoll, &p.flow.guest), 0);
	cr_assert_eq(relay_watch(epoll, &p.flow.server), 0);
	client = (struct side){ .fd = p.client, .seed = seed, .total = 1 + seed % 7 * 250000 };
	origin = (struct side){ .fd = p.origin, .seed = seed * 7, .total = 1 + seed % 5 * 400000 };
	while (busy) {
		uint64_t before = client.sent + client.got + origin.sent + origin.got;
		bool more = side_turn(&client, 0);
		int n;

		busy = side_turn(&origin, 1) || more;
		n = relayed ? epoll_wait(epoll, e, ELEMENTSOF(e), 0) : 0;
		for (int i = 0; i < n; i++) {
			struct flow_end *end = e[i].data.ptr;

			end->in |= (e[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) != 0;
			end->out |= (e[i].events & (EPOLLOUT | EPOLLHUP)) != 0;
			end->ending |= (e[i].events & (EPOLLRDHUP | EPOLLHUP)) != 0;
			if (relayed && !relay(&p.flow)) {
				cr_assert_not(p.flow.broken);
				relayed = false;
				over(&p);
			}
		}
		idle = n > 0 || before != client.sent + client.got + origin.sent + origin.got ? 0 : idle + 1;
		cr_assert_lt(idle, 1000, "seed %u hangs: %llu of %llu up, %llu of %llu down", seed,
			     (unsigned long long)origin.got, (unsigned long long)client.total,
			     (unsigned long long)client.got, (unsigned long long)origin.total);
	}
	cr_assert_not(relayed, "both ways ended, the flow did not");
	cr_assert_eq(origin.got, client.total);
	cr_assert_eq(client.got, origin.total);
	close(epoll);
	teardown(&p);
}

Test(relay, every_byte_both_ways)
{
	for (unsigned int seed = 1; seed <= 60; seed++)
		exchange(seed);
}

static bool ended(int fd)
{
	char c;

	return recv(fd, &c, 1, 0) == 0;
}

/* Whoever ends first is told on; the other one hears of the end when the flow is closed, which follows at once */
static void ends(bool client_first)
{
	struct pair p;
	char got[8];
	int first, second;

	setup(&p, false);
	first = client_first ? p.client : p.origin;
	second = client_first ? p.origin : p.client;
	cr_assert_eq(shutdown(first, SHUT_WR), 0);
	cr_assert(again(&p), "one way is open");
	cr_assert(ended(second));
	cr_assert_not(ended(first));
	cr_assert_eq(send(second, "late", 4, 0), 4);
	cr_assert_eq(shutdown(second, SHUT_WR), 0);
	p.flow.guest.ending = p.flow.server.ending = true;
	cr_assert_not(again(&p), "both ways are through");
	cr_assert_not(p.flow.broken);
	cr_assert(p.flow.guest.shut && p.flow.server.shut);
	over(&p);
	cr_assert_eq(recv(first, got, sizeof(got), 0), 4);
	cr_assert(ended(first));
	teardown(&p);
}

Test(relay, the_last_end_is_closed)
{
	ends(true);
	ends(false);
}
