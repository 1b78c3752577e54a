/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Request targets: split on the raw text, decode each piece exactly once. See router.h for what is refused.
 *
 * One allocation holds a copy of the raw target, the decoded path and the decoded pieces; decoding never makes text
 * longer, so its size is known before.
 */
#include <string.h>

#include "http/router.h"
#include "util/str.h"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int decode_escape(const char *text, size_t n)
{
	int high, low;

	if (n < 3)
		return -EINVAL;
	high = hex_digit(text[1]);
	low = hex_digit(text[2]);
	if (high < 0 || low < 0 || (high == 0 && low == 0))
		return -EINVAL;
	return high << 4 | low;
}

ssize_t uri_decode(const char *text, size_t n, bool plus_is_space, char *ret)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c <= 0x20 || c == 0x7f)
			return -EINVAL;
		if (c == '%') {
			int v = decode_escape(text + i, n - i);

			if (v < 0)
				return v;
			ret[out++] = (char)v;
			i += 2;
		} else {
			ret[out++] = c == '+' && plus_is_space ? ' ' : (char)c;
		}
	}
	ret[out] = '\0';
	return (ssize_t)out;
}

/* "http://host:port/path" -> "/path"; anything else is returned as it is. */
static const char *strip_authority(const char *target, size_t *len)
{
	static const char *const schemes[] = { "http://", "https://" };

	for (size_t i = 0; i < ELEMENTSOF(schemes); i++) {
		size_t n = strlen(schemes[i]);
		const char *slash;

		if (*len <= n || strncasecmp(target, schemes[i], n) != 0)
			continue;
		slash = memchr(target + n, '/', *len - n);
		if (!slash)
			return target;
		*len -= (size_t)(slash - target);
		return slash;
	}
	return target;
}

/* Writes the decoded path to *cursor and one decoded copy of each stored segment behind it. */
static int parse_path(struct uri *u, size_t len, char **cursor)
{
	char *path = *cursor, *text = path + len + 1;
	size_t offset = 0;

	u->path = path;
	for (size_t start = 1; ; u->n_segments++) {
		const char *raw = u->raw_path + start;
		const char *slash = memchr(raw, '/', len - start);
		size_t raw_len = slash ? (size_t)(slash - raw) : len - start;
		ssize_t n = uri_decode(raw, raw_len, false, text);

		if (n < 0)
			return (int)n;
		if (str_eq(text, ".") || str_eq(text, ".."))
			return -EINVAL;
		path[offset++] = '/';
		if (u->n_segments < URI_SEGMENTS_MAX)
			u->segment[u->n_segments] = (struct uri_segment){ raw, raw_len, text, offset };
		memcpy(path + offset, text, (size_t)n + 1);
		offset += (size_t)n;
		if (u->n_segments < URI_SEGMENTS_MAX)
			text += n + 1;
		if (!slash)
			break;
		start += raw_len + 1;
	}
	u->n_segments++;
	*cursor = text;
	return 0;
}

static int parse_pair(struct uri *u, const char *raw, size_t len, char **cursor)
{
	const char *equals = memchr(raw, '=', len);
	size_t name_len = equals ? (size_t)(equals - raw) : len;
	struct uri_pair pair = { .name = *cursor };
	ssize_t n;

	if (u->n_query == URI_QUERY_MAX)
		return -EINVAL;
	n = uri_decode(raw, name_len, true, *cursor);
	if (n < 0)
		return (int)n;
	*cursor += n + 1;
	pair.value = *cursor;
	n = equals ? uri_decode(equals + 1, len - name_len - 1, true, *cursor) : uri_decode("", 0, true, *cursor);
	if (n < 0)
		return (int)n;
	*cursor += n + 1;
	u->query[u->n_query++] = pair;
	return 0;
}

static int parse_query(struct uri *u, char **cursor)
{
	for (const char *p = u->raw_query; p && *p;) {
		size_t len = strcspn(p, "&");

		if (len > 0) {
			int r = parse_pair(u, p, len, cursor);

			if (r < 0)
				return r;
		}
		p += len;
		if (*p == '&')
			p++;
	}
	return 0;
}

int uri_parse(struct uri *ret, const char *target, size_t len)
{
	const char *question;
	size_t path_len;
	char *cursor;
	int r;

	*ret = (struct uri){};
	target = strip_authority(target, &len);
	if (len == 0 || target[0] != '/' || memchr(target, '\0', len))
		return -EINVAL;
	/* raw copy; decoded path; decoded segments and pairs, each with a NUL of its own: a lone "&&a" or "a" has a
	 * name and a value, thus up to two NULs for each two bytes of raw text */
	ret->memory = malloc(4 * (len + 2));
	if (!ret->memory)
		return -ENOMEM;
	memcpy(ret->memory, target, len);
	ret->memory[len] = '\0';
	ret->raw_path = ret->memory;
	question = memchr(target, '?', len);
	path_len = question ? (size_t)(question - target) : len;
	if (question) {
		ret->memory[path_len] = '\0';
		ret->raw_query = ret->memory + path_len + 1;
	}
	cursor = ret->memory + len + 1;
	r = parse_path(ret, path_len, &cursor);
	if (r >= 0)
		r = parse_query(ret, &cursor);
	if (r < 0)
		uri_done(ret);
	return r;
}

void uri_done(struct uri *u)
{
	free(u->memory);
	*u = (struct uri){};
}

const char *uri_query(const struct uri *u, const char *name, unsigned int n)
{
	for (size_t i = 0; i < u->n_query; i++)
		if (str_eq(u->query[i].name, name) && n-- == 0)
			return u->query[i].value;
	return NULL;
}
