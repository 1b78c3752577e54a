/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of daemon/agent share. Nobody else includes this.
 *
 * Lifetime. Callbacks may free anything, the agent included. So nothing is freed while one of our
 * callbacks from the loop is on the stack (depth > 0): objects go to a graveyard that agent_leave()
 * empties. An API call changes state, links objects into the lists below and arms the defer source;
 * the loop does the rest, so no API call ever calls back.
 */
#ifndef DECLAW_AGENT_INTERNAL_H
#define DECLAW_AGENT_INTERNAL_H

#include "agent/agent.h"
#include "agent/link.h"
#include "util/list.h"
#include "wire/proto.h"
#include "wire/tlv.h"

#define STREAM_BUCKETS 256u
#define RETIRED_MAX 256u
#define ZOMBIES_LAZY 64u	/* as many streams may wait for a periodic ping */
#define WAITING_MAX 1024u	/* requests not on the wire */
/* Bytes of all requests together that need more than one frame, sent or not */
#define LARGE_MAX (16u * 1024 * 1024)
#define REQUEST_STREAMS 3u
/* Violations that are answered with a reconnect; one more is the end. */
#define STRIKES_MAX 3u
/* Meaningless frames tolerated between two ticks of the session timer, and at most per second. */
#define NOISE_MAX 4096u

/*
 * IDLE:       not started or detached. No socket.
 *             agent_start(): CONNECTING; agent_start_fd(): GREETING.
 * CONNECTING: the link tries. Connected: GREETING. Deadline: LOST.
 * GREETING:   HELLO is out; every frame but its HELLO_ACK is dropped. HELLO_ACK: UP. Connection
 * gone: CONNECTING. Deadline: LOST. UP:         frames must be legal. Gone, or a broken rule:
 * CONNECTING, or LOST when it was one too many. LOST:       everything has been failed.
 * agent_start*() begins anew, as with a new guest.
 */
enum agent_state {
	AGENT_IDLE,
	AGENT_CONNECTING,
	AGENT_GREETING,
	AGENT_UP,
	AGENT_LOST,
	AGENT_STATE_MAX
};

enum frame_kind {
	FRAME_HELLO, FRAME_PING, FRAME_RESUME, FRAME_WINDOW, FRAME_RESET, FRAME_REQUEST,
	FRAME_DATA, FRAME_KIND_MAX
};

/* The output streams of a process that was started, until its exit has been delivered. */
struct known_proc {
	struct list link;
	uint64_t token;
	uint32_t streams[2];
};

/* An exit that waits until the process's output has been delivered. */
struct held_exit {
	struct list link;
	struct agent_exit exit;
	uint32_t streams[2];
};

struct agent {
	sd_event *event;
	struct agent_config config;
	struct agent_ops ops;
	void *userdata;
	struct link link;
	sd_event_source *defer, *timer;
	enum agent_state state;
	unsigned int depth;
	bool dead;			/* agent_free() was called inside a callback */
	struct agent_counters counters;
	unsigned int strikes;
	unsigned int noise;		/* since noise_since */
	uint64_t noise_since;
	int cause;			/* why the last connection was given up by us, or 0 */

	/* handshake */
	uint64_t instance, epoch;
	unsigned int session;		/* HELLO_ACKs so far */
	uint64_t deadline;		/* of HELLO_ACK */
	uint64_t hello_at, hello_pause;
	bool hello_due;
	struct agent_peer peer;
	uint64_t expect;		/* agent_id, 0 = any */

	/* liveness, and the barrier behind which the guest has seen our RESETs */
	uint64_t ping_seq, pong_seq;
	uint64_t ping_at;
	uint64_t frames_at_ping;
	unsigned int ping_missed;
	bool ping_due;
	bool held;			/* agent_hold() */

