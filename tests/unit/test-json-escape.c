/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Raw bytes as JSON strings: each case whole, cut at every position, and byte by byte. */
#include "util-test.h"
#include "util/json.h"

#define BAD "\xef\xbf\xbd"

static const struct escape_case {
	const char *data;
	size_t len;
	const char *expected;
} cases[] = {
	{ "", 0, "" },
	{ "plain", 5, "plain" },
	{ "\"\\/\b\f\n\r\t", 8, "\\\"\\\\/\\b\\f\\n\\r\\t" },
	{ "\0\x01\x1f\x7f", 4, "\\u0000\\u0001\\u001f\\u007f" },
	{ "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80" },
	{ "\xc2\x80\xc2\x85\xc2\x9f\xc2\xa0", 8, "\\u0080\\u0085\\u009f\xc2\xa0" },
	{ "\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa", 12,
	  "\xe2\x80\xa7\\u2028\\u2029\xe2\x80\xaa" },
	{ "\xff\xfe", 2, BAD BAD },
	{ "a\x80z", 3, "a" BAD "z" },
	{ "\xc0\xaf", 2, BAD BAD },
	{ "\xe0\x80\xaf", 3, BAD BAD BAD },
	{ "\xed\xa0\x80", 3, BAD BAD BAD },
	{ "\xe2\x82"
	  "A",
	  3, BAD "A" },
	{ "\xf0\x9f\x98"
	  "A",
	  4, BAD "A" },
	{ "\xf0\x9f\x98\xf0\x9f\x98\x80", 7, BAD "\xf0\x9f\x98\x80" },
	{ "\xf0\x9f\xe2\x82\xac", 5, BAD "\xe2\x82\xac" },
	{ "\xc3\n", 2, BAD "\\n" },
	{ "\xc3\xc3\xa9", 3, BAD "\xc3\xa9" },
	{ "tail \xf0\x9f\x98", 8, "tail " BAD },
	{ "tail \xe2", 6, "tail " BAD },
};

static void escape_cut(const struct escape_case *c, size_t cut, size_t step, struct buf *out)
{
	struct json_escape_state st = { 0 };
	size_t n;

	cr_assert_eq(json_escape_append(out, &st, c->data, cut), 0);
	for (size_t i = cut; i < c->len; i += n) {
		n = MIN_OF(step, c->len - i);
		cr_assert_eq(json_escape_append(out, &st, c->data + i, n), 0);
	}
	cr_assert_eq(json_escape_append(out, &st, NULL, 0), 0);
	cr_assert_eq(st.n, 0);
}

Test(json_escape, however_it_is_cut)
{
	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		for (size_t cut = 0; cut <= cases[i].len; cut++)
			for (size_t step = 1; step <= cases[i].len + 1; step++) {
				_cleanup_buf_ struct buf b = BUF_INIT(200);

				escape_cut(&cases[i], cut, step, &b);
				cr_assert_str_eq(b.data ? b.data : "", cases[i].expected,
						 "case %zu cut %zu step %zu: %s", i, cut, step,
						 b.data);
			}
	test_leaks();
}

/* Every two byte sequence, escaped and parsed back, is what Unicode says it is. */
Test(json_escape, output_is_always_json)
{
	for (unsigned u = 0; u < 65536; u++) {
		_cleanup_buf_ struct buf b = BUF_INIT(64);
		_cleanup_json_ json_object *o = NULL;
		struct json_escape_state st = { 0 };
		char raw[2] = { (char)(u >> 8), (char)u };
		const char *error;

		cr_assert_eq(buf_puts(&b, "\""), 0);
		cr_assert_eq(json_escape_append(&b, &st, raw, 2), 0);
		cr_assert_eq(json_escape_append(&b, &st, NULL, 0), 0);
		cr_assert_eq(buf_puts(&b, "\""), 0);
		cr_assert_eq(json_parse(b.data, b.len, &o, &error), 0, "%04x: %s", u, b.data);
		if (utf8_valid(raw, 2))
			cr_assert(json_object_get_string_len(o) == 2 &&
					  memcmp(json_object_get_string(o), raw, 2) == 0,
				  "%04x", u);
	}
}

/* On a full buffer nothing has happened, so the same bytes can be offered again. */
Test(json_escape, a_full_buffer_changes_nothing)
{
	_cleanup_buf_ struct buf b = BUF_INIT(10);
	struct json_escape_state st = { 0 };

	cr_assert_eq(json_escape_append(&b, &st, "abc\xe2\x82", 5), 0);
	cr_assert_eq(st.n, 2);
	cr_assert_eq(json_escape_append(&b, &st,
					"\xac"
					"def\x01",
					5),
		     -ENOBUFS);
	cr_assert_str_eq(b.data, "abc");
	cr_assert_eq(st.n, 2);
	b.max = 20;
	cr_assert_eq(json_escape_append(&b, &st,
					"\xac"
					"def\x01",
					5),
		     0);
	cr_assert_str_eq(b.data, "abc\xe2\x82\xac"
				 "def\\u0001");
	cr_assert_eq(json_escape_append(&b, &st, "\xf0\x9f", 2), 0);
	b.max = b.len + 2;
	cr_assert_eq(json_escape_append(&b, &st, NULL, 0), -ENOBUFS);
	cr_assert_eq(st.n, 2, "the flush can be repeated");
	b.max = b.len + 3;
	cr_assert_eq(json_escape_append(&b, &st, NULL, 0), 0);
	cr_assert(str_ends(b.data, BAD));
}
