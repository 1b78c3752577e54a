/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was judged first goes out of the flow's buffer; then bytes go from socket to pipe to socket without ever being
 * copied here. Requests of an HTTP connection stay with the parser: they go through the buffer all along.
 *
 * Something short, as most requests and many answers are, is received and sent instead: that is two system calls, where
 * splicing takes three and the making of a pipe. Whoever fills the buffer is spliced.
 */
#include "proxy/relay.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SPLICE_MAX RELAY_PIPE
#define SHORT_MAX 8192u	/* any pipe holds as much, also those of a user who has many */

#define WATCH_IN (EPOLLIN | EPOLLRDHUP | EPOLLET)

static int watch(int epoll, int how, struct flow_end *end, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = end };

	return epoll_ctl(epoll, how, end->fd, &e) < 0 ? -errno : 0;
}

int relay_watch(int epoll, struct flow_end *end)
{
	return watch(epoll, EPOLL_CTL_ADD, end, WATCH_IN | EPOLLOUT);
}

int relay_watch_in(int epoll, struct flow_end *end)
{
	end->quiet = end->out = true;
	return watch(epoll, EPOLL_CTL_ADD, end, WATCH_IN);
}

/* It could not be written to; epoll tells when it can, also when that is so by now */
static bool full(struct flow_end *end)
{
	end->out = false;
	if (!end->quiet)
		return true;
	end->quiet = false;
	return watch(end->flow->proxy->epoll, EPOLL_CTL_MOD, end, WATCH_IN | EPOLLOUT) == 0;
}

static bool broke(struct flow *f)
{
	f->broken = true;
	return false;
}

/* What was said to the end both ways is closed next, which says the same */
static void shut(struct flow_end *e)
{
	const struct flow_end *other = e == &e->flow->guest ? &e->flow->server : &e->flow->guest;

	if (!e->shut && !other->shut)
		shutdown(e->fd, SHUT_WR);
	e->shut = true;
}

/* The buffer's judged part to the server */
static bool flush(struct flow *f)
{
	while (f->start < f->judged && f->server.out) {
		ssize_t n = send(f->server.fd, f->buf + f->start, f->judged - f->start, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (!full(&f->server))
				return broke(f);
			break;
		}
		if (n < 0)
			return broke(f);
		f->start += (size_t)n;
	}
	return true;
}

static void compact(struct flow *f)
{
	if (f->start == 0)
		return;
	memmove(f->buf, f->buf + f->start, f->len - f->start);
	f->len -= f->start;
	f->judged -= f->start;
	f->parsed -= f->start;
	f->start = 0;
}

/* The answer to an upgrade says which protocol goes on: 101 and everything is the server's, else requests again. */
static bool upgraded(struct flow *f)
{
	char head[13] = "";
	ssize_t n;

	if (!f->server.in)
		return true;
	n = recv(f->server.fd, head, 12, MSG_PEEK);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? true : broke(f);
	if (n < 12 && n > 0)
		return true;	/* more is coming, and an edge with it */
	f->upgrading = false;
	f->raw = n == 12 && strncmp(head, "HTTP/1.", 7) == 0 && strncmp(head + 8, " 101", 4) == 0;
	if (f->raw)
		f->judged = f->parsed = f->len;
	return f->raw || flow_http(f);
}

/* Requests: through the buffer */
static bool up_http(struct flow *f)
{
	for (;;) {
		ssize_t n;

		if (f->upgrading && !upgraded(f))
			return false;
		if (!flush(f))
			return false;
		compact(f);
		if (f->raw || f->upgrading || !f->guest.in || f->guest.eof || f->len == RELAY_BUF_MAX)
			break;
		if (!flow_room(f))
			return broke(f);
		n = recv(f->guest.fd, f->buf + f->len, f->size - f->len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			f->guest.in = false;
			break;
		}
		if (n < 0)
			return broke(f);
		f->guest.eof = n == 0;
		f->len += (size_t)n;
		/* who fills it gets a larger one, so that an upload does not go in small pieces */
		flow_room(f);
		if (!flow_http(f))
			return false;
	}
	if (f->guest.eof && f->start == f->judged)
		shut(&f->server);
	return true;
}

