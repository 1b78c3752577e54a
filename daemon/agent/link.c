/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The byte channel to a guest, see link.h.
 *
 * QEMU serves the socket and takes one client at a time; a second connect() succeeds and waits in
 * the backlog. The socket may not exist yet, or refuse, while QEMU starts: both are retried with a
 * growing pause, for as long as the owner wants. A failed write is not an end: what the guest said
 * before is still to be read, so only the reading side decides that the peer is gone.
 *
 * A guest that sends a large file hands over one frame at a time. Read one at a time, each costs a turn of the loop, a
 * turn of the HTTP server, a wake of its client and, where processors are few or share a core, time of the guest itself. So
 * while whole frames come in, but fewer at once than the decoder has room for, the socket is looked at a little later,
 * and pauses get longer until it holds about as much as one recv() takes. What is less than a frame ends this at once,
 * and a guest that is fast enough to fill the decoder never sees it.
 */
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "agent/link.h"
#include "util/clock.h"
#include "util/macro.h"

#define BACKOFF_MIN (10 * USEC_PER_MSEC)
#define BACKOFF_MAX (USEC_PER_SEC)
/* Not 0: that means 250 ms, and the boot of a sandbox waits for this timer. */
#define TIMER_ACCURACY USEC_PER_MSEC
#define CONNECT_PAUSE_MAX (100 * USEC_PER_MSEC)
/* One wake-up of the loop serves one link this much at most, then the others have their turn. */
#define READS_PER_WAKE 6
#define WRITES_PER_WAKE 16
/* Shorter pauses cost what they save; a longer one could fill the socket (about six frames) and stop the guest. */
#define PAUSE_MIN 100u			/* usec */
#define PAUSE_MAX 800u

static const uint8_t zeros[DCLW_PREAMBLE];

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata);
static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);
static int on_pause_over(sd_event_source *s, uint64_t usec, void *userdata);

int link_init(struct link *l, sd_event *event, const char *path, const struct link_ops *ops)
{
	int r;

	memset(l, 0, sizeof(*l));
	l->fd = -EBADF;
	l->ops = ops;
	l->backoff = BACKOFF_MIN;
	l->event = sd_event_ref(event);
	if (path && strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return -ENAMETOOLONG;
	if (path && !(l->path = strdup(path)))
		return -ENOMEM;
	l->decoder = malloc(sizeof(*l->decoder));
	l->tail = malloc(DCLW_FRAME_MAX);
	if (!l->decoder || !l->tail)
		return -ENOMEM;
	wire_decoder_init(l->decoder);
	r = sd_event_add_time(event, &l->timer, CLOCK_MONOTONIC, 0, TIMER_ACCURACY, on_timer, l);
	if (r < 0)
		return r;
	r = sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
	if (r < 0)
		return r;
	r = sd_event_add_time(event, &l->pause, CLOCK_MONOTONIC, 0, 1, on_pause_over, l);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(l->pause, SD_EVENT_OFF);
}

void link_done(struct link *l)
{
	link_close(l);
	l->timer = sd_event_source_disable_unref(l->timer);
	l->pause = sd_event_source_disable_unref(l->pause);
	free(TAKE_PTR(l->path));
	free(TAKE_PTR(l->decoder));
	free(TAKE_PTR(l->tail));
	l->event = sd_event_unref(l->event);
}

void link_close(struct link *l)
{
	l->serial++;
	l->io = sd_event_source_disable_unref(l->io);
	l->fd = fd_close(l->fd);
	if (l->timer)
		sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
	if (l->pause)
		sd_event_source_set_enabled(l->pause, SD_EVENT_OFF);
}

static int wake_in(struct link *l, uint64_t usec)
{
	int r;

	if (!l->path)
		return -EDESTADDRREQ;
	r = sd_event_source_set_time(l->timer, clock_monotonic() + usec);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
}

int link_open(struct link *l)
{
	link_close(l);
	l->refused_since = 0;
	return wake_in(l, 0);
}

int link_retry(struct link *l)
{
	uint64_t pause = l->backoff;

	link_close(l);
	l->refused_since = 0;
	l->backoff = MIN_OF(l->backoff * 2, BACKOFF_MAX);
	return wake_in(l, pause);
}

void link_settled(struct link *l)
{
	l->backoff = BACKOFF_MIN;
}

int link_open_fd(struct link *l, int fd_taken)
{
	_cleanup_close_ int fd = fd_taken;
	int r;

	link_close(l);
	r = sd_event_add_io(l->event, &l->io, fd, EPOLLIN, on_io, l);
	if (r < 0)
		return r;
	l->fd = TAKE_FD(fd);
	l->serial++;
	l->want_out = l->broken = l->paused = false;
	l->pause_usec = 0;
	l->preamble = DCLW_PREAMBLE;
	l->tail_pos = l->tail_len = 0;
	wire_decoder_init(l->decoder);
	l->ops->connected(l);
	return 0;
}

/* 0 and a descriptor, or the reason why not. */
static int try_connect(const char *path, int *ret)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -EBADF;

	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	*ret = TAKE_FD(fd);
	return 0;
}

