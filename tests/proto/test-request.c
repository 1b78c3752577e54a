/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests that are longer than a frame (guest/PROTOCOL.md §3.3): the real session with the
 * real agent, through a relay that cuts at fragment borders, and against a script.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "harness.h"

#define AGENT 0x1122334455667788ull
#define VARS 10u
#define VAR_BYTES (30u * 1024)

struct start {
	int error;
	uint32_t pid;
	unsigned int calls;
	struct rig *rig;
	char message[192];
};

static void on_pid(void *userdata, int error, uint32_t pid)
{
	struct start *st = userdata;

	st->calls++;
	st->error = error;
	st->pid = pid;
	if (st->rig)
		strncpy(st->message, agent_message(st->rig->agent), sizeof(st->message) - 1);
}

/* NAME=value of that many bytes, of letters that differ by place and seed. */
static char *variable(unsigned int seed, size_t bytes)
{
	char *s = malloc(bytes + 1);
	int n;

	cr_assert(s);
	n = snprintf(s, bytes + 1, "VAR%u=", seed);
	for (size_t i = (size_t)n; i < bytes; i++)
		s[i] = (char)('a' + (i * 7 + seed + i / 1000) % 26);
	s[bytes] = 0;
	return s;
}

static char **environment(unsigned int n, size_t bytes)
{
	char **env = calloc(n + 1, sizeof(*env));

	cr_assert(env);
	for (unsigned int i = 0; i < n; i++)
		env[i] = variable(i, bytes);
	return env;
}

static void environment_free(char **env)
{
	for (char **e = env; *e; e++)
		free(*e);
	free(env);
}

/* What /proc/self/environ begins with. */
static void assert_environ(const struct sink *out, char **env)
{
	size_t at = 0;

	for (char **e = env; *e; e++) {
		size_t len = strlen(*e) + 1;

		cr_assert(out->len >= at + len, "%zu bytes only", out->len);
		cr_assert_eq(memcmp(out->data + at, *e, len), 0, "variable %td differs", e - env);
		at += len;
	}
}

static const char *const print_environ[] = { "/bin/cat", "/proc/self/environ", NULL };

Test(request, large_environment, .timeout = 60)
{
	char **env = environment(VARS, VAR_BYTES);
	struct agent_proc_spec spec = {
		.token = 1, .argv = print_environ, .env = (const char *const *)env, .cwd = "/",
	};
	struct rig *rig = rig_new();
	struct start st = { 0 };
	struct sink out;

	rig_agent(rig);
	sink_open(rig, &out, AGENT_STREAM_IN, 65536);
	spec.out = out.stream;
	cr_assert_eq(agent_proc_start(rig->agent, &spec, on_pid, &st), 0);
	RIG_WAIT(rig, rig->n_exits == 1 && out.ended);
	cr_assert_eq(st.error, 0);
	cr_assert_eq(rig->exits[0].status, 0);
	assert_environ(&out, env);
	sink_done(&out);
	environment_free(env);
	rig_free(rig);
}

/* Every length around a frame's border, as one argument. */
Test(request, lengths_around_a_frame, .timeout = 60)
{
	static const char *argv[] = { "/bin/printf", "%s", NULL, NULL };
	struct rig *rig = rig_new();

	rig_agent(rig);
	for (unsigned int i = 0; i < 24; i++) {
		char *arg = variable(i, DCLW_PAYLOAD_MAX - 90 + i * 4);
		struct agent_proc_spec spec = { .token = i + 1, .argv = argv, .cwd = "/" };
		struct start st = { 0 };
		struct sink out;

		argv[2] = arg;
		sink_open(rig, &out, AGENT_STREAM_IN, 65536);
		spec.out = out.stream;
		cr_assert_eq(agent_proc_start(rig->agent, &spec, on_pid, &st), 0);
		RIG_WAIT(rig, rig->n_exits == i + 1 && out.ended);
		cr_assert_eq(out.len, strlen(arg));
		cr_assert_eq(memcmp(out.data, arg, out.len), 0);
		sink_done(&out);
		agent_proc_forget(rig->agent, st.pid);
		free(arg);
	}
	rig_free(rig);
}

