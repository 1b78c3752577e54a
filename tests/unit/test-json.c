/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is JSON and what is not, the typed getters, and writing. */
#include <math.h>

#include "util-test.h"
#include "util/json.h"

struct text {
	const char *data;
	size_t len;
};
#define T(literal) { literal, sizeof(literal) - 1 }

static const struct text good[] = {
	T("null"),
	T("true"),
	T(" false "),
	T("0"),
	T("-0"),
	T("-12.5e+10"),
	T("1E5"),
	T("\"\""),
	T("\t\r\n [ ] "),
	T("{}"),
	T("[1,\"a\",null,{\"b\":[]}]"),
	T("{\"a\":{\"a\":1},\"b\":{\"a\":2}}"),
	T("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\uD83D\\uDE00\""),
	T("\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x7f\""),
	T("\"\\u0000\""),
	T("{\"\":1}"),
	T("9223372036854775807"),
	T("18446744073709551615"),
	T("-9223372036854775808"),
	T("99999999999999999999999999999999.0"),
};

static const struct text bad[] = {
	T(""),
	T("   "),
	T("nul"),
	T("nulll"),
	T("True"),
	T("NaN"),
	T("Infinity"),
	T("-Infinity"),
	T("-"),
	T("+1"),
	T("01"),
	T("-01"),
	T("1."),
	T(".5"),
	T("1e"),
	T("1e+"),
	T("0x10"),
	T("1 2"),
	T("{} {}"),
	T("{}x"),
	T("{}\0"),
	T("\0"),
	T("nul\0"),
	T("["),
	T("18446744073709551616"), /* more than 64 bits hold */
	T("-9223372036854775809"),
	T("[99999999999999999999999999999999]"),
	T("[1,]"),
	T("[,1]"),
	T("[1 2]"),
	T("[1}"),
	T("{"),
	T("{\"a\""),
	T("{\"a\":"),
	T("{\"a\":1"),
	T("{\"a\":1,}"),
	T("{,}"),
	T("{\"a\" 1}"),
	T("{a:1}"),
	T("{'a':1}"),
	T("{1:1}"),
	T("'a'"),
	T("\""),
	T("\"\\\""),
	T("\"\\x41\""),
	T("\"\\u12\""),
	T("\"\\u12G4\""),
	T("\"\\u 123\""),
	T("\"a\nb\""),
	T("\"a\0b\""),
	T("\"\\ud83d\""),
	T("\"\\ud83dx\""),
	T("\"\\ud83d\\n\""),
	T("\"\\ud83d\\u0041\""),
	T("\"\\ud83d\\ud83d\""),
	T("\"\\ude00\\ud83d\""),
	T("\"\xff\""),
	T("\"\xc0\x80\""),
	T("\"\xed\xa0\x80\""),
	T("\"\xf0\x9f\x98\""),
	T("\xef\xbb\xbf{}"), /* a byte order mark */
	T("// comment\n{}"),
	T("/* comment */ {}"),
	T("{} # comment"),
	T("{\"a\":1,\"a\":1}"),
	T("{\"a\":1,\"\\u0061\":2}"), /* the same name, written differently */
	T("[{\"x\":{\"a\":1,\"b\":2,\"a\":3}}]"),
	T("{\"a\\u0000b\":1}"),
};

Test(json, takes_json)
{
	for (size_t i = 0; i < ELEMENTSOF(good); i++) {
		_cleanup_json_ json_object *o = NULL;
		const char *error = NULL;

		cr_expect_eq(json_parse(good[i].data, good[i].len, &o, &error), 0, "%s: %s",
			     good[i].data, error);
	}
	test_leaks();
}

Test(json, takes_nothing_else)
{
	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		json_object *o = (json_object *)&good;
		const char *error = NULL;

		cr_expect_eq(json_parse(bad[i].data, bad[i].len, &o, &error), JSON_E_SYNTAX,
			     "case %zu: %s", i, bad[i].data);
		cr_expect_eq(o, (json_object *)&good, "case %zu wrote", i);
		cr_expect(error && *error, "case %zu", i);
	}
	test_leaks();
}

Test(json, nothing_at_all_is_an_error)
{
	json_object *o;
	const char *error = "";

	cr_assert_eq(json_parse(NULL, 0, &o, &error), JSON_E_SYNTAX);
	cr_assert_str_eq(error, "value expected");
}

/* The text need not be terminated, and nothing behind it is looked at. */
Test(json, stays_inside_the_length)
{
	_cleanup_json_ json_object *o = NULL;
	_cleanup_free_ char *exact = malloc(2);
	const char *error;

	memcpy(exact, "12", 2);
	cr_assert_eq(json_parse(exact, 2, &o, &error), 0);
	cr_assert_eq(json_object_get_int(o), 12);
	json_object_put(TAKE_PTR(o));
	cr_assert_eq(json_parse("[]garbage", 2, &o, &error), 0);
}

