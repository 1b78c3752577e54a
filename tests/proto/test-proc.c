/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes: the real agent and the real session over a socketpair. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "harness.h"

struct run {
	struct rig *rig;
	struct sink in, out, err;
	bool has_in, has_out, has_err;
	uint64_t token;
	uint32_t pid;
	int error;
	bool started;
};
static uint64_t last_token;

static void on_pid(void *userdata, int error, uint32_t pid)
{
	struct run *run = userdata;

	run->started = true;
	run->error = error;
	run->pid = pid;
}

enum { IN = 1, OUT = 2, ERR = 4, PTY = 8, ALL = 7 };

static const char *const *shell(const char *script)
{
	static const char *argv[4] = { "/bin/sh", "-c" };

	argv[2] = script;
	return argv;
}

static void run_argv(struct rig *rig, struct run *run, unsigned int what, const char *const *argv,
		     const char *const *env)
{
	struct agent_proc_spec spec = { .argv = argv, .env = env, .cwd = "/" };

	*run = (struct run) { .rig = rig, .token = ++last_token };
	spec.token = run->token;
	if (what & IN) {
		sink_open(rig, &run->in, AGENT_STREAM_OUT, 65536);
		spec.in = run->in.stream;
	}
	if (what & OUT) {
		sink_open(rig, &run->out, AGENT_STREAM_IN, 65536);
		spec.out = run->out.stream;
	}
	if (what & ERR) {
		sink_open(rig, &run->err, AGENT_STREAM_IN, 65536);
		spec.err = run->err.stream;
	}
	if (what & PTY) {
		spec.rows = 24;
		spec.cols = 80;
	}
	cr_assert_eq(agent_proc_start(rig->agent, &spec, on_pid, run), 0);
}

static void run_sh(struct rig *rig, struct run *run, unsigned int what, const char *script)
{
	run_argv(rig, run, what, shell(script), NULL);
}

static const struct agent_exit *exit_of(const struct rig *rig, const struct run *run)
{
	for (unsigned int i = 0; i < rig->n_exits; i++)
		if (rig->exits[i].token == run->token)
			return &rig->exits[i];
	return NULL;
}

static void run_wait(struct run *run)
{
	RIG_WAIT(run->rig, run->started);
	cr_assert_eq(run->error, 0, "start failed: %d", run->error);
	RIG_WAIT(run->rig, exit_of(run->rig, run));
	cr_assert_eq(exit_of(run->rig, run)->pid, run->pid);
	/* The order that is promised: output first. */
	if (run->out.stream)
		cr_assert(run->out.ended);
	if (run->err.stream)
		cr_assert(run->err.ended);
}

static void run_done(struct run *run)
{
	sink_done(&run->in);
	sink_done(&run->out);
	sink_done(&run->err);
	agent_proc_forget(run->rig->agent, run->pid);
}

static void assert_exit(struct run *run, bool signalled, uint32_t status)
{
	const struct agent_exit *ex = exit_of(run->rig, run);

	cr_assert_eq(ex->signalled, signalled);
	cr_assert_eq(ex->status, status, "status %u", ex->status);
}

static bool text_is(const struct sink *k, const char *text)
{
	return k->len == strlen(text) && memcmp(k->data, text, k->len) == 0;
}

Test(proc, output_and_exit_code, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct run run;

	rig_agent(rig);
	run_sh(rig, &run, ALL, "printf out; printf err >&2; exit 7");
	run_wait(&run);
	assert_exit(&run, false, 7);
	cr_assert(text_is(&run.out, "out"));
	cr_assert(text_is(&run.err, "err"));
	run_done(&run);
	rig_free(rig);
}

Test(proc, killed_by_signal, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct run run;

	rig_agent(rig);
	run_sh(rig, &run, ALL, "kill -TERM $$");
	run_wait(&run);
	assert_exit(&run, true, SIGTERM);
	run_done(&run);
	rig_free(rig);
}

Test(proc, environment_and_directory, .timeout = 60)
{
	static const char *const env[] = { "ONE=1", "TWO=a b", NULL };
	struct rig *rig = rig_new();
	struct run run;

	rig_agent(rig);
	run_argv(rig, &run, OUT, shell("echo $ONE-$TWO; pwd"), env);
	run_wait(&run);
	cr_assert(text_is(&run.out, "1-a b\n/\n"));
	run_done(&run);
	rig_free(rig);
}

Test(proc, errors_are_replies, .timeout = 60)
{
	static const char *const nothing[] = { "/nonexistent/program", NULL };
	struct rig *rig = rig_new();
	struct run run;

	rig_agent(rig);
	run_argv(rig, &run, ALL, nothing, NULL);
	RIG_WAIT(rig, run.started);
	cr_assert_eq(run.error, ENOENT);
	cr_assert_eq(run.pid, 0);
	run_done(&run);
	rig_settle(rig);
	cr_assert_eq(rig->n_exits, 0);
	cr_assert_eq(rig->losts, 0);
	rig_free(rig);
}

