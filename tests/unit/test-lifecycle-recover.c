/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Recovery: a new manager over what an old one, or nobody, has left. */
#include "lib/fake-agent.h"
#include "util-test.h"
#include "util/clock.h"
#include "util/fileio.h"

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

TestSuite(lifecycle_recover, .init = setup, .fini = teardown, .timeout = 60);

static void finish(void)
{
	m = manager_free(m);
	fake_host_done();
	fake_host_init();
	test_leaks();
}

static void restart(void)
{
	m = manager_free(m);
	fake_script();
	m = fake_manager(NULL);
}

/* Dies without a word: what it was about to write is not written. */
static void put(const char *text, const char *format, ...) _printf_(2, 3);
static void put(const char *text, const char *format, ...)
{
	char path[PATH_MAX];
	va_list ap;
	int n = snprintf(path, sizeof(path), "%s/", fake.dir);

	va_start(ap, format);
	vsnprintf(path + n, sizeof(path) - (size_t)n, format, ap);
	va_end(ap);
	if (text)
		cr_assert_eq(file_write_atomic(path, text, strlen(text), 0600, false), 0);
	else
		cr_assert_eq(dir_make(path, 0755), 0);
}

/* What the world consists of, for comparing */
static size_t world(struct fake_thing ret[FAKE_THINGS])
{
	size_t n = 0;

	for (size_t i = 0; i < FAKE_THINGS; i++)
		if (fake.things[i].kind != FAKE_NOTHING)
			ret[n++] = fake.things[i];
	return n;
}

Test(lifecycle_recover, adopts_what_runs)
{
	struct fake_thing before[FAKE_THINGS], after[FAKE_THINGS];
	char ids[3][SANDBOX_ID_MAX];
	struct sandbox *sb;
	uint64_t deadline = 0;

	for (size_t i = 0; i < 3; i++) {
		sb = fake_running(m);
		deadline = sb->deadline_usec;
		snprintf(ids[i], sizeof(ids[i]), "%s", sb->id);
	}
	world(before);
	restart();
	cr_assert_eq(world(after), 4 * 3 + 3);
	for (size_t i = 0; i < 3; i++) {
		sb = manager_find(m, ids[i]);
		cr_assert_not_null(sb);
		fake_assert_running(sb);
		cr_assert(sb->held & HELD_DOMAIN && sb->held & HELD_SCOPE && sb->held & HELD_RULES && sb->held & HELD_TAP &&
			  sb->held & HELD_TIMER && sb->held & HELD_DIR);
		cr_assert_eq(sb->agent->expected, 77, "its processes are resumed only if it is the same agent");
	}
	cr_assert_eq(m->n_live, 3);
	cr_assert_eq(fake.counts[FAKE_DOMAIN_DESTROY] + fake.counts[FAKE_UNIT_KILL], 0);
	sb = list_first(&m->sandboxes, struct sandbox, link);
	cr_assert_str_eq(sb->id, ids[2], "newest first");
	cr_assert_eq(sb->deadline_usec, deadline, "a restart is no prolongation");
	for (size_t i = 0; i < 3; i++)
		sandbox_destroy(manager_find(m, ids[i]), SANDBOX_END_REQUEST, NULL, NULL);
	fake_settle();
	fake_assert_empty();
	finish();
}

Test(lifecycle_recover, twice_changes_nothing)
{
	struct fake_thing before[FAKE_THINGS] = { 0 }, after[FAKE_THINGS] = { 0 };
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX];
	struct agent *agent;

	snprintf(id, sizeof(id), "%s", sb->id);
	restart();
	sb = manager_find(m, id);
	agent = sb->agent;
	world(before);
	fake_script();
	for (int i = 0; i < 2; i++) {
		recover_run(m);
		recover_run(m);
		cr_assert_eq(fake.counts[FAKE_DOMAIN_LIST], 1 + 2 * (unsigned int)i, "one at a time");
		fake_settle();
	}
	world(after);
	cr_assert_eq(memcmp(before, after, sizeof(before)), 0);
	cr_assert_eq(fake.counts[FAKE_DOMAIN_LIST], 4, "what is asked for meanwhile is done afterwards");
	cr_assert_eq(fake.n_ops, 4 * 3, "lists, and nothing else");
	cr_assert_eq(sb->agent, agent);
	fake_assert_running(sb);
	finish();
}

