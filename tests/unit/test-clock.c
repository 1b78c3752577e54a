/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RFC 3339 both ways, and that the clocks are the ones they say. */
#include "util-test.h"
#include "util/clock.h"
#include "util/macro.h"

static const struct format_case {
	uint64_t usec;
	const char *text;
} format_cases[] = {
	{ 0, "1970-01-01T00:00:00.000000Z" },
	{ 1, "1970-01-01T00:00:00.000001Z" },
	{ 951827696999999, "2000-02-29T12:34:56.999999Z" },
	{ 4102444800000000, "2100-01-01T00:00:00.000000Z" },
	{ 253402300799999999, "9999-12-31T23:59:59.999999Z" },
};

Test(clock, formats)
{
	char text[CLOCK_TEXT_MAX];
	uint64_t back;

	for (size_t i = 0; i < ELEMENTSOF(format_cases); i++) {
		clock_format(format_cases[i].usec, text);
		cr_expect_str_eq(text, format_cases[i].text, "%s", text);
		cr_expect_eq(clock_parse(text, &back), 0);
		cr_expect_eq(back, format_cases[i].usec);
	}
	clock_format(UINT64_MAX, text);
	cr_assert_str_eq(text, "9999-12-31T23:59:59.999999Z", "out of range is cut: %s", text);
}

static const struct format_case parse_cases[] = {
	{ 1000000, "1970-01-01T00:00:01Z" },
	{ 1500000, "1970-01-01T00:00:01.5Z" },
	{ 1123456, "1970-01-01T00:00:01.123456789Z" },
	{ 1000000, "1970-01-01t00:00:01z" },
	{ 3600000000, "1970-01-01T00:00:00-01:00" },
	{ 0, "1970-01-01T05:30:00+05:30" },
	{ 0, "1969-12-31T23:00:00-01:00" },
	{ 1709164800000000, "2024-02-29T00:00:00Z" },
	{ 1483228800000000, "2016-12-31T23:59:60Z" }, /* a leap second */
	{ 1483228800250000, "2016-12-31T18:59:60.25-05:00" },
};

Test(clock, parses)
{
	for (size_t i = 0; i < ELEMENTSOF(parse_cases); i++) {
		uint64_t v = 4711;

		cr_expect_eq(clock_parse(parse_cases[i].text, &v), 0, "%s", parse_cases[i].text);
		cr_expect_eq(v, parse_cases[i].usec, "%s: %ju", parse_cases[i].text, (uintmax_t)v);
	}
}

static const char *const bad_texts[] = {
	"",
	"2024",
	"2024-01-01",
	"2024-01-01T00:00:00", /* no zone */
	"2024-01-01T00:00:00.Z", /* a dot without digits */
	"2024-01-01T00:00:00.1234567890Z", /* ten digits */
	"2024-01-01T00:00:00,5Z",
	"2024-01-01 00:00:00Z",
	"2024-01-01T00:00:00Z ",
	" 2024-01-01T00:00:00Z",
	"2024-01-01T00:00:00ZZ",
	"2024-1-01T00:00:00Z",
	"2024-00-01T00:00:00Z",
	"2024-13-01T00:00:00Z",
	"2024-01-00T00:00:00Z",
	"2024-01-32T00:00:00Z",
	"2024-04-31T00:00:00Z",
	"2023-02-29T00:00:00Z",
	"1900-02-29T00:00:00Z",
	"2024-01-01T24:00:00Z",
	"2024-01-01T00:60:00Z",
	"2024-01-01T00:00:61Z",
	"2024-01-01T00:00:00+0100",
	"2024-01-01T00:00:00+24:00",
	"2024-01-01T00:00:00+01:60",
	"2024-01-01T00:00:00+1:00",
	"2024-01-01T00:00:00+",
	"0000-01-01T00:00:00Z",
	"1969-12-31T23:59:59Z", /* before the epoch */
	"1970-01-01T00:00:00+00:01",
	"9999-12-31T23:59:59-00:01", /* year 10000 in UTC */
	"9999-12-31T23:59:60Z",
	"12024-01-01T00:00:00Z",
	"+024-01-01T00:00:00Z",
	"2024-01-01T00:00:0\xd9\xa1Z",
};

Test(clock, refuses)
{
	for (size_t i = 0; i < ELEMENTSOF(bad_texts); i++) {
		uint64_t v = 4711;

		cr_expect_eq(clock_parse(bad_texts[i], &v), -EINVAL, "%s", bad_texts[i]);
		cr_expect_eq(v, 4711, "%s wrote", bad_texts[i]);
	}
}

/* However the zone of the process is set, text is UTC. */
Test(clock, ignores_the_time_zone)
{
	char text[CLOCK_TEXT_MAX];
	uint64_t v;

	setenv("TZ", "EST5EDT", 1);
	clock_format(0, text);
	cr_assert_str_eq(text, "1970-01-01T00:00:00.000000Z");
	cr_assert_eq(clock_parse("2024-07-01T00:00:00Z", &v), 0);
	cr_assert_eq(v, 1719792000000000);
}

Test(clock, clocks_move)
{
	uint64_t a = clock_monotonic(), b = clock_monotonic();

	cr_assert_leq(a, b);
	cr_assert_gt(clock_realtime(), 1700000000000000ull);
}
