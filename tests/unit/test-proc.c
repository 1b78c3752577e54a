/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes: start, output, credit, end. The guest is tests/lib/fake-agent.c. */
#include <signal.h>

#include "core/limits.h"
#include "core/proc.h"
#include "lib/fake-agent.h"
#include "util-test.h"
#include "util/clock.h"

static struct manager *m;
static struct sandbox *sb;
static uint8_t buf[SPOOL_ENTRY_MAX];

static void setup(void)
{
	fake_host_init();
	m = fake_manager(NULL);
	sb = fake_running(m);
	fake_script();
	guest.room = 1 << 20;
}

static void teardown(void)
{
	manager_free(m);
	fake_host_done();
}

TestSuite(proc, .init = setup, .fini = teardown, .timeout = 60);

static void finish(void)
{
	m = manager_free(m);
	cr_assert_eq(guest.n_streams, 0);
	cr_assert_eq(guest.n_agents, 0);
	test_leaks();
}

/* A follower of output, as a client is one */
struct reader {
	struct proc_reader r;
	struct proc *p;
	unsigned int notified;
	uint64_t bytes;
};

static void notify(void *userdata)
{
	((struct reader *)userdata)->notified++;
}

static void follow(struct reader *r, struct proc *p)
{
	*r = (struct reader){ .p = proc_ref(p) };
	r->r = (struct proc_reader){ .follows = true, .notify = notify, .userdata = r };
	list_init(&r->r.link);
	proc_reader_add(p, &r->r);
}

static void read_all(struct reader *r)
{
	struct spool_entry e;

	while (proc_read(r->p, &r->r, &e, buf) > 0)
		r->bytes += e.len;
}

static void leave(struct reader *r)
{
	proc_reader_remove(r->p, &r->r);
	proc_unref(r->p);
}

static struct proc *ask(enum proc_kind kind, struct fake_wait *w)
{
	const struct proc_spec spec = { .kind = kind, .cmd = "sleep 1", .rows = 24, .cols = 80 };
	const char *detail;
	struct proc *p = NULL;

	memset(w, 0, sizeof(*w));
	cr_assert_eq(proc_start(sb, &spec, fake_waited, w, &p, &detail), FAULT_NONE, "%s", detail);
	cr_assert_eq(w->calls, 0);
	return p;
}

static struct proc *start(enum proc_kind kind)
{
	struct fake_wait w;
	struct proc *p = ask(kind, &w);

	fake_settle();
	cr_assert(w.calls == 1 && w.fault == FAULT_NONE);
	cr_assert_eq(p->state, PROC_RUNNING);
	return p;
}

Test(proc, what_is_asked_of_the_guest)
{
	_cleanup_json_ json_object *envs = json_object_new_object();
	struct proc_spec spec = { .kind = PROC_FOREGROUND, .cmd = "echo $A", .user = "root", .cwd = "/tmp", .envs = envs };
	struct fake_wait w = { 0 };
	const char *detail;
	struct proc *p = NULL;

	json_put_string(envs, "A", "b");
	cr_assert_eq(proc_start(sb, &spec, fake_waited, &w, &p, &detail), FAULT_NONE);
	cr_assert_str_eq(guest.argv, "/bin/bash\n-c\necho $A\n");
	cr_assert_str_eq(guest.user, "root");
	cr_assert_str_eq(guest.cwd, "/tmp");
	cr_assert_not_null(strstr(guest.env, "A=b\n"));
	cr_assert_not_null(strstr(guest.env, "DECLAW_SANDBOX=true\n"));
	cr_assert(p->out && p->err && !p->in, "a command reads nothing");
	proc_unref(p);
	spec = (struct proc_spec){ .kind = PROC_PTY, .rows = 24, .cols = 80 };
	cr_assert_eq(proc_start(sb, &spec, fake_waited, &w, &p, &detail), FAULT_NONE);
	cr_assert_str_eq(guest.argv, "/bin/bash\n-l\n");
	cr_assert_str_eq(guest.user, "user");
	cr_assert_not_null(strstr(guest.env, "TERM="));
	cr_assert(p->out && !p->err && p->in);
	proc_unref(p);
	finish();
}

