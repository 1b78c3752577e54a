/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nothing is lost and nothing happens twice when the connection is cut: the real agent and the real
 * session through a relay that loses what QEMU would lose. A short session is recorded, then run
 * again and cut after each of its bytes, in both directions.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>

#include "harness.h"

#define ECHO_BYTES 300

static void on_pid(void *userdata, int error, uint32_t pid)
{
	uint32_t *ret = userdata;

	cr_assert_eq(error, 0, "start: %d", error);
	*ret = pid;
}

static void on_done(void *userdata, int error)
{
	int *done = userdata;

	*done = error ? error : 1;
}

static void assert_echo(const struct sink *out, uint64_t bytes)
{
	cr_assert_eq(out->gaps, 0);
	cr_assert_eq(out->len, bytes, "%zu bytes of %llu", out->len, (unsigned long long)bytes);
	for (uint64_t i = 0; i < bytes; i++)
		cr_assert(out->data[i] == pattern_byte(i), "byte %llu differs",
			  (unsigned long long)i);
}

static void start_cat(struct rig *rig, struct sink *in, struct sink *out, uint32_t *pid)
{
	static const char *const argv[] = { "/bin/cat", NULL };
	struct agent_proc_spec spec = { .token = 77, .argv = argv, .cwd = "/" };

	sink_open(rig, in, AGENT_STREAM_OUT, 65536);
	sink_open(rig, out, AGENT_STREAM_IN, 65536);
	spec.in = in->stream;
	spec.out = out->stream;
	cr_assert_eq(agent_proc_start(rig->agent, &spec, on_pid, pid), 0);
}

static void on_reply(void *userdata, int error, const uint8_t *reply, size_t len)
{
	(void)reply;
	(void)len;
	on_done(userdata, error);
}

/* agent_proc_forget(), but with an answer to wait for. */
static void forget(struct rig *rig, uint32_t pid, int *done)
{
	uint8_t buf[32];
	struct wire_writer w;

	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u32(&w, DCLW_TAG_PID, pid);
	cr_assert_eq(agent_request_send(rig->agent, DCLW_OP_PROC_FORGET, &w, on_reply, done, NULL),
		     0);
}

/* The recorded session: a process, its input, its output, its exit, and the slot freed. */
static void session(struct rig *rig, uint64_t bytes)
{
	struct sink in, out;
	uint32_t pid = 0;
	int done = 0;

	cr_assert_eq(agent_start(rig->agent), 0);
	start_cat(rig, &in, &out, &pid);
	sink_pump(&in, bytes);
	RIG_WAIT(rig, rig->n_exits > 0 && out.ended && pid);
	assert_echo(&out, bytes);
	cr_assert_eq(out.error, 0);
	cr_assert_eq(out.ends, 1);
	cr_assert_eq(rig->exits[0].token, 77);
	cr_assert_eq(rig->exits[0].status, 0);
	sink_done(&in);
	sink_done(&out);
	cr_assert_eq(agent_proc_signal(rig->agent, pid, SIGTERM, false, on_done, &done), 0);
	RIG_WAIT(rig, done);
	cr_assert_eq(done, ESRCH);
	done = 0;
	forget(rig, pid, &done);
	RIG_WAIT(rig, done);
	cr_assert_eq(done, 1);
	cr_assert_eq(rig->losts, 0);
}

static void record(uint64_t *down, uint64_t *up)
{
	struct rig *rig = rig_new();

	rig_relay(rig);
	session(rig, ECHO_BYTES);
	*down = rig->relay.down;
	*up = rig->relay.up;
	rig_free(rig);
}

static void cut_once(int64_t down, int64_t up)
{
	struct agent_counters c;
	struct rig *rig = rig_new();

	rig_relay(rig);
	rig->relay.cut_down = down;
	rig->relay.cut_up = up;
	session(rig, ECHO_BYTES);
	agent_get_counters(rig->agent, &c);
	cr_assert_eq(c.violations, 0, "cut at %lld/%lld: %s", (long long)down, (long long)up,
		     c.last_violation);
	cr_assert(rig->ups <= 2);
	rig_free_unchecked(rig);
}

Test(resume, cut_every_byte_to_the_guest, .timeout = 600)
{
	uint64_t down, up;

	record(&down, &up);
	cut_once(1, -1);
	cut_once(DCLW_PREAMBLE / 2, -1);
	for (uint64_t i = DCLW_PREAMBLE - 1; i <= down; i++)
		cut_once((int64_t)i, -1);
	check_leaks();
}

Test(resume, cut_every_byte_to_the_host, .timeout = 600)
{
	uint64_t down, up;

	record(&down, &up);
	for (uint64_t i = 1; i <= up; i++)
		cut_once(-1, (int64_t)i);
	check_leaks();
}

/* Cut again and again at random places while megabytes go through. */
Test(resume, many_cuts, .timeout = 300)
{
	const uint64_t bytes = 4 * 1024 * 1024;
	struct agent_counters c;
	struct rig *rig = rig_new();
	struct sink in, out;
	uint32_t pid = 0;
	unsigned int seed = 1;

	rig_relay(rig);
	cr_assert_eq(agent_start(rig->agent), 0);
	start_cat(rig, &in, &out, &pid);
	sink_pump(&in, bytes);
	while (rig->n_exits == 0 || !out.ended) {
		if (rig->relay.cuts < 60 && rig->relay.cut_down < 0 && rig->relay.cut_up < 0) {
			/* Some fall into the preamble, most into the traffic. */
			rig->relay.cut_down = 30000 + rand_r(&seed) % 200000;
			rig->relay.cut_up = rand_r(&seed) % 200000;
		}
		rig_step(rig);
	}
	assert_echo(&out, bytes);
	cr_assert(rig->relay.cuts >= 20, "only %u cuts", rig->relay.cuts);
	agent_get_counters(rig->agent, &c);
	cr_assert_eq(c.violations, 0, "%s", c.last_violation);
	sink_done(&in);
	sink_done(&out);
	rig_free(rig);
}

