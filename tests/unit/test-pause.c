/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pause, to disk, and back: without and with one operation that fails, and with a daemon that dies at each of them;
 * see tests/lib/fake-host.h. The freeze of the guest's file systems is answered at once, so no time is waited.
 */
#include <sys/stat.h>

#include "core/hibernate.h"
#include "core/pause.h"
#include "lib/fake-agent.h"
#include "util-test.h"
#include "util/clock.h"

static struct manager *m;

static void setup(void)
{
	fake_host_init();
	m = fake_manager(NULL);
	fake_script();
}

static void teardown(void)
{
	manager_free(m);
	fake_host_done();
}

TestSuite(pause, .init = setup, .fini = teardown, .timeout = 120);

static void finish(void)
{
	m = manager_free(m);
	cr_assert_eq(guest.n_agents, 0);
	fake_host_done();
	fake_host_init();
	test_leaks();
}

static void settle(void)
{
	fake_settle();
}

/* One step of the round; what cannot be begun in this state is left out. */
static void step(struct sandbox *sb, unsigned int which, struct fake_wait *w)
{
	enum fault fault = FAULT_SANDBOX_STATE;

	memset(w, 0, sizeof(*w));
	if (which == 0)
		fault = sandbox_pause(sb, fake_waited, w);
	else if (which == 1)
		hibernate_save(sb);
	else
		fault = sandbox_resume(sb, fake_waited, w);
	settle();
	cr_assert_eq(w->calls, fault == FAULT_NONE, "step %u: %u answers, begun with %d", which, w->calls, fault);
}

static void must_end(struct sandbox *sb)
{
	struct fake_wait w = { 0 };

	sandbox_destroy(sb, SANDBOX_END_REQUEST, fake_waited, &w);
	settle();
	cr_assert_eq(w.calls, 1);
	cr_assert_eq(sb->held, 0);
	fake_assert_empty();
}

/* Whatever happened, it is at rest somewhere, and can go on from there. */
static void must_go_on(struct sandbox *sb, const char *when, unsigned int k)
{
	struct fake_wait w;

	cr_assert_eq(sb->moving, SANDBOX_MOVE_NONE, "%s %u: still %s", when, k, sandbox_move_name(sb->moving));
	cr_assert(sb->state == SANDBOX_RUNNING || sb->state == SANDBOX_PAUSED, "%s %u: %s (%s)", when, k,
		  sandbox_state_name(sb->state), sandbox_end_name(sb->end));
	if (sb->state == SANDBOX_PAUSED)
		step(sb, 2, &w);
	cr_assert_eq(sb->state, SANDBOX_RUNNING, "%s %u: cannot go on: %d %s", when, k, w.fault, w.detail);
	fake_assert_running(sb);
	cr_assert_not(fake_path_exists("state/sandboxes/%s/memory", sb->id));
}

static unsigned int round_ops(struct sandbox *sb)
{
	struct fake_wait w;

	fake_script();
	for (unsigned int i = 0; i < 3; i++)
		step(sb, i, &w);
	return fake.n_ops;
}

Test(pause, a_round)
{
	struct sandbox *sb = fake_running(m);
	struct fake_wait w;
	uint64_t deadline = sb->deadline_usec;

	step(sb, 0, &w);
	cr_assert_eq(w.fault, FAULT_NONE);
	cr_assert_eq(sb->state, SANDBOX_PAUSED);
	cr_assert_not(fake_find(FAKE_DOMAIN, sb->id)->running);
	cr_assert_eq(sb->deadline_usec, 0);
	cr_assert_eq(sb->held & HELD_TIMER, 0, "no deadline counts");
	cr_assert_eq(sandbox_pause(sb, fake_waited, &w), FAULT_SANDBOX_STATE);

	step(sb, 1, &w);
	cr_assert(sb->on_disk);
	cr_assert_eq(sb->state, SANDBOX_PAUSED);
	cr_assert_eq(fake_count(FAKE_DOMAIN) + fake_count(FAKE_UNIT) + fake_count(FAKE_CHAIN) + fake_count(FAKE_TAP), 0,
		     "nothing of it is on the host");
	cr_assert(fake_path_exists("state/sandboxes/%s/memory", sb->id));

	step(sb, 2, &w);
	cr_assert_eq(w.fault, FAULT_NONE, "%s", w.detail);
	cr_assert_eq(sb->state, SANDBOX_RUNNING);
	cr_assert_geq(sb->deadline_usec, deadline, "a new run");
	cr_assert_eq(fake.counts[FAKE_TIME], 1);
	cr_assert_eq(fake.counts[FAKE_THAW], 1);
	fake_assert_running(sb);
	must_end(sb);
	finish();
}