/* What could not be sent waits in the pipe, as everything does that was spliced */
static bool put_aside(struct flow_pipe *p, const char *data, size_t n)
{
	if (p->fd[0] < 0 && pipe2(p->fd, O_NONBLOCK | O_CLOEXEC) < 0)
		return false;
	p->n = n;
	return write(p->fd[1], data, n) == (ssize_t)n;
}

/* Only with an empty pipe. False: an end failed. */
static bool pump_short(struct flow_end *from, struct flow_end *to, struct flow_pipe *p)
{
	char data[SHORT_MAX];
	ssize_t n, sent;

	n = recv(from->fd, data, sizeof(data), 0);
	if (n < 0) {
		if (errno == EAGAIN)
			from->in = false;
		return errno == EAGAIN || errno == EINTR;
	}
	if (n == 0) {
		from->eof = true;
		return true;
	}
	p->bulk = n == (ssize_t)sizeof(data);
	/* there was no more; what comes now is told, but for an end that was told already */
	if (!p->bulk && !from->ending)
		from->in = false;
	do
		sent = send(to->fd, data, (size_t)n, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno != EAGAIN)
		return false;
	if (sent == n)
		return true;
	if (!full(to))
		return false;
	sent = sent < 0 ? 0 : sent;
	return put_aside(p, data + sent, (size_t)(n - sent));
}

/* True: something was moved. Errors are in f->broken. */
static bool pump_splice(struct flow *f, struct flow_end *from, struct flow_end *to, struct flow_pipe *p)
{
	bool moved = false;
	ssize_t n;

	if (p->fd[0] < 0 && pipe2(p->fd, O_NONBLOCK | O_CLOEXEC) < 0)
		return broke(f);
	if (!p->asked)
		flow_large(f, p);
	if (from->in && !from->eof && p->n < SPLICE_MAX) {
		n = splice(from->fd, NULL, p->fd[1], NULL, SPLICE_MAX, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n > 0) {
			p->n += (size_t)n;
			moved = true;
		} else if (n == 0) {
			from->eof = true;
		} else if (errno == EAGAIN) {
			/* full pipe or empty socket: only the latter will be told again */
			from->in = p->n > 0;
			p->bulk = p->n > 0;
		} else if (errno != EINTR) {
			return broke(f);
		}
	}
	if (p->n > 0 && to->out) {
		n = splice(p->fd[0], NULL, to->fd, NULL, p->n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n > 0) {
			p->n -= (size_t)n;
			moved = true;
		} else if (n < 0 && errno == EAGAIN) {
			if (!full(to))
				return broke(f);
		} else if (n < 0 && errno != EINTR) {
			return broke(f);
		}
	}
	return moved;
}

/* One way from socket to socket. eof of the source ends the other side when the pipe is empty. */
static bool pump(struct flow *f, struct flow_end *from, struct flow_end *to, struct flow_pipe *p)
{
	for (;;) {
		if (p->n > 0 || p->bulk) {
			if (!pump_splice(f, from, to, p))
				break;
		} else {
			if (!from->in || from->eof || !to->out)
				break;
			if (!pump_short(from, to, p))
				return broke(f);
		}
	}
	if (f->broken)
		return false;
	if (from->eof && p->n == 0)
		shut(to);
	return true;
}

bool relay(struct flow *f)
{
	if (f->http && !f->raw) {
		if (!up_http(f))
			return false;
	}
	if (!f->http || f->raw) {
		if (!flush(f))
			return false;
		if (f->start == f->judged && !pump(f, &f->guest, &f->server, &f->up))
			return false;
	}
	/* nobody who waits holds one */
	if (f->buf && f->start == f->len) {
		free(f->buf);
		f->buf = NULL;
		f->start = f->judged = f->parsed = f->len = f->size = 0;
	}
	if (!f->upgrading && !pump(f, &f->server, &f->guest, &f->down))
		return false;
	return !(f->guest.shut && f->server.shut);
}