	/* streams */
	struct agent_stream *buckets[STREAM_BUCKETS];
	unsigned int n_streams, n_zombies;
	uint32_t next_id;
	uint32_t retired[RETIRED_MAX];
	unsigned int retired_at;
	struct list streams;		/* all */
	struct list resume;		/* IN: RESUME to be sent */
	struct list window;		/* IN: WINDOW to be sent */
	struct list reset;		/* RESET to be sent */
	struct list ready;		/* OUT: perhaps something to send */
	struct list grave;		/* freed, memory still in use on the stack */
	uint64_t ackable;		/* consumed and not acknowledged, all streams */
	struct list procs;		/* struct known_proc */
	struct list exits;		/* struct held_exit */
	unsigned int n_exits, n_procs;

	/* requests */
	struct list waiting, sent, request_grave;
	unsigned int n_waiting, n_sent;
	size_t large;			/* bytes of those that need more than one frame */
	uint64_t next_request;
	char message[192];		/* of the reply being delivered */
};

/* Whether it is in a list or not. */
static inline void list_move(struct list *head, struct list *n)
{
	list_unlink(n);
	list_append(head, n);
}

/* session.c */
void agent_enter(struct agent *a);
void agent_leave(struct agent *a);
/* Something is to be sent: before the loop sleeps. */
void agent_kick(struct agent *a);
/* A rule was broken: counts, closes, reconnects or loses. Which: a constant text. */
void agent_violation(struct agent *a, const char *which);
void agent_noise(struct agent *a);
void agent_lose(struct agent *a, int reason);
/* HELLO_ACK was good. */
void agent_up(struct agent *a);
/* May frames of the current epoch be exchanged? */
static inline bool agent_is_talking(const struct agent *a)
{
	return a->state == AGENT_UP && !a->dead;
}
static inline struct dclw_header agent_header(const struct agent *a, enum dclw_type type,
					      uint32_t stream, uint32_t length, uint64_t offset)
{
	return (struct dclw_header) {
		.type = (uint8_t)type, .epoch = (uint16_t)a->epoch, .stream = stream,
		.length = length, .offset = offset,
	};
}

/* hello.c */
void hello_begin(struct agent *a);
void hello_again(struct agent *a);
bool hello_fill(struct agent *a);
void hello_ack(struct agent *a, const struct wire_frame *f);

/* event.c */
void event_frame(struct agent *a, const struct wire_frame *f);
/* Delivers the exits whose output is complete. */
void event_release_exits(struct agent *a);
void event_drop_all(struct agent *a);
int event_expect_exit(struct agent *a, uint64_t token, uint32_t out, uint32_t err);
void event_unexpect_exit(struct agent *a, uint64_t token);

/* request.c */
struct agent_request;
typedef void (*request_handler)(struct agent_request *r, int error, const uint8_t *reply,
				size_t len);
struct agent_request {
	struct list link;		/* agent->waiting or ->sent */
	struct agent *agent;
	uint64_t id;
	bool ever_sent, is_sent;	/* as a whole */
	bool answered;			/* by itself, while it was being sent again */
	uint32_t pos;			/* bytes of the payload that are on the wire */
	request_handler handler;	/* NULL: cancelled */
	union {
		agent_reply_fn reply;
		agent_pid_fn pid;
		agent_done_fn done;
		agent_file_fn file;
		agent_stats_fn stats;
		agent_proc_fn proc;
	} fn;
	void *userdata;
	uint64_t token;			/* PROC_START */
	unsigned int page;		/* PROC_LIST */
	uint32_t streams[REQUEST_STREAMS];
	uint32_t length;
	uint8_t payload[];
};
/* Queues; the caller sets ->fn and the rest behind it before returning to the loop. */
int request_new(struct agent *a, uint16_t op, const struct wire_writer *payload,
		request_handler handler, struct agent_stream *const streams[REQUEST_STREAMS],
		struct agent_request **ret);
bool request_fill(struct agent *a);
/* One frame of it is on the wire. */
void request_sent(struct agent *a, struct agent_request *r, uint32_t len);
void request_reply(struct agent *a, const struct wire_frame *f);
void request_resync(struct agent *a);
/* Fails those that were on the wire, or all of them. */
void request_fail(struct agent *a, bool all, int error);
void request_drop(struct agent *a);
void request_sweep(struct agent *a);
/* Is there a waiting or unanswered request that names the stream? */
bool request_names(const struct agent *a, uint32_t stream);