static int parse_nested(unsigned depth, char open, char close)
{
	_cleanup_buf_ struct buf b = BUF_INIT(4096);
	_cleanup_json_ json_object *o = NULL;
	const char *error;

	for (unsigned i = 0; i < depth; i++)
		buf_printf(&b, "%c%s", open, open == '{' && i + 1 < depth ? "\"k\":" : "");
	for (unsigned i = 0; i < depth; i++)
		buf_append(&b, &close, 1);
	return json_parse(b.data, b.len, &o, &error);
}

static const struct {
	const char *text, *error;
} errors[] = {
	{ "[1,", "value expected" },
	{ "{\"a\":}", "value expected" },
	{ "{\"a\":1 \"b\":2}", "',' or '}' expected" },
	{ "{\"a\":1,\"a\":2}", "duplicate member name" },
	{ "{} x", "something behind the value" },
	{ "[\"\xff\"]", "not valid UTF-8" },
	{ "[18446744073709551616]", "a number is out of range" },
	{ "[\"\\ud800\"]", "unpaired surrogate" },
};

Test(json, errors_say_what_is_wrong)
{
	for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
		json_object *o;
		const char *error = "";

		cr_expect_eq(json_parse(errors[i].text, strlen(errors[i].text), &o, &error),
			     JSON_E_SYNTAX);
		cr_expect_str_eq(error, errors[i].error, "%s: %s", errors[i].text, error);
	}
}

Test(json, depth_is_capped)
{
	cr_assert_eq(parse_nested(JSON_DEPTH_MAX, '[', ']'), 0);
	cr_assert_eq(parse_nested(JSON_DEPTH_MAX, '{', '}'), 0);
	cr_assert_eq(parse_nested(JSON_DEPTH_MAX + 1, '[', ']'), JSON_E_SYNTAX);
	cr_assert_eq(parse_nested(JSON_DEPTH_MAX + 1, '{', '}'), JSON_E_SYNTAX);
	cr_assert_eq(parse_nested(1000, '[', ']'), JSON_E_SYNTAX);
}

Test(json, size_is_capped)
{
	size_t len = JSON_SIZE_MAX + 1;
	_cleanup_free_ char *text = malloc(len);
	_cleanup_json_ json_object *o = NULL;
	const char *error;

	memset(text, ' ', len);
	text[0] = '1';
	cr_assert_eq(json_parse(text, len, &o, &error), JSON_E_SYNTAX);
	cr_assert_str_eq(error, "too long");
	cr_assert_eq(json_parse(text, len - 1, &o, &error), 0);
}

static json_object *parse(const char *text)
{
	json_object *o = NULL;
	const char *error = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &o, &error), 0, "%s: %s", text, error);
	return o;
}

Test(json, getters_do_not_convert)
{
	_cleanup_json_ json_object *o =
		parse("{\"s\":\"5\",\"n\":5,\"f\":5.0,\"b\":true,\"z\":null,\"o\":{},"
		      "\"a\":[],\"e\":\"\",\"nul\":\"a\\u0000b\"}");
	static const char *const keys[] = { "s", "n", "f", "b", "z", "o", "a", "absent" };
	/* What each getter answers for each key, columns as above: . = 0, T = type, M = missing. */
	static const char expected[6][9] = { ".TTTMTTM", "T.TTMTTM", "T..TMTTM",
					     "TTT.MTTM", "TTTTM.TM", "TTTTMT.M" };
	json_object *sub;
	const char *s;
	int64_t n;
	double d;
	bool b;

	for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
		int r[6] = {
			json_get_string(o, keys[i], &s),
			json_get_int(o, keys[i], INT64_MIN, INT64_MAX, &n),
			json_get_double(o, keys[i], &d),
			json_get_bool(o, keys[i], &b),
			json_get_object(o, keys[i], &sub),
			json_get_array(o, keys[i], &sub),
		};

		for (size_t g = 0; g < 6; g++) {
			int want = expected[g][i] == '.'   ? 0
				   : expected[g][i] == 'T' ? JSON_E_TYPE
							   : JSON_E_MISSING;

			cr_expect_eq(r[g], want, "getter %zu of %s: %d", g, keys[i], r[g]);
		}
	}
	cr_assert_eq(json_get_string(o, "e", &s), 0);
	cr_assert_str_eq(s, "");
	cr_assert_eq(json_get_string(o, "nul", &s), JSON_E_RANGE, "a NUL would cut the string");
	cr_assert(json_has(o, "z"));
	cr_assert_not(json_has(o, "absent"));
	cr_assert_eq(json_get_int(NULL, "n", 0, 9, &n), JSON_E_MISSING);
	json_get_array(o, "a", &sub);
	cr_assert_eq(json_get_int(sub, "n", 0, 9, &n), JSON_E_MISSING);
}