/* One of every kind, of nobody; beside things that look like ours and are not, and a sandbox that is ours. */
Test(lifecycle_recover, removes_strays)
{
	static const char id[] = "sbx-aaaaaaaaaa";
	struct sandbox *sb = fake_running(m);
	char mine[SANDBOX_ID_MAX];

	snprintf(mine, sizeof(mine), "%s", sb->id);
	m = manager_free(m);
	fake_add(FAKE_DOMAIN, id)->pid = 4242;
	fake_add(FAKE_DOMAIN, "declaw-probe");
	fake_add(FAKE_DOMAIN, "somebody-else");
	fake_add(FAKE_UNIT, "declaw-sbx-aaaaaaaaaa.scope")->pid = 4242;
	fake_add(FAKE_UNIT, "declaw-sbx-bbbbbbbbbb.scope");
	fake_add(FAKE_UNIT, "declaw-sbx-bbbbbbbbbb-extra.scope");
	fake_add(FAKE_UNIT, "declaw-expire@sbx-cccccccccc.timer");
	fake_add(FAKE_CHAIN, "dddddddddd");
	fake_add(FAKE_TAP, "dcleeeeeeeeee");
	fake_add(FAKE_TAP, "dclother");
	put(NULL, "run/vm/sbx-ffffffffff");
	put("", "run/vm/sbx-ffffffffff/agent.sock");
	put(NULL, "state/sandboxes/sbx-gggggggggg");
	put("disk", "state/sandboxes/sbx-gggggggggg/disk.qcow2");
	put(NULL, "state/trash/sbx-hhhhhhhhhh");
	put("disk", "state/trash/sbx-hhhhhhhhhh/disk.qcow2");
	m = fake_manager(NULL);

	fake_assert_running(manager_find(m, mine));
	cr_assert_eq(fake_count(FAKE_DOMAIN), 2);
	cr_assert_not_null(fake_find(FAKE_DOMAIN, "somebody-else"));
	cr_assert_eq(fake_count(FAKE_UNIT), 3);
	cr_assert_not_null(fake_find(FAKE_UNIT, "declaw-sbx-bbbbbbbbbb-extra.scope"));
	cr_assert_eq(fake_count(FAKE_CHAIN), 1);
	cr_assert_eq(fake_count(FAKE_TAP), 2);
	cr_assert_not_null(fake_find(FAKE_TAP, "dclother"));
	cr_assert_not(fake_path_exists("run/vm/sbx-ffffffffff"));
	cr_assert_not(fake_path_exists("state/sandboxes/sbx-gggggggggg"));
	cr_assert_not(fake_path_exists("state/trash/sbx-hhhhhhhhhh"));
	finish();
}

/* Strays go side by side, and one may hold another: what could not be removed is tried again. */
Test(lifecycle_recover, a_stray_that_was_held)
{
	unsigned int n;

	m = manager_free(m);
	fake_script();
	fake.fail_at = ~0u;
	fake_add(FAKE_TAP, "dcleeeeeeeeee");
	m = fake_manager(NULL);
	n = fake.n_ops;
	cr_assert_eq(fake_count(FAKE_TAP), 0);
	for (unsigned int k = 1; k <= n; k++) {
		m = manager_free(m);
		fake_script();
		fake.fail_at = k;
		fake.fail_error = -EBUSY;
		if (!fake_find(FAKE_TAP, "dcleeeeeeeeee"))
			fake_add(FAKE_TAP, "dcleeeeeeeeee");
		m = fake_manager_unsettled(NULL);
		fake_settle();
		if (fake.failed_op == FAKE_TAP_REMOVE)
			break;
	}
	cr_assert_eq(fake.failed_op, FAKE_TAP_REMOVE);
	cr_assert_eq(fake_count(FAKE_TAP), 1);
	for (unsigned int i = 0; i < 100 && fake_count(FAKE_TAP) > 0; i++) {
		sd_event_run(fake.event, 100 * USEC_PER_MSEC);
		fake_settle();
	}
	cr_assert_eq(fake_count(FAKE_TAP), 0);
	finish();
}