Test(proc, output_and_exit)
{
	struct proc *p = start(PROC_FOREGROUND);
	struct reader r;

	follow(&r, p);
	cr_assert_eq(proc_find_pid(sb, p->pid), p);
	cr_assert_eq(proc_find_id(sb, p->id), p);
	fake_feed(p->out, "out", 3);
	fake_feed(p->err, "error", 5);
	cr_assert_eq(p->out->consumed, 3);
	cr_assert_eq(r.notified, 2);
	fake_exit(sb->agent, p->token, p->pid, false, 3);
	cr_assert_eq(r.notified, 3);
	cr_assert_not(proc_alive(p));
	cr_assert_eq(proc_shell_code(p), 3);
	cr_assert_eq(guest.forget_pid, p->pid);
	read_all(&r);
	cr_assert_eq(r.bytes, 8, "output can be read after the end");
	cr_assert_null(proc_find_pid(sb, p->pid), "a foreground command is not kept");
	/* Told again after a resync */
	fake_exit(sb->agent, p->token, p->pid, false, 3);
	cr_assert_eq(guest.n_forgets, 2);
	leave(&r);
	proc_unref(p);
	finish();
}

Test(proc, signalled)
{
	struct proc *p = start(PROC_BACKGROUND);

	fake_exit(sb->agent, p->token, p->pid, true, SIGSEGV);
	cr_assert_eq(proc_shell_code(p), 128 + SIGSEGV);
	cr_assert_eq(proc_find_pid(sb, p->pid), p, "kept for whoever waits later");
	cr_assert_not(proc_kill(p), "it is over");
	proc_unref(p);
	finish();
}

Test(proc, start_is_refused)
{
	struct fake_wait w;
	struct proc *p;
	struct reader r;

	fake.fail_op = FAKE_PROC_START;
	for (int i = 0; i < 3; i++) {
		fake.fail_error = i < 2 ? ENOENT : -ECONNRESET;
		snprintf(guest.message, sizeof(guest.message), "%s", i == 1 ? "no such user" : "");
		p = ask(i == 2 ? PROC_FOREGROUND : PROC_BACKGROUND, &w);
		follow(&r, p);
		fake_settle();
		cr_assert_eq(w.calls, 1);
		cr_assert_eq(w.fault, i < 2 ? FAULT_PROC_START : FAULT_AGENT_LOST);
		if (i == 1)
			cr_assert_str_eq(w.detail, "no such user");
		else
			cr_assert_neq(w.detail[0], '\0');
		cr_assert(list_empty(&sb->procs), "nothing is left of it");
		cr_assert_not(fake_path_exists("state/sandboxes/%s/proc/%016llx.json", sb->id, (unsigned long long)p->token));
		leave(&r);
		proc_unref(p);
	}
	cr_assert_eq(guest.n_streams, 0);
	finish();
}

Test(proc, exit_before_the_start_is_answered)
{
	struct fake_wait w;
	struct proc *p = ask(PROC_BACKGROUND, &w);

	fake_exit(sb->agent, p->token, 99, false, 0);
	cr_assert_eq(w.calls, 1);
	cr_assert_eq(w.fault, FAULT_NONE);
	cr_assert_eq(p->pid, 99);
	fake_settle();
	cr_assert_eq(w.calls, 1);
	cr_assert_eq(p->state, PROC_ENDED);
	proc_unref(p);
	finish();
}

Test(proc, killed_before_the_start_is_answered)
{
	struct fake_wait w;
	struct proc *p = ask(PROC_BACKGROUND, &w);

	cr_assert(proc_kill(p));
	cr_assert_not(proc_kill(p), "once is enough");
	cr_assert_eq(guest.n_signals, 0, "there is no pid yet");
	fake_settle();
	cr_assert_eq(guest.n_signals, 1);
	cr_assert_eq(guest.signal, SIGKILL);
	cr_assert_eq(guest.signal_pid, p->pid);
	cr_assert_eq(w.fault, FAULT_NONE);
	fake_exit(sb->agent, p->token, p->pid, true, SIGKILL);
	cr_assert_eq(proc_shell_code(p), 137);
	proc_unref(p);
	finish();
}

