/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Strings, numbers, hex, UTF-8: by table. */
#include "util-test.h"
#include "util/str.h"

Test(str, prefixes_and_suffixes)
{
	cr_assert(str_starts("sandbox", "sand"));
	cr_assert(str_starts("x", ""));
	cr_assert_not(str_starts("sa", "sand"));
	cr_assert(str_ends("a.conf", ".conf"));
	cr_assert(str_ends(".conf", ".conf"));
	cr_assert_not(str_ends("conf", ".conf"));
	cr_assert(str_eq(NULL, NULL));
	cr_assert_not(str_eq(NULL, ""));
}

static const struct u64_case {
	const char *text;
	uint64_t min, max;
	int r;
	uint64_t value;
} u64_cases[] = {
	{ "0", 0, 10, 0, 0 },
	{ "10", 0, 10, 0, 10 },
	{ "007", 0, 10, 0, 7 },
	{ "18446744073709551615", 0, UINT64_MAX, 0, UINT64_MAX },
	{ "11", 0, 10, -ERANGE, 0 },
	{ "4", 5, 10, -ERANGE, 0 },
	{ "18446744073709551616", 0, UINT64_MAX, -ERANGE, 0 },
	{ "99999999999999999999999", 0, UINT64_MAX, -ERANGE, 0 },
	{ "99999999999999999999999x", 0, UINT64_MAX, -EINVAL, 0 },
	{ "", 0, 10, -EINVAL, 0 },
	{ NULL, 0, 10, -EINVAL, 0 },
	{ " 1", 0, 10, -EINVAL, 0 },
	{ "1 ", 0, 10, -EINVAL, 0 },
	{ "+1", 0, 10, -EINVAL, 0 },
	{ "-1", 0, UINT64_MAX, -EINVAL, 0 },
	{ "0x1", 0, 10, -EINVAL, 0 },
	{ "1e1", 0, 10, -EINVAL, 0 },
	{ "\xd9\xa1", 0, 10, -EINVAL, 0 }, /* an Arabic digit */
};

Test(str, unsigned_numbers)
{
	for (size_t i = 0; i < ELEMENTSOF(u64_cases); i++) {
		const struct u64_case *c = &u64_cases[i];
		uint64_t v = 4711;

		cr_expect_eq(str_to_u64(c->text, c->min, c->max, &v), c->r, "case %zu", i);
		cr_expect_eq(v, c->r == 0 ? c->value : 4711, "case %zu: %ju", i, (uintmax_t)v);
	}
}

static const struct i64_case {
	const char *text;
	int64_t min, max;
	int r;
	int64_t value;
} i64_cases[] = {
	{ "0", INT64_MIN, INT64_MAX, 0, 0 },
	{ "-0", INT64_MIN, INT64_MAX, 0, 0 },
	{ "-1", -1, 1, 0, -1 },
	{ "9223372036854775807", INT64_MIN, INT64_MAX, 0, INT64_MAX },
	{ "-9223372036854775808", INT64_MIN, INT64_MAX, 0, INT64_MIN },
	{ "9223372036854775808", INT64_MIN, INT64_MAX, -ERANGE, 0 },
	{ "-9223372036854775809", INT64_MIN, INT64_MAX, -ERANGE, 0 },
	{ "-2", -1, 1, -ERANGE, 0 },
	{ "-", -1, 1, -EINVAL, 0 },
	{ "--1", -1, 1, -EINVAL, 0 },
	{ "- 1", -1, 1, -EINVAL, 0 },
	{ NULL, -1, 1, -EINVAL, 0 },
};

Test(str, signed_numbers)
{
	for (size_t i = 0; i < ELEMENTSOF(i64_cases); i++) {
		const struct i64_case *c = &i64_cases[i];
		int64_t v = 4711;

		cr_expect_eq(str_to_i64(c->text, c->min, c->max, &v), c->r, "case %zu", i);
		cr_expect_eq(v, c->r == 0 ? c->value : 4711, "case %zu: %jd", i, (intmax_t)v);
	}
}

static const struct escape_case {
	const char *data;
	size_t len, max;
	const char *expected;
} escape_cases[] = {
	{ "plain text", 10, 80, "plain text" },
	{ "", 0, 80, "" },
	{ "abc", 3, 3, "abc" },
	{ "abcd", 4, 3, "abc..." },
	{ "abcd", 4, 0, "..." },
	{ "a\nb\rc\td", 7, 80, "a\\nb\\rc\\td" },
	{ "\\n", 2, 80, "\\\\n" },
	{ "\0\x1b[31m\x7f\xff", 8, 80, "\\x00\\x1b[31m\\x7f\\xff" },
};

