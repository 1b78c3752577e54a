/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A sandbox from its creation to its end, without and with one operation that fails; see tests/lib/fake-host.h. */
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

TestSuite(lifecycle, .init = setup, .fini = teardown, .timeout = 120);

/* Frees everything, so that what is left is a leak. */
static void finish(void)
{
	m = manager_free(m);
	cr_assert_eq(guest.n_agents, 0);
	cr_assert_eq(guest.n_streams, 0);
	fake_host_done();
	fake_host_init();
	test_leaks();
}

/* What the manager does every 30 seconds */
static void sweep(void)
{
	cr_assert_geq(sd_event_source_set_time(m->sweep_timer, 1), 0);
	fake_settle();
}

static void destroy(struct sandbox *sb, struct fake_wait *w)
{
	memset(w, 0, sizeof(*w));
	sandbox_destroy(sb, SANDBOX_END_REQUEST, fake_waited, w);
	cr_assert_eq(sb->state, SANDBOX_KILLED, "at once");
}

Test(lifecycle, create_and_destroy)
{
	struct fake_wait created, killed;
	struct sandbox *sb = fake_create(m, &created, 300);

	cr_assert_eq(sb->state, SANDBOX_CREATING);
	cr_assert_eq(m->n_live, 1);
	fake_settle();
	cr_assert_eq(created.calls, 1);
	cr_assert_eq(created.fault, FAULT_NONE);
	fake_assert_running(sb);
	cr_assert_eq(fake.n_ops, 9, "%u operations: say so in fake-host.h when there is another", fake.n_ops);
	cr_assert_eq(sb->deadline_usec, sb->started_usec + 300 * USEC_PER_SEC);

	destroy(sb, &killed);
	fake_settle();
	cr_assert_eq(killed.calls, 1);
	cr_assert_eq(killed.fault, FAULT_NONE);
	cr_assert_eq(sb->held, 0);
	cr_assert_eq(m->n_live, 0);
	cr_assert_eq(m->n_booting, 0);
	cr_assert_eq(manager_find(m, sb->id), sb, "it stays readable");
	cr_assert(fake_path_exists("state/ended/%s.json", sb->id));
	fake_assert_empty();
	finish();
}

Test(lifecycle, no_timeout_no_timer)
{
	struct fake_wait w;
	struct sandbox *sb = fake_create(m, &w, 0);

	fake_settle();
	fake_assert_running(sb);
	cr_assert_eq(fake.counts[FAKE_TIMER_SET], 0);
	cr_assert_eq(sb->deadline_usec, 0);
	destroy(sb, &w);
	fake_settle();
	fake_assert_empty();
	finish();
}

/* How many operations a creation asks for, up to its answer */
static unsigned int create_ops(void)
{
	return 8;
}

static const char *op_names[] = {
	[FAKE_DISK_CREATE] = "disk", [FAKE_TAP_CREATE] = "tap", [FAKE_RULES_CLOSE] = "rules",
	[FAKE_DOMAIN_CREATE] = "domain", [FAKE_SCOPE_START] = "scope", [FAKE_DOMAIN_RESUME] = "resume",
	[FAKE_AGENT_UP] = "agent", [FAKE_IDENTITY] = "identity",
};

static enum fault expected_fault(enum fake_op op, int error)
{
	switch (op) {
	case FAKE_DISK_CREATE:
		return error == -ENOSPC ? FAULT_NO_SPACE : FAULT_START_FAILED;
	case FAKE_TAP_CREATE:
	case FAKE_RULES_CLOSE:
		return FAULT_NO_FIREWALL;
	case FAKE_DOMAIN_CREATE:
		return error == -ENOTCONN ? FAULT_NO_LIBVIRT : FAULT_START_FAILED;
	case FAKE_SCOPE_START:
		return error == -ENOTCONN ? FAULT_NO_SYSTEMD : FAULT_START_FAILED;
	case FAKE_AGENT_UP:
		return FAULT_BOOT_TIMEOUT;
	default:
		return FAULT_START_FAILED;
	}
}

