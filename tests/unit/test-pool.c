/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parked sandboxes: made, claimed, given back, and what goes wrong; see tests/lib/fake-host.h. */
#include "core/admission.h"
#include "core/memsnap.h"
#include "core/pool.h"
#include "lib/fake-agent.h"
#include "util-test.h"

#define ON "[create]\nfork = yes\nparked_min = 2\nparked_max = 3\n"

static struct manager *m;

static struct memsnap *snap(void)
{
	return list_first(&m->memsnaps, struct memsnap, link);
}

/* The hidden sandbox whose guest runs a command to get warm */
static struct sandbox *warming(void)
{
	struct sandbox *sb;

	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (sb->warm.fn && !sb->destroying)
			return sb;
	return NULL;
}

/* Guests run what they are asked to, snapshots get their quiet time, until nothing is left to do */
static void settle(void)
{
	struct sandbox *sb;

	for (int i = 0; i < 200; i++) {
		fake_settle();
		sb = warming();
		if (sb)
			fake_exit(sb->agent, sb->warm.token, guest.next_pid, false, 0);
		else if (snap()->timer)
			cr_assert_geq(sd_event_source_set_time(snap()->timer, 1), 0);
		else
			return;
	}
	cr_assert_fail("this never ends");
}

static void setup(void)
{
	fake_host_init();
	m = fake_manager(ON);
	settle();
	fake_script();
}

static void teardown(void)
{
	manager_free(m);
	fake_host_done();
}

TestSuite(pool, .init = setup, .fini = teardown, .timeout = 120);

static void finish(void)
{
	m = manager_free(m);
	cr_assert_eq(guest.n_agents, 0);
	fake_host_done();
	fake_host_init();
	test_leaks();
}

static struct sandbox *parked(void)
{
	struct sandbox *sb, *found = NULL;

	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (sb->parked)
			found = sb;
	return found;
}

/* None parked, that many prestarted */
static void prestart(unsigned int n)
{
	m->settings.parked_min = m->settings.parked_max = 0;
	while (pool_yield(m))
		settle();
	m->settings.prestarted_min = m->settings.prestarted_max = n;
	m->pool_not_before = 0;
	pool_kick(m);
	settle();
}

static void kick(void)
{
	m->pool_not_before = 0;
	pool_kick(m);
	settle();
}

/* No more of them are wanted, and none is left */
static void drain(void)
{
	m->settings.parked_min = m->settings.parked_max = m->settings.prestarted_min = m->settings.prestarted_max = 0;
	while (pool_yield(m))
		settle();
	settle();
	fake_assert_empty();
}

/* What waits and is nobody's */
static void check_waits(const struct sandbox *sb, unsigned int n, bool prestart)
{
	cr_assert_eq(pool_count(m, NULL, prestart), n);
	cr_assert_eq(pool_count(m, snap()->template, prestart), n);
	cr_assert_eq(pool_count(m, NULL, !prestart), 0);
	cr_assert_eq(m->n_live, 0, "they are nobody's");
	cr_assert_eq(m->n_booting, 0);
	cr_assert_not(fake_find(FAKE_DOMAIN, sb->id)->running);
	cr_assert_not_null(fake_find(FAKE_UNIT, sb->unit));
	cr_assert_not_null(fake_find(FAKE_CHAIN, ident_short(sb->id)));
}

/* The next one who asks gets that one; it ends well */
static void claim(const struct sandbox *waiting, enum create_path path)
{
	struct fake_wait w;
	struct sandbox *sb;
	char id[SANDBOX_ID_MAX];

	snprintf(id, sizeof(id), "%s", waiting->id);
	fake_script();
	sb = fake_create(m, &w, 300);
	cr_assert_str_eq(sb->id, id);
	cr_assert_str_eq(sb->owner, "alice");
	cr_assert_eq(sb->state, SANDBOX_CREATING);
	cr_assert_eq(m->n_live, 1);
	cr_assert_eq(list_first(&m->sandboxes, struct sandbox, link), sb, "the newest");
	settle();
	cr_assert_eq(w.fault, FAULT_NONE, "%s", w.detail);
	fake_assert_running(sb);
	cr_assert_eq(sb->path, path);
	cr_assert_eq(sb->role, SANDBOX_FOR_USER);
	cr_assert_eq(fake.counts[FAKE_IDENTITY], 1, "the same instant twice is nobody's");
	cr_assert_eq(fake.counts[FAKE_RULES_CLOSE], 1, "its own rules");
	cr_assert_eq(fake.counts[FAKE_DOMAIN_FORK], 0);
	cr_assert_eq(fake.counts[FAKE_SCOPE_WEIGHT], 1);
	cr_assert_not(sb->agent->held);
	cr_assert_eq(m->creates.by_path[path], 1);
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	settle();
}

