/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sandboxes put back to a snapshot of theirs: without and with one operation that fails, and a daemon that dies at each. */
#include "core/hibernate.h"
#include "core/pause.h"
#include "core/proc.h"
#include "lib/snapshot-fixture.h"

TestSuite(snapshot_restore, .init = setup, .fini = teardown, .timeout = 120);

static enum fault restore(struct sandbox *sb, const struct snapshot *s, struct fake_wait *w)
{
	enum fault fault;

	memset(w, 0, sizeof(*w));
	fault = snapshot_restore(sb, s, fake_waited, w);
	fake_settle();
	cr_assert_eq(w->calls, fault == FAULT_NONE);
	return fault == FAULT_NONE ? w->fault : fault;
}

static void restored_is_right(struct sandbox *sb, const struct snapshot *s)
{
	fake_assert_running(sb);
	cr_assert_not(sb->restoring);
	cr_assert_eq(sb->layers, s->layers + 1);
	cr_assert_str_eq(sb->from, s->id);
	cr_assert_eq(sb->path, CREATE_COLD, "how it was made at first");
	cr_assert_not(fake_path_exists("state/sandboxes/%s/disk-%u.qcow2", sb->id, s->layers + 2));
}

Test(snapshot_restore, restored_in_place)
{
	struct sandbox *sb = fake_running(m);
	const struct proc_spec spec = { .kind = PROC_BACKGROUND, .cmd = "tick" };
	struct snapshot *first, *second;
	struct fake_wait w = { 0 };
	struct proc *old = NULL, *late = NULL, *found;
	const char *detail;
	char mac[18], address[16];

	guest.room = 1000;
	memcpy(mac, sb->mac, sizeof(mac));
	memcpy(address, sb->address, sizeof(address));
	cr_assert_eq(proc_start(sb, &spec, fake_waited, &w, &old, &detail), FAULT_NONE);
	fake_settle();
	guest.procs[guest.n_procs++] = (struct agent_proc){ .token = old->token, .pid = old->pid };
	fake_feed(old->out, "12345", 5);
	first = taken(sb);
	fake_feed(old->out, "6789", 4);
	second = taken(sb);
	cr_assert_eq(proc_start(sb, &spec, fake_waited, &w, &late, &detail), FAULT_NONE);
	fake_settle();
	cr_assert_eq(restore(sb, first, &w), FAULT_NONE, "%s", w.detail);
	restored_is_right(sb, first);
	cr_assert_str_eq(sb->mac, mac);
	cr_assert_str_eq(sb->address, address);
	cr_assert_eq(fake_count(FAKE_DOMAIN), 1);
	/* Who followed them is told; the one that the snapshot had is there again, with no byte of its later life */
	cr_assert(old->state == PROC_ENDED && late->state == PROC_ENDED);
	found = proc_find_pid(sb, old->pid);
	cr_assert(found && found != old && found->state == PROC_RUNNING);
	cr_assert_null(proc_find_pid(sb, late->pid));
	cr_assert_eq(found->out->next, 5);
	proc_unref(old);
	proc_unref(late);
	fake_feed(found->out, "x", 1);
	cr_assert(fake_path_exists("state/sandboxes/%s/proc/%016llx.spool", sb->id, (unsigned long long)found->token),
		  "the old one's end took the new one's file");
	/* Forward again, and from paused, and from disk */
	cr_assert_eq(restore(sb, second, &w), FAULT_NONE, "%s", w.detail);
	restored_is_right(sb, second);
	cr_assert_eq(sandbox_pause(sb, NULL, NULL), FAULT_NONE);
	fake_settle();
	cr_assert_eq(restore(sb, first, &w), FAULT_NONE, "%s", w.detail);
	restored_is_right(sb, first);
	cr_assert_eq(sandbox_pause(sb, NULL, NULL), FAULT_NONE);
	fake_settle();
	hibernate_save(sb);
	fake_settle();
	cr_assert(sb->on_disk);
	cr_assert_eq(restore(sb, second, &w), FAULT_NONE, "%s", w.detail);
	restored_is_right(sb, second);
	cr_assert_not(fake_path_exists("state/sandboxes/%s/memory", sb->id));
	cr_assert_eq(m->n_live, 1);
	destroy(sb);
	remove_all();
	fake_assert_empty();
	finish();
}

static unsigned int ops_of_a_restore(void)
{
	struct sandbox *sb = fake_running(m);
	struct snapshot *s = taken(sb);
	struct fake_wait w;
	unsigned int n;

	fake_script();
	cr_assert_eq(restore(sb, s, &w), FAULT_NONE);
	n = fake.n_ops;
	destroy(sb);
	remove_all();
	return n;
}

/* A restore that fails says so and leaves nothing of the sandbox; the snapshot is as it was. */
Test(snapshot_restore, a_restore_fails)
{
	unsigned int n = ops_of_a_restore();

	cr_assert_gt(n, 8);
	for (unsigned int k = 1; k <= n; k++) {
		struct sandbox *sb = fake_running(m);
		struct snapshot *s = taken(sb);
		struct fake_wait w;

		fake_script();
		fake.fail_at = k;
		fake.fail_error = -EIO;
		if (restore(sb, s, &w) == FAULT_NONE)
			restored_is_right(sb, s);
		else
			cr_assert_eq(sb->state, SANDBOX_KILLED);
		fake_script();
		destroy(child_of(s->id));
		destroy(sb);
		remove_all();
		fake_assert_empty();
	}
	finish();
}

/* The next daemon begins again, and comes to the same end */
Test(snapshot_restore, the_daemon_dies_while_it_restores)
{
	unsigned int n = ops_of_a_restore();

	for (unsigned int k = 1; k <= n; k++)
		for (int applied = 0; applied < 2; applied++) {
			struct sandbox *sb = fake_running(m);
			const struct snapshot *s = taken(sb);
			char id[SANDBOX_ID_MAX], snap[SNAPSHOT_ID_MAX];
			struct fake_wait w = { 0 };

			memcpy(id, sb->id, sizeof(id));
			memcpy(snap, s->id, sizeof(snap));
			fake_script();
			fake.hold_at = k;
			fake.hold_applied = applied;
			cr_assert_eq(snapshot_restore(sb, s, fake_waited, &w), FAULT_NONE);
			fake_settle();
			m = manager_free(m);
			fake_script();
			m = fake_manager(ON);
			fake_settle();
			sb = manager_find(m, id);
			s = snapshot_find(m, snap);
			cr_assert(sb && s);
			cr_assert_eq(sb->state, SANDBOX_RUNNING, "operation %u: %s (%s)", k, sandbox_state_name(sb->state),
				     sandbox_end_name(sb->end));
			restored_is_right(sb, s);
			destroy(sb);
			remove_all();
			fake_assert_empty();
		}
	finish();
}