static void fail_one(unsigned int k, int error, bool applied)
{
	struct fake_wait w;
	struct sandbox *sb;

	fake_script();
	fake.fail_at = k;
	fake.fail_error = error;
	fake.fail_applied = applied;
	sb = fake_create(m, &w, 300);
	fake_settle();
	cr_assert_neq(fake.failed_op, FAKE_OP_MAX);
	cr_assert_eq(w.calls, 1, "%s: %u answers", op_names[fake.failed_op], w.calls);
	cr_assert_eq(w.fault, expected_fault(fake.failed_op, error), "%s: fault %d", op_names[fake.failed_op], w.fault);
	cr_assert_eq(sb->state, SANDBOX_KILLED);
	cr_assert_eq(sb->end, SANDBOX_END_CREATE_FAILED);
	cr_assert_eq(sb->held, 0);
	cr_assert_null(sb->agent);
	cr_assert_eq(m->n_live, 0);
	cr_assert_eq(m->n_booting, 0);
	fake_assert_empty();
}

Test(lifecycle, each_operation_of_create_fails)
{
	static const int errors[] = { -EIO, -ENOTCONN, -ENOSPC };

	for (unsigned int k = 1; k <= create_ops(); k++)
		for (size_t e = 0; e < ELEMENTSOF(errors); e++) {
			fail_one(k, errors[e], false);
			fail_one(k, errors[e], true);
		}
	finish();
}

/* The guest answers that it cannot: a positive errno */
Test(lifecycle, identity_refused)
{
	struct fake_wait w;
	struct sandbox *sb;

	guest.identity_error = EIO;
	sb = fake_create(m, &w, 300);
	fake_settle();
	cr_assert_eq(w.fault, FAULT_START_FAILED);
	cr_assert_eq(sb->held, 0);
	fake_assert_empty();
	finish();
}

Test(lifecycle, no_room_for_files)
{
	_cleanup_free_ char *path = str_format("%s/state/sandboxes", fake.dir);
	struct fake_wait w;
	struct sandbox *sb;

	/* Something that is no directory is in the way */
	cr_assert_eq(rmdir(path), 0);
	test_write(path, "");
	sb = fake_create(m, &w, 300);
	fake_settle();
	cr_assert_eq(w.calls, 1);
	cr_assert_eq(w.fault, FAULT_INTERNAL);
	cr_assert_eq(sb->state, SANDBOX_KILLED);
	cr_assert_eq(fake.counts[FAKE_DISK_CREATE], 0);
	cr_assert_eq(m->n_booting, 0);
	finish();
}

Test(lifecycle, timer_that_cannot_be_set_is_no_failure)
{
	struct fake_wait w;
	struct sandbox *sb;

	fake.fail_op = FAKE_TIMER_SET;
	fake.fail_error = -EIO;
	sb = fake_create(m, &w, 300);
	fake_settle();
	cr_assert_eq(w.fault, FAULT_NONE);
	cr_assert_eq(sb->state, SANDBOX_RUNNING);
	/* There will be no event: the sweep is what ends it */
	sb->deadline_usec = clock_realtime() - 1;
	sweep();
	cr_assert_eq(sb->state, SANDBOX_KILLED);
	cr_assert_eq(sb->end, SANDBOX_END_TIMEOUT);
	fake_assert_empty();
	finish();
}

/*
 * Each operation of the end fails once: what it would have removed is kept in mind, and gone after the next try. Who
 * waits is told at once whether the guest may still be there.
 */
Test(lifecycle, each_operation_of_destroy_fails)
{
	static const int errors[] = { -EIO, -ENOTCONN };

	for (unsigned int k = 1; k <= 7; k++)
		for (size_t e = 0; e < ELEMENTSOF(errors); e++) {
			struct fake_wait w;
			struct sandbox *sb = fake_running(m);
			bool alive;

			fake_script();
			fake.fail_at = k;
			fake.fail_error = errors[e];
			destroy(sb, &w);
			fake_settle();
			cr_assert_neq(fake.failed_op, FAKE_OP_MAX, "the end has %u operations", fake.n_ops);
			cr_assert_neq(sb->held, 0, "operation %d failed and nothing is held", fake.failed_op);
			alive = fake.failed_op == FAKE_UNIT_KILL || fake.failed_op == FAKE_UNIT_STOP;
			cr_assert_eq(w.calls, 1);
			cr_assert_eq(w.fault, alive ? FAULT_NO_LIBVIRT : FAULT_NONE);
			fake_script();
			if (e)
				recover_run(m);
			else
				sweep();
			fake_settle();
			cr_assert_eq(sb->held, 0, "%x is still held after operation %d", sb->held, fake.failed_op);
			cr_assert_eq(w.calls, 1);
			fake_assert_empty();
		}
	finish();
}

