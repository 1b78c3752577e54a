/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory snapshots of templates and clones of them, without and with what goes wrong; see tests/lib/fake-host.h. */
#include "core/domain.h"
#include "core/memsnap.h"
#include "lib/fake-agent.h"
#include "util-test.h"
#include "util/fileio.h"

#define ON "[create]\nfork = yes\n"

static struct manager *m;

static struct memsnap *snap(void)
{
	return list_first(&m->memsnaps, struct memsnap, link);
}

/* The agent of the hidden sandbox that boots to be forked from */
static struct agent *builder_agent(void)
{
	cr_assert(snap()->builder && snap()->builder->agent);
	return snap()->builder->agent;
}

/* From a guest that has booted to a snapshot, or to what went wrong on the way */
static void build_on(void)
{
	struct agent *a;

	fake_settle();
	if (snap()->state != MEMSNAP_BUILDING)
		return;
	a = builder_agent();
	cr_assert_not_null(strstr(guest.argv, "sync"));
	fake_exit(a, guest.token, guest.next_pid, false, 0);
	fake_settle();
	if (snap()->state != MEMSNAP_BUILDING)
		return;
	cr_assert(a->detached, "a clone would inherit the connection");
	cr_assert_not_null(snap()->timer);
	cr_assert_geq(sd_event_source_set_time(snap()->timer, 1), 0);
	fake_settle();
}

static void start(void)
{
	m = fake_manager(ON);
	build_on();
}

static void setup(void)
{
	fake_host_init();
	start();
	cr_assert_eq(snap()->state, MEMSNAP_READY);
	cr_assert_eq(m->n_live, 0);
	fake_assert_empty();
	fake_script();
}

static void teardown(void)
{
	manager_free(m);
	fake_host_done();
}

TestSuite(fork, .init = setup, .fini = teardown, .timeout = 120);

static void finish(void)
{
	m = manager_free(m);
	cr_assert_eq(guest.n_agents, 0);
	fake_host_done();
	fake_host_init();
	test_leaks();
}

static void destroy(struct sandbox *sb)
{
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	fake_settle();
	cr_assert_eq(sb->held, 0);
}

static void again(void)
{
	m = manager_free(m);
	fake_script();
	m = fake_manager(ON);
}

Test(fork, sandboxes_are_clones)
{
	struct sandbox *a = fake_running(m), *b = fake_running(m);

	cr_assert_eq(a->path, CREATE_FORK);
	cr_assert_str_eq(a->snapshot, snap()->key);
	cr_assert_eq(fake.counts[FAKE_DOMAIN_FORK], 2);
	cr_assert_eq(fake.counts[FAKE_DOMAIN_CREATE], 0);
	cr_assert_eq(fake.counts[FAKE_IDENTITY], 2);
	cr_assert_eq(m->creates.by_path[CREATE_FORK], 2);
	destroy(a);
	destroy(b);
	fake_assert_empty();
	finish();
}

/* Its snapshot is found by the next daemon, and the sandbox is still a clone there */
Test(fork, a_restart_builds_nothing)
{
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX];

	snprintf(id, sizeof(id), "%s", sb->id);
	again();
	cr_assert_eq(snap()->state, MEMSNAP_READY);
	cr_assert_eq(fake.counts[FAKE_DOMAIN_CREATE], 0);
	sb = manager_find(m, id);
	cr_assert(sb && sb->path == CREATE_FORK && str_eq(sb->snapshot, snap()->key));
	destroy(sb);
	fake_assert_empty();
	finish();
}

