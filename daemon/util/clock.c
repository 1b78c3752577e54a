/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clocks and RFC 3339.
 *
 * Times on the wire are UTC with exactly six digits of fraction: fixed width, so that they sort as
 * text. Parsing is by position rather than by strptime(), which is lenient and knows locales.
 */
#include <string.h>
#include <time.h>

#include "util/clock.h"
#include "util/macro.h"

/* 9999-12-31T23:59:59.999999Z, the last instant four digits of year can name */
#define CLOCK_LAST (253402300799ull * USEC_PER_SEC + 999999ull)

static uint64_t clock_read(clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) < 0)
		abort(); /* both clocks are mandatory in Linux */
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_USEC;
}

uint64_t clock_monotonic(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

uint64_t clock_realtime(void)
{
	return clock_read(CLOCK_REALTIME);
}

void clock_format(uint64_t realtime_usec, char ret[CLOCK_TEXT_MAX])
{
	uint64_t usec = MIN_OF(realtime_usec, CLOCK_LAST);
	time_t sec = (time_t)(usec / USEC_PER_SEC);
	char text[96];
	struct tm tm;

	if (!gmtime_r(&sec, &tm))
		abort(); /* cannot happen for years up to 9999 */
	snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		 (unsigned)(usec % USEC_PER_SEC));
	memcpy(ret, text, CLOCK_TEXT_MAX - 1);
	ret[CLOCK_TEXT_MAX - 1] = '\0';
}

/* n digits at *p with a value in [min, max]; moves *p behind them. */
static int take_number(const char **p, unsigned n, int min, int max, int *ret)
{
	int v = 0;

	for (; n > 0; n--, (*p)++) {
		if (**p < '0' || **p > '9')
			return -EINVAL;
		v = v * 10 + (**p - '0');
	}
	if (v < min || v > max)
		return -EINVAL;
	*ret = v;
	return 0;
}

/* One of the characters of set. strchr() alone would find the terminating NUL. */
static int take_char(const char **p, const char *set)
{
	if (!**p || !strchr(set, **p))
		return -EINVAL;
	(*p)++;
	return 0;
}

static int take_fraction(const char **p, uint64_t *ret_usec)
{
	uint64_t usec = 0;
	unsigned n = 0;

	*ret_usec = 0;
	if (**p != '.')
		return 0;
	for ((*p)++; **p >= '0' && **p <= '9'; (*p)++, n++)
		if (n < 6)
			usec = usec * 10 + (uint64_t)(**p - '0');
	if (n < 1 || n > 9)
		return -EINVAL;
	for (; n < 6; n++)
		usec *= 10;
	*ret_usec = usec;
	return 0;
}

/* Seconds to subtract from the local time to get UTC. */
static int take_zone(const char **p, int *ret_offset)
{
	int sign = **p == '-' ? -1 : 1, h, m;

	*ret_offset = 0;
	if (take_char(p, "Zz") == 0)
		return 0;
	if (take_char(p, "+-") < 0 || take_number(p, 2, 0, 23, &h) < 0 || take_char(p, ":") < 0 ||
	    take_number(p, 2, 0, 59, &m) < 0)
		return -EINVAL;
	*ret_offset = sign * (h * 3600 + m * 60);
	return 0;
}

static int take_date_time(const char **p, struct tm *tm)
{
	if (take_number(p, 4, 1, 9999, &tm->tm_year) < 0 || take_char(p, "-") < 0 ||
	    take_number(p, 2, 1, 12, &tm->tm_mon) < 0 || take_char(p, "-") < 0 ||
	    take_number(p, 2, 1, 31, &tm->tm_mday) < 0 || take_char(p, "Tt") < 0 ||
	    take_number(p, 2, 0, 23, &tm->tm_hour) < 0 || take_char(p, ":") < 0 ||
	    take_number(p, 2, 0, 59, &tm->tm_min) < 0 || take_char(p, ":") < 0 ||
	    take_number(p, 2, 0, 60, &tm->tm_sec) < 0)
		return -EINVAL;
	tm->tm_year -= 1900;
	tm->tm_mon -= 1;
	return 0;
}

/* A leap second (:60) is legal and becomes the first second of the next minute. */
int clock_parse(const char *text, uint64_t *ret)
{
	struct tm tm = { 0 };
	int offset, mday, second;
	uint64_t usec;
	time_t sec;

	if (take_date_time(&text, &tm) < 0 || take_fraction(&text, &usec) < 0 ||
	    take_zone(&text, &offset) < 0 || *text)
		return -EINVAL;
	/* timegm() carries over; only a day the month does not have must not be carried. */
	second = tm.tm_sec;
	tm.tm_sec = 0;
	mday = tm.tm_mday;
	sec = timegm(&tm);
	if (tm.tm_mday != mday)
		return -EINVAL;
	sec += second - offset;
	if (sec < 0 || (uint64_t)sec > CLOCK_LAST / USEC_PER_SEC)
		return -EINVAL;
	*ret = (uint64_t)sec * USEC_PER_SEC + usec;
	return 0;
}