/* Too large for the protocol: refused here. Too large for execve(): refused there, with a reason. */
Test(request, oversize, .timeout = 60)
{
	static const char *const argv[] = { "/bin/true", NULL };
	struct rig *rig = rig_new();
	char **much = environment(18, VAR_BYTES), **one = environment(1, 200 * 1024);
	struct agent_proc_spec spec = { .token = 1, .argv = argv, .cwd = "/" };
	struct start st = { .rig = rig }, fine = { 0 };

	rig_agent(rig);
	spec.env = (const char *const *)much;
	cr_assert_eq(agent_proc_start(rig->agent, &spec, on_pid, &st), -E2BIG);
	spec.env = (const char *const *)one;
	cr_assert_eq(agent_proc_start(rig->agent, &spec, on_pid, &st), 0);
	RIG_WAIT(rig, st.calls == 1);
	cr_assert_eq(st.error, E2BIG);
	cr_assert(strstr(st.message, "/bin/true") && strstr(st.message, strerror(E2BIG)), "%s",
		  st.message);
	spec.env = NULL;
	cr_assert_eq(agent_proc_start(rig->agent, &spec, on_pid, &fine), 0);
	RIG_WAIT(rig, rig->n_exits == 1);
	cr_assert_eq(fine.error, 0);
	cr_assert_eq(rig->ups, 1);
	environment_free(much);
	environment_free(one);
	rig_free(rig);
}

/* --- cut at the borders --- */

static void assert_started_once(const char *path)
{
	char text[8];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	cr_assert(fd >= 0);
	cr_assert_eq(read(fd, text, sizeof(text)), 2, "not started exactly once");
	close(fd);
	unlink(path);
}

static void start_and_cut(int64_t down, int64_t up)
{
	static const char *const argv[] = { "/bin/sh", "-c",
					    "echo x >> \"$F\"; exec cat /proc/self/environ", NULL };
	char **env = environment(VARS, VAR_BYTES);
	struct agent_counters c;
	struct agent_proc_spec spec = { .token = 5, .argv = argv, .cwd = "/" };
	struct rig *rig = rig_new();
	struct start st = { 0 };
	struct sink out;

	free(env[VARS - 1]);
	cr_assert(asprintf(&env[VARS - 1], "F=%s.log", rig->path) > 0);
	spec.env = (const char *const *)env;
	rig_relay(rig);
	cr_assert_eq(agent_start(rig->agent), 0);
	RIG_WAIT(rig, rig->ups == 1);
	rig->relay.cut_down = down;
	rig->relay.cut_up = up;
	sink_open(rig, &out, AGENT_STREAM_IN, 65536);
	spec.out = out.stream;
	cr_assert_eq(agent_proc_start(rig->agent, &spec, on_pid, &st), 0);
	RIG_WAIT(rig, rig->n_exits == 1 && out.ended);
	cr_assert_eq(rig->relay.cuts, 1);
	cr_assert_eq(rig->ups, 2);
	cr_assert_eq(st.calls, 1);
	cr_assert_eq(st.error, 0);
	cr_assert(out.len > (VARS - 1) * VAR_BYTES);
	assert_started_once(env[VARS - 1] + 2);
	agent_get_counters(rig->agent, &c);
	cr_assert_eq(c.violations, 0, "cut at %lld/%lld: %s", (long long)down, (long long)up,
		     c.last_violation);
	sink_done(&out);
	environment_free(env);
	rig_free_unchecked(rig);
}

Test(request, cut_at_fragment_borders, .timeout = 300)
{
	const int64_t frames = (VARS - 1) * VAR_BYTES / DCLW_PAYLOAD_MAX;

	start_and_cut(1, -1);
	for (int64_t i = 1; i <= frames; i++)
		for (int64_t d = -1; d <= 1; d++)
			start_and_cut(i * DCLW_FRAME_MAX + d, -1);
	check_leaks();
}

/* It runs, and its reply is lost: all fragments again, no second process. */
Test(request, cut_after_the_last_fragment, .timeout = 60)
{
	start_and_cut(-1, 1);
	check_leaks();
}

/* --- the session against a script --- */

static void undeafen(struct rig *rig)
{
	rig->peer.deaf = false;
	cr_assert(sd_event_source_set_enabled(rig->peer.io, SD_EVENT_ON) >= 0);
}

