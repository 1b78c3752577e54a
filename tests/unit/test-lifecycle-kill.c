/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sandboxes that are killed, die or lose a part while they are being created, and events that come early, late, twice
 * or not at all. Each test walks over all operations of a creation: the k-th is held while something happens.
 */
#include "core/ends.h"
#include "lib/fake-agent.h"
#include "util-test.h"

#define CREATE_OPS 8

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

TestSuite(lifecycle_kill, .init = setup, .fini = teardown, .timeout = 120);

static void finish(void)
{
	m = manager_free(m);
	cr_assert_eq(guest.n_agents, 0);
	fake_host_done();
	fake_host_init();
	test_leaks();
}

/*
 * A creation whose k-th operation is not answered; its world may have changed. False: it runs nevertheless. The tap (2)
 * is no call, and a guest that answers (6) needs no libvirt to say that it was resumed.
 */
static bool create_until(unsigned int k, bool applied, struct sandbox **sb, struct fake_wait *w)
{
	fake_script();
	fake.hold_at = k;
	fake.hold_applied = applied;
	*sb = fake_create(m, w, 300);
	fake_settle();
	if (k == 2 || (k == 6 && applied)) {
		cr_assert_eq((*sb)->state, SANDBOX_RUNNING);
		return false;
	}
	cr_assert_eq(w->calls, 0, "operation %u was to be held", k);
	cr_assert_eq((*sb)->state, SANDBOX_CREATING);
	return true;
}

static void check_gone(const struct sandbox *sb, unsigned int k)
{
	cr_assert_eq(sb->state, SANDBOX_KILLED);
	cr_assert_eq(sb->held, 0, "operation %u: %x is still held", k, sb->held);
	cr_assert_eq(m->n_live, 0);
	cr_assert_eq(m->n_booting, 0);
	cr_assert_not(sb->step_pending);
	fake_assert_empty();
}

static void killed_during(unsigned int k, bool applied, bool backwards)
{
	struct fake_wait created, killed = { 0 };
	struct sandbox *sb;

	bool held = create_until(k, applied, &sb, &created);

	fake.backwards = backwards;
	sandbox_destroy(sb, SANDBOX_END_REQUEST, fake_waited, &killed);
	cr_assert_eq(sb->state, SANDBOX_KILLED);
	cr_assert_eq(created.calls, 1, "who created it knows at once");
	cr_assert_eq(created.fault, held ? FAULT_ENDED_MEANWHILE : FAULT_NONE);
	fake_settle();
	fake_release();
	fake_settle();
	cr_assert_eq(created.calls, 1);
	cr_assert_eq(killed.calls, 1);
	cr_assert_eq(killed.fault, FAULT_NONE);
	check_gone(sb, k);
}

Test(lifecycle_kill, during_each_operation)
{
	for (unsigned int k = 1; k <= CREATE_OPS; k++)
		for (unsigned int i = 0; i < 4; i++)
			killed_during(k, i & 1, i & 2);
	finish();
}

/* Between operations, not during them: kill after every single turn of the loop */
Test(lifecycle_kill, after_each_turn)
{
	for (unsigned int n = 0; n < 60; n++) {
		struct fake_wait created, killed = { 0 };
		struct sandbox *sb;

		fake_script();
		sb = fake_create(m, &created, 300);
		for (unsigned int i = 0; i < n; i++)
			fake_turn();
		sandbox_destroy(sb, SANDBOX_END_REQUEST, fake_waited, &killed);
		cr_assert_eq(created.calls, 1);
		fake_settle();
		cr_assert_eq(created.calls, 1);
		cr_assert_eq(killed.calls, 1);
		check_gone(sb, n);
	}
	finish();
}

/* The operation fails after the kill: nothing is said twice */
Test(lifecycle_kill, then_the_operation_fails)
{
	for (unsigned int k = 1; k <= CREATE_OPS; k++) {
		struct fake_wait created;
		struct sandbox *sb;

		if (!create_until(k, false, &sb, &created)) {
			sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
			fake_settle();
			continue;
		}
		sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
		fake.fail_at = k;
		fake.fail_error = -EIO;
		fake_release();
		fake_settle();
		cr_assert_eq(created.calls, 1);
		check_gone(sb, k);
	}
	finish();
}

