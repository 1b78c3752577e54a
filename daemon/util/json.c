/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strict JSON on json-c: parsing, typed getters, writing.
 *
 * json_check() decides what is JSON; json-c then builds a tree from text known to be good. A
 * duplicate member is noticed by counting: the text has more members than the tree. Output is meant
 * for event streams as well, so strings put here never contain what a line reader may take for a
 * line end.
 */
#include <math.h>
#include <string.h>

#include "util/json.h"
#include "util/jsoncheck.h"

static size_t count_members(json_object *o)
{
	size_t n = 0;

	if (json_object_is_type(o, json_type_object)) {
		json_object_object_foreach(o, key, value) {
			(void)key;
			n += 1 + count_members(value);
		}
	} else if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			n += count_members(json_object_array_get_idx(o, i));
	}
	return n;
}

static int build(const char *text, size_t len, json_object **ret)
{
	/* The tokener's own limit only has to stay out of the way of json_check()'s. */
	struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
	int r = 0;

	if (!tok)
		return -ENOMEM;
	*ret = json_tokener_parse_ex(tok, text, (int)len);
	/* A bare number could go on; telling the tokener that the text is over ends it. */
	if (json_tokener_get_error(tok) == json_tokener_continue)
		*ret = json_tokener_parse_ex(tok, "", 1);
	if (json_tokener_get_error(tok) != json_tokener_success)
		r = JSON_E_SYNTAX;
	json_tokener_free(tok);
	return r;
}

int json_parse(const char *text, size_t len, json_object **ret, const char **ret_error)
{
	_cleanup_json_ json_object *o = NULL;
	const char *error;
	size_t members;
	int r;

	if (len > JSON_SIZE_MAX)
		error = "too long";
	else
		error = json_check(text, len, JSON_DEPTH_MAX, &members);
	if (!error) {
		r = build(text, len, &o);
		if (r < 0)
			return r;
		if (r > 0)
			error = "a number is out of range";
		else if (count_members(o) != members)
			error = "duplicate member name";
	}
	if (error) {
		*ret_error = error;
		return JSON_E_SYNTAX;
	}
	*ret = TAKE_PTR(o);
	return 0;
}

/* 0 and a value of the type, or JSON_E_MISSING or JSON_E_TYPE. */
static int get_typed(json_object *o, const char *key, enum json_type type, json_object **ret)
{
	json_object *v;

	if (!json_object_object_get_ex(o, key, &v) || !v)
		return JSON_E_MISSING;
	if (!json_object_is_type(v, type))
		return JSON_E_TYPE;
	*ret = v;
	return 0;
}

int json_get_string(json_object *o, const char *key, const char **ret)
{
	json_object *v;
	const char *s;
	int r = get_typed(o, key, json_type_string, &v);

	if (r != 0)
		return r;
	s = json_object_get_string(v);
	if (strlen(s) != (size_t)json_object_get_string_len(v))
		return JSON_E_RANGE;
	*ret = s;
	return 0;
}

int json_get_bool(json_object *o, const char *key, bool *ret)
{
	json_object *v;
	int r = get_typed(o, key, json_type_boolean, &v);

	if (r == 0)
		*ret = json_object_get_boolean(v);
	return r;
}

int json_get_int(json_object *o, const char *key, int64_t min, int64_t max, int64_t *ret)
{
	json_object *v;
	int64_t i;
	int r = get_typed(o, key, json_type_int, &v);

	if (r != 0)
		return r;
	i = json_object_get_int64(v);
	/* json-c answers INT64_MAX for what only fits an unsigned number. */
	if (i < min || i > max ||
	    (i == INT64_MAX && json_object_get_uint64(v) > (uint64_t)INT64_MAX))
		return JSON_E_RANGE;
	*ret = i;
	return 0;
}

int json_get_double(json_object *o, const char *key, double *ret)
{
	json_object *v;
	double d;
	int r = get_typed(o, key, json_type_double, &v);

	if (r == JSON_E_TYPE)
		r = get_typed(o, key, json_type_int, &v);
	if (r != 0)
		return r;
	d = json_object_get_double(v);
	if (!isfinite(d))
		return JSON_E_RANGE;
	*ret = d;
	return 0;
}

int json_get_object(json_object *o, const char *key, json_object **ret)
{
	return get_typed(o, key, json_type_object, ret);
}

int json_get_array(json_object *o, const char *key, json_object **ret)
{
	return get_typed(o, key, json_type_array, ret);
}

bool json_has(json_object *o, const char *key)
{
	return json_object_object_get_ex(o, key, NULL);
}

int json_put(json_object *o, const char *key, json_object *value)
{
	if (json_object_object_add(o, key, value) == 0)
		return 0;
	json_object_put(value);
	return -ENOMEM;
}

static int serialize_escaped(json_object *o, struct printbuf *pb, int level _unused_,
			     int flags _unused_)
{
	_cleanup_buf_ struct buf b = BUF_INIT(INT32_MAX);
	struct json_escape_state state = { 0 };
	const char *s = json_object_get_string(o);

	if (buf_puts(&b, "\"") < 0 || json_escape_append(&b, &state, s, strlen(s)) < 0 ||
	    json_escape_append(&b, &state, NULL, 0) < 0 || buf_puts(&b, "\"") < 0)
		return -1;
	return printbuf_memappend(pb, b.data, (int)b.len);
}

/*
 * json-c writes string bytes as they are, control characters apart. Text with anything else in it
 * that we escape (C1 controls, line separators, bytes that are not UTF-8) is given a serializer of
 * ours.
 */
static bool wants_escape(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;

	for (size_t i = 0; i < len; i++) {
		if (p[i] == 0x7f)
			return true;
		if (p[i] == 0xc2 && p[i + 1] < 0xa0)
			return true;
		if (p[i] == 0xe2 && p[i + 1] == 0x80 && (p[i + 2] == 0xa8 || p[i + 2] == 0xa9))
			return true;
	}
	return !utf8_valid(s, len);
}

int json_put_string(json_object *o, const char *key, const char *value)
{
	json_object *v;
	size_t len;

	if (!value)
		return json_put(o, key, NULL);
	len = strlen(value);
	if (len > JSON_SIZE_MAX)
		return -E2BIG;
	v = json_object_new_string_len(value, (int)len);
	if (!v)
		return -ENOMEM;
	if (wants_escape(value, len))
		json_object_set_serializer(v, serialize_escaped, NULL, NULL);
	return json_put(o, key, v);
}

int json_put_int(json_object *o, const char *key, int64_t value)
{
	json_object *v = json_object_new_int64(value);

	return v ? json_put(o, key, v) : -ENOMEM;
}

int json_put_bool(json_object *o, const char *key, bool value)
{
	json_object *v = json_object_new_boolean(value);

	return v ? json_put(o, key, v) : -ENOMEM;
}

const char *json_text(json_object *o, size_t *ret_len)
{
	size_t len = 0;
	const char *s = json_object_to_json_string_length(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);

	if (s && ret_len)
		*ret_len = len;
	return s;
}
