/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raw bytes as the inside of a JSON string, in pieces.
 *
 * A process' output arrives cut anywhere. The bytes of a UTF-8 sequence that is not whole yet wait
 * in the state and are looked at again together with what comes next; each invalid maximal subpart
 * becomes one U+FFFD. C1 controls and U+2028/2029 are escaped like C0 ones: some clients split
 * event streams into lines at them.
 */
#include <string.h>

#include "util/json.h"

#define REPLACEMENT "\xef\xbf\xbd"	/* U+FFFD */

static const char *short_escape(unsigned char c)
{
	switch (c) {
	case '"':
		return "\\\"";
	case '\\':
		return "\\\\";
	case '\b':
		return "\\b";
	case '\f':
		return "\\f";
	case '\n':
		return "\\n";
	case '\r':
		return "\\r";
	case '\t':
		return "\\t";
	default:
		return NULL;
	}
}

/* What a whole sequence becomes, or NULL when it stays as it is. scratch is 7 bytes. */
static const char *escaped(const unsigned char *p, size_t n, char *scratch)
{
	unsigned u;

	if (n == 1) {
		if (short_escape(p[0]))
			return short_escape(p[0]);
		if (p[0] >= 0x20 && p[0] != 0x7f)
			return NULL;
		u = p[0];
	} else if (n == 2 && p[0] == 0xc2 && p[1] < 0xa0) {
		u = p[1];
	} else if (n == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9)) {
		u = 0x2000u + (p[2] & 0x3fu);
	} else {
		return NULL;
	}
	snprintf(scratch, 7, "\\u%04x", u);
	return scratch;
}

/* Appends as much of data as is whole sequences; *ret_used tells how much that was. */
static int append_whole(struct buf *out, const unsigned char *p, size_t len, size_t *ret_used)
{
	size_t i = 0, run = 0, n, need;
	const char *text;
	char scratch[7];
	int r;

	while (i < len) {
		n = utf8_sequence(p + i, len - i, &need);
		if (n > 0 && n < need)
			break;
		text = n == 0 ? REPLACEMENT : escaped(p + i, n, scratch);
		if (text) {
			/* What needs no change is copied in runs. */
			r = buf_append(out, p + run, i - run);
			if (r == 0)
				r = buf_puts(out, text);
			if (r < 0)
				return r;
			run = i + need;
		}
		i += need;
	}
	*ret_used = i;
	return buf_append(out, p + run, i - run);
}

/* Completes the sequence in the state with bytes of data; *ret_used tells how many were taken. */
static int append_carried(struct buf *out, struct json_escape_state *st, const unsigned char *p,
			  size_t len, size_t *ret_used)
{
	unsigned char bytes[4];
	size_t have = st->n, take = MIN_OF(sizeof(bytes) - have, len), n, need, used;
	int r;

	*ret_used = 0;
	memcpy(bytes, st->bytes, have);
	memcpy(bytes + have, p, take);
	n = utf8_sequence(bytes, have + take, &need);
	if (n > 0 && n < need) {
		memcpy(st->bytes, bytes, n);
		st->n = (uint8_t)n;
		*ret_used = take;
		return 0;
	}
	/* The carried bytes are a proper prefix: what ends them, well or badly, uses them up. */
	r = n == 0 ? buf_puts(out, REPLACEMENT) : append_whole(out, bytes, n, &used);
	if (r < 0)
		return r;
	*ret_used = need - have;
	st->n = 0;
	return 0;
}

static int append(struct buf *out, struct json_escape_state *st, const unsigned char *p, size_t len)
{
	size_t used = 0;
	int r;

	if (!p) {
		if (st->n > 0)
			r = buf_puts(out, REPLACEMENT);
		else
			r = 0;
		st->n = 0;
		return r;
	}
	while (st->n > 0 && len > 0) {
		r = append_carried(out, st, p, len, &used);
		if (r < 0)
			return r;
		p += used;
		len -= used;
	}
	r = append_whole(out, p, len, &used);
	if (r < 0)
		return r;
	if (len > used) {
		memcpy(st->bytes, p + used, len - used);
		st->n = (uint8_t)(len - used);
	}
	return 0;
}

/* All or nothing, as with every append: on failure buffer and state are what they were. */
int json_escape_append(struct buf *out, struct json_escape_state *state, const void *data,
		       size_t len)
{
	struct json_escape_state st = *state;
	size_t before = out->len;
	int r = append(out, &st, data, len);

	if (r < 0) {
		out->len = before;
		if (out->data)
			out->data[before] = '\0';
		return r;
	}
	*state = st;
	return 0;
}