/* stream.c */
struct agent_stream {
	struct list link;		/* agent->streams or ->grave */
	struct list resume, window, reset, ready;
	struct agent_stream *bucket_next;
	struct agent *agent;		/* NULL: the agent was freed */
	struct agent_stream_ops ops;
	void *userdata;
	uint32_t id;
	enum agent_stream_dir dir;
	bool announced; /* a request naming it has been on the wire, or it was adopted */
	bool over;	/* no frame may come or go any more, but for the last WINDOW */
	bool zombie;	/* its owner freed it; remembered until the guest knows that, too */
	uint32_t reset_error;
	uint64_t barrier;		/* PONG that ends it; zombie: 0 = not told yet */
	unsigned int announced_in;	/* agent->session when it was announced */
	uint32_t size;			/* window */

	/* both: absolute offsets */
	uint64_t limit;			/* IN: granted; OUT: credit from the guest */
	bool fin;			/* IN: received; OUT: wanted by the owner */
	uint64_t end;			/* valid with fin */

	/* IN */
	uint64_t next;			/* next byte expected */
	uint64_t unconsumed;		/* delivered and not yet consumed */
	uint64_t credit_mark;		/* credit left right after the last grant */
	uint64_t ackable;		/* its share of agent->ackable */
	uint64_t acked_told;		/* acknowledgement in the last WINDOW */
	uint64_t gap_start, gap_end;	/* the last one */
	bool may_gap;			/* RESUME sent and no byte since */

	/* OUT: ring[acked..written), of which [acked..sent) may have to be sent again */
	uint8_t *ring;
	uint64_t acked, sent, planned, written;
	uint64_t high;			/* sent at most, over all connections */
	bool fin_sent, fin_planned, blocked;
	bool unplaced;			/* adopted: the guest's offset is not known yet */
	unsigned int stated_in;		/* agent->session of the last STREAM_STATE */
};
struct agent_stream *stream_find(const struct agent *a, uint32_t id);
void stream_announced(struct agent_stream *s);
/* The request that named it was refused or will never be sent. */
void stream_unnamed(struct agent *a, uint32_t id, bool refused);
/* Takes it out of all lists of work. */
void stream_over(struct agent_stream *s);
/* stream_over() and tell the owner. */
void stream_end(struct agent_stream *s, int error);
void stream_ponged(struct agent *a, uint64_t seq);
void stream_frame(struct agent *a, const struct wire_frame *f);
void stream_fail(struct agent *a, bool all, int error);
void stream_resync(struct agent *a);
bool stream_retired(const struct agent *a, uint32_t id);
void stream_sweep(struct agent *a);
void stream_orphan_all(struct agent *a);
bool stream_reset_fill(struct agent *a);
void stream_reset_sent(struct agent *a, struct agent_stream *s);
/* The last word about a zombie is out. */
void stream_told(struct agent *a, struct agent_stream *s);

/* stream-in.c */
bool stream_in_fill(struct agent *a);
void stream_in_sent(struct agent *a, const struct link_frame *f);
void stream_in_data(struct agent_stream *s, const struct wire_frame *f);
void stream_in_gap(struct agent_stream *s, const struct wire_frame *f);
void stream_in_resync(struct agent_stream *s);
void stream_in_credit(struct agent_stream *s);
/* Takes it out of the sum of what could be acknowledged. */
void stream_in_untold(struct agent_stream *s);

/* stream-out.c */
bool stream_out_fill(struct agent *a);
void stream_out_sent(struct agent_stream *s, const struct link_frame *f);
/* The guest answered a PING. */
void stream_out_ponged(struct agent_stream *s, uint64_t seq);
void stream_out_window(struct agent_stream *s, const struct wire_frame *f);
/* next: what the guest wants, from HELLO_ACK */
void stream_out_state(struct agent_stream *s, uint64_t next);
void stream_out_resync(struct agent_stream *s);
void stream_out_ready(struct agent_stream *s);

#endif