/* The domain stops by itself during or after each operation from its creation on: the creation fails, at once. */
Test(lifecycle_kill, domain_stops_while_it_is_created)
{
	for (unsigned int k = 4; k <= CREATE_OPS; k++)
		for (int late = 0; late < 2; late++) {
			struct fake_wait created;
			struct sandbox *sb;

			bool held = create_until(k, true, &sb, &created);

			fake_qemu_dies(sb->id, VIRT_STOP_CRASHED);
			/* The event before the callback of the operation, or after it */
			if (!late)
				fake_settle();
			fake_release();
			fake_settle();
			/* No domain, no hello: a guest that is gone need not be waited for */
			cr_assert_eq(created.calls, 1, "operation %u, %s event", k, late ? "late" : "early");
			/* After the last operation it ran, if not for long */
			cr_assert_eq(created.fault == FAULT_NONE, !held || (k == CREATE_OPS && late), "operation %u", k);
			check_gone(sb, k);
		}
	finish();
}

Test(lifecycle_kill, domain_stops_while_it_runs)
{
	static const struct { enum virt_stop why; enum sandbox_end end; } table[] = {
		{ VIRT_STOP_SHUTDOWN, SANDBOX_END_GUEST_EXIT }, { VIRT_STOP_CRASHED, SANDBOX_END_CRASH },
		{ VIRT_STOP_FAILED, SANDBOX_END_CRASH },
	};

	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct sandbox *sb = fake_running(m);

		fake_qemu_dies(sb->id, table[i].why);
		fake_settle();
		check_gone(sb, (unsigned int)i);
		cr_assert_eq(sb->end, table[i].end);
		/* And once more, long after */
		fake_domain_event(sb->id, table[i].why);
		fake_unit_removed(sb->unit);
		fake_settle();
		cr_assert_eq(sb->end, table[i].end);
	}
	finish();
}

Test(lifecycle_kill, out_of_memory)
{
	static const enum virt_stop table[] = { VIRT_STOP_SHUTDOWN, VIRT_STOP_CRASHED };

	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct sandbox *sb = fake_running(m);

		/* It is still alive, and what ended it is what came before its end */
		ends_oom(sb);
		cr_assert_eq(sb->state, SANDBOX_RUNNING);
		fake_qemu_dies(sb->id, table[i]);
		fake_settle();
		check_gone(sb, (unsigned int)i);
		cr_assert_eq(sb->end, SANDBOX_END_OOM);

		/* Long ago: it lived on without that process */
		sb = fake_running(m);
		ends_oom(sb);
		sb->oom_usec = 1;
		fake_qemu_dies(sb->id, table[i]);
		fake_settle();
		cr_assert_neq(sb->end, SANDBOX_END_OOM);

		/* Who was asked to end has been asked */
		sb = fake_running(m);
		ends_oom(sb);
		sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
		fake_settle();
		cr_assert_eq(sb->end, SANDBOX_END_REQUEST);
	}
	finish();
}

Test(lifecycle_kill, scope_is_removed)
{
	struct sandbox *sb = fake_running(m);
	char scope[64];

	/* libvirt's event is lost; systemd's is enough */
	snprintf(scope, sizeof(scope), "%s", sb->unit);
	fake_unit_removed("declaw-sbx-0123456789.scope");
	fake_unit_removed("declaw-other.scope");
	fake_settle();
	cr_assert_eq(sb->state, SANDBOX_RUNNING);
	/* systemd reloads: said to be removed, and there all the same */
	fake_unit_removed(scope);
	fake_settle();
	cr_assert_eq(sb->state, SANDBOX_RUNNING);
	cr_assert_null(sb->end_timer, "nobody waits for its end");
	memset(fake_find(FAKE_UNIT, scope), 0, sizeof(struct fake_thing));
	fake_unit_removed(scope);
	fake_settle();
	/* libvirt's word is waited for, a moment */
	while (!sb->destroying)
		cr_assert_geq(sd_event_run(fake.event, UINT64_MAX), 0);
	fake_settle();
	cr_assert_eq(sb->end, SANDBOX_END_CRASH);
	check_gone(sb, 0);
	finish();
}

Test(lifecycle_kill, agent_lost)
{
	static const struct { int reason; enum fault fault; } table[] = {
		{ -ETIMEDOUT, FAULT_BOOT_TIMEOUT }, { -EPROTO, FAULT_START_FAILED }, { -ECONNRESET, FAULT_START_FAILED },
	};
	struct fake_wait w;
	struct sandbox *sb;

	for (size_t i = 0; i < ELEMENTSOF(table); i++)
		for (unsigned int k = 5; k <= CREATE_OPS; k++) {
			cr_assert(create_until(k, k % 2, &sb, &w));
			fake_lose(sb->agent, table[i].reason);
			fake_settle();
			fake_release();
			fake_settle();
			cr_assert_eq(w.calls, 1);
			/* A lost agent fails the identity it was asked to set */
			cr_assert(w.fault == table[i].fault || (k == 8 && w.fault == FAULT_START_FAILED));
			check_gone(sb, k);
		}
	sb = fake_running(m);
	fake_lose(sb->agent, -EPROTO);
	fake_settle();
	cr_assert_eq(sb->end, SANDBOX_END_CRASH);
	check_gone(sb, 0);
	finish();
}

