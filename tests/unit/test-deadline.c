/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Deadlines: a timer that elapses ends its sandbox, one that was replaced does not, and the clock may be set. */
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

TestSuite(deadline, .init = setup, .fini = teardown);

static void finish(void)
{
	m = manager_free(m);
	test_leaks();
}

static struct fake_thing *timer_of(const struct sandbox *sb)
{
	char unit[64];

	snprintf(unit, sizeof(unit), "declaw-expire@%s.timer", sb->id);
	return fake_find(FAKE_UNIT, unit);
}

/* What is left of @seconds: all of it when both readings fall into one microsecond, a little less when not */
static void assert_due_in(const struct sandbox *sb, uint64_t seconds)
{
	uint64_t after = timer_of(sb)->after_usec;

	cr_assert_leq(after, seconds * USEC_PER_SEC);
	cr_assert_gt(after, (seconds - 1) * USEC_PER_SEC);
}

static unsigned int n_arranged;

static void arranged(void *userdata _unused_, int error, const char *message _unused_)
{
	cr_assert_eq(error, 0);
	n_arranged++;
}

static void sweep(void)
{
	cr_assert_geq(sd_event_source_set_time(m->sweep_timer, 1), 0);
	fake_settle();
}

Test(deadline, elapses)
{
	struct sandbox *sb = fake_running(m);

	assert_due_in(sb, 300);
	sb->deadline_usec = clock_realtime();
	fake_timer_elapses(sb->id);
	fake_settle();
	cr_assert_eq(sb->end, SANDBOX_END_TIMEOUT);
	fake_assert_empty();
	finish();
}

/* What is due in 50 ms and @later more, of which its timer is not told, ends then, though systemd says nothing */
static void assert_seen(uint64_t later)
{
	struct sandbox *sb = fake_running(m);
	uint64_t end = clock_monotonic() + 5 * USEC_PER_SEC; /* before the sweep */

	sb->deadline_usec = clock_realtime() + 50 * USEC_PER_MSEC;
	sandbox_arm_deadline(sb);
	fake_settle();
	cr_assert_eq(sb->state, SANDBOX_RUNNING);
	sb->deadline_usec += later;
	while (sb->state == SANDBOX_RUNNING && clock_monotonic() < end)
		sd_event_run(m->event, 20 * USEC_PER_MSEC);
	cr_assert_geq(clock_realtime(), sb->deadline_usec);
	fake_settle();
	cr_assert_eq(sb->end, SANDBOX_END_TIMEOUT);
	cr_assert_null(sb->deadline_timer);
	fake_assert_empty();
	finish();
}

/* The daemon's own clock is enough */
Test(deadline, is_seen_without_systemd)
{
	assert_seen(0);
}

/* The wall clock was set back, or the loop's idea of "now", from which the wait counts, was old when the wait began */
Test(deadline, is_seen_by_who_looked_too_early)
{
	assert_seen(100 * USEC_PER_MSEC);
}

/* A deadline that was taken back is not seen */
Test(deadline, of_nobody)
{
	struct sandbox *sb = fake_running(m);

	sb->deadline_usec = clock_realtime() + 50 * USEC_PER_MSEC;
	sandbox_arm_deadline(sb);
	fake_settle();
	sandbox_set_timeout(sb, 0);
	fake_settle();
	cr_assert_null(sb->deadline_timer);
	for (uint64_t end = clock_monotonic() + 100 * USEC_PER_MSEC; clock_monotonic() < end;)
		sd_event_run(m->event, 20 * USEC_PER_MSEC);
	cr_assert_eq(sb->state, SANDBOX_RUNNING);
	finish();
}

Test(deadline, replaced_timer_kills_nobody)
{
	struct sandbox *sb = fake_running(m);

	for (int i = 0; i < 5; i++) {
		sandbox_set_timeout(sb, 100 + (uint64_t)i);
		fake_settle();
		cr_assert_eq(sb->state, SANDBOX_RUNNING);
		assert_due_in(sb, 100 + (uint64_t)i);
		cr_assert_eq(sb->options.timeout_sec, 100 + (uint64_t)i);
	}
	/* All at once: in the order they were asked for */
	sandbox_set_timeout(sb, 1000);
	sandbox_set_timeout(sb, 2000);
	sandbox_set_timeout(sb, 3000);
	fake_settle();
	fake_assert_running(sb);
	assert_due_in(sb, 3000);
	finish();
}