Test(proc, stdin_echo, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct run run;

	rig_agent(rig);
	run_sh(rig, &run, ALL, "exec cat");
	for (int i = 0; i < 20; i++) {
		size_t have = run.out.len;

		cr_assert_eq(agent_stream_write(run.in.stream, "line\n", 5), 5);
		RIG_WAIT(rig, run.out.len == have + 5);
	}
	agent_stream_finish(run.in.stream);
	run_wait(&run);
	assert_exit(&run, false, 0);
	RIG_WAIT(rig, run.in.ended);
	cr_assert_eq(run.in.error, 0);
	cr_assert_eq(run.in.acked, 100);
	run_done(&run);
	rig_free(rig);
}

/* 40 MiB through cat and back, byte by byte the same. */
Test(proc, big_echo, .timeout = 120)
{
	const uint64_t size = 40 * 1024 * 1024;
	struct rig *rig = rig_new();
	struct run run;

	rig_agent(rig);
	run_sh(rig, &run, IN | OUT, "exec cat");
	sink_pump(&run.in, size);
	run_wait(&run);
	cr_assert_eq(run.out.bytes, size);
	for (uint64_t i = 0; i < size; i++)
		if (run.out.data[i] != pattern_byte(i))
			cr_assert_fail("byte %llu differs", (unsigned long long)i);
	run_done(&run);
	rig_free(rig);
}

Test(proc, nul_and_invalid_utf8, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct run run;

	rig_agent(rig);
	run_sh(rig, &run, OUT, "printf 'a\\000b\\377\\376'");
	run_wait(&run);
	cr_assert_eq(run.out.len, 5);
	cr_assert_eq(memcmp(run.out.data, "a\0b\377\376", 5), 0);
	run_done(&run);
	rig_free(rig);
}

/* A consumer that stalls: the process blocks, what was delivered is bounded by the window; nobody
 * else waits. */
Test(proc, slow_consumer, .timeout = 120)
{
	struct rig *rig = rig_new();
	struct run run, other;
	uint64_t stalled;

	rig_agent(rig);
	run_sh(rig, &run, OUT, "exec head -c 3000000 /dev/zero");
	run.out.consume = false;
	RIG_WAIT(rig, run.out.bytes == 65536);
	run_sh(rig, &other, OUT, "exec head -c 3000000 /dev/zero");
	run_wait(&other);
	cr_assert_eq(other.out.bytes, 3000000);
	stalled = run.out.bytes;
	cr_assert_eq(stalled, 65536);
	cr_assert(!exit_of(rig, &run));
	run.out.consume = true;
	agent_stream_consumed(run.out.stream, stalled);
	run_wait(&run);
	cr_assert_eq(run.out.bytes, 3000000);
	run_done(&run);
	run_done(&other);
	rig_free(rig);
}

static void on_done(void *userdata, int error)
{
	int *done = userdata;

	*done = error ? error : 1;
}

static void kill_group(struct run *run)
{
	int done = 0;

	cr_assert_eq(agent_proc_signal(run->rig->agent, run->pid, SIGKILL, true, on_done, &done),
		     0);
	RIG_WAIT(run->rig, done);
	cr_assert_eq(done, 1);
}

/* A process that does not read: pipe, guest and session take a bounded amount and no more. */
Test(proc, stdin_backpressure, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct run run;

	rig_agent(rig);
	run_sh(rig, &run, IN, "exec sleep 1000");
	sink_pump(&run.in, 10 * 1024 * 1024);
	RIG_WAIT(rig, run.started);
	rig_settle(rig);
	cr_assert(run.in.written < 3 * 1024 * 1024, "taken: %llu",
		  (unsigned long long)run.in.written);
	kill_group(&run);
	run_wait(&run);
	run_done(&run);
	rig_free(rig);
}

#define MANY 100
/* Long enough that the scheduler of a loaded machine has served everybody a few times. */
#define FAIR_BYTES (500ull * 1024 * 1024)

static uint64_t bytes_since(const struct run *runs, const uint64_t *base, uint64_t *ret_least)
{
	uint64_t total = 0;

	*ret_least = UINT64_MAX;
	for (unsigned int i = 0; i < MANY; i++) {
		uint64_t n = runs[i].out.bytes - base[i];

		total += n;
		*ret_least = MIN_OF(*ret_least, n);
	}
	return total;
}