/* The guest answers while libvirt is still busy saying that it runs. */
Test(lifecycle_kill, agent_before_the_resume_callback)
{
	struct fake_wait w;
	struct sandbox *sb;

	cr_assert_not(create_until(6, true, &sb, &w));
	cr_assert_eq(sb->state, SANDBOX_RUNNING, "the vCPUs run, whatever libvirt says");
	cr_assert_eq(w.calls, 1);
	fake.fail_at = 6;
	fake.fail_error = -ENOTCONN;
	fake_release();
	fake_settle();
	fake_assert_running(sb);
	cr_assert_eq(w.calls, 1);
	finish();
}

Test(lifecycle_kill, killed_with_two_steps_under_way)
{
	struct fake_wait w, killed = { 0 };
	struct sandbox *sb;

	fake_script();
	fake.hold_at = 6;
	fake.hold_applied = true;
	sb = fake_create(m, &w, 300);
	while (!fake_pending(FAKE_IDENTITY))
		cr_assert(fake_turn());
	cr_assert_eq(sb->step_pending, 2);
	sandbox_destroy(sb, SANDBOX_END_REQUEST, fake_waited, &killed);
	fake_settle();
	cr_assert_eq(killed.calls, 0, "libvirt has not answered yet");
	fake_release();
	fake_settle();
	cr_assert_eq(killed.calls, 1);
	cr_assert_eq(w.calls, 1);
	check_gone(sb, 6);
	finish();
}

/* A guest may reconnect at any time, and as often as it likes. */
Test(lifecycle_kill, agent_up_twice)
{
	struct fake_wait w;
	struct sandbox *sb;

	cr_assert(create_until(8, false, &sb, &w));
	fake_up(sb->agent, 77);
	fake_up(sb->agent, 77);
	cr_assert_eq(fake.counts[FAKE_IDENTITY], 1);
	fake_release();
	fake_settle();
	cr_assert_eq(w.calls, 1);
	fake_assert_running(sb);
	fake_up(sb->agent, 77);
	fake_settle();
	fake_assert_running(sb);
	cr_assert_eq(fake.counts[FAKE_IDENTITY], 1);
	finish();
}

/* The daemon stops at each point of a creation: nothing is destroyed behind its back, nobody waits for ever. */
Test(lifecycle_kill, daemon_stops_while_creating)
{
	for (unsigned int k = 1; k <= CREATE_OPS; k++)
		for (int applied = 0; applied < 2; applied++) {
			struct fake_wait w;
			struct sandbox *sb;
			char id[SANDBOX_ID_MAX];
			bool held = create_until(k, applied, &sb, &w);

			snprintf(id, sizeof(id), "%s", sb->id);
			m = manager_free(m);
			cr_assert_eq(w.calls, 1);
			cr_assert_eq(w.fault, held ? FAULT_BUSY : FAULT_NONE);
			cr_assert_eq(guest.n_agents, 0);
			m = fake_manager(NULL);
			sb = manager_find(m, id);
			cr_assert(sb, "operation %u", k);
			if (held) {
				cr_assert_eq(sb->end, SANDBOX_END_CREATE_FAILED);
				check_gone(sb, k);
			} else {
				fake_assert_running(sb);
				sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
				fake_settle();
			}
		}
	finish();
}

/* And at each point of an end: the next daemon goes on with it. */
Test(lifecycle_kill, daemon_stops_while_destroying)
{
	for (unsigned int n = 0; n < 30; n++) {
		struct sandbox *sb = fake_running(m);
		struct fake_wait w = { 0 };
		char id[SANDBOX_ID_MAX];

		snprintf(id, sizeof(id), "%s", sb->id);
		sandbox_destroy(sb, SANDBOX_END_REQUEST, fake_waited, &w);
		for (unsigned int i = 0; i < n; i++)
			fake_turn();
		m = manager_free(m);
		cr_assert_eq(w.calls, 1);
		m = fake_manager(NULL);
		sb = manager_find(m, id);
		cr_assert_not_null(sb, "it stays readable");
		cr_assert_eq(sb->end, SANDBOX_END_REQUEST);
		check_gone(sb, n);
	}
	finish();
}

Test(lifecycle_kill, daemon_stops_while_all_runs)
{
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX];

	snprintf(id, sizeof(id), "%s", sb->id);
	fake_script();
	m = manager_free(m);
	cr_assert_eq(fake.n_ops, 0, "sandboxes outlive the daemon");
	cr_assert_eq(guest.n_resets, 0, "and their guests hear nothing of it");
	m = fake_manager(NULL);
	fake_assert_running(manager_find(m, id));
	finish();
}