Test(proc, nobody_waits_for_the_start_any_more)
{
	struct fake_wait w;
	struct proc *p = ask(PROC_FOREGROUND, &w);

	proc_start_forget(p);
	proc_kill(p);
	proc_unref(p);
	fake_settle();
	cr_assert_eq(w.calls, 0);
	cr_assert_eq(guest.n_signals, 1);
	fake_exit(sb->agent, guest.token, guest.signal_pid, true, SIGKILL);
	cr_assert(list_empty(&sb->procs));
	finish();
}

Test(proc, timeout)
{
	const struct proc_spec spec = { .kind = PROC_FOREGROUND, .cmd = "sleep 9", .timeout_usec = 20 * USEC_PER_MSEC };
	struct fake_wait w = { 0 };
	struct proc *p = NULL;
	const char *detail;

	cr_assert_eq(proc_start(sb, &spec, fake_waited, &w, &p, &detail), FAULT_NONE);
	fake_settle();
	while (!guest.n_signals)
		cr_assert_gt(sd_event_run(fake.event, 5 * USEC_PER_SEC), 0);
	cr_assert(p->timed_out && p->killed);
	fake_settle();
	cr_assert(proc_alive(p), "until the guest says that it has ended");
	fake_exit(sb->agent, p->token, p->pid, true, SIGKILL);
	cr_assert_not(proc_alive(p));
	proc_unref(p);
	finish();
}

/* Bytes in as large pieces as there is credit for, up to n; returns how many went in. */
static size_t flood(struct agent_stream *s, size_t n)
{
	static uint8_t data[16384];
	size_t done = 0;

	while (done < n && s->next - s->consumed + sizeof(data) <= s->window) {
		fake_feed(s, data, sizeof(data));
		done += sizeof(data);
	}
	return done;
}

Test(proc, slow_reader_stops_its_process)
{
	struct proc *p = start(PROC_BACKGROUND), *other = start(PROC_BACKGROUND);
	struct reader fast, slow;
	struct spool_entry e;
	size_t n;

	follow(&fast, p);
	follow(&slow, p);
	n = flood(p->out, 64 << 20);
	cr_assert_gt(n, READER_LAG);
	cr_assert_lt(n, READER_LAG + 2 * STREAM_WINDOW + 65536, "%zu bytes without anybody reading", n);
	read_all(&fast);
	cr_assert_eq(flood(p->out, 1), 0, "one of two is still behind");
	cr_assert_eq(flood(other->out, 4 << 20), 4 << 20, "nobody else's process is stopped");
	while (flood(p->out, 1) == 0)
		cr_assert_eq(proc_read(p, &slow.r, &e, buf), 1);
	cr_assert_geq(spool_lag(p->spool, &slow.r.cursor), READER_LAG / 2, "credit comes back before it has read all");
	read_all(&slow);
	cr_assert_eq(p->out->consumed, p->out->next);
	cr_assert_gt(flood(p->out, 1 << 20), 0);
	leave(&fast);
	leave(&slow);
	cr_assert_eq(p->out->consumed, p->out->next, "a reader that goes holds nothing back");
	cr_assert_eq(flood(p->out, 8 << 20), 8 << 20, "and without readers the spool takes it all");
	proc_unref(p);
	proc_unref(other);
	finish();
}

Test(proc, killed_one_comes_to_its_end)
{
	struct proc *p = start(PROC_BACKGROUND);
	struct reader slow;

	follow(&slow, p);
	flood(p->out, 64 << 20);
	cr_assert_eq(flood(p->out, 1), 0);
	proc_kill(p);
	cr_assert_eq(p->out->consumed, p->out->next);
	leave(&slow);
	proc_unref(p);
	finish();
}

Test(proc, cap_drops_the_oldest)
{
	struct proc *p;
	struct reader r;
	struct spool_entry e;

	m = manager_free(m);
	m = fake_manager("[sandbox]\nspool_max = 2M\n");
	sb = list_first(&m->sandboxes, struct sandbox, link);
	p = start(PROC_BACKGROUND);
	cr_assert_eq(flood(p->out, 16 << 20), 16 << 20);
	fake_exit(sb->agent, p->token, p->pid, false, 0);
	follow(&r, p);
	cr_assert_eq(proc_read(p, &r.r, &e, buf), 1);
	cr_assert_eq(e.id, e.lost + 1, "the first entry tells how many are missing");
	cr_assert_gt(e.lost, 0);
	cr_assert(spool_has_gap(p->spool));
	read_all(&r);
	cr_assert_leq(r.bytes, 2 << 20);
	leave(&r);
	proc_unref(p);
	finish();
}

