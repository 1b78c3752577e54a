/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes over a restart of the daemon: records, spools, streams that go on where the spool ends. */
#include <signal.h>

#include "core/proc.h"
#include "lib/fake-agent.h"
#include "util-test.h"
#include "util/clock.h"

static struct manager *m;
static struct sandbox *sb;
static char id[SANDBOX_ID_MAX];
static uint8_t buf[SPOOL_ENTRY_MAX];

static void setup(void)
{
	fake_host_init();
	m = fake_manager(NULL);
	sb = fake_running(m);
	snprintf(id, sizeof(id), "%s", sb->id);
	guest.room = 1000;
	fake_script();
}

static void teardown(void)
{
	manager_free(m);
	fake_host_done();
}

TestSuite(proc_recover, .init = setup, .fini = teardown);

static void finish(void)
{
	m = manager_free(m);
	cr_assert_eq(guest.n_streams, 0);
	test_leaks();
}

/* Starts one and remembers it as the guest does; the reference is the list's. */
static struct proc *start(enum proc_kind kind, const char *cmd)
{
	const struct proc_spec spec = { .kind = kind, .cmd = cmd, .timeout_usec = 3600 * USEC_PER_SEC };
	struct fake_wait w = { 0 };
	struct proc *p = NULL;
	const char *detail;

	cr_assert_eq(proc_start(sb, &spec, fake_waited, &w, &p, &detail), FAULT_NONE);
	fake_settle();
	guest.procs[guest.n_procs++] = (struct agent_proc){ .token = p->token, .pid = p->pid };
	proc_unref(p);
	return p;
}

static void restart(void)
{
	m = manager_free(m);
	m = fake_manager(NULL);
	sb = manager_find(m, id);
	cr_assert_eq(sb->state, SANDBOX_RUNNING);
}

static struct proc *find(uint64_t token)
{
	struct proc *p;

	list_foreach(&sb->procs, p, struct proc, link)
		if (p->token == token)
			return p;
	return NULL;
}

Test(proc_recover, goes_on_where_the_spool_ends)
{
	struct proc *p = start(PROC_BACKGROUND, "yes \xc3\xa4");
	struct spool_cursor c = { 0 };
	uint64_t token = p->token, started = p->started_usec, deadline = p->deadline_usec;
	uint32_t out = p->out->id, err = p->err->id, in = p->in->id, pid = p->pid;
	struct spool_entry e;
	char name[24];

	snprintf(name, sizeof(name), "%s", p->id);
	fake_feed(p->out, "hello", 5);
	fake_feed(p->err, "oh", 2);
	restart();
	cr_assert_eq(guest.n_resets, 0, "the guest must not notice");
	p = find(token);
	cr_assert(p && p->state == PROC_RUNNING && p->pid == pid && p->kind == PROC_BACKGROUND);
	cr_assert_str_eq(p->cmd, "yes \xc3\xa4");
	cr_assert_str_eq(p->id, name);
	cr_assert_eq(p->started_usec, started);
	cr_assert_eq(p->deadline_usec, deadline);
	cr_assert_not_null(p->timeout);
	cr_assert(p->out->adopted && p->out->id == out && p->out->next == 5);
	cr_assert(p->err->adopted && p->err->id == err && p->err->next == 2);
	cr_assert(p->in->adopted && p->in->id == in);
	fake_feed(p->out, "world", 5);
	fake_exit(sb->agent, token, pid, false, 7);
	for (unsigned int i = 1; i <= 3; i++) {
		cr_assert_eq(spool_read(p->spool, &c, &e, buf), 1);
		cr_assert_eq(e.id, i);
	}
	cr_assert_eq(memcmp(buf, "world", 5), 0);
	cr_assert_eq(proc_shell_code(p), 7);
	restart();
	p = find(token);
	cr_assert(p && p->state == PROC_ENDED && p->exit_code == 7);
	cr_assert_eq(spool_stream_size(p->spool, SPOOL_STDOUT), 10);
	cr_assert_null(p->out);
	finish();
}

Test(proc_recover, foreground_ends_with_its_daemon)
{
	struct proc *p = start(PROC_FOREGROUND, "sleep 100");
	uint64_t token = p->token;
	uint32_t pid = p->pid;

	restart();
	cr_assert_null(find(token), "its client is gone");
	cr_assert_eq(guest.n_signals, 1);
	cr_assert_eq(guest.signal, SIGKILL);
	cr_assert_eq(guest.signal_pid, pid);
	finish();
}

Test(proc_recover, ended_meanwhile)
{
	uint64_t unknown = start(PROC_BACKGROUND, "a")->token, told = start(PROC_BACKGROUND, "b")->token;
	struct proc *p;

	/* The guest has forgotten one, and repeats the exit of the other */
	guest.procs[0] = guest.procs[1];
	guest.procs[0].exited = true;
	guest.n_procs = 1;
	m = manager_free(m);
	m = fake_manager_unsettled(NULL);
	do
		sb = manager_find(m, id);
	while ((!sb || !sb->agent_up) && fake_turn());
	fake_exit(sb->agent, told, guest.procs[0].pid, false, 5);
	fake_settle();
	p = find(told);
	cr_assert(p && p->state == PROC_ENDED && p->fault == FAULT_NONE && p->exit_code == 5);
	p = find(unknown);
	cr_assert(p && p->state == PROC_ENDED && p->fault == FAULT_AGENT_LOST);
	cr_assert_eq(guest.n_signals, 0);
	finish();
}