static void ask(struct rig *rig, size_t bytes, struct start *st)
{
	char **env = environment(VARS, bytes / VARS);
	struct agent_proc_spec spec = {
		.token = 9, .argv = print_environ, .env = (const char *const *)env, .cwd = "/",
	};

	cr_assert_eq(agent_proc_start(rig->agent, &spec, on_pid, st), 0);
	environment_free(env);
}

/* Reads fragments until the last; nothing else may be among the REQUESTs. Returns the id. */
static uint64_t expect_fragments(struct rig *rig, size_t *ret_len, unsigned int *ret_frames)
{
	struct peer_frame *f;
	uint64_t id = 0;

	*ret_len = *ret_frames = 0;
	do {
		f = peer_expect(rig, DCLW_REQUEST);
		cr_assert(id == 0 || id == f->header.offset, "a request inside a request");
		id = f->header.offset;
		*ret_len += f->header.length;
		(*ret_frames)++;
		cr_assert(!(f->header.flags & DCLW_MORE) || f->header.length == DCLW_PAYLOAD_MAX);
	} while (f->header.flags & DCLW_MORE);
	return id;
}

static void reply_pid(struct rig *rig, uint64_t id)
{
	uint8_t buf[32];
	struct wire_writer w;

	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u32(&w, DCLW_TAG_PID, 4711);
	peer_reply(rig, id, 0, &w);
}

static void on_reply(void *userdata, int error, const uint8_t *reply, size_t len)
{
	int *seen = userdata;

	(void)reply;
	(void)len;
	*seen = error ? error : 1;
}

Test(request, repeated_from_the_first_byte, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct start st = { 0 };
	unsigned int frames, again;
	size_t len, len_again;
	uint64_t id;

	rig_peer_up(rig);
	ask(rig, 300 * 1024, &st);
	id = expect_fragments(rig, &len, &frames);
	cr_assert(len > 300 * 1024 - VARS && frames == (len - 1) / DCLW_PAYLOAD_MAX + 1);
	peer_hang_up(rig);
	peer_expect(rig, DCLW_HELLO);
	peer_ack(rig, AGENT, NULL);
	cr_assert_eq(expect_fragments(rig, &len_again, &again), id);
	cr_assert_eq(len_again, len);
	cr_assert_eq(again, frames);
	reply_pid(rig, id);
	RIG_WAIT(rig, st.calls == 1);
	cr_assert_eq(st.pid, 4711);
	rig_free(rig);
}

/* The guest finishes what it had from before the cut while we are repeating it: the rest is sent
 * all the same, and the next request stands behind it. */
Test(request, answered_while_being_repeated, .timeout = 60)
{
	struct agent_counters c;
	struct rig *rig = rig_new();
	struct start st = { 0 };
	unsigned int frames;
	uint64_t id;
	size_t len;
	int seen = 0;

	rig_peer_up(rig);
	ask(rig, 480 * 1024, &st);
	id = expect_fragments(rig, &len, &frames);
	peer_hang_up(rig);
	peer_expect(rig, DCLW_HELLO);
	rig->peer.deaf = true;
	peer_ack(rig, AGENT, NULL);
	rig_settle(rig);
	reply_pid(rig, id);
	RIG_WAIT(rig, st.calls == 1);
	cr_assert_eq(agent_request_send(rig->agent, DCLW_OP_STATS, NULL, on_reply, &seen, NULL),
		     0);
	reply_pid(rig, id);
	rig_settle(rig);
	undeafen(rig);
	cr_assert_eq(expect_fragments(rig, &len, &frames), id);
	cr_assert_eq(expect_fragments(rig, &len, &frames), id + 1);
	cr_assert_eq(frames, 1);
	reply_pid(rig, id);
	peer_reply(rig, id + 1, 0, NULL);
	RIG_WAIT(rig, seen == 1);
	cr_assert_eq(st.calls, 1);
	cr_assert_eq(st.pid, 4711);
	agent_get_counters(rig->agent, &c);
	cr_assert_eq(c.violations, 0, "%s", c.last_violation);
	rig_free(rig);
}

