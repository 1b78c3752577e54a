/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strict JSON in, compact JSON out, on json-c.
 *
 * Input is capped in bytes and depth, must be valid UTF-8 and one value with nothing behind it,
 * without duplicate member names or unpaired surrogates. Typed getters return 0, JSON_E_MISSING
 * (absent or null, or o is no object), JSON_E_TYPE or JSON_E_RANGE and never convert between types;
 * *ret is written on 0 only.
 */
#ifndef DECLAW_JSON_H
#define DECLAW_JSON_H

#include <stdbool.h>
#include <json-c/json.h>

#include "util/str.h"

#define JSON_DEPTH_MAX 32
#define JSON_SIZE_MAX (16u * 1024 * 1024)

enum json_outcome {
	JSON_E_MISSING = 1,
	JSON_E_TYPE,
	JSON_E_RANGE,
	JSON_E_SYNTAX,		/* json_parse only */
};

static inline void cleanup_jsonp(json_object **o)
{
	if (*o)
		json_object_put(*o);
}
#define _cleanup_json_ _cleanup_(cleanup_jsonp)

/*
 * *ret is owned by the caller and may be NULL: the value null. On JSON_E_SYNTAX *ret_error is a
 * static sentence.
 */
int json_parse(const char *text, size_t len, json_object **ret, const char **ret_error);
/* Strings, objects and arrays handed out are borrowed from o. */
int json_get_string(json_object *o, const char *key, const char **ret);	/* NUL: JSON_E_RANGE */
int json_get_bool(json_object *o, const char *key, bool *ret);
int json_get_int(json_object *o, const char *key, int64_t min, int64_t max, int64_t *ret);
int json_get_double(json_object *o, const char *key, double *ret);	/* ints too */
int json_get_object(json_object *o, const char *key, json_object **ret);
int json_get_array(json_object *o, const char *key, json_object **ret);
bool json_has(json_object *o, const char *key);	/* also when null */
/* Adds and takes the reference; value NULL stores null. 0 or -ENOMEM. */
int json_put(json_object *o, const char *key, json_object *value);
/* NULL stores null; odd bytes are written as json_escape_append() does. */
int json_put_string(json_object *o, const char *key, const char *value);
int json_put_int(json_object *o, const char *key, int64_t value);
int json_put_bool(json_object *o, const char *key, bool value);
/* Compact text without escaped slashes, owned by the object. */
const char *json_text(json_object *o, size_t *ret_len);
/*
 * Escapes raw bytes as the inside of a JSON string: control characters (C1 ones such as U+0085 too)
 * and U+2028/2029 as \u or the short forms \n \t ..., invalid UTF-8 as U+FFFD. Carries up to 3
 * bytes of an unfinished sequence in *state between calls; flush with data == NULL. On failure
 * (-ENOBUFS) neither out nor *state has changed.
 */
struct json_escape_state {
	uint8_t bytes[4];
	uint8_t n;
};
int json_escape_append(struct buf *out, struct json_escape_state *state, const void *data,
		       size_t len);

#endif
