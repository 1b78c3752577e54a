/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See raw-session.h. Section numbers are those of guest/PROTOCOL.md. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "raw-session.h"
#include "wire/le.h"

#define HELLO_AGAIN_USEC 5000000u
#define CONNECT_AGAIN_USEC 2000u
#define ACK_EVERY (DCLW_CONN_WINDOW / 8)

uint64_t raw_now_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static int poll_until(int fd, short events, uint64_t deadline_usec)
{
	struct pollfd p = { .fd = fd, .events = events };
	uint64_t now = raw_now_usec();
	int ms = now >= deadline_usec ? 0 : (int)((deadline_usec - now + 999) / 1000);

	return poll(&p, fd >= 0, ms) < 0 ? -errno : p.revents;
}

int raw_connect(const char *path, uint64_t deadline_usec)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			return -errno;
		if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
			return fd;
		close(fd);
		if (errno != ENOENT && errno != ECONNREFUSED && errno != EAGAIN)
			return -errno;
		if (raw_now_usec() >= deadline_usec)
			return -ETIMEDOUT;
		/* QEMU has no event for "the socket is there" */
		nanosleep(&(struct timespec){ .tv_nsec = CONNECT_AGAIN_USEC * 1000 }, NULL);
	}
}

static int flush(struct raw *r)
{
	ssize_t n;

	while (r->out_len > 0) {
		n = send(r->fd, r->out, r->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		r->out_len -= (size_t)n;
		memmove(r->out, r->out + n, r->out_len);
	}
	return 0;
}

/* The frame's payload must fit: callers keep out below one frame by waiting for room first. */
static int put_frame(struct raw *r, struct dclw_header h, const void *payload)
{
	size_t n;

	h.epoch = (uint16_t)r->epoch;
	n = wire_frame_put(r->out + r->out_len, sizeof(r->out) - r->out_len, &h, payload);
	if (n == 0)
		return -ENOBUFS;
	r->out_len += n;
	return flush(r);
}

static int put_window(struct raw *r, struct raw_stream *s)
{
	uint8_t acked[8];

	s->acked = s->offset;
	s->limit = s->offset + RAW_WINDOW;
	le64_store(acked, s->acked);
	return put_frame(r, (struct dclw_header){ .type = DCLW_WINDOW, .stream = s->id, .length = sizeof(acked),
						  .offset = s->limit }, acked);
}

static struct raw_stream *find_stream(struct raw *r, uint32_t id)
{
	for (size_t i = 0; id && i < RAW_STREAMS; i++)
		if (r->streams[i].id == id)
			return &r->streams[i];
	return NULL;
}

static int on_data(struct raw *r, const struct wire_frame *f)
{
	struct raw_stream *s = find_stream(r, f->header.stream);

	if (!s)
		return 0;
	if (f->header.offset != s->offset)
		return -EPROTO;		/* no session is resumed here, so there is nothing to skip */
	if (f->header.length > 0 && !s->first_usec)
		s->first_usec = raw_now_usec();
	s->offset += f->header.length;
	s->ended |= f->header.flags & DCLW_FIN;
	/* The initial credit is small: the first bytes earn more. The FIN is acknowledged, too, or the guest would
	 * keep the stream for a replay. */
	if (s->ended || s->offset - s->acked >= ACK_EVERY || s->limit - s->offset < DCLW_WINDOW_INITIAL / 2)
		return put_window(r, s);
	return 0;
}

static int on_window(struct raw *r, const struct wire_frame *f)
{
	struct raw_stream *s = find_stream(r, f->header.stream);

	if (f->header.length != 8)
		return -EPROTO;
	if (s && f->header.offset > s->limit)
		s->limit = f->header.offset;
	if (s)
		s->acked = le64_load(f->payload);
	return 0;
}

static uint32_t find_u32(const struct wire_frame *f, uint16_t tag, uint32_t otherwise)
{
	const uint8_t *value;
	uint32_t n;
	size_t len;

	if (wire_find(f->payload, f->header.length, tag, &value, &len) <= 0 || wire_get_u32(value, len, &n) < 0)
		return otherwise;
	return n;
}

static void on_reply(struct raw *r, const struct wire_frame *f)
{
	if (f->header.offset != r->reply_id)
		return;
	r->reply_id = 0;
	r->reply_error = (int)f->header.arg;
	r->reply_pid = find_u32(f, DCLW_TAG_PID, 0);
}

static void on_event(struct raw *r, const struct wire_frame *f)
{
	uint32_t pid = find_u32(f, DCLW_TAG_PID, 0);

	/* Processes that nobody waits for end, too, and must not hide the one that somebody does */
	if (f->header.arg != DCLW_EVENT_PROC_EXIT || pid != r->reply_pid)
		return;
	r->exited_pid = pid;
	r->exit_code = find_u32(f, DCLW_TAG_EXIT_CODE, 0);
	r->exit_signal = find_u32(f, DCLW_TAG_SIGNAL, 0);
}

static void on_hello_ack(struct raw *r, const struct wire_frame *f)
{
	const uint8_t *value;
	uint64_t epoch = 0;
	size_t len;

	if (wire_find(f->payload, f->header.length, DCLW_TAG_EPOCH, &value, &len) > 0)
		wire_get_u64(value, len, &epoch);
	r->open |= epoch == r->epoch;
}

static int dispatch(struct raw *r, const struct wire_frame *f)
{
	if (f->header.epoch != (uint16_t)r->epoch || (!r->open && f->header.type != DCLW_HELLO_ACK))
		return 0;
	switch (f->header.type) {
	case DCLW_HELLO_ACK:
		on_hello_ack(r, f);
		return 0;
	case DCLW_DATA:
		return on_data(r, f);
	case DCLW_WINDOW:
		return on_window(r, f);
	case DCLW_REPLY:
		on_reply(r, f);
		return 0;
	case DCLW_EVENT:
		on_event(r, f);
		return 0;
	case DCLW_RESET: {
		struct raw_stream *s = find_stream(r, f->header.stream);

		if (s) {
			s->ended = true;
			s->error = (int)f->header.arg;
		}
		return 0;
	}
	case DCLW_GOAWAY:
		r->goaway = f->header.arg + 1;
		return -EPROTO;
	default:
		return 0;
	}
}

static int receive(struct raw *r)
{
	struct wire_frame f;
	size_t room;
	uint8_t *p = wire_decoder_space(&r->in, &room);
	ssize_t n = recv(r->fd, p, room, MSG_DONTWAIT);
	int ret;

	if (n == 0)
		return -ECONNRESET;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	wire_decoder_commit(&r->in, (size_t)n);
	while (wire_decoder_next(&r->in, &f)) {
		ret = dispatch(r, &f);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int raw_pump(struct raw *r, bool (*done)(const struct raw *r), uint64_t deadline_usec)
{
	int revents, ret;

	while (!done(r)) {
		revents = poll_until(r->fd, r->out_len > 0 ? POLLIN | POLLOUT : POLLIN, deadline_usec);
		if (revents < 0 && revents != -EINTR)
			return revents;
		if (revents == 0 && raw_now_usec() >= deadline_usec)
			return -ETIMEDOUT;
		ret = revents & POLLOUT ? flush(r) : 0;
		if (ret == 0 && revents & (POLLIN | POLLHUP | POLLERR))
			ret = receive(r);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static bool is_open(const struct raw *r)
{
	return r->open;
}

static bool is_flushed(const struct raw *r)
{
	return r->out_len == 0;
}

/* §2.3, §3: zeros that end whatever half frame the guest may be in, then HELLO of a new epoch. */
static int say_hello(struct raw *r, uint64_t deadline_usec)
{
	uint8_t payload[128];
	struct wire_writer w;
	int ret;

	do
		if (getrandom(&r->epoch, sizeof(r->epoch), 0) < 0)
			return -errno;
	while (r->epoch == 0);
	memset(r->out, 0, DCLW_PREAMBLE);
	r->out_len = DCLW_PREAMBLE;
	wire_writer_init(&w, payload, sizeof(payload));
	wire_put_u32(&w, DCLW_TAG_VERSION_MIN, DCLW_VERSION_MIN);
	wire_put_u32(&w, DCLW_TAG_VERSION_MAX, DCLW_VERSION_MAX);
	wire_put_u64(&w, DCLW_TAG_EPOCH, r->epoch);
	wire_put_u64(&w, DCLW_TAG_INSTANCE, r->instance);
	ret = put_frame(r, (struct dclw_header){ .type = DCLW_HELLO, .length = (uint32_t)w.len }, payload);
	return ret < 0 ? ret : raw_pump(r, is_flushed, deadline_usec);
}

int raw_open(struct raw *r, int fd, uint64_t deadline_usec)
{
	uint64_t again;
	int ret;

	memset(r, 0, sizeof(*r));
	wire_decoder_init(&r->in);
	r->fd = fd;
	r->next_id = r->next_stream = 1;
	if (getrandom(&r->instance, sizeof(r->instance), 0) < 0 ||
	    getrandom(&r->next_stream, 3, 0) < 0)	/* ids of an earlier client may still be taken */
		return -errno;
	r->next_stream = (r->next_stream & 0xffffff) << 7 | 1;
	/* A HELLO sent before the guest listens waits in the socket, so one is enough; the repetition is for a
	 * guest that was in the middle of something. */
	for (;;) {
		ret = say_hello(r, deadline_usec);
		if (ret < 0)
			return ret;
		again = raw_now_usec() + HELLO_AGAIN_USEC;
		ret = raw_pump(r, is_open, again < deadline_usec ? again : deadline_usec);
		if (ret != -ETIMEDOUT || raw_now_usec() >= deadline_usec)
			return ret;
	}
}

void raw_close(struct raw *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -EBADF;
}

struct raw_stream *raw_stream_new(struct raw *r)
{
	for (size_t i = 0; i < RAW_STREAMS; i++)
		if (!r->streams[i].id) {
			r->streams[i] = (struct raw_stream){ .id = r->next_stream++, .limit = DCLW_WINDOW_INITIAL };
			return &r->streams[i];
		}
	return NULL;
}

void raw_stream_free(struct raw_stream *s)
{
	s->id = 0;
}

static bool is_answered(const struct raw *r)
{
	return r->reply_id == 0;
}

int raw_request_send(struct raw *r, uint16_t op, const struct wire_writer *tlvs)
{
	uint8_t payload[DCLW_PAYLOAD_MAX];
	uint64_t id = r->next_id++;

	if (tlvs->error || tlvs->len + 2 > sizeof(payload))
		return -EMSGSIZE;
	le16_store(payload, op);
	memcpy(payload + 2, tlvs->buf, tlvs->len);
	r->reply_id = id;
	return put_frame(r, (struct dclw_header){ .type = DCLW_REQUEST, .length = (uint32_t)tlvs->len + 2, .offset = id,
						  .arg = (uint32_t)id }, payload);
}

int raw_request(struct raw *r, uint16_t op, const struct wire_writer *tlvs, uint64_t deadline_usec)
{
	int ret = raw_request_send(r, op, tlvs);

	if (ret == 0)
		ret = raw_pump(r, is_answered, deadline_usec);
	return ret < 0 ? ret : r->reply_error;
}

/* What raw_stream_send() waits for; one sender at a time, so one variable is enough. */
static struct raw_stream *sending;

static bool may_send(const struct raw *r)
{
	return r->out_len < sizeof(r->out) - 2 * DCLW_FRAME_MAX && (sending->limit > sending->offset || sending->ended);
}

int raw_stream_send(struct raw *r, struct raw_stream *s, const void *data, size_t len, bool fin, uint64_t deadline_usec)
{
	const uint8_t *p = data;
	int ret = 0;

	sending = s;
	while (ret == 0 && len > 0) {
		size_t n;

		ret = raw_pump(r, may_send, deadline_usec);
		if (ret < 0 || s->ended)
			return ret < 0 ? ret : -EPIPE;
		n = len < DCLW_PAYLOAD_MAX ? len : DCLW_PAYLOAD_MAX;
		n = n < s->limit - s->offset ? n : (size_t)(s->limit - s->offset);
		ret = put_frame(r, (struct dclw_header){ .type = DCLW_DATA, .stream = s->id, .length = (uint32_t)n,
							 .offset = s->offset }, p);
		s->offset += n;
		p += n;
		len -= n;
	}
	if (ret == 0 && fin)
		ret = put_frame(r, (struct dclw_header){ .type = DCLW_DATA, .flags = DCLW_FIN, .stream = s->id,
							 .offset = s->offset }, NULL);
	return ret;
}