/* Another image has another snapshot; the old one goes when the last clone of it has gone */
Test(fork, another_template_another_snapshot)
{
	struct sandbox *old = fake_running(m), *sb;
	_cleanup_free_ char *path = str_format("%s/state/templates/base/rootfs.ext4", fake.dir);
	char key[MEMSNAP_KEY_MAX];

	memcpy(key, snap()->key, sizeof(key));
	cr_assert_eq(file_write_atomic(path, "other", 5, 0644, false), 0);
	sb = fake_running(m);
	cr_assert_eq(sb->path, CREATE_COLD, "never a clone of what does not match");
	build_on();
	cr_assert_eq(snap()->state, MEMSNAP_READY);
	cr_assert_str_neq(snap()->key, key);
	cr_assert(fake_path_exists("state/memory/%s/ram", key), "a clone lives on it");
	destroy(sb);
	sb = fake_running(m);
	cr_assert_eq(sb->path, CREATE_FORK);
	destroy(old);
	destroy(sb);
	memsnap_kick(m);
	fake_settle();
	cr_assert_not(fake_path_exists("state/memory/%s", key));
	cr_assert(fake_path_exists("state/memory/%s/ram", snap()->key));
	fake_assert_empty();
	finish();
}

/* On disk while its template became another one, and then was not there at all: it comes back on what it was made of */
Test(fork, back_on_its_own_image)
{
	struct sandbox *sb = fake_running(m);
	_cleanup_free_ char *image = strdup(sb->image), *conf = str_format("%s/state/templates/base/template.conf", fake.dir);
	_cleanup_free_ char *xml = NULL;
	char id[SANDBOX_ID_MAX];

	snprintf(id, sizeof(id), "%s", sb->id);
	cr_assert_eq(file_write_atomic(conf, "[template]\nname = other\n", 24, 0644, false), 0);
	m = manager_free(m);
	m = fake_manager(ON);
	sb = manager_find(m, id);
	cr_assert(sb && !sb->options.template);
	cr_assert_str_eq(sb->image, image);
	xml = domain_xml(sb, DOM_MEMORY_RESTORED);
	cr_assert(xml && strstr(xml, image));
	destroy(sb);
	fake_assert_empty();
	finish();
}

/* What was cut off half-way is no snapshot */
Test(fork, half_a_snapshot_is_none)
{
	_cleanup_free_ char *ready = str_format("%s/state/memory/%s/ready", fake.dir, snap()->key);

	cr_assert_eq(unlink(ready), 0);
	again();
	cr_assert_eq(snap()->state, MEMSNAP_BUILDING);
	build_on();
	cr_assert_eq(snap()->state, MEMSNAP_READY);
	fake_assert_empty();
	finish();
}

/* --- failures of clones --- */

static bool may_fail(enum fake_op op)
{
	return op == FAKE_TAP_CREATE || op == FAKE_RULES_CLOSE;
}

static void fail_one(unsigned int k, bool applied)
{
	struct fake_wait w;
	struct sandbox *sb;

	snap()->state = MEMSNAP_READY;
	snap()->distrust = 0;
	fake_script();
	fake.fail_at = k;
	fake.fail_error = -EIO;
	fake.fail_applied = applied;
	sb = fake_create(m, &w, 300);
	fake_settle();
	cr_assert_eq(w.calls, 1);
	if (may_fail(fake.failed_op)) {
		cr_assert_neq(w.fault, FAULT_NONE);
	} else {
		cr_assert_eq(w.fault, FAULT_NONE, "operation %u (%d): %s", k, fake.failed_op, w.detail);
		fake_assert_running(sb);
		cr_assert_eq(sb->path, CREATE_COLD, "operation %u (%d)", k, fake.failed_op);
		cr_assert_eq(sb->snapshot[0], '\0');
		destroy(sb);
	}
	cr_assert_eq(m->n_booting, 0);
	fake_assert_empty();
}

/* disk, tap, rules, domain, scope, resume, agent, identity, clock */
Test(fork, whatever_fails_it_boots)
{
	for (unsigned int k = 1; k <= 9; k++) {
		fail_one(k, false);
		fail_one(k, true);
	}
	finish();
}

