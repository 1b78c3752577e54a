/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines over a stream socket. See line.h. */
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "chan/line.h"

#define READ_SIZE (64u << 10)

struct chan {
	int fd;
	sd_event_source *io, *closing;
	const struct chan_ops *ops;
	void *userdata;
	struct buf in, out;
	size_t sent;		/* of out */
	int error;		/* why it is over */
	bool over;
	bool *freed;		/* somewhere on the stack: tells the caller of a callback */
};

static void say_closed(struct chan *c)
{
	c->ops->closed(c->userdata, c->error);
}

static int on_closing(sd_event_source *s, void *userdata)
{
	sd_event_source_set_enabled(s, SD_EVENT_OFF);
	say_closed(userdata);
	return 0;
}

/* closed() follows from the loop: the caller may be in the middle of something. */
static void finish(struct chan *c, int error)
{
	if (c->over)
		return;
	c->over = true;
	c->error = error;
	sd_event_source_set_enabled(c->io, SD_EVENT_OFF);
	sd_event_source_set_enabled(c->closing, SD_EVENT_ONESHOT);
}

/* --- out --- */

static int flush(struct chan *c)
{
	while (c->sent < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return -errno;
		c->sent += (size_t)n;
	}
	if (c->sent == c->out.len)
		c->sent = c->out.len = 0;
	return sd_event_source_set_io_events(c->io, c->out.len ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* Makes room at the end before the buffer's cap counts what is long gone. */
static void compact(struct chan *c)
{
	if (c->sent == 0)
		return;
	memmove(c->out.data, c->out.data + c->sent, c->out.len - c->sent);
	c->out.len -= c->sent;
	c->sent = 0;
}

int chan_flush(struct chan *c)
{
	int r = c->over ? -ENOTCONN : flush(c);

	if (r < 0)
		finish(c, r);
	return r;
}

int chan_queue(struct chan *c, const struct chan_msg *m)
{
	_cleanup_json_ json_object *o = NULL;
	const char *text;
	size_t len;
	int r;

	if (c->over)
		return -ENOTCONN;
	o = chan_msg_json(m);
	text = o ? json_text(o, &len) : NULL;
	if (!text)
		return -ENOMEM;
	compact(c);
	r = buf_append(&c->out, text, len);
	if (r == 0)
		r = buf_append(&c->out, "\n", 1);
	if (r < 0)
		finish(c, r);
	return r;
}

int chan_send(struct chan *c, const struct chan_msg *m)
{
	int r = chan_queue(c, m);

	return r < 0 ? r : chan_flush(c);
}

/* --- in --- */

static int take_line(struct chan *c, const char *line, size_t len)
{
	_cleanup_json_ json_object *o = NULL;
	const char *why;
	struct chan_msg m;
	int r = json_parse(line, len, &o, &why);

	if (r != 0)
		return r < 0 ? r : -EPROTO;
	r = chan_msg_parse(o, &m);
	if (r < 0)
		return r;
	c->ops->message(c->userdata, &m);
	return 0;
}

/* False: freed by a callback. */
static bool take_lines(struct chan *c)
{
	bool freed = false, *outer = c->freed;
	size_t at = 0;
	char *end;
	int r = 0;

	c->freed = &freed;
	while (r == 0 && !c->over && at < c->in.len && (end = memchr(c->in.data + at, '\n', c->in.len - at))) {
		size_t len = (size_t)(end - c->in.data) - at;

		r = take_line(c, c->in.data + at, len);
		if (freed) {
			if (outer)
				*outer = true;
			return false;
		}
		at += len + 1;
	}
	c->freed = outer;
	if (at > 0) {
		memmove(c->in.data, c->in.data + at, c->in.len - at);
		c->in.len -= at;
	}
	if (r < 0)
		finish(c, r);
	else if (c->in.len >= CHAN_LINE_MAX)
		finish(c, -EPROTO);
	return true;
}

/* 1: something was read, 0: nothing there, negative: over. False in *alive: freed. */
static int read_some(struct chan *c, bool *alive)
{
	char chunk[READ_SIZE];
	ssize_t n = recv(c->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
	int r;

	*alive = true;
	if (n < 0)
		r = errno == EAGAIN || errno == EINTR ? 0 : -errno;
	else
		r = n == 0 ? -ENOTCONN : buf_append(&c->in, chunk, (size_t)n);
	if (r < 0) {
		finish(c, n == 0 ? 0 : r);
		return r;
	}
	if (n <= 0)
		return 0;
	*alive = take_lines(c);
	return 1;
}

static int on_io(sd_event_source *s _unused_, int fd _unused_, uint32_t events, void *userdata)
{
	struct chan *c = userdata;
	bool alive;
	int r;

	if (events & EPOLLOUT) {
		r = flush(c);
		if (r < 0) {
			finish(c, r);
			return 0;
		}
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		read_some(c, &alive);
	return 0;
}

bool chan_poll(struct chan *c)
{
	bool alive = true;

	while (!c->over && read_some(c, &alive) > 0 && alive)
		;
	return alive && !c->over;
}

/* --- life --- */

int chan_new(sd_event *event, int fd, size_t pending_max, const struct chan_ops *ops, void *userdata, struct chan **ret)
{
	struct chan *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct chan){ .fd = -EBADF, .ops = ops, .userdata = userdata, .in.max = CHAN_LINE_MAX + READ_SIZE,
			    .out.max = pending_max };
	r = fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
	if (r == 0)
		r = sd_event_add_io(event, &c->io, fd, EPOLLIN, on_io, c);
	if (r >= 0)
		r = sd_event_add_defer(event, &c->closing, on_closing, c);
	if (r >= 0)
		r = sd_event_source_set_enabled(c->closing, SD_EVENT_OFF);
	if (r < 0) {
		chan_free(c);
		return r;
	}
	c->fd = fd;
	*ret = c;
	return 0;
}

struct chan *chan_free(struct chan *c)
{
	if (!c)
		return NULL;
	if (c->freed)
		*c->freed = true;
	sd_event_source_disable_unref(c->io);
	sd_event_source_disable_unref(c->closing);
	fd_close(c->fd);
	buf_done(&c->in);
	buf_done(&c->out);
	free(c);
	return NULL;
}
