/* SPDX-License-Identifier: GPL-2.0-or-later */
/* proxy/busywait: when it asks instead of sleeping, and when it leaves the processor to others. */
#include <criterion/criterion.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proxy/busywait.h"
#include "util/clock.h"

#define USEC 200u
#define PAUSE (100 * USEC_PER_MSEC)

static struct busywait w;
static int epoll, fd;
static uint64_t clock_now, yield_takes;
static unsigned int yields, come_after;

static uint64_t now(void)
{
	return clock_now;
}

static int yield(void)
{
	clock_now += yield_takes;
	if (++yields == come_after)
		cr_assert_eq(eventfd_write(fd, 1), 0);
	return 0;
}

static void setup(void)
{
	struct epoll_event e = { .events = EPOLLIN };

	epoll = epoll_create1(EPOLL_CLOEXEC);
	fd = eventfd(0, EFD_CLOEXEC);
	cr_assert_eq(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e), 0);
	busywait_init(&w, USEC);
	w.now = now;
	w.yield = yield;
	clock_now = 1000 * USEC_PER_SEC;
	yield_takes = 1;
}

static void teardown(void)
{
	close(fd);
	close(epoll);
}

/* One event after the time; how often it gave way before it */
static unsigned int event(uint64_t after)
{
	struct epoll_event e;
	eventfd_t value;

	clock_now += after;
	yields = 0;
	cr_assert_eq(eventfd_write(fd, 1), 0);
	cr_assert_eq(busywait(&w, epoll, &e, 1, -1), 1);
	cr_assert_eq(eventfd_read(fd, &value), 0);
	return yields;
}

/* Nothing comes; how often it gave way before it slept */
static unsigned int nothing(void)
{
	struct epoll_event e;

	yields = 0;
	cr_assert_eq(busywait(&w, epoll, &e, 1, 1), 0);
	return yields;
}

static void dense(void)
{
	for (int i = 0; i < 6; i++)
		event(USEC / 2);
}

TestSuite(busywait, .init = setup, .fini = teardown);

Test(busywait, sleeps_where_events_are_rare)
{
	for (int i = 0; i < 20; i++) {
		cr_assert_eq(event(USEC + 1), 0);
		cr_assert_eq(nothing(), 0);
	}
}

Test(busywait, two_events_are_not_many)
{
	event(USEC + 1);
	event(1);
	cr_assert_eq(nothing(), 0);
}

Test(busywait, asks_after_dense_events_and_not_for_long)
{
	uint64_t began;

	dense();
	began = clock_now;
	cr_assert_eq(nothing(), USEC);
	cr_assert_eq(clock_now - began, USEC);
	cr_assert_eq(nothing(), 0, "its time is over");
}

Test(busywait, an_event_that_comes_meanwhile_is_told_at_once)
{
	struct epoll_event e;

	dense();
	yields = 0;
	come_after = 7;
	cr_assert_eq(busywait(&w, epoll, &e, 1, -1), 1);
	cr_assert_eq(yields, 7);
}

Test(busywait, a_pause_between_events_ends_it)
{
	dense();
	event(USEC + 1);
	cr_assert_eq(nothing(), 0);
}

Test(busywait, never_where_it_is_turned_off)
{
	w.usec = 0;
	dense();
	cr_assert_eq(nothing(), 0);
	for (int i = 0; i < 10; i++)
		event(0);
	cr_assert_eq(nothing(), 0, "also with events at the same moment");
}

Test(busywait, does_not_wait_where_it_must_not)
{
	struct epoll_event e;

	dense();
	yields = 0;
	cr_assert_eq(busywait(&w, epoll, &e, 1, 0), 0);
	cr_assert_eq(yields, 0);
}

/* Somebody computes: yields take a slice. -> how many it took to notice */
static unsigned int meet_a_computer(void)
{
	unsigned int n = 0;

	yield_takes = 3000;
	do {
		dense();
		n += nothing();
	} while (w.resume <= clock_now && n < 100);
	yield_takes = 1;
	return n;
}

Test(busywait, sleeps_beside_somebody_who_computes)
{
	cr_assert_eq(meet_a_computer(), 2);
	dense();
	cr_assert_eq(nothing(), 0, "in its pause");
	clock_now = w.resume;
	dense();
	cr_assert_eq(nothing(), USEC, "after it");
}

Test(busywait, once_is_not_enough)
{
	dense();
	yield_takes = 3000;
	cr_assert_eq(nothing(), 1);
	yield_takes = 1;
	for (int i = 0; i < 5; i++) {
		dense();
		cr_assert_eq(nothing(), USEC);
	}
	dense();
	yield_takes = 3000;
	cr_assert_eq(nothing(), 1);
	cr_assert_eq(w.resume, 0);
}

Test(busywait, pauses_get_longer_and_have_a_limit)
{
	uint64_t last = 0;

	for (int i = 0; i < 12; i++) {
		meet_a_computer();
		cr_assert(w.pause == 10 * USEC_PER_SEC || w.pause == (last ? 2 * last : PAUSE), "%ju after %ju", w.pause, last);
		last = w.pause;
		clock_now = w.resume;
	}
	cr_assert_eq(last, 10 * USEC_PER_SEC);
	clock_now += 11 * USEC_PER_SEC;
	meet_a_computer();
	cr_assert_eq(w.pause, PAUSE, "it went well for as long as the last one");
}