/* The same, and the connection breaks in between: nobody waits for it any more. */
Test(request, answered_and_cut, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct start st = { 0 };
	unsigned int frames;
	uint64_t id;
	size_t len;
	int seen = 0;

	rig_peer_up(rig);
	ask(rig, 480 * 1024, &st);
	id = expect_fragments(rig, &len, &frames);
	peer_hang_up(rig);
	peer_expect(rig, DCLW_HELLO);
	rig->peer.deaf = true;
	peer_ack(rig, AGENT, NULL);
	rig_settle(rig);
	reply_pid(rig, id);
	RIG_WAIT(rig, st.calls == 1);
	peer_hang_up(rig);
	rig->peer.deaf = false;
	peer_expect(rig, DCLW_HELLO);
	peer_ack(rig, AGENT, NULL);
	RIG_WAIT(rig, rig->ups == 3);
	cr_assert_eq(agent_request_send(rig->agent, DCLW_OP_STATS, NULL, on_reply, &seen, NULL),
		     0);
	cr_assert_eq(expect_fragments(rig, &len, &frames), id + 1);
	cr_assert_eq(frames, 1);
	rig_free(rig);
}

/* A reply to what was never sent in full is a lie. */
Test(request, answered_too_early, .timeout = 60)
{
	struct agent_counters c;
	struct rig *rig = rig_new();
	struct start st = { 0 };

	rig_peer_up(rig);
	rig->peer.deaf = true;
	ask(rig, 480 * 1024, &st);
	rig_settle(rig);
	reply_pid(rig, 1);
	RIG_WAIT(rig, (agent_get_counters(rig->agent, &c), c.violations == 1));
	cr_assert_str_eq(c.last_violation, "REPLY to nothing");
	cr_assert_eq(st.calls, 0);
	rig_free(rig);
}

/* Cancelled with its beginning on the wire: the guest gets all of it. */
Test(request, cancelled_half_way, .timeout = 60)
{
	static uint8_t buf[DCLW_REQUEST_MAX], filler[1000];
	struct agent_request *r;
	struct rig *rig = rig_new();
	unsigned int frames;
	struct wire_writer w;
	int seen = 0, next = 0;
	uint64_t id;
	size_t len;

	wire_writer_init(&w, buf, sizeof(buf));
	while (w.len < 450 * 1024)
		wire_put_bytes(&w, DCLW_TAG_MESSAGE, filler, sizeof(filler));
	rig_peer_up(rig);
	rig->peer.deaf = true;
	cr_assert_eq(agent_request_send(rig->agent, DCLW_OP_STATS, &w, on_reply, &seen, &r), 0);
	rig_settle(rig);
	agent_request_cancel(r);
	cr_assert_eq(agent_request_send(rig->agent, DCLW_OP_STATS, NULL, on_reply, &next, NULL),
		     0);
	undeafen(rig);
	id = expect_fragments(rig, &len, &frames);
	cr_assert_eq(len, w.len + 2);
	cr_assert_eq(expect_fragments(rig, &len, &frames), id + 1);
	peer_reply(rig, id, 0, NULL);
	peer_reply(rig, id + 1, 0, NULL);
	RIG_WAIT(rig, next == 1);
	cr_assert_eq(seen, 0);
	rig_free(rig);
}

/* Large ones are bounded by their bytes; small ones pass all the same. */
Test(request, waiting_bytes_are_bounded, .timeout = 60)
{
	static uint8_t buf[DCLW_REQUEST_MAX];
	struct wire_writer w = { .buf = buf, .size = sizeof(buf), .len = DCLW_REQUEST_MAX - 2 };
	struct rig *rig = rig_new();
	unsigned int n = 0;
	int seen = 0, r;

	rig_session(rig, rig->path, 20000000, 0);
	while ((r = agent_request_send(rig->agent, DCLW_OP_STATS, &w, NULL, NULL, NULL)) == 0)
		n++;
	cr_assert_eq(r, -ENOBUFS);
	cr_assert(n >= 8 && n <= 64, "%u", n);
	cr_assert_eq(agent_request_send(rig->agent, DCLW_OP_STATS, NULL, on_reply, &seen, NULL),
		     0);
	w.len++;
	cr_assert_eq(agent_request_send(rig->agent, DCLW_OP_STATS, &w, NULL, NULL, NULL), -E2BIG);
	rig_free(rig);
}