/* A hundred that never stop: once all are running, the slowest has at least half of the mean. */
Test(proc, many_streams_fair, .timeout = 120)
{
	static struct run runs[MANY];
	uint64_t base[MANY] = { 0 }, least, total;
	struct rig *rig = rig_new();

	rig_agent(rig);
	for (unsigned int i = 0; i < MANY; i++) {
		run_sh(rig, &runs[i], OUT, "exec cat /dev/zero");
		runs[i].out.keep = false;
	}
	RIG_WAIT(rig, (bytes_since(runs, base, &least), least >= 65536));
	for (unsigned int i = 0; i < MANY; i++)
		base[i] = runs[i].out.bytes;
	RIG_WAIT(rig, bytes_since(runs, base, &least) >= FAIR_BYTES);
	total = bytes_since(runs, base, &least);
	cr_log_info("slowest %.2f of the mean", (double)least * MANY / (double)total);
	cr_assert(least >= total / MANY / 2, "least %llu of mean %llu", (unsigned long long)least,
		  (unsigned long long)(total / MANY));
	/* They die of SIGPIPE with the agent. */
	agent_detach(rig->agent);
	for (unsigned int i = 0; i < MANY; i++)
		sink_done(&runs[i].out);
	rig_free(rig);
}

Test(proc, pty, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct run run;

	rig_agent(rig);
	run_sh(rig, &run, IN | OUT | PTY,
	       "stty size; read x; stty size; tty >/dev/null && echo yes");
	RIG_WAIT(rig, run.out.len >= 7);
	cr_assert_eq(memcmp(run.out.data, "24 80\r\n", 7), 0);
	cr_assert_eq(agent_pty_resize(rig->agent, run.pid, 40, 132, NULL, NULL), 0);
	cr_assert_eq(agent_stream_write(run.in.stream, "\n", 1), 1);
	run_wait(&run);
	cr_assert(memmem(run.out.data, run.out.len, "40 132\r\n", 8));
	cr_assert(memmem(run.out.data, run.out.len, "yes\r\n", 5));
	run_done(&run);
	rig_free(rig);
}

Test(proc, kill_group, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct run run;
	int done = 0, again = 0;

	rig_agent(rig);
	run_sh(rig, &run, OUT, "sleep 1000 & sleep 1000 & echo up; wait");
	RIG_WAIT(rig, run.out.len == 3);
	cr_assert_eq(agent_proc_signal(rig->agent, run.pid, SIGKILL, true, on_done, &done), 0);
	run_wait(&run);
	assert_exit(&run, true, SIGKILL);
	RIG_WAIT(rig, done == 1);
	agent_proc_signal(rig->agent, run.pid, SIGKILL, false, on_done, &again);
	RIG_WAIT(rig, again);
	cr_assert_eq(again, ESRCH);
	run_done(&run);
	rig_free(rig);
}

/* Gone, or waiting for a parent that does not look. */
static bool is_dead(long pid)
{
	char path[64], text[256] = "", *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return true;
	p = fgets(text, sizeof(text), f) ? strrchr(text, ')') : NULL;
	fclose(f);
	return !p || p[2] == 'Z' || p[2] == 'X';
}

/* Jobs of a shell are groups of their own, and die with it; also when the shell is gone before. */
Test(proc, kill_group_reaches_jobs, .timeout = 60)
{
	static const char *const scripts[] = {
		"set -m; sleep 1000 & sleep 1000 | sleep 1000 & echo $!; wait",
		"set -m; sleep 1000 & echo $!",
	};
	struct rig *rig = rig_new();

	rig_agent(rig);
	for (unsigned int i = 0; i < ELEMENTSOF(scripts); i++) {
		struct run run;
		int again;
		long job;

		run_sh(rig, &run, OUT, scripts[i]);
		if (i == 1)
			run_wait(&run);
		RIG_WAIT(rig, run.out.len > 1 && run.out.data[run.out.len - 1] == '\n');
		job = strtol((char *)run.out.data, NULL, 10);
		cr_assert(job > 1 && !is_dead(job));
		kill_group(&run);
		RIG_WAIT(rig, is_dead(job));
		run_wait(&run);
		/* The last of them may be dying still. */
		do {
			again = 0;
			agent_proc_signal(rig->agent, run.pid, SIGKILL, true, on_done, &again);
			RIG_WAIT(rig, again);
		} while (again == 1);
		cr_assert_eq(again, ESRCH);
		run_done(&run);
	}
	rig_free(rig);
}

/* The last words of a process are there before its exit is told, also when it wrote a pipe full. */
Test(proc, drained_before_exit, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct run run;

	rig_agent(rig);
	for (int i = 0; i < 30; i++) {
		run_sh(rig, &run, OUT, "head -c 60000 /dev/zero; printf end");
		run_wait(&run);
		cr_assert_eq(run.out.len, 60003);
		cr_assert_eq(memcmp(run.out.data + 60000, "end", 3), 0);
		run_done(&run);
	}
	rig_free(rig);
}

