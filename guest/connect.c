/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CONNECT: a TCP connection to a server inside the guest, as two streams. 127.0.0.1 is tried first, then
 * ::1, as servers listen on either. The connection ends when both directions have ended.
 *
 * The streams exist from the request on: the host may send before it knows whether there is a server.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "agent.h"
#include "file.h"
#include "pump.h"

#define CONNECT_WINDOW (256u * 1024)

struct conn {
	struct job job;
	struct agent *agent;
	struct request *request;	/* NULL once answered */
	struct source source;		/* while connecting */
	int fd;
	bool v6;
	uint16_t port;
	uint32_t in_id, out_id;
	struct inpump in;
	struct outpump out;
};

static void conn_free(struct conn *c)
{
	loop_remove(&c->agent->loop, &c->source);
	inpump_stop(&c->in, EPIPE);
	outpump_stop(&c->out, ECONNRESET);
	fd_close(c->fd);
	list_unlink(&c->job.link);
	free(c);
}

static void conn_stop(struct job *j)
{
	conn_free(container_of(j, struct conn, job));
}

static void conn_fail(struct conn *c, int error)
{
	request_fail(TAKE_PTR(c->request), -error, "port %u: %s", c->port, strerror(-error));
	/* A failed request has no streams */
	inpump_stop(&c->in, 0);
	outpump_stop(&c->out, 0);
	conn_free(c);
}

static void conn_check(struct conn *c)
{
	if (!c->in.done || !c->out.done)
		return;
	if (c->request)
		conn_fail(c, -ECANCELED);	/* both were reset before there was a connection */
	else
		conn_free(c);
}

static void conn_in_ended(struct inpump *p, int error)
{
	struct conn *c = container_of(p, struct conn, in);

	/* Not the end of the input but of the interest in it: the server may as well know. */
	if (error && !c->out.done && c->out.fd >= 0)
		shutdown(c->out.fd, error == ECANCELED ? SHUT_RDWR : SHUT_WR);
	conn_check(c);
}

static void conn_out_ended(struct outpump *p)
{
	conn_check(container_of(p, struct conn, out));
}

static int conn_streams(struct conn *c)
{
	int dup = c->in.done ? -1 : fcntl(c->fd, F_DUPFD_CLOEXEC, 3);
	int r;

	if (!c->in.done && dup < 0)
		return -errno;
	r = c->in.done ? 0 : inpump_attach(&c->in, dup);
	if (r == 0 && !c->out.done)
		r = outpump_attach(&c->out, TAKE_FD(c->fd));
	c->fd = fd_close(c->fd);
	return r;
}

static int conn_open(struct conn *c)
{
	int r;

	c->in.socket = c->out.socket = true;
	r = inpump_open(&c->in, c->agent, CONNECT_WINDOW, c->in_id);
	if (r == 0)
		r = outpump_open(&c->out, c->agent, CONNECT_WINDOW, c->out_id);
	c->in.ended = conn_in_ended;
	c->out.ended = conn_out_ended;
	return r;
}

static int conn_try(struct conn *c);

static void conn_event(struct source *s, _unused_ uint32_t events)
{
	struct conn *c = container_of(s, struct conn, source);
	int error = 0;
	socklen_t len = sizeof(error);

	loop_remove(&c->agent->loop, &c->source);
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error && !c->v6) {
		c->v6 = true;
		c->fd = fd_close(c->fd);
		/* no IPv6 at all: what the first one said is the better answer */
		if (conn_try(c) < 0)
			conn_fail(c, -error);
		return;
	}
	error = error ? -error : conn_streams(c);
	if (error < 0) {
		conn_fail(c, error);
		return;
	}
	request_done(TAKE_PTR(c->request), NULL);
}

/* Always completes in conn_event(), also when it is refused at once. */
static int conn_try(struct conn *c)
{
	struct sockaddr_in sin = {
		.sin_family = AF_INET, .sin_port = htons(c->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct sockaddr_in6 sin6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(c->port), .sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};
	const struct sockaddr *sa = c->v6 ? (struct sockaddr *)&sin6 : (struct sockaddr *)&sin;
	int one = 1;

	c->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, sa, c->v6 ? sizeof(sin6) : sizeof(sin)) < 0 && errno != EINPROGRESS) {
		int error = -errno;

		if (c->v6)
			return error;
		/* Refused at once; go on with ::1. */
		c->v6 = true;
		c->fd = fd_close(c->fd);
		return conn_try(c) < 0 ? error : 0;
	}
	return loop_add(&c->agent->loop, &c->source, c->fd, EPOLLOUT, conn_event);
}

void op_connect(struct request *r, const struct args *g)
{
	struct conn *c;
	int error;

	if (g->port == 0 || g->port > UINT16_MAX || !g->in || !g->out || g->in == g->out) {
		request_fail(r, EINVAL, "port %u, streams %u and %u", g->port, g->in, g->out);
		return;
	}
	if (stream_find(r->agent, g->in) || stream_find(r->agent, g->out)) {
		request_fail(r, EEXIST, "streams %u and %u", g->in, g->out);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		request_fail(r, ENOMEM, "no memory");
		return;
	}
	c->agent = r->agent;
	c->request = r;
	c->source.fd = c->fd = -1;
	c->port = (uint16_t)g->port;
	c->in_id = g->in;
	c->out_id = g->out;
	c->job.stop = conn_stop;
	list_append(&r->agent->jobs, &c->job.link);
	error = conn_open(c);
	if (error == 0)
		error = conn_try(c);
	if (error < 0)
		conn_fail(c, error);
}