Test(str, escaping)
{
	for (size_t i = 0; i < ELEMENTSOF(escape_cases); i++) {
		const struct escape_case *c = &escape_cases[i];
		_cleanup_free_ char *s = str_escape(c->data, c->len, c->max);

		cr_expect_str_eq(s, c->expected, "case %zu: %s", i, s);
	}
	test_leaks();
}

Test(str, formatting)
{
	_cleanup_free_ char *s = str_format("%s-%d", "a", 7);

	cr_assert_str_eq(s, "a-7");
}

static const struct utf8_case {
	const char *data;
	size_t len, n, need;
} utf8_cases[] = {
	/* data, its length, what utf8_sequence() says */
	{ "", 0, 0, 1 },
	{ "a", 1, 1, 1 },
	{ "\0", 1, 1, 1 },
	{ "\x7f", 1, 1, 1 },
	{ "\x80", 1, 0, 1 }, /* lone continuation */
	{ "\xc0\x80", 2, 0, 1 }, /* overlong NUL */
	{ "\xc1\xbf", 2, 0, 1 },
	{ "\xc2\x80", 2, 2, 2 },
	{ "\xc2", 1, 1, 2 },
	{ "\xc2"
	  "A",
	  2, 0, 1 },
	{ "\xdf\xbf", 2, 2, 2 },
	{ "\xe0\x9f\xbf", 3, 0, 1 }, /* overlong */
	{ "\xe0\xa0\x80", 3, 3, 3 },
	{ "\xe0\xa0", 2, 2, 3 },
	{ "\xe2\x82", 2, 2, 3 },
	{ "\xe2\x82"
	  "A",
	  3, 0, 2 }, /* maximal subpart of two bytes */
	{ "\xed\x9f\xbf", 3, 3, 3 },
	{ "\xed\xa0\x80", 3, 0, 1 }, /* surrogate */
	{ "\xef\xbf\xbf", 3, 3, 3 },
	{ "\xf0\x8f\xbf\xbf", 4, 0, 1 }, /* overlong */
	{ "\xf0\x90\x80\x80", 4, 4, 4 },
	{ "\xf0\x9f\x98", 3, 3, 4 },
	{ "\xf0\x9f\x98"
	  "A",
	  4, 0, 3 },
	{ "\xf4\x8f\xbf\xbf", 4, 4, 4 },
	{ "\xf4\x90\x80\x80", 4, 0, 1 }, /* beyond U+10FFFF */
	{ "\xf5\x80\x80\x80", 4, 0, 1 },
	{ "\xff", 1, 0, 1 },
};

Test(str, utf8)
{
	for (size_t i = 0; i < ELEMENTSOF(utf8_cases); i++) {
		const struct utf8_case *c = &utf8_cases[i];
		size_t need = 99, n = utf8_sequence(c->data, c->len, &need);

		cr_expect_eq(n, c->n, "case %zu: n %zu", i, n);
		cr_expect_eq(need, c->need, "case %zu: need %zu", i, need);
		if (c->len)
			cr_expect_eq(utf8_valid(c->data, c->len), n == need && n > 0, "case %zu",
				     i);
	}
	cr_assert(utf8_valid("", 0));
	cr_assert(utf8_valid("a\xc3\xa9\xf0\x9f\x98\x80z", 8));
	cr_assert_not(utf8_valid("good then \xf0\x9f\x98", 13));
	cr_assert_not(utf8_valid("\xc3\xa9\xa9", 3));
}

Test(str, hex)
{
	unsigned char bytes[3] = { 1, 2, 3 };
	char text[9];

	hex_encode("\x00\xff\x5a\x10", 4, text);
	cr_assert_str_eq(text, "00ff5a10");
	hex_encode("", 0, text);
	cr_assert_str_eq(text, "");
	cr_assert_eq(hex_decode("00fF5a", bytes, 3), 0);
	cr_assert_arr_eq(bytes, "\x00\xff\x5a", 3);
	cr_assert_eq(hex_decode("", bytes, 0), 0);
}

Test(str, hex_refuses)
{
	static const char *const bad[] = { "",	       "00",	 "00ff5",  "00ff5a1",
					   "00ff5a10", "00ff5g", "00 f5a", "0x0f5a" };
	unsigned char bytes[3] = { 1, 2, 3 };

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		cr_expect_eq(hex_decode(bad[i], bytes, 3), -EINVAL, "%s", bad[i]);
		cr_expect_arr_eq(bytes, "\1\2\3", 3, "%s wrote", bad[i]);
	}
}
