/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pumps and sinks; see pump.h.
 *
 * A sink exists so that a background process whose output nobody wants any more neither blocks nor dies of
 * SIGPIPE. Sinks are level-triggered and read one buffer a turn: a chatty orphan costs its own time only.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent.h"
#include "pump.h"

#define SINKS_MAX 1024u

struct sink {
	struct list link;
	struct agent *agent;
	struct source source;
	int fd;
};

static void sink_free(struct sink *k)
{
	loop_remove(&k->agent->loop, &k->source);
	fd_close(k->fd);
	list_unlink(&k->link);
	k->agent->nsinks--;
	free(k);
}

static void sink_event(struct source *s, _unused_ uint32_t events)
{
	static uint8_t nowhere[65536];
	struct sink *k = container_of(s, struct sink, source);
	ssize_t n = read(k->fd, nowhere, sizeof(nowhere));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		sink_free(k);
}

void sink_start(struct agent *a, int fd)
{
	struct sink *k = a->nsinks < SINKS_MAX ? calloc(1, sizeof(*k)) : NULL;

	if (!k) {
		fd_close(fd);
		return;
	}
	k->agent = a;
	k->fd = fd;
	k->source.fd = -1;
	list_append(&a->sinks, &k->link);
	a->nsinks++;
	if (loop_add(&a->loop, &k->source, fd, EPOLLIN, sink_event) < 0)
		sink_free(k);
}

void sinks_free(struct agent *a)
{
	struct sink *k;

	while ((k = list_first(&a->sinks, struct sink, link)))
		sink_free(k);
}

/* --- descriptor to host --- */

static void outpump_end(struct outpump *p, bool keep_draining)
{
	struct stream *s = TAKE_PTR(p->stream);

	p->done = true;
	loop_remove(&p->agent->loop, &p->source);
	if (keep_draining && p->fd >= 0)
		sink_start(p->agent, TAKE_FD(p->fd));
	p->fd = fd_close(p->fd);
	if (s)
		stream_finish(s);
	if (p->ended)
		p->ended(p);
}

void outpump_run(struct outpump *p)
{
	while (!p->done && p->fd >= 0) {
		struct iovec iov[2];
		int n = stream_room(p->stream, iov);
		ssize_t got;

		if (n == 0)
			return;		/* the stream kicks */
		got = readv(p->fd, iov, n);
		if (got > 0) {
			stream_produced(p->stream, (size_t)got);
		} else if (got < 0 && errno == EINTR) {
			continue;
		} else if (got < 0 && errno == EAGAIN) {
			if (p->leave)
				outpump_end(p, true);
			return;
		} else {
			outpump_end(p, false);	/* the end; EIO is a PTY's */
			return;
		}
	}
}

static void outpump_event(struct source *s, _unused_ uint32_t events)
{
	outpump_run(container_of(s, struct outpump, source));
}

static void outpump_kick(void *owner)
{
	outpump_run(owner);
}

static void outpump_gone(void *owner, _unused_ int error)
{
	struct outpump *p = owner;

	p->stream = NULL;
	outpump_end(p, !p->socket);
}

void outpump_leave(struct outpump *p)
{
	if (p->done)
		return;
	p->leave = true;
	outpump_run(p);
}

int outpump_open(struct outpump *p, struct agent *a, size_t window, uint32_t id)
{
	static const struct stream_ops ops = { .kick = outpump_kick, .gone = outpump_gone };
	int r;

	p->agent = a;
	p->fd = p->source.fd = -1;
	r = stream_open(a, id, STREAM_OUT, window, &ops, p, &p->stream);
	p->done = r < 0;
	return r;
}

int outpump_attach(struct outpump *p, int fd)
{
	int r;

	p->fd = fd;
	r = loop_add(&p->agent->loop, &p->source, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, outpump_event);
	if (r < 0)
		outpump_stop(p, 0);
	return r;
}