/* A stray of a sandbox that is long over: its end is an event about a killed one. */
Test(lifecycle_recover, stray_of_an_ended_sandbox)
{
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX], scope[64];

	snprintf(id, sizeof(id), "%s", sb->id);
	snprintf(scope, sizeof(scope), "%s", sb->unit);
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	fake_settle();
	m = manager_free(m);
	fake_add(FAKE_DOMAIN, id)->pid = 1;
	fake_add(FAKE_UNIT, scope)->pid = 1;
	m = fake_manager(NULL);
	sb = manager_find(m, id);
	cr_assert_eq(sb->end, SANDBOX_END_REQUEST);
	fake_assert_empty();
	finish();
}

Test(lifecycle_recover, died_meanwhile)
{
	struct sandbox *a = fake_running(m), *b = fake_running(m);
	char ids[2][SANDBOX_ID_MAX], dir[PATH_MAX];

	snprintf(ids[0], sizeof(ids[0]), "%s", a->id);
	snprintf(ids[1], sizeof(ids[1]), "%s", b->id);
	m = manager_free(m);
	/* One crashed; the other's run directory is gone too, as after a reboot of the host */
	fake_qemu_dies(ids[0], VIRT_STOP_CRASHED);
	fake_qemu_dies(ids[1], VIRT_STOP_CRASHED);
	snprintf(dir, sizeof(dir), "%s/run/vm/%s", fake.dir, ids[1]);
	cr_assert_eq(dir_remove_tree(dir), 0);
	m = fake_manager(NULL);
	cr_assert_eq(manager_find(m, ids[0])->end, SANDBOX_END_CRASH);
	cr_assert_eq(manager_find(m, ids[1])->end, SANDBOX_END_HOST_SHUTDOWN);
	cr_assert_eq(m->n_live, 0);
	fake_assert_empty();
	finish();
}

Test(lifecycle_recover, overdue)
{
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX];

	snprintf(id, sizeof(id), "%s", sb->id);
	sb->deadline_usec = clock_realtime() - USEC_PER_SEC;
	cr_assert_eq(sandbox_save(sb), 0);
	restart();
	sb = manager_find(m, id);
	cr_assert_eq(sb->end, SANDBOX_END_TIMEOUT);
	fake_assert_empty();
	finish();
}

Test(lifecycle_recover, template_is_gone)
{
	struct sandbox *sb = fake_running(m);
	char path[PATH_MAX], id[SANDBOX_ID_MAX];

	snprintf(id, sizeof(id), "%s", sb->id);
	m = manager_free(m);
	snprintf(path, sizeof(path), "%s/state/templates/base/rootfs.ext4", fake.dir);
	unlink(path);
	m = fake_manager(NULL);
	sb = manager_find(m, id);
	cr_assert_eq(sb->state, SANDBOX_KILLED);
	cr_assert_eq(sb->held, 0);
	cr_assert_str_eq(sb->template_id, "tpl-base");
	finish();
}

Test(lifecycle_recover, bad_records)
{
	static const char id[] = "sbx-aaaaaaaaaa", other[] = "sbx-bbbbbbbbbb";

	m = manager_free(m);
	put(NULL, "state/sandboxes/%s", id);
	put("{\"id\":", "state/sandboxes/%s/sandbox.json", id);
	put("", "state/ended/%s.json", other);
	put(NULL, "state/sandboxes/%s", other);
	put("", "state/sandboxes/README");
	fake_add(FAKE_DOMAIN, id);
	m = fake_manager(NULL);
	cr_assert_null(manager_find(m, id));
	cr_assert_null(manager_find(m, other));
	cr_assert_eq(fake_count(FAKE_DOMAIN), 0);
	cr_assert_not(fake_path_exists("state/sandboxes/%s", id));
	cr_assert_not(fake_path_exists("state/sandboxes/%s", other));
	cr_assert_not(fake_path_exists("state/ended/%s.json", other), "it would be complained about at every start");
	finish();
}