/* PROC_START is repeated by a session that cannot know that it was carried out: one process. */
Test(resume, started_once, .timeout = 60)
{
	static const char *const argv[] = { "/bin/sh", "-c", "echo x >> \"$F\"; echo y", NULL };
	char env_f[128];
	const char *const env[] = { env_f, NULL };
	struct agent_proc_spec spec = { .token = 5, .argv = argv, .env = env, .cwd = "/" };
	struct rig *rig = rig_new();
	struct sink out;
	uint32_t pid = 0;
	char text[8];
	int fd;

	snprintf(env_f, sizeof(env_f), "F=%s.log", rig->path);
	rig_relay(rig);
	cr_assert_eq(agent_start(rig->agent), 0);
	RIG_WAIT(rig, rig->ups == 1);
	/* Whatever the guest answers from now on is lost. */
	rig->relay.cut_up = 1;
	sink_open(rig, &out, AGENT_STREAM_IN, 65536);
	spec.out = out.stream;
	cr_assert_eq(agent_proc_start(rig->agent, &spec, on_pid, &pid), 0);
	RIG_WAIT(rig, rig->n_exits == 1);
	cr_assert_eq(rig->ups, 2);
	cr_assert_eq(out.len, 2);
	fd = open(env_f + 2, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(read(fd, text, sizeof(text)), 2, "started more than once");
	close(fd);
	unlink(env_f + 2);
	sink_done(&out);
	rig_free(rig);
}

/* A new daemon takes over: it knows stream ids and offsets, and gets every byte from there on. */
Test(resume, adopt_after_restart, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct sink in, out;
	uint32_t pid = 0, in_id, out_id;
	uint64_t agent_id;

	rig_relay(rig);
	cr_assert_eq(agent_start(rig->agent), 0);
	start_cat(rig, &in, &out, &pid);
	agent_stream_write(in.stream, "0123456789", 10);
	RIG_WAIT(rig, out.len == 10);
	in_id = agent_stream_id(in.stream);
	out_id = agent_stream_id(out.stream);
	agent_id = rig->last_peer.agent_id;
	/* The old daemon dies without a word; what it had spooled is 6 bytes. */
	rig->agent = agent_free(rig->agent);
	sink_done(&in);
	sink_done(&out);
	rig_settle(rig);

	rig_session(rig, rig->path, 20000000, 0);
	agent_expect(rig->agent, agent_id);
	sink_adopt(rig, &in, in_id, AGENT_STREAM_OUT, 0);
	sink_adopt(rig, &out, out_id, AGENT_STREAM_IN, 6);
	cr_assert_eq(agent_stream_write(in.stream, "early", 5),
		     0); /* where does it belong? not known yet */
	cr_assert_eq(agent_start(rig->agent), 0);
	RIG_WAIT(rig, in.writables == 1);
	cr_assert(rig->last_peer.same_agent);
	cr_assert_eq(agent_stream_write(in.stream, "abc", 3), 3);
	agent_stream_finish(in.stream);
	RIG_WAIT(rig, out.ended && rig->n_exits == 1);
	cr_assert(out.gaps <= 1);
	/* Bytes 6..9 were delivered and consumed before: the guest may say that they are gone. */
	if (out.gaps) {
		cr_assert_eq(out.gap_from, 6);
		cr_assert_eq(out.gap_to + out.len, 13);
	} else {
		cr_assert_eq(out.len, 7);
		cr_assert_eq(memcmp(out.data, "6789abc", 7), 0);
	}
	cr_assert_eq(rig->exits[0].token, 77);
	sink_done(&in);
	sink_done(&out);
	rig_free(rig);
}

/* Output that piled up while nobody listened, and an exit in that time. */
Test(resume, exit_while_detached, .timeout = 60)
{
	static const char *const argv[] = { "/bin/sh", "-c",
					    "read x; head -c 40000 /dev/zero; exit 9", NULL };
	struct agent_proc_spec spec = { .token = 6, .argv = argv, .cwd = "/" };
	struct rig *rig = rig_new();
	struct sink in, out;
	uint32_t pid = 0;
	uint64_t before;

	rig_relay(rig);
	cr_assert_eq(agent_start(rig->agent), 0);
	sink_open(rig, &in, AGENT_STREAM_OUT, 65536);
	sink_open(rig, &out, AGENT_STREAM_IN, 65536);
	spec.in = in.stream;
	spec.out = out.stream;
	cr_assert_eq(agent_proc_start(rig->agent, &spec, on_pid, &pid), 0);
	RIG_WAIT(rig, pid);
	cr_assert_eq(agent_stream_write(in.stream, "\n", 1), 1);
	before = rig->relay.down;
	RIG_WAIT(rig, rig->relay.down > before);
	agent_detach(rig->agent);
	/* Until the process is gone and reaped. */
	RIG_WAIT(rig, (rig_settle(rig), kill((pid_t)pid, 0) < 0));
	cr_assert_eq(agent_start(rig->agent), 0);
	RIG_WAIT(rig, rig->n_exits == 1);
	cr_assert_eq(out.len, 40000);
	cr_assert(out.ended);
	cr_assert_eq(rig->exits[0].status, 9);
	sink_done(&in);
	sink_done(&out);
	rig_free(rig);
}
