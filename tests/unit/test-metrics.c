/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The history of a sandbox: a bounded ring that another daemon finds again, whatever its file looks like. */
#include "core/metrics.h"
#include "core/metricsfile.h"
#include "lib/fake-agent.h"
#include "util-test.h"
#include "util/clock.h"
#include "util/fileio.h"

static struct manager *m;
static struct metrics_sample got[64];
static size_t n_got;

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

TestSuite(metrics, .init = setup, .fini = teardown, .timeout = 120);

static void collect(void *userdata _unused_, const struct metrics_sample *s)
{
	cr_assert_lt(n_got, ELEMENTSOF(got));
	got[n_got++] = *s;
}

static size_t history(struct sandbox *sb)
{
	n_got = 0;
	metrics_each(sb, 0, UINT64_MAX, collect, NULL);
	for (size_t i = 1; i < n_got; i++)
		cr_assert_leq(got[i - 1].at_usec, got[i].at_usec, "oldest first");
	return n_got;
}

static void tick(void)
{
	cr_assert_geq(sd_event_source_set_time(m->metrics_timer, 1), 0);
	cr_assert_geq(sd_event_source_set_enabled(m->metrics_timer, SD_EVENT_ONESHOT), 0);
	fake_settle();
}

static struct sandbox *another_daemon(const char *id)
{
	m = manager_free(m);
	m = fake_manager(NULL);
	return manager_find(m, id);
}

Test(metrics, outlives_the_daemon)
{
	struct sandbox *sb = fake_running(m);
	struct metrics_sample before[64];
	char id[SANDBOX_ID_MAX];
	size_t n;

	snprintf(id, sizeof(id), "%s", sb->id);
	for (int i = 0; i < 5; i++)
		tick();
	n = history(sb);
	cr_assert_eq(n, 5);
	memcpy(before, got, sizeof(before));
	sb = another_daemon(id);
	cr_assert_eq(history(sb), n);
	cr_assert_eq(memcmp(before, got, n * sizeof(*got)), 0);
	tick();
	cr_assert_eq(history(sb), n + 1);

	/* And ends with the sandbox */
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	fake_settle();
	fake_assert_empty();
	cr_assert_eq(history(another_daemon(id)), 0);
}

Test(metrics, slots_and_garbage)
{
	struct sandbox *sb = fake_running(m);
	struct metrics_sample ring[4], s = { .cpu_percent = 1, .memory_mb = 2, .disk_mb = 3 };
	_cleanup_free_ char *path = sandbox_path(sb, "metrics");
	uint64_t now = clock_realtime();

	cr_assert_eq(metricsfile_load(sb, ring, 4), 0, "no file");
	/* A ring of four in its second round */
	for (size_t i = 0; i < 6; i++) {
		s.at_usec = now - 100 + i;
		metricsfile_put(sb, i % 4, &s);
	}
	cr_assert_eq(metricsfile_load(sb, ring, 4), 4);
	for (size_t i = 0; i < 4; i++)
		cr_assert_eq(ring[i].at_usec, now - 98 + i);
	cr_assert_eq(metricsfile_load(sb, ring, 2), 2, "a smaller ring");
	cr_assert_eq(ring[1].at_usec, now - 95);
	cr_assert_eq(metricsfile_load(sb, ring, 4), 2, "whose file is smaller, too");
	/* A hole, a sample from nowhere, and half a sample */
	s.at_usec = now + 3600 * USEC_PER_SEC;
	metricsfile_put(sb, 9, &s);
	cr_assert_eq(truncate(path, (off_t)(sizeof(s) * 10 + 5)), 0);
	cr_assert_eq(metricsfile_load(sb, ring, 4), 2);
	cr_assert_eq(metricsfile_load(sb, ring, 0), 0);
	cr_assert_geq(file_write_atomic(path, "xx", 2, 0600, false), 0);
	cr_assert_eq(metricsfile_load(sb, ring, 4), 0);
}