#define BURST 4

/* As many at once; by_path: how they came to be */
static void burst(struct sandbox *sb[BURST], unsigned int by_path[CREATE_PATH_MAX])
{
	struct fake_wait w[BURST];

	memset(by_path, 0, CREATE_PATH_MAX * sizeof(*by_path));
	for (int i = 0; i < BURST; i++)
		sb[i] = fake_create(m, &w[i], 300);
	settle();
	for (int i = 0; i < BURST; i++) {
		cr_assert_eq(w[i].fault, FAULT_NONE);
		fake_assert_running(sb[i]);
		by_path[sb[i]->path]++;
	}
}

static void end_all(struct sandbox *sb[BURST])
{
	for (int i = 0; i < BURST; i++)
		sandbox_destroy(sb[i], SANDBOX_END_REQUEST, NULL, NULL);
	settle();
}

/* The k-th operation of a claim fails: its user's sandbox boots, and a twin is never served */
static void fail_claim(unsigned int k, bool applied)
{
	struct fake_wait w;
	struct sandbox *sb;

	fake_script();
	fake.fail_at = k;
	fake.fail_error = -EIO;
	fake.fail_applied = applied;
	sb = fake_create(m, &w, 300);
	settle();
	cr_assert_eq(w.calls, 1);
	cr_assert_eq(w.fault, FAULT_NONE, "operation %u (%d): %s", k, fake.failed_op, w.detail);
	cr_assert_neq(fake.failed_op, FAKE_OP_MAX, "operation %u was never asked for", k);
	fake_assert_running(sb);
	fake_script();
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	settle();
	cr_assert_eq(sb->held, 0);
	cr_assert_eq(m->n_live, 0);
	snap()->state = MEMSNAP_READY;
	snap()->distrust = 0;
}

Test(pool, parked_at_start)
{
	struct sandbox *sb = parked();

	check_waits(sb, 2, false);
	cr_assert(sb->agent && sb->agent->held, "nobody pings a guest that is stopped");
	drain();
	finish();
}

Test(pool, claimed)
{
	m->settings.parked_min = 0;
	m->settings.parked_max = 1;
	claim(parked(), CREATE_PARKED);
	drain();
	finish();
}

/* A burst larger than the pool: who comes too late is forked; then as many are kept as were asked for at once */
Test(pool, demand)
{
	struct sandbox *sb[BURST];
	unsigned int by_path[CREATE_PATH_MAX];

	burst(sb, by_path);
	cr_assert_eq(by_path[CREATE_PARKED], 2);
	cr_assert_eq(by_path[CREATE_FORK], 2);
	kick();
	cr_assert_eq(pool_count(m, NULL, false), 3, "parked_max");
	end_all(sb);
	/* A long time without demand */
	snap()->demand_usec = 0;
	kick();
	kick();
	cr_assert_eq(pool_count(m, NULL, false), 2, "parked_min");
	drain();
	finish();
}

Test(pool, whatever_fails_it_boots)
{
	for (unsigned int k = 2; k <= 11; k++) {
		kick();
		cr_assert_geq(pool_count(m, NULL, false), 1);
		m->pool_not_before = (uint64_t)-1;	/* nobody else does anything meanwhile */
		fail_claim(k / 2, k % 2);
	}
	drain();
	finish();
}

/* Started ahead: there is a domain in its scope behind closed rules, and not one instruction has run */
Test(pool, prestarted)
{
	struct sandbox *sb;

	prestart(2);
	sb = parked();
	check_waits(sb, 2, true);
	cr_assert_null(sb->agent, "nobody is waited for");
	cr_assert_eq(guest.n_agents, 0);
	m->settings.prestarted_min = 0;
	m->settings.prestarted_max = 1;
	claim(sb, CREATE_PRESTARTED);
	drain();
	finish();
}