Test(lifecycle, a_failed_removal_is_not_tried_again_on_the_spot)
{
	struct fake_wait w;
	struct sandbox *sb = fake_running(m);

	fake_script();
	fake.fail_op = FAKE_RULES_REMOVE;
	fake.fail_error = -EIO;
	destroy(sb, &w);
	fake_settle();
	cr_assert_eq(fake.counts[FAKE_RULES_REMOVE], 1);
	cr_assert(sb->held & HELD_RULES);
	cr_assert_null(fake_find(FAKE_TAP, sb->tap));
	fake_script();
	/* Asked again it tries again, and the new waiter hears of it */
	destroy(sb, &w);
	fake_settle();
	cr_assert_eq(sb->held, 0);
	cr_assert_eq(w.calls, 1);
	cr_assert_eq(w.fault, FAULT_NONE);
	fake_assert_empty();
	finish();
}

/* libvirt is asked when the scope is empty; when it does not answer, who waits is answered all the same */
Test(lifecycle, a_kill_does_not_wait_for_libvirt)
{
	struct fake_wait w, created;
	struct sandbox *sb = NULL, *next;
	bool found = false;

	for (unsigned int k = 1; k <= 7 && !found; k++) {
		sb = fake_running(m);
		fake_script();
		fake.hold_at = k;
		destroy(sb, &w);
		fake_settle();
		found = fake_pending(FAKE_DOMAIN_DESTROY);
		if (!found) {
			fake_release();
			fake_settle();
			cr_assert_eq(sb->held, 0);
		}
	}
	cr_assert(found);
	cr_assert_null(fake_find(FAKE_UNIT, sb->unit));
	cr_assert_eq(w.calls, 1);
	cr_assert_eq(w.fault, FAULT_NONE);
	cr_assert(sb->held & HELD_DOMAIN);
	/* Nor does who takes its place: with the scope its memory is free */
	m->settings.memory_max = 400ull << 20;
	next = fake_create(m, &created, 300);
	fake_turn();
	fake_turn();
	cr_assert(next->boot_slot);
	m->settings.memory_max = 0;
	fake_release();
	fake_settle();
	cr_assert_eq(sb->held, 0);
	cr_assert_eq(w.calls, 1);
	cr_assert_eq(created.fault, FAULT_NONE);
	sandbox_destroy(next, SANDBOX_END_REQUEST, NULL, NULL);
	fake_settle();
	fake_assert_empty();
	finish();
}

Test(lifecycle, libvirt_is_down_during_destroy)
{
	struct sandbox *sb = fake_running(m);
	struct fake_wait w;

	fake_libvirt(m, false);
	destroy(sb, &w);
	fake_settle();
	cr_assert_null(fake_find(FAKE_UNIT, sb->unit), "systemd killed it all the same");
	cr_assert_eq(w.calls, 1);
	cr_assert_eq(w.fault, FAULT_NONE, "it cannot act any more");
	cr_assert(sb->held & HELD_DOMAIN);
	fake_libvirt(m, true);
	fake_settle();
	cr_assert_eq(sb->held, 0);
	fake_assert_empty();
	finish();
}

