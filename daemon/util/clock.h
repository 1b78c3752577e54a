/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Time in microseconds, and RFC 3339 text with exactly six digits of fraction. */
#ifndef DECLAW_CLOCK_H
#define DECLAW_CLOCK_H

#include <stdint.h>

#define USEC_PER_SEC 1000000ull
#define USEC_PER_MSEC 1000ull
#define NSEC_PER_USEC 1000ull

uint64_t clock_monotonic(void);
uint64_t clock_realtime(void);

#define CLOCK_TEXT_MAX 28	/* 2026-01-31T10:00:00.123456Z + NUL */
void clock_format(uint64_t realtime_usec, char ret[CLOCK_TEXT_MAX]);
/* Accepts Z or +hh:mm, 0 to 9 digits of fraction; -EINVAL otherwise. */
int clock_parse(const char *text, uint64_t *ret);

#endif
