/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Standard input: writes are answered when the guest has acknowledged their last byte, in order, each once. */
#include "core/limits.h"
#include "core/proc.h"
#include "lib/fake-agent.h"
#include "util-test.h"

static struct manager *m;
static struct sandbox *sb;
static struct proc *p;

static void setup(void)
{
	const struct proc_spec spec = { .kind = PROC_STDIO, .cmd = "cat" };
	struct fake_wait w = { 0 };
	const char *detail;

	fake_host_init();
	m = fake_manager(NULL);
	sb = fake_running(m);
	guest.room = 10;
	cr_assert_eq(proc_start(sb, &spec, fake_waited, &w, &p, &detail), FAULT_NONE);
	fake_settle();
	cr_assert_eq(p->state, PROC_RUNNING);
}

static void teardown(void)
{
	proc_unref(p);
	manager_free(m);
	fake_host_done();
}

TestSuite(proc_stdin, .init = setup, .fini = teardown);

static void finish(void)
{
	p = proc_unref(p);
	m = manager_free(m);
	test_leaks();
}

static void put(const char *text, struct fake_wait *w)
{
	memset(w, 0, sizeof(*w));
	cr_assert_eq(proc_stdin(p, text, strlen(text), fake_waited, w), FAULT_NONE);
	cr_assert_eq(w->calls, 0, "not before the guest has it");
}

static void check_written(const char *text)
{
	cr_assert_eq(p->in->n_written, strlen(text));
	cr_assert_eq(memcmp(p->in->written, text, strlen(text)), 0);
}

Test(proc_stdin, acknowledged_in_order)
{
	struct fake_wait a, b, c;

	put("abcd", &a);
	put("efgh", &b);
	put("ijklmn", &c);
	check_written("abcdefghij");
	fake_ack(p->in, 3);
	cr_assert_eq(a.calls, 0);
	fake_ack(p->in, 4);
	cr_assert(a.calls == 1 && a.fault == FAULT_NONE && b.calls == 0);
	fake_ack(p->in, 10);
	cr_assert(b.calls == 1 && c.calls == 0, "its end is not on the way yet");
	fake_room(p->in, 100);
	check_written("abcdefghijklmn");
	fake_ack(p->in, 14);
	cr_assert_eq(c.calls, 1);
	fake_ack(p->in, 14);
	cr_assert_eq(c.calls, 1);
	cr_assert_eq(p->stdin_pending, 0);
	finish();
}

Test(proc_stdin, close_comes_after_what_was_written)
{
	struct fake_wait a, b;

	put("0123456789ab", &a);
	cr_assert_eq(proc_stdin_close(p), FAULT_NONE);
	cr_assert_not(p->in->finished);
	cr_assert_eq(proc_stdin(p, "x", 1, fake_waited, &b), FAULT_PROC_ENDED);
	fake_room(p->in, 100);
	check_written("0123456789ab");
	cr_assert(p->in->finished);
	cr_assert_eq(proc_stdin_close(p), FAULT_NONE, "closing twice is no error");
	fake_ack(p->in, 12);
	cr_assert_eq(a.calls, 1);
	finish();
}

Test(proc_stdin, full)
{
	static char data[LIMIT_STDIN_WRITE + 1];
	struct fake_wait a = { 0 }, b = { 0 }, c = { 0 };

	/* One write may be larger than the limit: it is a request's body, and nothing else waits */
	cr_assert_eq(proc_stdin(p, data, sizeof(data), fake_waited, &a), FAULT_NONE);
	cr_assert_eq(proc_stdin(p, "x", 1, fake_waited, &b), FAULT_STDIN_FULL);
	fake_room(p->in, 2 << 20);
	cr_assert_eq(proc_stdin(p, "x", 1, fake_waited, &b), FAULT_STDIN_FULL, "sent is not taken");
	fake_ack(p->in, sizeof(data));
	cr_assert_eq(a.calls, 1);
	cr_assert_eq(proc_stdin(p, data, LIMIT_STDIN_WRITE / 2, fake_waited, &b), FAULT_NONE);
	cr_assert_eq(proc_stdin(p, data, LIMIT_STDIN_WRITE / 2, fake_waited, &c), FAULT_NONE);
	cr_assert_eq(proc_stdin(p, "x", 1, NULL, NULL), FAULT_STDIN_FULL);
	finish();
}

Test(proc_stdin, process_closes_it)
{
	struct fake_wait a, b;

	put("abc", &a);
	put("0123456789", &b);
	fake_end(p->in, EPIPE);
	cr_assert(a.calls == 1 && a.fault == FAULT_PROC_ENDED);
	cr_assert(b.calls == 1 && b.fault == FAULT_PROC_ENDED);
	cr_assert_eq(proc_stdin(p, "x", 1, fake_waited, &a), FAULT_PROC_ENDED);
	cr_assert_eq(p->state, PROC_RUNNING, "it may go on without");
	finish();
}

/* Its end is not known here yet, but it is certain */
Test(proc_stdin, process_is_killed)
{
	struct fake_wait w = { 0 };

	cr_assert(proc_kill(p));
	cr_assert_eq(proc_stdin(p, "x", 1, fake_waited, &w), FAULT_PROC_ENDED);
	fake_settle();
	cr_assert_eq(w.calls, 0);
	finish();
}

Test(proc_stdin, process_ends)
{
	struct fake_wait a;

	put("0123456789ab", &a);
	fake_exit(sb->agent, p->token, p->pid, false, 0);
	cr_assert(a.calls == 1 && a.fault == FAULT_PROC_ENDED);
	cr_assert_eq(proc_stdin(p, "x", 1, fake_waited, &a), FAULT_PROC_ENDED);
	cr_assert_eq(proc_stdin_close(p), FAULT_PROC_ENDED);
	finish();
}

Test(proc_stdin, sandbox_ends)
{
	struct fake_wait a;

	put("0123456789ab", &a);
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	cr_assert_eq(a.calls, 1);
	cr_assert_neq(a.fault, FAULT_NONE);
	fake_settle();
	finish();
}

Test(proc_stdin, nobody_waits_any_more)
{
	struct fake_wait a, b;

	put("abcd", &a);
	put("efgh", &b);
	proc_stdin_forget(p, &a);
	check_written("abcdefgh");
	fake_ack(p->in, 8);
	cr_assert_eq(a.calls, 0);
	cr_assert_eq(b.calls, 1);
	finish();
}

Test(proc_stdin, daemon_stops)
{
	struct fake_wait a;

	put("0123456789ab", &a);
	p = proc_unref(p);
	m = manager_free(m);
	cr_assert_eq(a.calls, 1, "a write is always answered");
	test_leaks();
}
