/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Test Anything Protocol for tests that are plain programs: those with threads (ThreadSanitizer does not run under
 * Criterion) and those that need a process of their own (namespaces, daemons).
 *
 * ok() states one fact; a false one is reported and the program goes on. tap_skip() ends the program with a visible
 * reason. tap_wait() turns the loop until a condition holds or time is up.
 */
#ifndef DECLAW_TESTS_TAP_H
#define DECLAW_TESTS_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-event.h>
#include <time.h>

static int tap_number, tap_failures;

__attribute__((format(printf, 4, 5), unused))
static bool tap_ok(bool good, const char *file, int line, const char *format, ...)
{
	va_list ap;

	printf("%sok %d - ", good ? "" : "not ", ++tap_number);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	if (!good) {
		printf("# at %s:%d\n", file, line);
		tap_failures++;
	}
	fflush(stdout);
	return good;
}
#define ok(cond, ...) tap_ok((cond), __FILE__, __LINE__, __VA_ARGS__)

__attribute__((unused))
static int tap_done(void)
{
	printf("1..%d\n", tap_number);
	return tap_failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Before the first ok(). */
#define tap_skip(...)				\
	do {					\
		printf("1..0 # SKIP ");		\
		printf(__VA_ARGS__);		\
		printf("\n");			\
		exit(EXIT_SUCCESS);		\
	} while (0)

__attribute__((unused))
static double tap_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Turns the loop until cond is true; the value is cond at the end. */
#define tap_wait(event, seconds, cond)								\
	({											\
		double _until = tap_seconds() + (seconds);					\
		while (!(cond) && tap_seconds() < _until)					\
			if (sd_event_run((event), 50000) < 0)					\
				break;								\
		(cond);										\
	})

#endif
