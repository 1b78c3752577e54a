/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The real agent and a script that sends requests in pieces, in the right order and in others. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "harness.h"

#define EPOCH 0x1122334455667788ull

struct raw {
	int fd;
	pid_t pid;
	uint64_t epoch;
	struct wire_decoder decoder;
	uint8_t payload[DCLW_PAYLOAD_MAX];
};

static void raw_send(struct raw *raw, struct dclw_header h, const void *payload)
{
	uint8_t buf[DCLW_FRAME_MAX];
	size_t n, at = 0;

	h.epoch = (uint16_t)raw->epoch;
	n = wire_frame_put(buf, sizeof(buf), &h, payload);
	while (at < n) {
		ssize_t w = send(raw->fd, buf + at, n - at, MSG_NOSIGNAL);

		cr_assert(w > 0);
		at += (size_t)w;
	}
}

/* The next frame of that type; its payload is in raw. */
static struct dclw_header raw_expect(struct raw *raw, enum dclw_type type)
{
	struct wire_frame f;

	for (;;) {
		uint8_t *space;
		size_t room;
		ssize_t n;

		while (wire_decoder_next(&raw->decoder, &f)) {
			if (f.header.type != type)
				continue;
			memcpy(raw->payload, f.payload, f.header.length);
			return f.header;
		}
		space = wire_decoder_space(&raw->decoder, &room);
		n = recv(raw->fd, space, room, 0);
		cr_assert(n > 0, "the agent does not send frame type %#x", type);
		wire_decoder_commit(&raw->decoder, (size_t)n);
	}
}

static void raw_hello(struct raw *raw)
{
	uint8_t buf[128];
	struct wire_writer w;

	raw->epoch += 0x10001;
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u32(&w, DCLW_TAG_VERSION_MIN, 1);
	wire_put_u32(&w, DCLW_TAG_VERSION_MAX, 1);
	wire_put_u64(&w, DCLW_TAG_EPOCH, raw->epoch);
	wire_put_u64(&w, DCLW_TAG_INSTANCE, 1);
	raw_send(raw, (struct dclw_header) { .type = DCLW_HELLO, .length = (uint32_t)w.len }, buf);
	raw_expect(raw, DCLW_HELLO_ACK);
}

static struct raw *raw_new(void)
{
	struct timeval limit = { .tv_sec = RIG_TIMEOUT_SEC };
	struct raw *raw = calloc(1, sizeof(*raw));
	int sv[2], fd;