/* Parked ones first, then prestarted ones, then forks; what the first do not cover is kept as the second */
Test(pool, prestarted_second)
{
	struct sandbox *sb[BURST];
	unsigned int by_path[CREATE_PATH_MAX];

	m->settings.parked_min = m->settings.parked_max = m->settings.prestarted_min = 1;
	m->settings.prestarted_max = 2;
	pool_yield(m);
	settle();
	kick();
	cr_assert_eq(pool_count(m, NULL, false), 1);
	cr_assert_eq(pool_count(m, NULL, true), 1);
	burst(sb, by_path);
	cr_assert_eq(by_path[CREATE_PARKED], 1);
	cr_assert_eq(by_path[CREATE_PRESTARTED], 1);
	cr_assert_eq(by_path[CREATE_FORK], 2);
	kick();
	cr_assert_eq(pool_count(m, NULL, false), 1, "parked_max");
	cr_assert_eq(pool_count(m, NULL, true), 2, "prestarted_max");
	end_all(sb);
	drain();
	finish();
}

Test(pool, whatever_fails_a_prestarted_one_boots)
{
	for (unsigned int k = 2; k <= 11; k++) {
		prestart(1);
		cr_assert_eq(pool_count(m, NULL, true), 1);
		m->settings.prestarted_min = 0;
		m->pool_not_before = (uint64_t)-1;
		fail_claim(k / 2, k % 2);
	}
	drain();
	finish();
}

/* Its QEMU dies, or the daemon: nobody has it, and another takes its place */
Test(pool, a_prestarted_one_dies)
{
	char id[SANDBOX_ID_MAX];

	prestart(2);
	snprintf(id, sizeof(id), "%s", parked()->id);
	fake_qemu_dies(id, VIRT_STOP_CRASHED);
	settle();
	kick();
	cr_assert_eq(pool_count(m, NULL, true), 2);
	snprintf(id, sizeof(id), "%s", parked()->id);
	m = manager_free(m);
	m = fake_manager("[create]\nfork = yes\nprestarted_min = 1\nprestarted_max = 1\n");
	settle();
	cr_assert_null(fake_find(FAKE_DOMAIN, id));
	cr_assert_eq(pool_count(m, NULL, true), 1);
	drain();
	finish();
}

/* It dies while it is parked: the next one takes its place */
Test(pool, a_parked_one_dies)
{
	struct sandbox *sb = parked();

	fake_qemu_dies(sb->id, VIRT_STOP_CRASHED);
	fake_lose(sb->agent, -ECONNRESET);
	settle();
	kick();
	cr_assert_eq(pool_count(m, NULL, false), 2);
	drain();
	finish();
}

/* What cannot be made distinct is not parked either */
Test(pool, identity_refused)
{
	drain();
	guest.identity_error = EIO;
	m->settings.parked_min = m->settings.parked_max = 1;
	kick();
	cr_assert_eq(pool_count(m, NULL, false), 0);
	cr_assert_eq(fake_count(FAKE_DOMAIN), 0);
	fake_assert_empty();
	finish();
}

/* The next daemon finds records of creations that nobody waits for: it removes what they held, and parks its own */
Test(pool, restart)
{
	char id[SANDBOX_ID_MAX];

	snprintf(id, sizeof(id), "%s", parked()->id);
	m = manager_free(m);
	m = fake_manager(ON);
	settle();
	cr_assert_null(fake_find(FAKE_DOMAIN, id));
	cr_assert_eq(pool_count(m, NULL, false), 2);
	cr_assert_eq(m->n_live, 0);
	drain();
	finish();
}

/* Parked ones are in nobody's way: they count for one another, not for a user, and go when it gets crowded */
Test(pool, memory)
{
	struct fake_wait w[2];
	struct sandbox *sb[2];

	/* the template's 256 MiB and QEMU's own, three times */
	m->settings.memory_max = 3 * (320ull << 20);
	m->settings.parked_min = m->settings.parked_max = 8;
	kick();
	cr_assert_eq(pool_count(m, NULL, false), 3, "as many as there is room for");
	m->settings.parked_min = 0;
	m->settings.parked_max = 1;
	m->pool_not_before = (uint64_t)-1;
	while (pool_count(m, NULL, false) > 1) {
		pool_yield(m);
		settle();
	}
	for (int i = 0; i < 2; i++)
		sb[i] = fake_create(m, &w[i], 300);
	settle();
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(w[i].fault, FAULT_NONE);
		fake_assert_running(sb[i]);
		sandbox_destroy(sb[i], SANDBOX_END_REQUEST, NULL, NULL);
	}
	settle();
	drain();
	finish();
}