/* A descendant that keeps the pipe does not hold the exit back, and is not killed. */
Test(proc, descendant_holds_the_pipe, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct run run;
	int done = 0;

	rig_agent(rig);
	run_sh(rig, &run, OUT, "sleep 1000 & echo $!; exit 3");
	run_wait(&run);
	assert_exit(&run, false, 3);
	cr_assert_eq(kill((pid_t)strtol((char *)run.out.data, NULL, 10), 0), 0,
		     "the descendant is gone");
	agent_proc_signal(rig->agent, run.pid, SIGKILL, true, on_done, &done);
	RIG_WAIT(rig, done == 1);
	run_done(&run);
	rig_free(rig);
}

/* The consumer is gone: the process lives on and its output is thrown away. */
Test(proc, output_not_wanted, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct run run;

	rig_agent(rig);
	run_sh(rig, &run, OUT, "head -c 1000000 /dev/zero; exit 5");
	RIG_WAIT(rig, run.started);
	sink_done(&run.out);
	run_wait(&run);
	assert_exit(&run, false, 5);
	run_done(&run);
	rig_free(rig);
}

/* The same token again is the same process. */
Test(proc, token_starts_once, .timeout = 60)
{
	static const char *const argv[] = { "/bin/sh", "-c", "echo started; read x", NULL };
	struct rig *rig = rig_new();
	struct run run, again = { 0 };
	struct agent_proc_spec spec = { .argv = argv };

	rig_agent(rig);
	run_sh(rig, &run, IN | OUT, "echo started; read x");
	RIG_WAIT(rig, run.out.len == 8);
	spec.token = run.token;
	again.rig = rig;
	cr_assert_eq(agent_proc_start(rig->agent, &spec, on_pid, &again), 0);
	RIG_WAIT(rig, again.started);
	cr_assert_eq(again.error, 0);
	cr_assert_eq(again.pid, run.pid);
	agent_stream_finish(run.in.stream);
	run_wait(&run);
	cr_assert_eq(run.out.len, 8);
	cr_assert_eq(rig->n_exits, 1);
	run_done(&run);
	rig_free(rig);
}

struct listing {
	unsigned int n;
	uint64_t token;
	bool over;
	int error;
};

static void on_proc(void *userdata, int error, const struct agent_proc *p)
{
	struct listing *l = userdata;

	if (p) {
		l->n++;
		l->token = p->token;
		return;
	}
	l->over = true;
	l->error = error;
}

Test(proc, list_and_forget, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct listing l = { 0 };
	struct run run;

	rig_agent(rig);
	run_sh(rig, &run, IN, "read x");
	cr_assert_eq(agent_proc_list(rig->agent, on_proc, &l), 0);
	RIG_WAIT(rig, l.over);
	cr_assert_eq(l.error, 0);
	cr_assert_eq(l.n, 1);
	cr_assert_eq(l.token, run.token);
	agent_stream_finish(run.in.stream);
	run_wait(&run);
	run_done(&run);
	l = (struct listing) { 0 };
	cr_assert_eq(agent_proc_list(rig->agent, on_proc, &l), 0);
	RIG_WAIT(rig, l.over);
	cr_assert_eq(l.n, 0);
	rig_free(rig);
}

/* Nothing is left behind by many short commands, on either side. */
Test(proc, thousand_in_a_row, .timeout = 180)
{
	static const char *const argv[] = { "/bin/true", NULL };
	struct rig *rig = rig_new();
	struct listing l = { 0 };

	rig_agent(rig);
	for (int i = 0; i < 1000; i++) {
		struct run run;

		run_argv(rig, &run, ALL, argv, NULL);
		run_wait(&run);
		assert_exit(&run, false, 0);
		run_done(&run);
		rig->n_exits = 0;
	}
	cr_assert_eq(agent_proc_list(rig->agent, on_proc, &l), 0);
	RIG_WAIT(rig, l.over);
	cr_assert_eq(l.n, 0);
	cr_assert_eq(rig->losts, 0);
	rig_free(rig);
}

static void on_stats(void *userdata, int error, const struct agent_stats *st)
{
	struct agent_stats *ret = userdata;

	cr_assert_eq(error, 0);
	*ret = *st;
}

Test(proc, stats, .timeout = 60)
{
	struct agent_stats st = { 0 };
	struct rig *rig = rig_new();

	rig_agent(rig);
	cr_assert_eq(agent_get_stats(rig->agent, on_stats, &st), 0);
	RIG_WAIT(rig, st.mem_total > 0);
	cr_assert(st.mem_available <= st.mem_total);
	cr_assert(st.disk_used <= st.disk_total);
	rig_free(rig);
}