static bool may_end_it(enum fake_op op)
{
	/* A guest that does not come back, or stays frozen, is lost */
	return op == FAKE_AGENT_UP || op == FAKE_THAW;
}

static void fail_one(unsigned int k, int error, bool applied)
{
	struct sandbox *sb = fake_running(m);
	struct fake_wait w;

	fake_script();
	fake.fail_at = k;
	fake.fail_error = error;
	fake.fail_applied = applied;
	for (unsigned int i = 0; i < 3; i++)
		step(sb, i, &w);
	if (error == -ENOTCONN) {
		fake_libvirt(m, false);
		fake_libvirt(m, true);
		settle();
	}
	if (!may_end_it(fake.failed_op))
		must_go_on(sb, applied ? "failed after" : "failed before", k);
	must_end(sb);
}

Test(pause, one_operation_fails)
{
	static const int errors[] = { -EIO, -ENOTCONN };
	unsigned int n = round_ops(fake_running(m));

	cr_assert_gt(n, 12);
	m = manager_free(m);
	fake_host_done();
	setup();
	for (size_t e = 0; e < ELEMENTSOF(errors); e++)
		for (unsigned int k = 1; k <= n; k++) {
			fail_one(k, errors[e], false);
			fail_one(k, errors[e], true);
		}
	finish();
}

/* The daemon dies when operation k has been asked for, and its effect came or not. */
static void die_at(unsigned int k, bool applied)
{
	char id[SANDBOX_ID_MAX];
	struct sandbox *sb = fake_running(m);
	struct fake_wait w;

	snprintf(id, sizeof(id), "%s", sb->id);
	fake_script();
	fake.hold_at = k;
	fake.hold_applied = applied;
	for (unsigned int i = 0; i < 3; i++) {
		memset(&w, 0, sizeof(w));
		if (i == 0)
			sandbox_pause(sb, NULL, NULL);
		else if (i == 1)
			hibernate_save(sb);
		else
			sandbox_resume(sb, NULL, NULL);
		settle();
	}
	m = manager_free(m);
	fake_script();
	m = fake_manager(NULL);
	settle();
	sb = manager_find(m, id);
	cr_assert_not_null(sb);
	must_go_on(sb, applied ? "died after" : "died before", k);
	must_end(sb);
}

Test(pause, the_daemon_dies)
{
	unsigned int n = round_ops(fake_running(m));

	m = manager_free(m);
	fake_host_done();
	setup();
	for (unsigned int k = 1; k <= n; k++) {
		die_at(k, false);
		die_at(k, true);
	}
	finish();
}

/*
 * Somebody waits for the end of a move that the last daemon began: it came to its end with that daemon, and both the one
 * who waits and the record are told.
 */
static void waited_while_adopted(unsigned int k, bool applied)
{
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX];
	struct fake_wait w = { 0 };

	snprintf(id, sizeof(id), "%s", sb->id);
	fake_script();
	fake.hold_at = k;
	fake.hold_applied = applied;
	sandbox_pause(sb, NULL, NULL);
	settle();
	m = manager_free(m);
	fake_script();
	fake.hold_at = 2;	/* what libvirt has */
	m = fake_manager_unsettled(NULL);
	settle();
	sb = manager_find(m, id);
	cr_assert_not_null(sb);
	cr_assert_not(m->recovered);
	cr_assert_eq(sandbox_move_wait(sb, fake_waited, &w), 0);
	fake_release();
	settle();
	cr_assert_eq(w.calls, 1, "operation %u: %u answers, moving %s", k, w.calls, sandbox_move_name(sb->moving));
	cr_assert_eq(w.fault, FAULT_NONE);
	m = manager_free(m);
	fake_script();
	m = fake_manager(NULL);
	settle();
	sb = manager_find(m, id);
	cr_assert_not_null(sb);
	must_go_on(sb, "waited for", k);
	must_end(sb);
}

