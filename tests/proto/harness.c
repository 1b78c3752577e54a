/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See harness.h: the loop, the recording session and its streams. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "harness.h"
#include "peer.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_LSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_LSAN 1
#endif
#endif
#ifdef HAVE_LSAN
#include <sanitizer/lsan_interface.h>

/* The runner itself leaks, and cannot be suppressed without hiding every test below it: tests look
 * themselves. */
const char *__lsan_default_options(void);
const char *__lsan_default_options(void)
{
	return "leak_check_at_exit=0";
}
#endif

void check_leaks(void)
{
#ifdef HAVE_LSAN
	cr_assert_eq(__lsan_do_recoverable_leak_check(), 0, "memory leaked");
#endif
}

uint64_t rig_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

bool rig_overdue(uint64_t since)
{
	return rig_now() - since > RIG_TIMEOUT_SEC * 1000000ull;
}

void rig_step(struct rig *rig)
{
	cr_assert(sd_event_run(rig->event, 100000) >= 0);
}

void rig_settle(struct rig *rig)
{
	while (sd_event_run(rig->event, 30000) > 0)
		;
}

/* --- the session's callbacks --- */

static void on_up(void *userdata, const struct agent_peer *peer)
{
	struct rig *rig = userdata;

	rig->ups++;
	rig->last_peer = *peer;
}

static void on_lost(void *userdata, int reason)
{
	struct rig *rig = userdata;

	rig->losts++;
	rig->lost_reason = reason;
}

static void on_exit_event(void *userdata, const struct agent_exit *ex)
{
	struct rig *rig = userdata;

	cr_assert(rig->n_exits < RIG_EXITS);
	rig->exits[rig->n_exits++] = *ex;
	if (rig->on_exit)
		rig->on_exit(rig, ex);
}

static void on_oom(void *userdata)
{
	struct rig *rig = userdata;

	rig->ooms++;
}

static const struct agent_ops ops = {
	.up = on_up, .lost = on_lost, .proc_exit = on_exit_event, .oom = on_oom,
};

struct rig *rig_new(void)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	cr_assert(rig);
	cr_assert(sd_event_new(&rig->event) >= 0);
	strncpy(rig->dir, "/tmp/declaw-proto-XXXXXX", sizeof(rig->dir) - 1);
	cr_assert(mkdtemp(rig->dir));
	snprintf(rig->path, sizeof(rig->path), "%s/agent.sock", rig->dir);
	rig->peer.fd = rig->peer.listen_fd = -EBADF;
	rig->relay.host = rig->relay.guest = rig->relay.listen_fd = -EBADF;
	rig->relay.cut_down = rig->relay.cut_up = -1;
	return rig;
}

void rig_free_unchecked(struct rig *rig)
{
	rig->agent = agent_free(rig->agent);
	peer_done(&rig->peer);
	relay_done(&rig->relay);
	if (rig->child > 0) {
		kill(rig->child, SIGKILL);
		waitpid(rig->child, NULL, 0);
	}
	sd_event_unref(rig->event);
	unlink(rig->path);
	rmdir(rig->dir);
	free(rig);
}

void rig_free(struct rig *rig)
{
	rig_free_unchecked(rig);
	check_leaks();
}

void rig_session(struct rig *rig, const char *path, uint64_t connect_usec, uint64_t ping_usec)
{
	struct agent_config config = {
		.connect_timeout_usec = connect_usec,
		.ping_interval_usec = ping_usec,
		.ping_misses = 3,
	};

	cr_assert_eq(agent_new(rig->event, path, &config, &ops, rig, &rig->agent), 0);
}

/* --- the real agent --- */

pid_t rig_spawn_agent(int fd)
{
	const char *binary = getenv("DECLAW_AGENT");
	sigset_t none;
	pid_t pid;

	cr_assert(binary && *binary, "DECLAW_AGENT names no agent");
	cr_assert(fd > 3);
	pid = fork();
	cr_assert(pid >= 0);
	if (pid > 0)
		return pid;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(fd, 3);
	execl(binary, binary, "--fd", "3", NULL);
	_exit(127);
}

