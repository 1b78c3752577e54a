/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `bare-relay PORT` takes redirected connections to where they were going and looks at nothing: one thread, receive and send.
 * What a proxy costs that has no policy, no names, no audit, and no limits. A baseline for declaw-proxy, never a way out: it
 * takes for granted that what it has fits the other side's socket, and ends both ways when one ends.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define FIRST_MAX 4096

struct flow;

struct end {
	struct flow *flow;
	int fd;
	bool in, eof;
};

struct flow {
	struct end client, origin;	/* origin.fd -1: not dialled yet */
	bool connected, over;
	ssize_t n_first;		/* said before there was a connection */
	char first[FIRST_MAX];
	struct flow *next;		/* over */
};

static int epoll;
static struct flow *gone;

static bool watch(struct end *e, uint32_t events)
{
	struct epoll_event ev = { .events = events | EPOLLRDHUP | EPOLLET, .data.ptr = e };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, e->fd, &ev) == 0;
}

static void end_flow(struct flow *f)
{
	if (f->over)
		return;
	f->over = true;
	close(f->client.fd);
	if (f->origin.fd >= 0)
		close(f->origin.fd);
	f->next = gone;
	gone = f;
}

static void dial(struct flow *f)
{
	struct sockaddr_in dst;
	socklen_t len = sizeof(dst);
	int one = 1, zero = 0;

	f->n_first = recv(f->client.fd, f->first, sizeof(f->first), 0);
	if (f->n_first < 0 && errno == EAGAIN)
		return;
	if (f->n_first > 0 && getsockopt(f->client.fd, SOL_IP, SO_ORIGINAL_DST, &dst, &len) == 0)
		f->origin.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (f->origin.fd < 0) {
		end_flow(f);
		return;
	}
	setsockopt(f->origin.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(f->origin.fd, IPPROTO_TCP, TCP_QUICKACK, &zero, sizeof(zero));
	if ((connect(f->origin.fd, (struct sockaddr *)&dst, sizeof(dst)) < 0 && errno != EINPROGRESS) || !watch(&f->origin, EPOLLIN | EPOLLOUT))
		end_flow(f);
}

/* All that is there; who gave less than there was room for has no more. False: one of the two has failed. */
static bool move(struct end *from, struct end *to)
{
	static char data[256 << 10];
	ssize_t n = sizeof(data);

	while (from->in && !from->eof && n == sizeof(data)) {
		n = recv(from->fd, data, sizeof(data), 0);
		if (n < 0 && errno != EAGAIN)
			return false;
		for (ssize_t done = 0, k; done < n; done += k) {
			k = send(to->fd, data + done, (size_t)(n - done), MSG_NOSIGNAL);
			if (k < 0 && errno != EAGAIN)
				return false;
			k = k < 0 ? 0 : k;
		}
		from->eof = n == 0;
	}
	from->in = false;
	if (n == 0 && !to->eof)
		shutdown(to->fd, SHUT_WR);
	return true;
}

static void on_event(struct end *e, uint32_t events)
{
	struct flow *f = e->flow;

	if (f->over)
		return;
	if (f->origin.fd < 0) {
		dial(f);
		return;
	}
	e->in |= events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
	if (!f->connected) {
		if (e != &f->origin)
			return;
		if (!(events & EPOLLOUT) || send(e->fd, f->first, (size_t)f->n_first, MSG_NOSIGNAL) != f->n_first) {
			end_flow(f);
			return;
		}
		f->connected = true;
	}
	if (!move(&f->client, &f->origin) || !move(&f->origin, &f->client) || (f->client.eof && f->origin.eof))
		end_flow(f);
}

static void accept_all(int fd)
{
	struct flow *f;
	int conn;

	while ((conn = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		f = calloc(1, sizeof(*f));
		if (!f) {
			close(conn);
			continue;
		}
		f->client = (struct end){ .flow = f, .fd = conn };
		f->origin = (struct end){ .flow = f, .fd = -1 };
		if (!watch(&f->client, EPOLLIN))
			end_flow(f);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)(argc == 2 ? atoi(argv[1]) : 0)) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct end listener = { .fd = fd };
	struct epoll_event e[EVENTS];

	signal(SIGPIPE, SIG_IGN);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (argc != 2 || epoll < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 4096) < 0 || !watch(&listener, EPOLLIN)) {
		fprintf(stderr, "bare-relay PORT: %s\n", strerror(errno));
		return 2;
	}
	for (;;) {
		int n = epoll_wait(epoll, e, EVENTS, -1);

		for (int i = 0; i < n; i++)
			if (e[i].data.ptr == &listener)
				accept_all(fd);
			else
				on_event(e[i].data.ptr, e[i].events);
		for (struct flow *f; (f = gone); free(f))
			gone = f->next;
	}
}