/* A twin that cannot be made distinct is never served: neither as a clone, nor when booting does not help */
Test(fork, identity_refused)
{
	struct fake_wait w;
	struct sandbox *sb;

	guest.identity_error = EIO;
	sb = fake_create(m, &w, 300);
	fake_settle();
	cr_assert_eq(w.fault, FAULT_START_FAILED);
	cr_assert_eq(fake.counts[FAKE_DOMAIN_FORK], 1);
	cr_assert_eq(fake.counts[FAKE_DOMAIN_CREATE], 1, "it booted, and was refused again");
	cr_assert_eq(m->creates.fell_back, 1);
	cr_assert_eq(sb->state, SANDBOX_KILLED);
	cr_assert_eq(sb->held, 0);
	fake_assert_empty();
	finish();
}

/* A snapshot that only makes trouble is left alone */
Test(fork, three_bad_clones_in_a_row)
{
	for (int i = 0; i < 4; i++) {
		fake_script();
		fake.fail_op = FAKE_DOMAIN_FORK;
		fake.fail_error = -EIO;
		destroy(fake_running(m));
	}
	cr_assert_eq(snap()->state, MEMSNAP_BROKEN);
	cr_assert_eq(m->creates.fell_back, 3);
	cr_assert_eq(m->creates.by_path[CREATE_COLD], 4);
	fake_assert_empty();
	finish();
}

/* Its user gives up while the clone is being replaced */
Test(fork, killed_while_it_falls_back)
{
	struct fake_wait w;
	struct sandbox *sb;

	fake.fail_op = FAKE_SCOPE_START;
	fake.fail_error = -EIO;
	sb = fake_create(m, &w, 300);
	while (!sb->falling_back)
		cr_assert(fake_turn());
	fake.fail_op = FAKE_OP_MAX;
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	fake_settle();
	cr_assert_eq(w.fault, FAULT_ENDED_MEANWHILE);
	cr_assert_eq(sb->held, 0);
	fake_assert_empty();
	finish();
}

/* QEMU dies between its start and the guest's first word */
Test(fork, the_clone_dies)
{
	struct fake_wait w;
	struct sandbox *sb = fake_create(m, &w, 300);

	while (!fake_pending(FAKE_AGENT_UP))
		cr_assert(fake_turn());
	fake_qemu_dies(sb->id, VIRT_STOP_CRASHED);
	fake_lose(sb->agent, -ECONNRESET);
	fake_settle();
	cr_assert_eq(w.fault, FAULT_NONE, "%s", w.detail);
	fake_assert_running(sb);
	cr_assert_eq(sb->path, CREATE_COLD);
	destroy(sb);
	fake_assert_empty();
	finish();
}

/* --- failures of building --- */

/* Whatever fails, nothing is left but a directory that is no snapshot; what users want boots. */
Test(fork, whatever_fails_there_is_no_half_snapshot)
{
	unsigned int n = 0;

	for (unsigned int k = 1; k < 40; k++) {
		_cleanup_free_ char *memory = str_format("%s/state/memory", fake.dir);

		m = manager_free(m);
		cr_assert_eq(dir_remove_tree(memory), 0);
		m = fake_manager_unsettled(ON);
		while (list_empty(&m->memsnaps) || snap()->state != MEMSNAP_BUILDING)
			cr_assert(fake_turn());
		fake_script();
		fake.fail_at = k;
		fake.fail_error = -EIO;
		build_on();
		if (snap()->state != MEMSNAP_READY) {
			n++;
			cr_assert_eq(snap()->state, MEMSNAP_NONE, "operation %u (%d)", k, fake.failed_op);
			cr_assert_not(fake_path_exists("state/memory/%s/ready", snap()->key));
			fake_script();
			cr_assert_eq(fake_running(m)->path, CREATE_COLD);
			destroy(list_first(&m->sandboxes, struct sandbox, link));
		}
		fake_script();
		cr_assert_geq(sd_event_source_set_time(m->sweep_timer, 1), 0);
		fake_settle();
		if (snap()->state == MEMSNAP_BUILDING)
			break;
		fake_assert_empty();
	}
	cr_assert_geq(n, 10, "%u", n);
	finish();
}