Test(pause, waited_for_while_it_is_adopted)
{
	for (unsigned int k = 1; k <= 3; k++) {
		waited_while_adopted(k, false);
		waited_while_adopted(k, true);
	}
	finish();
}

/* libvirt goes on without us, and looks for the file by its name when it is through: it must be the same file */
Test(pause, the_daemon_dies_while_it_is_written)
{
	struct sandbox *sb = fake_running(m);
	_cleanup_free_ char *path = sandbox_path(sb, "memory");
	struct stat was, is;
	char id[SANDBOX_ID_MAX];
	struct fake_wait w;

	snprintf(id, sizeof(id), "%s", sb->id);
	step(sb, 0, &w);
	hibernate_save(sb);
	cr_assert_not_null(fake_pending(FAKE_DOMAIN_SAVE));
	cr_assert_eq(stat(path, &was), 0);
	m = manager_free(m);
	m = fake_manager_unsettled(NULL);
	while (!fake_pending(FAKE_DOMAIN_SAVE))
		cr_assert(fake_turn());
	cr_assert_eq(stat(path, &is), 0);
	cr_assert(is.st_ino == was.st_ino && is.st_mtim.tv_nsec == was.st_mtim.tv_nsec);
	settle();
	sb = manager_find(m, id);
	must_go_on(sb, "died while saving", 0);
	must_end(sb);
	finish();
}

/* The next daemon still removes what the last one may have left of it, and somebody wants it back already. */
static unsigned int resumed_while_adopted(unsigned int k)
{
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX];
	struct fake_wait w;

	for (unsigned int i = 0; i < 2; i++)
		step(sb, i, &w);
	snprintf(id, sizeof(id), "%s", sb->id);
	m = manager_free(m);
	fake_script();
	fake.hold_at = k;
	m = fake_manager_unsettled(NULL);
	settle();
	sb = manager_find(m, id);
	/* the API answers no request before */
	if (m->recovered && sb && sb->on_disk && sb->moving == SANDBOX_MOVE_NONE)
		sandbox_resume(sb, NULL, NULL);
	settle();
	fake_release();
	settle();
	sb = manager_find(m, id);
	cr_assert_not_null(sb);
	must_go_on(sb, "adopted", k);
	must_end(sb);
	return fake.n_ops;
}

Test(pause, resumed_while_it_is_adopted)
{
	unsigned int n = resumed_while_adopted(0);

	for (unsigned int k = 1; k <= n; k++)
		resumed_while_adopted(k);
	finish();
}

Test(pause, killed_at_each_operation)
{
	unsigned int n = round_ops(fake_running(m));

	m = manager_free(m);
	fake_host_done();
	setup();
	for (unsigned int k = 1; k <= n; k++) {
		struct sandbox *sb = fake_running(m);
		struct fake_wait w = { 0 };

		fake_script();
		fake.hold_at = k;
		sandbox_pause(sb, NULL, NULL);
		settle();
		hibernate_save(sb);
		settle();
		sandbox_resume(sb, NULL, NULL);
		settle();
		sandbox_destroy(sb, SANDBOX_END_REQUEST, fake_waited, &w);
		settle();
		fake_release();
		settle();
		cr_assert_eq(w.calls, 1, "killed at %u", k);
		cr_assert_eq(sb->held, 0, "killed at %u", k);
		fake_assert_empty();
	}
	finish();
}

Test(pause, suspended_by_somebody_else)
{
	struct sandbox *sb = fake_running(m);
	struct fake_wait w;

	fake_find(FAKE_DOMAIN, sb->id)->running = false;
	pause_domain_event(sb, VIRT_EVENT_PAUSED);
	settle();
	cr_assert_eq(sb->state, SANDBOX_PAUSED);
	/* An old event: the domain has not been resumed */
	pause_domain_event(sb, VIRT_EVENT_RESUMED);
	settle();
	cr_assert_eq(sb->state, SANDBOX_PAUSED);
	step(sb, 2, &w);
	cr_assert_eq(sb->state, SANDBOX_RUNNING);
	must_end(sb);
	finish();
}
