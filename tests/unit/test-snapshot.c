/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Users' snapshots and the sandboxes made of them: without and with one operation that fails, and with a daemon or a
 * libvirt that dies at each of them; see tests/lib/fake-host.h.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "core/domain.h"
#include "core/pause.h"
#include "core/proc.h"
#include "lib/snapshot-fixture.h"
#include "util/clock.h"

TestSuite(snapshot, .init = setup, .fini = teardown, .timeout = 120);

static unsigned int count(void)
{
	const struct snapshot *s;
	unsigned int n = 0;

	list_foreach(&m->snapshots, s, struct snapshot, link)
		n += str_starts(s->id, "snap-");
	return n;
}

/* Directories of snapshots, whole or not */
static unsigned int directories(void)
{
	_cleanup_free_ char *path = str_format("%s/state/sandboxes", fake.dir);
	DIR *d = opendir(path);
	const struct dirent *e;
	unsigned int n = 0;

	cr_assert_not_null(d);
	while ((e = readdir(d)))
		n += str_starts(e->d_name, "snap-");
	closedir(d);
	return n;
}

/* The record and the world agree on the disk that is written */
static void disk_is_right(const struct sandbox *sb, const char *when, unsigned int k)
{
	const struct fake_thing *d = fake_find(FAKE_DOMAIN, sb->id);
	_cleanup_free_ char *disk = domain_disk(sb);

	cr_assert_not_null(d);
	cr_assert_eq(sb->moving, SANDBOX_MOVE_NONE, "%s %u: still %s", when, k, sandbox_move_name(sb->moving));
	cr_assert(!*d->overlay || str_eq(d->overlay, disk), "%s %u: it writes %s, not %s", when, k, d->overlay, disk);
	cr_assert(*d->overlay || sb->layers == 0, "%s %u: its disk was not changed", when, k);
}

static ino_t inode(const char *id, const char *layer)
{
	_cleanup_free_ char *path = snapshot_path(m, id, layer);
	struct stat st;

	cr_assert(path && stat(path, &st) == 0, "%s of %s", layer, id);
	return st.st_ino;
}

Test(snapshot, of_a_running_sandbox)
{
	struct sandbox *sb = fake_running(m);
	struct snapshot *s = taken(sb);

	fake_assert_running(sb);
	disk_is_right(sb, "taken", 0);
	cr_assert_eq(sb->layers, 1);
	cr_assert_eq(m->n_live, 1, "what it was copied into is hidden");
	cr_assert_eq(fake_count(FAKE_DOMAIN), 1, "and gone");
	cr_assert_eq(s->pause_usec, 1500);
	cr_assert_str_eq(s->sandbox_id, sb->id);
	cr_assert_str_eq(s->owner, "alice");
	cr_assert_eq(fake.counts[FAKE_SETTLE], 0);
	cr_assert(fake_path_exists("state/sandboxes/%s/ram", s->id));
	cr_assert(fake_path_exists("state/sandboxes/%s/state", s->id));
	cr_assert(fake_path_exists("state/sandboxes/%s/disk.qcow2", s->id));
	/* What the sandbox goes on in is its alone: what was in it by then is a copy */
	cr_assert_eq(s->layers, 1);
	cr_assert_neq(inode(s->id, "disk-1.qcow2"), inode(sb->id, "disk-1.qcow2"));
	cr_assert_eq(inode(s->id, "disk.qcow2"), inode(sb->id, "disk.qcow2"));
	cr_assert_not(fake_path_exists("state/sandboxes/%s/disk-2.qcow2", s->id));
	destroy(sb);
	cr_assert_eq(count(), 1, "it outlives its sandbox");
	remove_all();
	fake_assert_empty();
	finish();
}

Test(snapshot, the_next_daemon_knows_them)
{
	struct sandbox *sb = fake_running(m);
	char first[SNAPSHOT_ID_MAX], second[SNAPSHOT_ID_MAX], id[SANDBOX_ID_MAX];
	const struct snapshot *s;

	memcpy(first, taken(sb)->id, sizeof(first));
	memcpy(second, taken(sb)->id, sizeof(second));
	memcpy(id, sb->id, sizeof(id));
	m = manager_free(m);
	m = fake_manager(ON);
	sb = manager_find(m, id);
	cr_assert_eq(sb->layers, 2);
	disk_is_right(sb, "restarted", 0);
	cr_assert_eq(count(), 2);
	s = list_first(&m->snapshots, struct snapshot, link);
	cr_assert_str_eq(s->id, second, "newest first");
	cr_assert_eq(s->layers, 2);
	destroy(child_of(first));
	destroy(child_of(second));
	destroy(sb);
	remove_all();
	fake_assert_empty();
	finish();
}