Test(proc, sandbox_ends)
{
	struct fake_wait starting, end = { 0 };
	struct proc *v[] = { start(PROC_FOREGROUND), start(PROC_BACKGROUND), start(PROC_PTY), start(PROC_STDIO), NULL };
	struct reader r;

	v[4] = ask(PROC_BACKGROUND, &starting);
	follow(&r, v[1]);
	sandbox_destroy(sb, SANDBOX_END_REQUEST, fake_waited, &end);
	for (size_t i = 0; i < ELEMENTSOF(v); i++) {
		cr_assert_eq(v[i]->state, PROC_ENDED);
		cr_assert_eq(v[i]->fault, FAULT_ENDED_MEANWHILE);
		cr_assert_null(v[i]->sandbox);
		cr_assert(!v[i]->out && !v[i]->err && !v[i]->in);
		cr_assert_not(proc_kill(v[i]));
	}
	cr_assert_eq(starting.calls, 1);
	cr_assert_eq(starting.fault, FAULT_ENDED_MEANWHILE);
	cr_assert_eq(r.notified, 1);
	leave(&r);
	fake_settle();
	cr_assert_eq(end.calls, 1);
	for (size_t i = 0; i < ELEMENTSOF(v); i++)
		proc_unref(v[i]);
	fake_assert_empty();
	finish();
}

/* All that run end at once, with as many ended ones behind them as are kept */
Test(proc, many_end_at_once)
{
	static struct proc *v[300];
	unsigned int kept = 0;
	struct proc *p;

	for (size_t i = 0; i < ELEMENTSOF(v); i++) {
		v[i] = start(PROC_BACKGROUND);
		if (i < 40)
			fake_exit(sb->agent, v[i]->token, v[i]->pid, false, 0);
		proc_unref(v[i]);
	}
	fake_up(sb->agent, 78);
	list_foreach(&sb->procs, p, struct proc, link) {
		cr_assert_eq(p->state, PROC_ENDED);
		cr_assert(p->fault == FAULT_AGENT_LOST || p->fault == FAULT_NONE);
		kept++;
	}
	cr_assert_leq(kept, 256);
	cr_assert_geq(kept, 200);
	finish();
}

Test(proc, not_in_a_sandbox_that_does_not_run)
{
	const struct proc_spec spec = { .kind = PROC_FOREGROUND, .cmd = "true" };
	struct proc *p = NULL;
	const char *detail;

	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	cr_assert_eq(proc_start(sb, &spec, NULL, NULL, &p, &detail), FAULT_SANDBOX_KILLED);
	cr_assert_null(p);
	fake_settle();
	finish();
}

Test(proc, full_disk_ends_it_clearly)
{
	struct proc *p = start(PROC_BACKGROUND);
	_cleanup_free_ char *path = str_format("%s/state/sandboxes/%s/proc", fake.dir, sb->id);
	_cleanup_free_ char *moved = str_format("%s/moved", fake.dir);
	struct proc *q;
	const struct proc_spec spec = { .kind = PROC_FOREGROUND, .cmd = "true" };
	const char *detail;
	struct fake_wait w = { 0 };

	proc_unref(p);
	/* A spool that outgrows memory and finds its directory gone */
	cr_assert_eq(proc_start(sb, &spec, fake_waited, &w, &q, &detail), FAULT_NONE);
	fake_settle();
	cr_assert_eq(rename(path, moved), 0);
	flood(q->out, 200000);
	cr_assert_neq(q->fault, FAULT_NONE);
	cr_assert(q->killed, "better a clear end than output that is silently missing");
	cr_assert_eq(q->out->consumed, q->out->next);
	cr_assert_eq(rename(moved, path), 0);
	fake_exit(sb->agent, q->token, q->pid, true, SIGKILL);
	cr_assert_neq(q->fault, FAULT_NONE);
	proc_unref(q);
	finish();
}