Test(lifecycle, boot_slots_let_two_in_at_a_time)
{
	struct fake_wait w[5];
	struct sandbox *sb[5];

	m = manager_free(m);
	m = fake_manager("[sandbox]\nboots_at_once = 2\n");
	fake_script();
	for (size_t i = 0; i < ELEMENTSOF(sb); i++)
		sb[i] = fake_create(m, &w[i], 300);
	while (fake_turn()) {
		unsigned int booting = 0;

		for (size_t i = 0; i < ELEMENTSOF(sb); i++)
			booting += sb[i]->state == SANDBOX_CREATING && sb[i]->held;
		cr_assert_leq(booting, 2);
		cr_assert_leq(m->n_booting, 2);
	}
	for (size_t i = 0; i < ELEMENTSOF(sb); i++)
		fake_assert_running(sb[i]);
	cr_assert_eq(m->n_booting, 0);
	for (size_t i = 0; i < ELEMENTSOF(sb); i++)
		sandbox_destroy(sb[i], SANDBOX_END_REQUEST, NULL, NULL);
	fake_settle();
	fake_assert_empty();
	finish();
}

Test(lifecycle, killed_while_it_waits_for_a_slot)
{
	struct fake_wait w[3], killed;
	struct sandbox *sb[3];

	m = manager_free(m);
	m = fake_manager("[sandbox]\nboots_at_once = 1\n");
	for (size_t i = 0; i < 3; i++)
		sb[i] = fake_create(m, &w[i], 300);
	fake_turn();
	destroy(sb[1], &killed);
	fake_settle();
	cr_assert_eq(killed.calls, 1);
	cr_assert_eq(w[1].calls, 1);
	cr_assert_eq(w[1].fault, FAULT_ENDED_MEANWHILE);
	fake_assert_running(sb[0]);
	fake_assert_running(sb[2]);
	cr_assert_not(fake_path_exists("state/sandboxes/%s", sb[1]->id));
	finish();
}

Test(lifecycle, limit_and_blocked)
{
	struct sandbox_options options;
	struct fake_wait w;
	struct sandbox *sb;
	const char *detail;

	m = manager_free(m);
	m = fake_manager("[sandbox]\nsandboxes_max = 1\n");
	sb = fake_create(m, &w, 300);
	fake_options(m, &options, 300);
	cr_assert_eq(sandbox_create(m, "bob", &options, fake_waited, &w, &sb, &detail), FAULT_LIMIT_SANDBOXES);
	fake_settle();
	fake_libvirt(m, false);
	cr_assert_eq(sandbox_create(m, "bob", &options, fake_waited, &w, &sb, &detail), FAULT_NO_LIBVIRT);
	fake_libvirt(m, true);
	fake_settle();
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	cr_assert_eq(manager_blocked(m, &detail), FAULT_NONE, "a killed one counts no more");
	cr_assert_eq(w.calls, 1);
	fake_settle();
	sandbox_options_done(&options);
	finish();
}

Test(lifecycle, forgotten_after_its_retention)
{
	char id[SANDBOX_ID_MAX];
	struct sandbox *sb;

	m = manager_free(m);
	m = fake_manager("[sandbox]\nkilled_retention = 0\n");
	sb = fake_running(m);
	snprintf(id, sizeof(id), "%s", sb->id);
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	fake_settle();
	cr_assert_null(manager_find(m, id));
	cr_assert(list_empty(&m->sandboxes));
	cr_assert_not(fake_path_exists("state/ended/%s.json", id));
	fake_assert_empty();
	finish();
}

Test(lifecycle, several_wait_for_the_end)
{
	struct sandbox *sb = fake_running(m);
	struct fake_wait w[3] = { 0 };

	for (size_t i = 0; i < 3; i++)
		sandbox_destroy(sb, SANDBOX_END_REQUEST, fake_waited, &w[i]);
	sandbox_unwait(&sb->destroy_waiters, &w[1]);
	fake_settle();
	cr_assert_eq(w[0].calls, 1);
	cr_assert_eq(w[1].calls, 0);
	cr_assert_eq(w[2].calls, 1);
	memset(w, 0, sizeof(w));
	sandbox_destroy(sb, SANDBOX_END_TIMEOUT, fake_waited, &w[0]);
	fake_settle();
	cr_assert_eq(w[0].calls, 1, "who asks after the end is told too");
	cr_assert_eq(sb->end, SANDBOX_END_REQUEST, "the first reason stays");
	finish();
}