Test(snapshot, children_outlive_it_and_its_source)
{
	struct sandbox *sb = fake_running(m), *a, *b, *c;
	struct snapshot *s = taken(sb);
	_cleanup_free_ char *xml = NULL, *lower = NULL;

	a = child_of(s->id);
	destroy(sb);
	b = child_of(s->id);
	cr_assert_str_neq(a->mac, b->mac);
	cr_assert_str_neq(a->address, b->address);
	cr_assert_eq(b->layers, 2);
	cr_assert_not(fake_path_exists("state/sandboxes/%s/ram", b->id), "the memory's file is the snapshot's alone");
	snapshot_remove(s);
	fake_settle();
	cr_assert_eq(directories(), 0);
	fake_assert_running(a);
	fake_assert_running(b);
	/* All that it stands on is its own */
	lower = domain_layer(b, 0);
	xml = domain_xml(b, DOM_MEMORY_RESTORED);
	cr_assert(xml && strstr(xml, lower) && !strstr(xml, "snap-"));
	s = taken(b);
	cr_assert_eq(s->layers, 3);
	destroy(b);
	c = child_of(s->id);
	cr_assert_eq(c->layers, 4);
	destroy(a);
	destroy(c);
	remove_all();
	fake_assert_empty();
	finish();
}

/* What ran in it runs in the child, is listed there, and its output goes on where it was */
Test(snapshot, its_processes)
{
	struct sandbox *sb = fake_running(m), *child;
	const struct proc_spec spec = { .kind = PROC_BACKGROUND, .cmd = "tick", .timeout_usec = 3600 * USEC_PER_SEC };
	struct fake_wait w = { 0 };
	struct proc *p = NULL, *q;
	const char *detail;
	uint64_t deadline;

	guest.room = 1000;
	cr_assert_eq(proc_start(sb, &spec, fake_waited, &w, &p, &detail), FAULT_NONE);
	fake_settle();
	guest.procs[guest.n_procs++] = (struct agent_proc){ .token = p->token, .pid = p->pid };
	fake_feed(p->out, "12345", 5);
	deadline = p->deadline_usec;
	child = child_of(taken(sb)->id);
	q = proc_find_pid(child, p->pid);
	cr_assert_not_null(q);
	cr_assert_neq(q, p);
	cr_assert_eq(q->state, PROC_RUNNING);
	cr_assert_str_eq(q->cmd, "tick");
	cr_assert_geq(q->deadline_usec, deadline);
	cr_assert_eq(q->out->next, 5);
	cr_assert_eq(guest.n_signals, 0);
	fake_feed(q->out, "678", 3);
	cr_assert_eq(spool_stream_size(q->spool, SPOOL_STDOUT), 8);
	cr_assert(spool_has_gap(q->spool));
	cr_assert_eq(spool_stream_size(p->spool, SPOOL_STDOUT), 5);
	proc_unref(p);
	destroy(child);
	destroy(sb);
	remove_all();
	fake_assert_empty();
	finish();
}

Test(snapshot, refused)
{
	struct sandbox *sb = fake_running(m);
	struct fake_wait w = { 0 };
	struct taken t;
	enum fault fault;

	for (int i = 0; i < 3; i++)
		taken(sb);
	cr_assert_eq(take(sb, &t), FAULT_SNAPSHOT_LIMIT);
	snapshot_remove(list_first(&m->snapshots, struct snapshot, link));
	taken(sb);
	remove_all();
	sb->layers = SNAPSHOT_LAYERS_MAX;
	cr_assert_eq(take(sb, &t), FAULT_SNAPSHOT_FAILED);
	sb->layers = 3;
	cr_assert_eq(sandbox_pause(sb, fake_waited, &w), FAULT_NONE);
	cr_assert_eq(take(sb, &t), FAULT_SANDBOX_STATE);
	fake_settle();
	cr_assert_eq(take(sb, &t), FAULT_SANDBOX_STATE, "paused");
	cr_assert_null(ask("snap-0000000000", &w, &fault));
	cr_assert_eq(fault, FAULT_SNAPSHOT_UNKNOWN);
	destroy(sb);
	fake_assert_empty();
	finish();
}

/* Another QEMU than it was made with: never restored wrongly */
Test(snapshot, of_another_platform)
{
	struct sandbox *sb = fake_running(m);
	struct snapshot *s = taken(sb);
	struct fake_wait w;
	enum fault fault;

	s->platform[0] ^= 1;
	cr_assert_null(ask(s->id, &w, &fault));
	cr_assert_eq(fault, FAULT_SNAPSHOT_STALE);
	destroy(sb);
	remove_all();
	fake_assert_empty();
	finish();
}

/* --- what fails --- */

static unsigned int ops_of_a_take(void)
{
	struct sandbox *sb = fake_running(m);
	unsigned int n;

	fake_script();
	taken(sb);
	n = fake.n_ops;
	destroy(sb);
	remove_all();
	return n;
}

/* What the sweep does half a minute later */
static void sweep(void)
{
	struct sandbox *sb;

	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (sb->state == SANDBOX_KILLED && sb->held)
			sandbox_destroy_resume(sb);
	fake_settle();
}

static void must_go_on(struct sandbox *sb, const char *when, unsigned int k)
{
	sweep();
	fake_assert_running(sb);
	disk_is_right(sb, when, k);
	cr_assert_eq(directories(), count(), "%s %u: half a snapshot is left", when, k);
	fake_script();
	destroy(child_of(taken(sb)->id));
	disk_is_right(sb, when, k);
	destroy(sb);
	remove_all();
	fake_assert_empty();
}

