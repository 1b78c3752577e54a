/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 101 Switching Protocols: the connection becomes a pipe of bytes.
 *
 * MHD sends the head, suspends the connection and hands the socket over; from then on it is ours, watched on the loop,
 * until MHD is told that it may close it. One read is held when the handler does not take it, and nothing more is read
 * until it did; what the socket does not take is the handler's. Nothing here grows.
 *
 * Closing a socket with unread input resets it and may destroy the last bytes sent, so our side is shut down first and
 * what the peer still says is dropped until it closes, too, or a few seconds have passed.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "http/internal.h"
#include "util/clock.h"

#define IN_MIN 16384u
#define LINGER_USEC (3 * USEC_PER_SEC)

struct http_tunnel {
	struct http_request *req;
	struct MHD_UpgradeResponseHandle *handle;
	struct http_upgrade_ops ops;
	void *userdata;
	int fd;			/* -EBADF: MHD has not handed it over */
	sd_event_source *io, *linger, *kick;
	char *in;		/* read, not all of it taken */
	size_t in_size, in_len, in_at;
	bool want_room, paused, in_end, closing;
	bool busy;		/* inside on_io(): it goes on after the callbacks */
};

bool tunnel_is_open(const struct http_request *req)
{
	return req->tunnel && req->tunnel->handle;
}

/* MHD may have the socket back. */
void tunnel_close(struct http_request *req)
{
	struct http_tunnel *t = req->tunnel;

	t->io = sd_event_source_disable_unref(t->io);
	t->linger = sd_event_source_disable_unref(t->linger);
	t->kick = sd_event_source_disable_unref(t->kick);
	if (!t->handle)
		return;
	MHD_upgrade_action(t->handle, MHD_UPGRADE_ACTION_CLOSE);
	t->handle = NULL;
	t->fd = -EBADF;
	listener_kick(req->conn->listener);
}

void tunnel_free(struct http_request *req)
{
	if (!req->tunnel)
		return;
	sd_event_source_disable_unref(req->tunnel->io);
	sd_event_source_disable_unref(req->tunnel->linger);
	sd_event_source_disable_unref(req->tunnel->kick);
	free(req->tunnel->in);
	free(req->tunnel);
	req->tunnel = NULL;
}

static void watch(struct http_tunnel *t)
{
	uint32_t events = 0;

	if (!t->io || t->busy)
		return;
	if (!t->in_end && (!t->paused || t->closing))
		events |= EPOLLIN;
	if (t->want_room && !t->closing)
		events |= EPOLLOUT;
	sd_event_source_set_io_events(t->io, events);
}

static void lost(struct http_tunnel *t)
{
	/* Tells the handler, unless it is through, and closes */
	request_gone(t->req);
}

/* Offers what was read. */
static void deliver(struct http_tunnel *t)
{
	size_t n = t->in_len - t->in_at;

	t->paused = false;
	if (n == 0 || t->closing)
		return;
	n = MIN_OF(t->ops.take(t->userdata, t->in + t->in_at, n), n);
	t->in_at += n;
	if (t->in_at == t->in_len)
		t->in_at = t->in_len = 0;
	else
		t->paused = true;
}