/* Each list fails once: recovery is tried again without anybody reconnecting. */
Test(lifecycle_recover, list_fails)
{
	static const enum fake_op lists[] = { FAKE_DOMAIN_LIST, FAKE_RULES_LIST, FAKE_UNITS_LIST };
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX];
	const char *detail;

	snprintf(id, sizeof(id), "%s", sb->id);
	for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
		m = manager_free(m);
		fake_script();
		fake.fail_op = lists[i];
		fake.fail_error = -EIO;
		m = fake_manager_unsettled(NULL);
		fake_settle();
		cr_assert_not(m->ready);
		cr_assert_eq(manager_blocked(m, &detail), FAULT_BUSY);
		fake_script();
		cr_assert_geq(sd_event_source_set_time(m->recover_timer, 1), 0);
		fake_settle();
		cr_assert(m->ready);
		fake_assert_running(manager_find(m, id));
	}
	finish();
}

/* libvirt's connection comes and goes while lists are under way: one recovery at a time, the last one counts. */
Test(lifecycle_recover, connection_flaps)
{
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX];

	snprintf(id, sizeof(id), "%s", sb->id);
	m = manager_free(m);
	m = fake_manager_unsettled(NULL);
	for (int i = 0; i < 5; i++) {
		for (int n = 0; n < i; n++)
			fake_turn();
		fake_libvirt(m, false);
		fake_turn();
		fake_libvirt(m, true);
	}
	fake_settle();
	cr_assert(m->ready);
	fake_assert_running(manager_find(m, id));
	fake_libvirt(m, false);
	fake_settle();
	fake_assert_running(manager_find(m, id));
	finish();
}

/* A sandbox is created and runs while recovery, asked before, waits for its other lists. */
Test(lifecycle_recover, created_meanwhile)
{
	struct fake_wait w;
	struct sandbox *sb;

	fake_script();
	fake.hold_at = 2;	/* the rules' list; the domains' is in */
	recover_run(m);
	fake_settle();
	fake.hold_at = 0;
	/* nftables knows one order only: let its list wait elsewhere */
	fake_pending(FAKE_RULES_LIST)->owner = FAKE_WORKERS;
	sb = fake_create(m, &w, 300);
	fake_settle();
	fake_assert_running(sb);
	fake_release();
	fake_settle();
	fake_assert_running(sb);
	finish();
}

Test(lifecycle_recover, firewall_is_not_to_be_had)
{
	const char *detail;

	m = manager_free(m);
	fake_script();
	fake.fail_op = FAKE_RULES_SETUP;
	fake.fail_error = -EPERM;
	m = fake_manager_unsettled(NULL);
	fake_settle();
	cr_assert_eq(manager_blocked(m, &detail), FAULT_NO_FIREWALL);
	finish();
}

/* The rules of an adopted sandbox cannot be set again: it may not go on without. */
Test(lifecycle_recover, rules_of_an_adopted_one_fail)
{
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX];

	snprintf(id, sizeof(id), "%s", sb->id);
	m = manager_free(m);
	fake_script();
	fake.fail_op = FAKE_RULES_CLOSE;
	fake.fail_error = -EIO;
	m = fake_manager(NULL);
	cr_assert_eq(manager_find(m, id)->state, SANDBOX_KILLED);
	fake_assert_empty();
	finish();
}

/* The daemon stops in the middle of recovery. */
Test(lifecycle_recover, daemon_stops_meanwhile)
{
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX];

	snprintf(id, sizeof(id), "%s", sb->id);
	for (unsigned int n = 0; n < 25; n++) {
		m = manager_free(m);
		m = fake_manager_unsettled(NULL);
		for (unsigned int i = 0; i < n; i++)
			fake_turn();
	}
	m = manager_free(m);
	m = fake_manager(NULL);
	fake_assert_running(manager_find(m, id));
	finish();
}