int outpump_start(struct outpump *p, struct agent *a, int fd, size_t window, uint32_t id)
{
	int r = outpump_open(p, a, window, id);

	if (r < 0) {
		fd_close(fd);
		return r;
	}
	return outpump_attach(p, fd);
}

void outpump_stop(struct outpump *p, int error)
{
	struct stream *s = TAKE_PTR(p->stream);

	if (!p->agent)
		return;		/* never started */
	p->done = true;
	loop_remove(&p->agent->loop, &p->source);
	p->fd = fd_close(p->fd);
	if (s && error)
		stream_reset(s, error);
	else if (s)
		stream_drop(s);
}

/* --- host to descriptor --- */

static void inpump_end(struct inpump *p, int error)
{
	struct stream *s = TAKE_PTR(p->stream);

	p->done = true;
	loop_remove(&p->agent->loop, &p->source);
	if (p->socket && error == 0)
		shutdown(p->fd, SHUT_WR);
	p->fd = fd_close(p->fd);
	if (s && error)
		stream_reset(s, error);
	else if (s)
		stream_close(s);
	if (p->ended)
		p->ended(p, error);
}

static void inpump_run(struct inpump *p)
{
	while (!p->done && p->fd >= 0) {
		struct iovec iov[2];
		int n = stream_peek(p->stream, iov);
		ssize_t put;

		if (n == 0) {
			if (stream_at_end(p->stream))
				inpump_end(p, 0);
			return;
		}
		put = writev(p->fd, iov, n);
		if (put >= 0)
			stream_consumed(p->stream, (size_t)put);
		else if (errno == EAGAIN)
			return;
		else if (errno != EINTR)
			inpump_end(p, errno);
	}
}

static void inpump_event(struct source *s, uint32_t events)
{
	struct inpump *p = container_of(s, struct inpump, source);

	inpump_run(p);
	/* Nobody reads any more: tell the host now, not at its next byte. */
	if (!p->done && (events & EPOLLERR))
		inpump_end(p, EPIPE);
}

static void inpump_kick(void *owner)
{
	inpump_run(owner);
}

/* Bytes for an idle descriptor need no stay in the ring. */
static size_t inpump_take(void *owner, const uint8_t *data, size_t len)
{
	struct inpump *p = owner;
	ssize_t n = write(p->fd, data, len);

	return n > 0 ? (size_t)n : 0;	/* an error comes again, in inpump_run() */
}

static void inpump_gone(void *owner, _unused_ int error)
{
	struct inpump *p = owner;

	p->stream = NULL;
	inpump_end(p, ECANCELED);
}

int inpump_open(struct inpump *p, struct agent *a, size_t window, uint32_t id)
{
	static const struct stream_ops ops = { .kick = inpump_kick, .gone = inpump_gone, .take = inpump_take };
	int r;

	p->agent = a;
	p->fd = p->source.fd = -1;
	r = stream_open(a, id, STREAM_IN, window, &ops, p, &p->stream);
	p->done = r < 0;
	return r;
}

int inpump_attach(struct inpump *p, int fd)
{
	int r;

	p->fd = fd;
	r = loop_add(&p->agent->loop, &p->source, fd, EPOLLOUT | EPOLLET, inpump_event);
	if (r < 0)
		inpump_stop(p, 0);
	return r;
}

int inpump_start(struct inpump *p, struct agent *a, int fd, size_t window, uint32_t id)
{
	int r = inpump_open(p, a, window, id);

	if (r < 0) {
		fd_close(fd);
		return r;
	}
	return inpump_attach(p, fd);
}

void inpump_stop(struct inpump *p, int error)
{
	struct stream *s = TAKE_PTR(p->stream);

	if (!p->agent)
		return;
	p->done = true;
	loop_remove(&p->agent->loop, &p->source);
	p->fd = fd_close(p->fd);
	if (s && error)
		stream_reset(s, error);
	else if (s)
		stream_drop(s);
}