static int on_timer(_unused_ sd_event_source *s, uint64_t usec, void *userdata)
{
	struct link *l = userdata;
	unsigned int serial = l->serial;
	uint64_t now = clock_monotonic(), since;
	int fd = -EBADF, r;

	(void)usec;
	l->ops->enter(l);
	r = try_connect(l->path, &fd);
	if (r == 0) {
		l->refused_since = 0;
		r = link_open_fd(l, fd);
	} else {
		if (l->refused_since == 0)
			l->refused_since = now;
		since = now - l->refused_since;
		l->ops->refused(l, r, since);
		if (l->serial == serial)
			r = wake_in(l, MIN_OF(BACKOFF_MIN + since / 4, CONNECT_PAUSE_MAX));
	}
	l->ops->leave(l);
	return 0;
}

/* An end of the connection is told in a pause, too. */
static void set_events(struct link *l)
{
	sd_event_source_set_io_events(l->io, (l->paused ? 0 : EPOLLIN) | (l->want_out ? EPOLLOUT : 0));
}

static void want_out(struct link *l, bool on)
{
	if (l->want_out == on)
		return;
	l->want_out = on;
	set_events(l);
}

struct link_frame *link_add(struct link *l, const struct dclw_header *h, const void *payload)
{
	struct link_frame *f;

	if (l->n_frames == LINK_BATCH)
		return NULL;
	f = &l->frames[l->n_frames];
	f->header = *h;
	f->kind = 0;
	f->owner = NULL;
	wire_frame_iov(&l->iov[2 + 3 * l->n_frames], &f->ends, h, payload ? payload : f->small);
	l->n_frames++;
	return f;
}

/* Counts the bytes taken off against an iovec that is not a frame's. */
static size_t take(size_t *left, size_t max)
{
	size_t n = MIN_OF(*left, max);

	*left -= n;
	return n;
}

/* Keeps what the socket did not take of a frame that it began to take. */
static void keep_rest(struct link *l, const struct iovec iov[static 3], size_t taken)
{
	l->tail_pos = l->tail_len = 0;
	for (unsigned int i = 0; i < 3; i++) {
		size_t skip = take(&taken, iov[i].iov_len);
		size_t rest = iov[i].iov_len - skip;

		if (rest > 0)
			memcpy(l->tail + l->tail_len, (uint8_t *)iov[i].iov_base + skip, rest);
		l->tail_len += rest;
	}
}

static void account(struct link *l, size_t taken)
{
	unsigned int serial = l->serial;

	l->preamble -= take(&taken, l->preamble);
	l->tail_pos += take(&taken, l->tail_len - l->tail_pos);
	for (unsigned int i = 0; i < l->n_frames && taken > 0 && l->serial == serial; i++) {
		struct link_frame *f = &l->frames[i];
		size_t size = wire_frame_size(&f->header);

		if (taken < size)
			keep_rest(l, &l->iov[2 + 3 * i], taken);
		take(&taken, size);
		l->ops->sent(l, f);
	}
}