Test(deadline, extended_when_it_has_just_elapsed)
{
	struct sandbox *sb = fake_running(m);

	/* The event is on its way when the user asks for more */
	fake_timer_elapses(sb->id);
	sandbox_set_timeout(sb, 600);
	fake_settle();
	fake_assert_running(sb);
	cr_assert_not_null(timer_of(sb));
	finish();
}

Test(deadline, cleared)
{
	struct sandbox *sb = fake_running(m);

	sandbox_set_timeout(sb, 0);
	fake_settle();
	cr_assert_null(timer_of(sb));
	cr_assert_eq(sb->deadline_usec, 0);
	cr_assert_not(sb->held & HELD_TIMER);
	fake_assert_running(sb);
	sandbox_set_timeout(sb, 50);
	fake_settle();
	cr_assert_not_null(timer_of(sb));
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	fake_settle();
	fake_assert_empty();
	finish();
}

/* The wall clock is set back: the timer elapses by the monotonic one, before the deadline. Nobody is forgotten. */
Test(deadline, clock_was_set)
{
	struct sandbox *sb = fake_running(m);

	fake_timer_elapses(sb->id);
	fake_settle();
	cr_assert_eq(sb->state, SANDBOX_RUNNING);
	sweep();
	cr_assert_eq(sb->state, SANDBOX_RUNNING, "it is not due");
	sb->deadline_usec = clock_realtime() - 1;
	sweep();
	cr_assert_eq(sb->end, SANDBOX_END_TIMEOUT);
	fake_assert_empty();
	finish();
}

Test(deadline, of_one_that_is_killed)
{
	struct sandbox *sb = fake_running(m);

	sb->deadline_usec = 1;
	fake_timer_elapses(sb->id);
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	fake_settle();
	cr_assert_eq(sb->end, SANDBOX_END_REQUEST);
	fake_assert_empty();
	finish();
}

Test(deadline, is_kept_over_a_restart)
{
	struct sandbox *sb = fake_running(m);
	char id[SANDBOX_ID_MAX];
	uint64_t deadline;

	sandbox_set_timeout(sb, 1234);
	fake_settle();
	deadline = sb->deadline_usec;
	snprintf(id, sizeof(id), "%s", sb->id);
	m = manager_free(m);
	m = fake_manager(NULL);
	sb = manager_find(m, id);
	cr_assert_eq(sb->deadline_usec, deadline);
	cr_assert_eq(sb->options.timeout_sec, 1234);
	cr_assert_leq(timer_of(sb)->after_usec, 1234 * USEC_PER_SEC);
	cr_assert_eq(sb->state, SANDBOX_RUNNING, "the old timer's end is no deadline");
	finish();
}

/* A daemon that is stopped leaves word to be started ahead of the first deadline, and takes it back when it is up */
Test(deadline, wakes_the_daemon)
{
	struct sandbox *first = fake_running(m), *second = fake_running(m);
	const struct fake_thing *wake;

	sandbox_set_timeout(first, 100);
	sandbox_set_timeout(second, 50);
	fake_settle();
	deadlines_wake_later(m, arranged, NULL);
	fake_settle();
	wake = fake_find(FAKE_UNIT, "declaw-expire@next.timer");
	cr_assert_not_null(wake);
	cr_assert_leq(wake->after_usec, 49 * USEC_PER_SEC);
	cr_assert_gt(wake->after_usec, 48 * USEC_PER_SEC);
	cr_assert_eq(second->state, SANDBOX_RUNNING);
	manager_free(m);
	m = fake_manager(NULL);
	cr_assert_null(fake_find(FAKE_UNIT, "declaw-expire@next.timer"));
	finish();
}

/* Nothing is due, or right now: then no sooner than the stop takes */
Test(deadline, wakes_it_not_at_once)
{
	struct sandbox *sb = fake_running(m);

	sandbox_set_timeout(sb, 0);
	fake_settle();
	deadlines_wake_later(m, arranged, NULL);
	fake_settle();
	cr_assert_null(fake_find(FAKE_UNIT, "declaw-expire@next.timer"));
	sb->deadline_usec = clock_realtime() - 1;
	deadlines_wake_later(m, arranged, NULL);
	fake_settle();
	cr_assert_eq(fake_find(FAKE_UNIT, "declaw-expire@next.timer")->after_usec, 200 * USEC_PER_MSEC);
	cr_assert_eq(n_arranged, 2);
	bus_timer_clear(m->bus, "declaw-expire@next.timer", arranged, NULL);
	fake_settle();
	finish();
}
