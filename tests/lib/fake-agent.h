/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A double of agent.h: what core asks of a guest is queued with the calls of fake-host.h; what a guest does is done by
 * the test. Streams are played through the pointers that core holds (proc->out and so on), so their state is public.
 */
#ifndef DECLAW_TESTS_FAKE_AGENT_H
#define DECLAW_TESTS_FAKE_AGENT_H

#include "agent/agent.h"
#include "lib/fake-host.h"

#define FAKE_MAGIC 0xa6e27u
#define FAKE_WRITTEN_MAX (4u << 20)

struct agent {
	struct list link;
	unsigned int magic;
	char id[32];			/* sandbox, from the socket's path */
	const struct agent_ops *ops;
	void *userdata;
	bool started, up, lost, detached, dead, held;
	unsigned int depth;
	int fd;
	uint64_t expected;
	struct list streams;
};

struct agent_stream {
	struct list link;
	struct agent *agent;
	unsigned int magic;
	uint32_t id, window;
	enum agent_stream_dir dir;
	bool adopted, finished, broken;
	const struct agent_stream_ops *ops;
	void *userdata;
	uint64_t next;			/* IN: offset of the next byte */
	uint64_t consumed;
	uint64_t base;			/* OUT: the guest's offset when it was adopted */
	uint8_t *written;
	size_t n_written, room;
};

/* The guest's end. feed: bytes of output; the process must have credit for them. */
void fake_feed(struct agent_stream *s, const void *data, size_t len);
void fake_ack(struct agent_stream *s, uint64_t offset);
void fake_room(struct agent_stream *s, size_t room);
void fake_end(struct agent_stream *s, int error);
void fake_exit(struct agent *a, uint64_t token, uint32_t pid, bool signalled, uint32_t status);
void fake_up(struct agent *a, uint64_t agent_id);
void fake_lose(struct agent *a, int reason);

#define FAKE_GUEST_PROCS 512
struct fake_guest {
	struct agent_proc procs[FAKE_GUEST_PROCS];	/* what PROC_LIST tells */
	size_t n_procs;
	uint64_t agent_id;		/* what HELLO_ACK says */
	int identity_error;
	uint32_t next_stream, next_pid;
	size_t room;			/* of new OUT streams */
	char message[64];		/* with a refusal */
	char argv[256], env[4096], user[64], cwd[256];	/* of the last start */
	uint64_t token;
	uint32_t signal_pid, forget_pid;
	int signal;
	unsigned int n_signals, n_forgets, n_resets;
	unsigned int n_agents, n_streams;	/* objects alive */
};
extern struct fake_guest guest;

#endif
