/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes into the JSON parser and the escaper. Beyond not crashing: what was parsed, written and
 * parsed again is written the same; escaped bytes are JSON whatever they were and however they were
 * cut; valid UTF-8 survives escaping and parsing unchanged.
 */
#include <string.h>

#include "fuzz-main.h"
#include "util/json.h"

/* assert() that no build turns off */
#define MUST(x) ((x) ? (void)0 : abort())

static void check_parser(const char *text, size_t len)
{
	_cleanup_json_ json_object *o = NULL, *again = NULL;
	_cleanup_free_ char *first = NULL;
	const char *error = NULL;
	size_t n = 0;
	int r;

	r = json_parse(text, len, &o, &error);
	MUST(r == 0 || (r == JSON_E_SYNTAX && error));
	if (r != 0)
		return;
	json_text(o, &n);
	first = strndup(json_text(o, NULL), n);
	MUST(first);
	MUST(json_parse(first, n, &again, &error) == 0);
	MUST(strcmp(first, json_text(again, NULL)) == 0);
}

/* Escapes data in pieces of step bytes as a whole JSON string. */
static void escape(struct buf *out, const uint8_t *data, size_t size, size_t step)
{
	struct json_escape_state st = { 0 };

	MUST(buf_puts(out, "\"") == 0);
	for (size_t i = 0; i < size; i += step)
		MUST(json_escape_append(out, &st, data + i, MIN_OF(step, size - i)) == 0);
	MUST(json_escape_append(out, &st, NULL, 0) == 0);
	MUST(buf_puts(out, "\"") == 0);
}

static void check_escaper(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf whole = BUF_INIT(8u << 20), pieces = BUF_INIT(8u << 20);
	_cleanup_json_ json_object *o = NULL;
	const char *error;

	escape(&whole, data, size, size + 1);
	escape(&pieces, data, size, 1 + (size ? data[0] % 7 : 0));
	MUST(strcmp(whole.data, pieces.data) == 0);
	MUST(json_parse(whole.data, whole.len, &o, &error) == 0);
	if (!utf8_valid(data, size))
		return;
	MUST((size_t)json_object_get_string_len(o) == size);
	MUST(size == 0 || memcmp(json_object_get_string(o), data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1u << 20)
		return 0;
	check_parser((const char *)data, size);
	check_escaper(data, size);
	return 0;
}