static size_t iov_bytes(const struct iovec *iov, unsigned int n)
{
	size_t sum = 0;

	for (unsigned int i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

/* 1: all of it went and there may be more; 0: nothing to send, or the socket is full. */
static int write_once(struct link *l)
{
	struct msghdr msg = { .msg_iov = l->iov };
	size_t total;
	ssize_t n;

	l->n_frames = 0;
	l->ops->fill(l);
	l->iov[0] = (struct iovec) { (void *)(uintptr_t)zeros, l->preamble };
	l->iov[1] = (struct iovec) { l->tail + l->tail_pos, l->tail_len - l->tail_pos };
	msg.msg_iovlen = 2 + 3 * l->n_frames;
	total = iov_bytes(l->iov, msg.msg_iovlen);
	if (total == 0) {
		want_out(l, false);
		return 0;
	}
	n = sendmsg(l->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno == EINTR)
		return 1;
	if (n < 0 && errno != EAGAIN) {
		l->broken = true;
		want_out(l, false);
		return 0;
	}
	if (n > 0)
		account(l, (size_t)n);
	if ((size_t)MAX_OF(n, 0) == total)
		return 1;
	want_out(l, true);
	return 0;
}

void link_flush(struct link *l)
{
	unsigned int serial = l->serial;

	if (l->fd < 0 || l->broken)
		return;
	for (unsigned int i = 0; i < WRITES_PER_WAKE; i++)
		if (write_once(l) == 0 || l->serial != serial)
			return;
	want_out(l, true);
}

/* Hands out every complete frame; stops when a callback closed the link. */
static void dispatch(struct link *l)
{
	unsigned int serial = l->serial;
	struct wire_frame f;

	while (l->serial == serial && wire_decoder_next(l->decoder, &f))
		l->ops->frame(l, &f);
}

/* 1: go on; 0: nothing more to read now; negative: the peer is gone. Adds to *sum what was read. */
static int read_once(struct link *l, size_t *sum)
{
	size_t room;
	uint8_t *space = wire_decoder_space(l->decoder, &room);
	ssize_t n = recv(l->fd, space, room, MSG_DONTWAIT);

	if (n < 0)
		return errno == EINTR ? 1 : errno == EAGAIN ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	*sum += (size_t)n;
	wire_decoder_commit(l->decoder, (size_t)n);
	dispatch(l);
	return (size_t)n == room;
}

static int on_pause_over(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata)
{
	struct link *l = userdata;

	l->paused = false;
	set_events(l);
	return 0;
}

/* After `got` bytes were read at once: when to look again. */
static void set_pause(struct link *l, size_t got)
{
	if (got < DCLW_FRAME_MAX)
		l->pause_usec = 0;
	else if (got <= 2 * DCLW_FRAME_MAX)
		l->pause_usec = MIN_OF(MAX_OF(l->pause_usec * 2, (uint64_t)PAUSE_MIN), (uint64_t)PAUSE_MAX);
	else if (got >= 4 * DCLW_FRAME_MAX)
		l->pause_usec = l->pause_usec / 2 < PAUSE_MIN ? 0 : l->pause_usec / 2;
	if (l->pause_usec == 0 || sd_event_source_set_time(l->pause, clock_monotonic() + l->pause_usec) < 0 ||
	    sd_event_source_set_enabled(l->pause, SD_EVENT_ONESHOT) < 0)
		return;
	l->paused = true;
	set_events(l);
}

static int on_io(_unused_ sd_event_source *s, _unused_ int fd, uint32_t revents, void *userdata)
{
	struct link *l = userdata;
	unsigned int serial = l->serial;
	size_t got = 0;
	int r = 0;

	l->ops->enter(l);
	if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		for (unsigned int i = 0; i < READS_PER_WAKE && l->serial == serial; i++) {
			r = read_once(l, &got);
			if (r <= 0)
				break;
		}
	if (l->serial == serial && r < 0) {
		link_close(l);
		l->ops->gone(l, r);
	} else if (l->serial == serial) {
		link_flush(l);
		if (got > 0 && l->serial == serial)
			set_pause(l, got);
	}
	l->ops->leave(l);
	return 0;
}