static void make_pair(int sv[2])
{
	int hi;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	for (int i = 0; i < 2; i++)
		if (sv[i] < 10) {
			hi = fcntl(sv[i], F_DUPFD_CLOEXEC, 10);
			close(sv[i]);
			sv[i] = hi;
		}
}

void rig_agent(struct rig *rig)
{
	int sv[2];

	make_pair(sv);
	rig->child = rig_spawn_agent(sv[1]);
	close(sv[1]);
	rig_session(rig, NULL, 20000000, 0);
	cr_assert_eq(agent_start_fd(rig->agent, sv[0]), 0);
	RIG_WAIT(rig, rig->ups == 1);
}

void rig_relay(struct rig *rig)
{
	int sv[2];

	make_pair(sv);
	rig->child = rig_spawn_agent(sv[1]);
	close(sv[1]);
	relay_start(rig, sv[0]);
	rig_session(rig, rig->path, 20000000, 0);
}

/* --- recording streams --- */

uint64_t fnv(uint64_t sum, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sum = (sum ^ data[i]) * 0x100000001b3ull;
	return sum;
}

uint8_t pattern_byte(uint64_t offset)
{
	return (uint8_t)(offset * 131 + (offset >> 8) * 17 + (offset >> 16));
}

static void on_data(void *userdata, uint64_t offset, const uint8_t *data, size_t len)
{
	struct sink *k = userdata;

	(void)offset;
	k->bytes += len;
	if (k->keep) {
		if (k->len + len > k->max) {
			k->max = (k->len + len) * 2;
			k->data = realloc(k->data, k->max);
			cr_assert(k->data);
		}
		memcpy(k->data + k->len, data, len);
		k->len += len;
	}
	if (k->consume)
		agent_stream_consumed(k->stream, len);
}

static void on_gap(void *userdata, uint64_t from, uint64_t to)
{
	struct sink *k = userdata;

	k->gaps++;
	k->gap_from = from;
	k->gap_to = to;
}

static void on_end(void *userdata, int error)
{
	struct sink *k = userdata;

	k->ended = true;
	k->ends++;
	k->error = error;
}

static void on_writable(void *userdata)
{
	struct sink *k = userdata;

	k->writables++;
	if (k->to_write > 0 || k->finish)
		sink_pump(k, 0);
}

static void on_acked(void *userdata, uint64_t offset)
{
	struct sink *k = userdata;

	k->acked = offset;
}

const struct agent_stream_ops sink_ops = {
	.data = on_data, .gap = on_gap, .end = on_end, .writable = on_writable, .acked = on_acked,
};

static void sink_init(struct rig *rig, struct sink *k)
{
	*k = (struct sink) { .rig = rig, .consume = true, .keep = true, .sum = FNV_START };
}

void sink_open(struct rig *rig, struct sink *k, enum agent_stream_dir dir, uint32_t window)
{
	sink_init(rig, k);
	cr_assert_eq(agent_stream_open(rig->agent, dir, window, &sink_ops, k, &k->stream), 0);
}

void sink_adopt(struct rig *rig, struct sink *k, uint32_t id, enum agent_stream_dir dir,
		uint64_t offset)
{
	sink_init(rig, k);
	cr_assert_eq(
		agent_stream_adopt(rig->agent, id, dir, offset, 65536, &sink_ops, k, &k->stream),
		0);
}

void sink_done(struct sink *k)
{
	k->stream = agent_stream_free(k->stream);
	free(TAKE_PTR(k->data));
	k->len = k->max = 0;
}

void sink_pump(struct sink *k, uint64_t bytes)
{
	uint8_t buf[16384];

	if (bytes > 0) {
		k->to_write += bytes;
		k->finish = true;
	}
	while (k->to_write > 0) {
		size_t len = MIN_OF(k->to_write, (uint64_t)sizeof(buf));
		ssize_t n;

		for (size_t i = 0; i < len; i++)
			buf[i] = pattern_byte(k->written + i);
		n = agent_stream_write(k->stream, buf, len);
		cr_assert(n >= 0, "write: %zd", n);
		k->written += (uint64_t)n;
		k->to_write -= (uint64_t)n;
		if ((size_t)n < len)
			return;
	}
	if (k->finish)
		agent_stream_finish(k->stream);
	k->finish = false;
}