Test(proc_recover, strays_in_the_guest)
{
	guest.procs[0] = (struct agent_proc){ .token = 1, .pid = 50 };
	guest.procs[1] = (struct agent_proc){ .token = 2, .pid = 51, .exited = true };
	guest.n_procs = 2;
	restart();
	cr_assert(guest.n_signals == 1 && guest.signal_pid == 50);
	cr_assert(guest.n_forgets == 1 && guest.forget_pid == 51);
	finish();
}

/* The daemon stopped between asking for a process and hearing of it. */
Test(proc_recover, start_was_not_answered)
{
	const struct proc_spec spec = { .kind = PROC_BACKGROUND, .cmd = "x" };
	struct fake_wait w[2] = { 0 };
	struct proc *p[2] = { NULL };
	uint64_t token[2];
	const char *detail;

	for (size_t i = 0; i < 2; i++) {
		cr_assert_eq(proc_start(sb, &spec, fake_waited, &w[i], &p[i], &detail), FAULT_NONE);
		token[i] = p[i]->token;
	}
	proc_kill(p[1]);
	/* A killed flag is in the record of the next save only; the guest started both */
	for (size_t i = 0; i < 2; i++) {
		guest.procs[i] = (struct agent_proc){ .token = token[i], .pid = 60 + (uint32_t)i };
		proc_start_forget(p[i]);
		proc_unref(p[i]);
	}
	guest.n_procs = 2;
	restart();
	p[0] = find(token[0]);
	cr_assert(p[0] && p[0]->state == PROC_RUNNING && p[0]->pid == 60);
	cr_assert_eq(proc_find_pid(sb, 60), p[0]);
	cr_assert(proc_kill(p[0]));
	cr_assert_eq(guest.signal_pid, 60);
	finish();
}

Test(proc_recover, killed_but_not_ended)
{
	struct proc *p = start(PROC_BACKGROUND, "x");
	uint64_t token = p->token;

	proc_kill(p);
	cr_assert_eq(proc_stdin_close(p), FAULT_NONE);	/* saves the record */
	guest.n_signals = 0;
	restart();
	p = find(token);
	cr_assert(p && p->killed && proc_alive(p));
	cr_assert_eq(guest.n_signals, 1, "the signal may have been lost with the daemon");
	finish();
}

Test(proc_recover, another_agent)
{
	uint64_t token = start(PROC_BACKGROUND, "x")->token;
	struct proc *p;

	guest.agent_id = 99;
	guest.n_procs = 0;
	restart();
	p = find(token);
	cr_assert(p && p->state == PROC_ENDED && p->fault == FAULT_AGENT_LOST);
	finish();
}

Test(proc_recover, bad_records)
{
	static const char *const texts[] = {
		"", "{", "[]", "{}",
		"{\"kind\":9,\"state\":1,\"pid\":5,\"cmd\":\"x\",\"out\":1}",
		"{\"kind\":1,\"state\":-1,\"pid\":5,\"cmd\":\"x\",\"out\":1}",
		"{\"kind\":1,\"state\":2,\"fault\":100000,\"pid\":5,\"cmd\":\"x\",\"out\":1}",
		"{\"kind\":1,\"state\":2,\"fault\":-3,\"pid\":5,\"cmd\":\"x\",\"out\":1}",
	};
	struct proc *p = start(PROC_BACKGROUND, "x");
	uint64_t token = p->token;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/state/sandboxes/%s/proc/%016llx.json", fake.dir, id, (unsigned long long)token);
	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		m = manager_free(m);
		test_write(path, texts[i]);
		guest.n_signals = 0;
		m = fake_manager(NULL);
		sb = manager_find(m, id);
		cr_assert_eq(sb->state, SANDBOX_RUNNING);
		cr_assert_null(find(token), "%s", texts[i]);
		cr_assert_eq(guest.n_signals, 1, "%s: what nobody knows is killed", texts[i]);
	}
	finish();
}

Test(proc_recover, half_an_entry)
{
	struct proc *p = start(PROC_BACKGROUND, "x");
	uint64_t token = p->token;
	char path[PATH_MAX];
	struct stat st;

	fake_feed(p->out, "whole", 5);
	fake_feed(p->out, "half", 4);
	snprintf(path, sizeof(path), "%s/state/sandboxes/%s/proc/%016llx.spool", fake.dir, id, (unsigned long long)token);
	m = manager_free(m);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(truncate(path, st.st_size - 2), 0);
	m = fake_manager(NULL);
	sb = manager_find(m, id);
	p = find(token);
	cr_assert_eq(p->out->next, 5, "what was cut off is asked for again");
	finish();
}

Test(proc_recover, spools_of_ended_ones_go_with_the_sandbox)
{
	start(PROC_BACKGROUND, "x");
	restart();
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	fake_settle();
	fake_assert_empty();
	finish();
}
