/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The least that can speak guest/PROTOCOL.md: a blocking client for one channel, for benchmarks.
 *
 * It exists to be the baseline that the daemon is compared with, so it does what the protocol demands
 * and nothing else: no event loop, no resumption, no second consumer. Waiting is one poll() loop,
 * raw_pump(), which dispatches frames until a condition of its caller holds.
 */
#ifndef DECLAW_BENCH_RAW_SESSION_H
#define DECLAW_BENCH_RAW_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/frame.h"
#include "wire/tlv.h"

#define RAW_STREAMS 4
#define RAW_WINDOW DCLW_WINDOW_MAX

struct raw_stream {
	uint32_t id;		/* 0 = free slot */
	uint64_t offset;	/* bytes received, or sent */
	uint64_t limit;		/* credit given, or got */
	uint64_t acked;		/* acknowledged by us, or by the guest */
	uint64_t first_usec;	/* when the first byte came */
	bool ended;
	int error;		/* RESET */
};

struct raw {
	int fd;
	uint64_t epoch, instance, next_id;
	uint32_t next_stream;
	bool open;
	uint32_t goaway;		/* reason + 1; 0 = none */
	struct wire_decoder in;
	uint8_t out[4 * DCLW_FRAME_MAX];
	size_t out_len;
	struct raw_stream streams[RAW_STREAMS];
	uint64_t reply_id;		/* the one waited for; 0 = answered */
	int reply_error;
	uint32_t reply_pid;
	uint32_t exited_pid, exit_code, exit_signal;
};

uint64_t raw_now_usec(void);
/* Connects, retrying until the socket is there. 0, -ETIMEDOUT or another errno. */
int raw_connect(const char *path, uint64_t deadline_usec);
/* HELLO, repeated every 5 s until the guest answers. Takes fd, also on failure. */
int raw_open(struct raw *r, int fd, uint64_t deadline_usec);
void raw_close(struct raw *r);

/* Dispatches what comes until done(r) or the deadline: 0, -ETIMEDOUT, -ECONNRESET, -EPROTO. */
int raw_pump(struct raw *r, bool (*done)(const struct raw *r), uint64_t deadline_usec);

struct raw_stream *raw_stream_new(struct raw *r);
void raw_stream_free(struct raw_stream *s);
/* Sends a REQUEST; reply_id becomes 0 when its REPLY has come. */
int raw_request_send(struct raw *r, uint16_t op, const struct wire_writer *tlvs);
/* Sends a REQUEST and waits for its REPLY: 0, the guest's errno (positive) or a negative one. */
int raw_request(struct raw *r, uint16_t op, const struct wire_writer *tlvs, uint64_t deadline_usec);
/* Sends all of data, waiting for credit as needed; fin ends the stream. */
int raw_stream_send(struct raw *r, struct raw_stream *s, const void *data, size_t len, bool fin, uint64_t deadline_usec);

#endif