static void fail_one(unsigned int k, int error, bool applied)
{
	struct sandbox *sb = fake_running(m);
	struct taken t;

	fake_script();
	fake.fail_at = k;
	fake.fail_error = error;
	fake.fail_applied = applied;
	take(sb, &t);
	if (error == -ENOTCONN) {
		fake_libvirt(m, false);
		fake_libvirt(m, true);
		fake_settle();
	}
	if (error == -ENOSPC && fake.failed_op == FAKE_LAYER)
		cr_assert_eq(t.fault, FAULT_NO_SPACE);
	if (sb->state == SANDBOX_KILLED)
		cr_assert_fail("operation %u (%d, %d) killed it: %s", k, fake.failed_op, error, sandbox_end_name(sb->end));
	must_go_on(sb, applied ? "failed after" : "failed before", k);
}

Test(snapshot, one_operation_fails)
{
	static const int errors[] = { -EIO, -ENOSPC, -ENOTCONN };
	unsigned int n = ops_of_a_take();

	cr_assert_gt(n, 8);
	for (size_t e = 0; e < ELEMENTSOF(errors); e++)
		for (unsigned int k = 1; k <= n; k++) {
			fail_one(k, errors[e], false);
			fail_one(k, errors[e], true);
		}
	finish();
}

static void die_at(unsigned int k, bool applied)
{
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX];
	const char *detail;

	memcpy(id, sb->id, sizeof(id));
	fake_script();
	fake.hold_at = k;
	fake.hold_applied = applied;
	cr_assert_eq(snapshot_take(sb, NULL, NULL, &detail), FAULT_NONE);
	fake_settle();
	m = manager_free(m);
	fake_script();
	m = fake_manager(ON);
	sb = manager_find(m, id);
	cr_assert_not_null(sb);
	must_go_on(sb, applied ? "died after" : "died before", k);
}

Test(snapshot, the_daemon_dies)
{
	unsigned int n = ops_of_a_take();

	for (unsigned int k = 1; k <= n; k++) {
		die_at(k, false);
		die_at(k, true);
	}
	finish();
}

/* Its user kills it in the middle: the request is answered, nothing is left. Or it came too late, and it is whole. */
static void kill_at(unsigned int k)
{
	struct sandbox *sb = fake_running(m);
	struct taken t = { 0 };
	const char *detail;

	fake_script();
	fake.hold_at = k;
	cr_assert_eq(snapshot_take(sb, on_taken, &t, &detail), FAULT_NONE);
	fake_settle();
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	fake_release();
	fake_settle();
	cr_assert_eq(t.calls, 1, "operation %u", k);
	cr_assert_eq(sb->held, 0);
	cr_assert_eq(directories(), t.fault == FAULT_NONE, "operation %u", k);
	remove_all();
	fake_assert_empty();
}

Test(snapshot, killed_in_the_middle)
{
	unsigned int n = ops_of_a_take();

	for (unsigned int k = 1; k <= n; k++)
		kill_at(k);
	finish();
}

Test(snapshot, nobody_waits_any_more)
{
	struct sandbox *sb = fake_running(m);
	struct taken t = { 0 };
	const char *detail;

	cr_assert_eq(snapshot_take(sb, on_taken, &t, &detail), FAULT_NONE);
	snapshot_forget(m, &t);
	fake_settle();
	cr_assert_eq(t.calls, 0);
	cr_assert_eq(count(), 1);
	destroy(sb);
	remove_all();
	fake_assert_empty();
	finish();
}

/* A child that cannot be made is none: nothing boots in its place */
Test(snapshot, a_child_fails)
{
	struct sandbox *sb = fake_running(m);
	struct snapshot *s = taken(sb);
	unsigned int n = 0;

	for (unsigned int k = 1; k <= 9; k++) {
		struct fake_wait w;
		enum fault fault;
		struct sandbox *child;

		fake_script();
		fake.fail_at = k;
		fake.fail_error = -EIO;
		child = ask(s->id, &w, &fault);
		cr_assert_eq(fault, FAULT_NONE);
		fake_settle();
		cr_assert_eq(w.calls, 1);
		cr_assert_eq(fake.counts[FAKE_DOMAIN_CREATE], 0);
		n += w.fault != FAULT_NONE;
		if (w.fault == FAULT_NONE)
			destroy(child);
		cr_assert_eq(child->held, 0);
	}
	cr_assert_geq(n, 8);
	destroy(child_of(s->id));
	destroy(sb);
	remove_all();
	fake_assert_empty();
	finish();
}

/* Removed between the request and its turn */
Test(snapshot, removed_before_its_turn)
{
	struct sandbox *sb = fake_running(m);
	struct snapshot *s = taken(sb);
	struct fake_wait w;
	enum fault fault;

	cr_assert_not_null(ask(s->id, &w, &fault));
	snapshot_remove(s);
	fake_settle();
	cr_assert_eq(w.fault, FAULT_SNAPSHOT_UNKNOWN);
	destroy(sb);
	fake_assert_empty();
	finish();
}
