/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the protocol tests share: a loop, a host session that records what it is told, and three
 *things to stand at the other end:
 *
 *	agent	the real declaw-agent (path in $DECLAW_AGENT) over a socketpair;
 *	relay	the same behind a UNIX socket that behaves like QEMU's: one client at a time, what
 *the guest says while nobody is connected is lost, and it can be cut after any byte; peer	a
 *script: frames in, frames out, nothing by itself.
 *
 * Everything runs in one thread on one loop, so a test waits by running the loop until something
 *holds.
 */
#ifndef PROTO_HARNESS_H
#define PROTO_HARNESS_H

#include <criterion/criterion.h>
#include <stdbool.h>
#include <string.h>
#include <sys/types.h>

#include "agent/agent.h"
#include "util/macro.h"
#include "wire/frame.h"
#include "wire/le.h"
#include "wire/tlv.h"

#define RIG_TIMEOUT_SEC 30
#define PEER_FRAMES 4096u
#define RIG_EXITS 256u

struct peer_frame {
	struct dclw_header header;
	uint8_t *payload;
};

struct peer {
	int listen_fd, fd;
	struct sd_event_source *listen_io, *io;
	struct wire_decoder *decoder;
	struct peer_frame frames[PEER_FRAMES];
	unsigned int n_frames, cursor;
	unsigned int connections;
	bool closed;			/* the host closed the last connection */
	bool deaf;			/* do not read */
	uint64_t epoch;			/* of the last HELLO */
	uint64_t hellos;
};

struct relay {
	int listen_fd, host, guest;
	struct sd_event_source *listen_io, *host_io, *guest_io;
	int64_t cut_down, cut_up; /* bytes until the cut, host to guest and back; negative: never */
	uint64_t down, up, lost;	/* bytes moved, bytes of the guest nobody heard */
	unsigned int cuts;
};

struct rig {
	sd_event *event;
	struct agent *agent;
	char dir[64], path[96];
	pid_t child;
	struct peer peer;
	struct relay relay;
	/* what the session said */
	unsigned int ups, losts, ooms;
	int lost_reason;
	struct agent_peer last_peer;
	struct agent_exit exits[RIG_EXITS];
	unsigned int n_exits;
	void (*on_exit)(struct rig *rig, const struct agent_exit *ex);
	void *data;
};

struct rig *rig_new(void);
void rig_free(struct rig *rig);
/* For loops that look for leaks once, at their end. */
void rig_free_unchecked(struct rig *rig);
/* A session; ping 0 = none. */
void rig_session(struct rig *rig, const char *path, uint64_t connect_usec, uint64_t ping_usec);
void rig_agent(struct rig *rig);		/* real agent, up */
void rig_relay(struct rig *rig);		/* real agent behind the relay, not started */
void rig_peer(struct rig *rig); /* script, session started, HELLO seen, not answered */
void rig_peer_up(struct rig *rig);		/* the same, answered and up */
pid_t rig_spawn_agent(int fd);

void rig_step(struct rig *rig);
bool rig_overdue(uint64_t since);
uint64_t rig_now(void);
#define RIG_WAIT(rig, cond) do {							\
	uint64_t _since = rig_now();							\
	while (!(cond)) {								\
		cr_assert(!rig_overdue(_since), "timed out waiting for %s", #cond);	\
		rig_step(rig);								\
	}										\
} while (0)
/* Runs the loop until nothing has happened for a moment. */
void rig_settle(struct rig *rig);

void peer_send_full(struct rig *rig, struct dclw_header h, const void *payload);
void peer_send(struct rig *rig, enum dclw_type type, uint32_t stream, uint64_t offset, uint32_t arg,
	       const void *payload, uint32_t len);
void peer_data(struct rig *rig, uint32_t stream, uint64_t offset, const void *payload, uint32_t len,
	       bool fin);
void peer_window(struct rig *rig, uint32_t stream, uint64_t limit, uint64_t acked);
void peer_reply(struct rig *rig, uint64_t id, uint32_t error, const struct wire_writer *w);
void peer_ack(struct rig *rig, uint64_t agent_id, const struct wire_writer *extra);
/* The next frame of that type, waiting for it; all before it are skipped. */
struct peer_frame *peer_expect(struct rig *rig, enum dclw_type type);
bool peer_saw(struct rig *rig, enum dclw_type type);	/* behind the cursor */
void peer_hang_up(struct rig *rig);

/* A stream that records. */
struct sink {
	struct rig *rig;
	struct agent_stream *stream;
	uint8_t *data;
	size_t len, max;
	uint64_t bytes;			/* delivered, whether kept or not */
	uint64_t sum;			/* FNV-1a over all of them */
	bool consume, ended, keep;
	int error;
	unsigned int gaps, ends, writables;
	uint64_t gap_from, gap_to, acked;
	/* as a source: pattern bytes still to write */
	uint64_t to_write, written;
	bool finish;
};
#define FNV_START 0xcbf29ce484222325ull
uint64_t fnv(uint64_t sum, const uint8_t *data, size_t len);
extern const struct agent_stream_ops sink_ops;
void sink_open(struct rig *rig, struct sink *k, enum agent_stream_dir dir, uint32_t window);
void sink_adopt(struct rig *rig, struct sink *k, uint32_t id, enum agent_stream_dir dir,
		uint64_t offset);
void sink_done(struct sink *k);
/* Writes `bytes` of the pattern and finishes, as the stream takes it. */
void sink_pump(struct sink *k, uint64_t bytes);
uint8_t pattern_byte(uint64_t offset);

/* Ends a test: every object freed, then no leak may be left. */
void check_leaks(void);

#endif
