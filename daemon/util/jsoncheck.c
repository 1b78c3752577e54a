/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strict JSON by recursive descent over the text.
 *
 * json-c, even told to be strict, takes things that other parsers take differently (NaN, raw
 * control characters, lone surrogates, leading zeros, keys cut at a NUL; which of them depends on
 * its version). Text that two programs read differently is how policies get bypassed, so we decide
 * ourselves what JSON is and let json-c only build the tree.
 */
#include <stdbool.h>
#include <string.h>

#include "util/jsoncheck.h"
#include "util/str.h"

struct scan {
	const char *p, *end;
	const char *error;
	size_t members;
	unsigned depth_max;
};

static bool fail(struct scan *s, const char *error)
{
	if (!s->error)
		s->error = error;
	return false;
}

/* The next byte, or NUL at the end. NUL is legal nowhere, so the two need no telling apart. */
static char peek(const struct scan *s)
{
	return s->p < s->end ? *s->p : '\0';
}

static void skip_blanks(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

static bool take(struct scan *s, char c)
{
	if (peek(s) != c)
		return false;
	s->p++;
	return true;
}

static bool take_unit(struct scan *s, unsigned *ret)
{
	unsigned char bytes[2];
	char digits[5];

	if (s->end - s->p < 4)
		return fail(s, "unfinished \\u escape");
	memcpy(digits, s->p, 4);
	digits[4] = '\0';
	if (hex_decode(digits, bytes, 2) < 0)
		return fail(s, "\\u wants four hexadecimal digits");
	s->p += 4;
	*ret = (unsigned)bytes[0] << 8 | bytes[1];
	return true;
}

/* Behind "\u". Surrogates only in pairs. */
static bool scan_unicode(struct scan *s, bool key)
{
	unsigned u, low;

	if (!take_unit(s, &u))
		return false;
	if (u == 0 && key)
		return fail(s, "NUL in a member name");
	if (u >= 0xdc00 && u <= 0xdfff)
		return fail(s, "unpaired surrogate");
	if (u < 0xd800 || u > 0xdbff)
		return true;
	if (!take(s, '\\') || !take(s, 'u'))
		return fail(s, "unpaired surrogate");
	if (!take_unit(s, &low))
		return false;
	return (low >= 0xdc00 && low <= 0xdfff) || fail(s, "unpaired surrogate");
}

static bool scan_escape(struct scan *s, bool key)
{
	char c = peek(s);

	if (!c || !strchr("\"\\/bfnrtu", c))
		return fail(s, "unknown escape in a string");
	s->p++;
	return c == 'u' ? scan_unicode(s, key) : true;
}

static bool scan_string(struct scan *s, bool key)
{
	unsigned char c;

	if (!take(s, '"'))
		return fail(s, key ? "member name expected" : "string expected");
	while (s->p < s->end) {
		c = (unsigned char)*s->p++;
		if (c == '"')
			return true;
		if (c < 0x20)
			return fail(s, "control character in a string");
		if (c == '\\' && !scan_escape(s, key))
			return false;
	}
	return fail(s, "unfinished string");
}

static bool scan_digits(struct scan *s)
{
	const char *start = s->p;

	while (peek(s) >= '0' && peek(s) <= '9')
		s->p++;
	return s->p > start || fail(s, "digit expected");
}

static bool scan_fraction(struct scan *s)
{
	if (take(s, '.') && !scan_digits(s))
		return false;
	if (!take(s, 'e') && !take(s, 'E'))
		return true;
	if (!take(s, '+'))
		take(s, '-');
	return scan_digits(s);
}

/* An integer that 64 bits cannot hold is refused: json-c would silently make another one of it. */
static bool scan_number(struct scan *s)
{
	bool negative = take(s, '-');
	const char *digits = s->p, *end;
	uint64_t v = 0;

	if (peek(s) < '0' || peek(s) > '9')
		return fail(s, "value expected");
	if (!take(s, '0'))
		scan_digits(s);
	end = s->p;
	if (!scan_fraction(s))
		return false;
	if (s->p != end)
		return true;
	for (; digits < end; digits++)
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*digits - '0'), &v))
			return fail(s, "a number is out of range");
	return !negative || v <= (uint64_t)INT64_MAX + 1 || fail(s, "a number is out of range");
}

static bool scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return fail(s, "value expected");
	s->p += n;
	return true;
}

static bool scan_value(struct scan *s, unsigned depth);

static bool scan_member(struct scan *s, unsigned depth)
{
	skip_blanks(s);
	if (!scan_string(s, true))
		return false;
	s->members++;
	skip_blanks(s);
	if (!take(s, ':'))
		return fail(s, "':' expected");
	return scan_value(s, depth);
}

/* Behind the opening bracket. */
static bool scan_items(struct scan *s, char close, unsigned depth)
{
	if (depth >= s->depth_max)
		return fail(s, "nested too deeply");
	skip_blanks(s);
	if (take(s, close))
		return true;
	do {
		if (!(close == '}' ? scan_member(s, depth + 1) : scan_value(s, depth + 1)))
			return false;
		skip_blanks(s);
	} while (take(s, ','));
	return take(s, close) ||
	       fail(s, close == '}' ? "',' or '}' expected" : "',' or ']' expected");
}

static bool scan_value(struct scan *s, unsigned depth)
{
	skip_blanks(s);
	switch (peek(s)) {
	case '{':
		s->p++;
		return scan_items(s, '}', depth);
	case '[':
		s->p++;
		return scan_items(s, ']', depth);
	case '"':
		return scan_string(s, false);
	case 't':
		return scan_word(s, "true");
	case 'f':
		return scan_word(s, "false");
	case 'n':
		return scan_word(s, "null");
	default:
		return scan_number(s);
	}
}

const char *json_check(const char *text, size_t len, unsigned depth_max, size_t *ret_members)
{
	struct scan s = { .depth_max = depth_max };

	if (len == 0)
		return "value expected";	/* text may be NULL */
	s.p = text;
	s.end = text + len;
	if (!utf8_valid(text, len))
		return "not valid UTF-8";
	if (!scan_value(&s, 0))
		return s.error;
	skip_blanks(&s);
	if (s.p != s.end)
		return "something behind the value";
	*ret_members = s.members;
	return NULL;
}