/* False: the connection is over. */
static bool receive(struct http_tunnel *t)
{
	ssize_t n;

	if (t->in_len > 0 && !t->closing)
		return true;
	n = recv(t->fd, t->in, t->in_size, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		t->in_end = true;
	else if (!t->closing)
		t->in_len = (size_t)n;
	return n > 0 || !t->closing;
}

static int on_io(sd_event_source *source _unused_, int fd _unused_, uint32_t revents, void *userdata)
{
	struct http_tunnel *t = userdata;
	bool ended = t->in_end, alive = true;

	t->busy = true;
	if (revents & EPOLLIN)
		alive = receive(t);
	else if (revents & (EPOLLERR | EPOLLHUP))
		alive = false;
	if (alive) {
		if (!t->paused)
			deliver(t);
		if (t->in_end && !ended && !t->closing)
			t->ops.end(t->userdata);
		if (revents & EPOLLOUT && t->want_room && !t->closing) {
			t->want_room = false;
			t->ops.room(t->userdata);
		}
	}
	t->busy = false;
	if (alive)
		watch(t);
	else
		lost(t);
	return 0;
}

static int on_kick(sd_event_source *source _unused_, void *userdata)
{
	struct http_tunnel *t = userdata;

	t->busy = true;
	deliver(t);
	t->busy = false;
	watch(t);
	return 0;
}

static int on_linger(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
	struct http_tunnel *t = userdata;

	tunnel_close(t->req);
	return 0;
}

static int take_over(struct http_tunnel *t, const void *extra, size_t extra_len, int fd)
{
	const int on = 1;
	int r;

	t->in_size = MAX_OF((size_t)IN_MIN, extra_len);
	t->in = malloc(t->in_size);
	if (!t->in)
		return -ENOMEM;
	if (extra_len > 0)
		memcpy(t->in, extra, extra_len);
	t->in_len = extra_len;
	t->fd = fd;
	t->want_room = true;
	/* The same descriptor cannot be watched twice */
	conn_unwatch(t->req->conn);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	r = sd_event_add_defer(t->req->server->event, &t->kick, on_kick, t);
	if (r >= 0)
		r = sd_event_source_set_enabled(t->kick, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_io(t->req->server->event, &t->io, fd, EPOLLIN | EPOLLOUT, on_io, t);
	return r < 0 ? r : 0;
}

static void on_upgrade(void *userdata, struct MHD_Connection *mhd _unused_, void *context _unused_, const char *extra,
		       size_t extra_len, MHD_socket fd, struct MHD_UpgradeResponseHandle *handle)
{
	struct http_request *req = userdata;
	struct http_tunnel *t = req->tunnel;

	t->handle = handle;
	if (req->gone || take_over(t, extra, extra_len, fd) < 0) {
		req->gone = true;
		tunnel_close(req);
		request_add_work(req, HTTP_WORK_LEFT);
	} else if (t->closing) {
		http_upgrade_end(req);
	}
}

struct MHD_Response *tunnel_response(struct http_request *req, const char *protocol)
{
	struct MHD_Response *response = MHD_create_response_for_upgrade(on_upgrade, req);

	if (response && MHD_add_response_header(response, "Upgrade", protocol) != MHD_YES) {
		MHD_destroy_response(response);
		return NULL;
	}
	return response;
}

int tunnel_new(struct http_request *req, const struct http_upgrade_ops *ops, void *userdata)
{
	struct http_tunnel *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	*t = (struct http_tunnel){ .req = req, .ops = *ops, .userdata = userdata, .fd = -EBADF };
	req->tunnel = t;
	return 0;
}

ssize_t http_upgrade_write(struct http_request *req, const void *data, size_t len)
{
	struct http_tunnel *t = req->tunnel;
	size_t done = 0;

	if (!t || t->closing)
		return -EINVAL;
	while (t->fd >= 0 && done < len) {
		ssize_t n = send(t->fd, (const char *)data + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return -EPIPE;	/* on_io() sees it, too, and tells by the cancel callback */
		if (n < 0)
			break;
		done += (size_t)n;
	}
	if (done < len) {
		t->want_room = true;
		watch(t);
	}
	return (ssize_t)done;
}

void http_upgrade_continue(struct http_request *req)
{
	struct http_tunnel *t = req->tunnel;

	/* Offered again from the loop */
	if (t && t->kick)
		sd_event_source_set_enabled(t->kick, SD_EVENT_ONESHOT);
}

void http_upgrade_end(struct http_request *req)
{
	struct http_tunnel *t = req->tunnel;

	t->closing = true;
	if (t->fd >= 0) {
		shutdown(t->fd, SHUT_WR);
		if (sd_event_add_time_relative(req->server->event, &t->linger, CLOCK_MONOTONIC, LINGER_USEC, USEC_PER_SEC,
					       on_linger, t) < 0 || t->in_end)
			tunnel_close(req);
		else
			watch(t);
	}
	request_finish(req);
}
