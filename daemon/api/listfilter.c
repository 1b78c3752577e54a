/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The `metadata` parameter of the list: JSON, Python's repr() of a dict (what the Python client sends), or
 * key=value&key=value. Anything else is no filter (contract 2.1: what cannot be parsed is tolerated).
 */
#include <string.h>

#include "api/listfilter.h"
#include "util/str.h"

#define TEXT_MAX (64u << 10)

/* --- Python's repr --- */

static const char *skip_space(const char *s)
{
	return s + strspn(s, " \t\n\r");
}

static int put_rune(struct buf *b, unsigned long c)
{
	char out[4];
	size_t n;

	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return -EINVAL;
	if (c < 0x80) {
		out[0] = (char)c;
		n = 1;
	} else if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		n = 2;
	} else if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		n = 3;
	} else {
		out[0] = (char)(0xf0 | c >> 18);
		n = 4;
	}
	for (size_t i = 1; i < n; i++)
		out[i] = (char)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
	return buf_append(b, out, n);
}

/* Behind a backslash; returns where it ends, NULL: no such escape. */
static const char *escape(const char *s, struct buf *b)
{
	static const char from[] = "nrt\\'\"", to[] = "\n\r\t\\'\"";
	const char *p = *s ? strchr(from, *s) : NULL;
	size_t digits = *s == 'x' ? 2 : *s == 'u' ? 4 : *s == 'U' ? 8 : 0;
	char hex[9] = "";

	if (p)
		return buf_append(b, &to[p - from], 1) == 0 ? s + 1 : NULL;
	if (!digits || strspn(s + 1, "0123456789abcdefABCDEF") < digits)
		return NULL;
	memcpy(hex, s + 1, digits);
	return put_rune(b, strtoul(hex, NULL, 16)) == 0 ? s + 1 + digits : NULL;
}

static const char *quoted(const char *s, struct buf *b)
{
	char quote = *s;

	if (quote != '\'' && quote != '"')
		return NULL;
	for (s++; s && *s && *s != quote;) {
		if (*s == '\\')
			s = escape(s + 1, b);
		else
			s = buf_append(b, s, 1) == 0 ? s + 1 : NULL;
	}
	return s && *s == quote ? s + 1 : NULL;
}

static const char *pair(const char *s, json_object *o)
{
	_cleanup_buf_ struct buf key = BUF_INIT(TEXT_MAX), value = BUF_INIT(TEXT_MAX);

	s = quoted(s, &key);
	s = s ? skip_space(s) : NULL;
	if (!s || *s != ':')
		return NULL;
	s = quoted(skip_space(s + 1), &value);
	if (!s || json_put_string(o, key.data ?: "", value.data ?: "") < 0)
		return NULL;
	return skip_space(s);
}

static json_object *from_repr(const char *s)
{
	_cleanup_json_ json_object *o = json_object_new_object();

	s = skip_space(s);
	if (!o || *s != '{')
		return NULL;
	s = skip_space(s + 1);
	while (*s != '}') {
		s = pair(s, o);
		if (!s || (*s != ',' && *s != '}'))
			return NULL;
		if (*s == ',')
			s = skip_space(s + 1);
	}
	return *skip_space(s + 1) ? NULL : TAKE_PTR(o);
}

/* --- the other two --- */

static json_object *from_json(const char *s)
{
	_cleanup_json_ json_object *o = NULL;
	const char *error;

	if (json_parse(s, strlen(s), &o, &error) != 0 || !json_object_is_type(o, json_type_object))
		return NULL;
	json_object_object_foreach(o, key, value) {
		(void)key;
		if (!value || !json_object_is_type(value, json_type_string))
			return NULL;
	}
	return TAKE_PTR(o);
}

static json_object *from_pairs(const char *s)
{
	_cleanup_json_ json_object *o = json_object_new_object();
	_cleanup_free_ char *copy = strdup(s);
	char *rest = copy, *part;

	while (o && rest && (part = strsep(&rest, "&"))) {
		char *eq = strchr(part, '=');

		if (!eq || eq == part)
			return NULL;
		*eq = '\0';
		if (json_put_string(o, part, eq + 1) < 0)
			return NULL;
	}
	return copy ? TAKE_PTR(o) : NULL;
}

json_object *listfilter_parse(const char *text)
{
	json_object *o;

	if (!text || strlen(text) > TEXT_MAX)
		return NULL;
	o = from_json(text);
	if (!o)
		o = from_repr(text);
	return o || *skip_space(text) == '{' ? o : from_pairs(text);
}

bool listfilter_matches(json_object *filter, json_object *metadata)
{
	if (!filter)
		return true;
	json_object_object_foreach(filter, key, want) {
		const char *have = NULL;

		if (json_get_string(metadata, key, &have) != 0 || !str_eq(have, json_object_get_string(want)))
			return false;
	}
	return true;
}