static const struct int_case {
	const char *text;
	int64_t min, max;
	int r;
	int64_t value;
} int_cases[] = {
	{ "5", 0, 10, 0, 5 },
	{ "-9223372036854775808", INT64_MIN, INT64_MAX, 0, INT64_MIN },
	{ "9223372036854775807", INT64_MIN, INT64_MAX, 0, INT64_MAX },
	{ "9223372036854775808", INT64_MIN, INT64_MAX, JSON_E_RANGE, 0 },
	{ "18446744073709551615", INT64_MIN, INT64_MAX, JSON_E_RANGE, 0 },
	{ "11", 0, 10, JSON_E_RANGE, 0 },
	{ "-1", 0, 10, JSON_E_RANGE, 0 },
	{ "5e0", 0, 10, JSON_E_TYPE, 0 },
};

Test(json, integers_are_exact)
{
	for (size_t i = 0; i < ELEMENTSOF(int_cases); i++) {
		const struct int_case *c = &int_cases[i];
		_cleanup_free_ char *text = str_format("{\"n\":%s}", c->text);
		_cleanup_json_ json_object *o = parse(text);
		int64_t v = 4711;

		cr_expect_eq(json_get_int(o, "n", c->min, c->max, &v), c->r, "%s", c->text);
		cr_expect_eq(v, c->r ? 4711 : c->value, "%s: %jd", c->text, (intmax_t)v);
	}
}

Test(json, doubles)
{
	_cleanup_json_ json_object *o = parse("{\"a\":1.5,\"b\":3,\"c\":1e999}");
	double d = 0;

	cr_assert_eq(json_get_double(o, "a", &d), 0);
	cr_assert_eq(d, 1.5);
	cr_assert_eq(json_get_double(o, "b", &d), 0);
	cr_assert_eq(d, 3.0);
	cr_assert_eq(json_get_double(o, "c", &d), JSON_E_RANGE);
	cr_assert_eq(d, 3.0);
}

Test(json, surrogate_pairs_become_one_character)
{
	_cleanup_json_ json_object *o = parse("{\"s\":\"\\ud83d\\ude00\\u00e9\"}");
	const char *s;

	cr_assert_eq(json_get_string(o, "s", &s), 0);
	cr_assert_str_eq(s, "\xf0\x9f\x98\x80\xc3\xa9");
}

Test(json, writes_compact_text)
{
	_cleanup_json_ json_object *o = json_object_new_object();
	json_object *sub = json_object_new_array();
	size_t len = 0;
	const char *text;

	json_object_array_add(sub, json_object_new_int(1));
	cr_assert_eq(json_put_string(o, "path", "/a/b \"q\" \\"), 0);
	cr_assert_eq(json_put_string(o, "none", NULL), 0);
	cr_assert_eq(json_put_int(o, "n", INT64_MIN), 0);
	cr_assert_eq(json_put_bool(o, "b", false), 0);
	cr_assert_eq(json_put(o, "list", sub), 0);
	text = json_text(o, &len);
	cr_assert_str_eq(
		text, "{\"path\":\"/a/b \\\"q\\\" \\\\\",\"none\":null,\"n\":-9223372036854775808,"
		      "\"b\":false,\"list\":[1]}");
	cr_assert_eq(len, strlen(text));
	cr_assert_str_eq(json_text(NULL, NULL), "null");
}

static const struct string_case {
	const char *value, *text;
} string_cases[] = {
	{ "plain \xc3\xa9 \xf0\x9f\x98\x80", "{\"s\":\"plain \xc3\xa9 \xf0\x9f\x98\x80\"}" },
	{ "a\nb\x01", "{\"s\":\"a\\nb\\u0001\"}" },
	{ "a\xc2\x85\xe2\x80\xa8\xe2\x80\xa9z", "{\"s\":\"a\\u0085\\u2028\\u2029z\"}" },
	{ "bad \xff\xc3\"", "{\"s\":\"bad \xef\xbf\xbd\xef\xbf\xbd\\\"\"}" },
	{ "\xe2\x80", "{\"s\":\"\xef\xbf\xbd\"}" },
	{ "\x7f", "{\"s\":\"\\u007f\"}" },
};

/*
 * A guest may name a file anything: what we write stays JSON, and one line for every line reader.
 */
Test(json, odd_strings_are_written_safely)
{
	for (size_t i = 0; i < ELEMENTSOF(string_cases); i++) {
		_cleanup_json_ json_object *o = json_object_new_object();
		_cleanup_json_ json_object *back = NULL;
		const char *text, *error;
		size_t len;

		cr_assert_eq(json_put_string(o, "s", string_cases[i].value), 0);
		text = json_text(o, &len);
		cr_expect_str_eq(text, string_cases[i].text, "case %zu: %s", i, text);
		cr_expect_eq(json_parse(text, len, &back, &error), 0, "case %zu", i);
	}
	test_leaks();
}