	cr_assert(raw);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	fd = fcntl(sv[1], F_DUPFD_CLOEXEC, 10);
	close(sv[1]);
	raw->fd = sv[0];
	cr_assert_eq(setsockopt(raw->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	raw->pid = rig_spawn_agent(fd);
	close(fd);
	raw->epoch = EPOCH;
	wire_decoder_init(&raw->decoder);
	raw_hello(raw);
	return raw;
}

static void raw_free(struct raw *raw)
{
	kill(raw->pid, SIGKILL);
	waitpid(raw->pid, NULL, 0);
	close(raw->fd);
	free(raw);
}

static void raw_request(struct raw *raw, uint64_t id, const void *payload, uint32_t len, bool more)
{
	raw_send(raw, (struct dclw_header) {
			.type = DCLW_REQUEST, .flags = more ? DCLW_MORE : 0, .length = len,
			.offset = id, .arg = 1,
		}, payload);
}

static const uint8_t zeros[DCLW_PAYLOAD_MAX];
static const uint8_t stats[] = { DCLW_OP_STATS, 0 };

/* The session is over with a sentence; the next one knows nothing of what was half sent. */
static void assert_broken(struct raw *raw)
{
	struct dclw_header h = raw_expect(raw, DCLW_GOAWAY);

	cr_assert_eq(h.arg, DCLW_REASON_PROTOCOL);
	cr_assert(h.length > 10);
	raw_hello(raw);
	raw_request(raw, 90, stats, 1, true);
	raw_request(raw, 90, stats + 1, 1, false);
	h = raw_expect(raw, DCLW_REPLY);
	cr_assert_eq(h.offset, 90);
	cr_assert_eq(h.arg, 0);
	raw_free(raw);
}

Test(fragment, other_frames_may_stand_between, .timeout = 60)
{
	struct raw *raw = raw_new();
	struct dclw_header h;

	raw_request(raw, 1, stats, 1, true);
	raw_send(raw, (struct dclw_header) { .type = DCLW_PING, .offset = 7 }, NULL);
	cr_assert_eq(raw_expect(raw, DCLW_PONG).offset, 7);
	raw_request(raw, 1, stats + 1, 1, false);
	h = raw_expect(raw, DCLW_REPLY);
	cr_assert_eq(h.offset, 1);
	cr_assert_eq(h.arg, 0);
	raw_free(raw);
}

Test(fragment, hello_voids_the_half, .timeout = 60)
{
	struct raw *raw = raw_new();
	struct dclw_header h;

	raw_request(raw, 1, zeros, 1000, true);
	raw_hello(raw);
	raw_request(raw, 2, stats, 2, false);
	h = raw_expect(raw, DCLW_REPLY);
	cr_assert_eq(h.offset, 2);
	cr_assert_eq(h.arg, 0);
	raw_free(raw);
}

Test(fragment, another_id_in_between, .timeout = 60)
{
	struct raw *raw = raw_new();

	raw_request(raw, 1, stats, 2, true);
	raw_request(raw, 2, stats, 2, false);
	assert_broken(raw);
}

Test(fragment, empty, .timeout = 60)
{
	struct raw *raw = raw_new();

	raw_request(raw, 1, NULL, 0, true);
	assert_broken(raw);
}

Test(fragment, never_an_end, .timeout = 60)
{
	struct raw *raw = raw_new();

	for (size_t sum = 0; sum <= DCLW_REQUEST_MAX; sum += DCLW_PAYLOAD_MAX)
		raw_request(raw, 1, zeros, DCLW_PAYLOAD_MAX, true);
	assert_broken(raw);
}

/* To the last byte it is a request (of an operation nobody has), one more breaks the rule. */
Test(fragment, exactly_at_the_limit, .timeout = 60)
{
	const uint32_t rest = DCLW_REQUEST_MAX % DCLW_PAYLOAD_MAX;
	struct raw *raw = raw_new();
	struct dclw_header h;

	for (unsigned int i = 0; i < DCLW_REQUEST_MAX / DCLW_PAYLOAD_MAX; i++)
		raw_request(raw, 1, zeros, DCLW_PAYLOAD_MAX, true);
	raw_request(raw, 1, zeros, rest, false);
	h = raw_expect(raw, DCLW_REPLY);
	cr_assert_eq(h.offset, 1);
	cr_assert_eq(h.arg, ENOSYS);
	for (unsigned int i = 0; i < DCLW_REQUEST_MAX / DCLW_PAYLOAD_MAX; i++)
		raw_request(raw, 2, zeros, DCLW_PAYLOAD_MAX, true);
	raw_request(raw, 2, zeros, rest + 1, false);
	assert_broken(raw);
}

/* A known id is answered from the cache, in whatever pieces it comes again. */
Test(fragment, known_id_is_not_carried_out_again, .timeout = 60)
{
	struct raw *raw = raw_new();
	struct dclw_header h;

	raw_request(raw, 1, stats, 2, false);
	h = raw_expect(raw, DCLW_REPLY);
	cr_assert_eq(h.arg, 0);
	raw_hello(raw);
	raw_request(raw, 1, zeros, 5, true);
	raw_request(raw, 1, zeros, 5, false);
	h = raw_expect(raw, DCLW_REPLY);
	cr_assert_eq(h.offset, 1);
	cr_assert_eq(h.arg, 0);
	raw_free(raw);
}
