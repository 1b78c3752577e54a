/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers of servers inside sandboxes, see upstream.h. */
#include "http/upstream.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define CHUNK_DIGITS_MAX 15u	/* fits 64 bits with room to spare */
#define CHUNK_LINE_MAX 1024u	/* a size with its extensions */
#define TRAILER_MAX 8192u

static bool is_token(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_text(char c)
{
	return c == '\t' || ((unsigned char)c >= 0x20 && c != 0x7f);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The next line without its end; -1: there is none yet. A line may end with LF alone. */
static ssize_t next_line(const char **pos, const char *end, const char **ret)
{
	const char *lf = memchr(*pos, '\n', (size_t)(end - *pos));
	size_t n;

	if (!lf)
		return -1;
	*ret = *pos;
	n = (size_t)(lf - *pos);
	*pos = lf + 1;
	return (ssize_t)(n > 0 && (*ret)[n - 1] == '\r' ? n - 1 : n);
}

/* "HTTP/1.x NNN" and maybe a reason */
static int parse_status(const char *line, size_t len, struct upstream_head *ret)
{
	if (len < 12 || memcmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') || line[8] != ' ')
		return -EBADMSG;
	if (len > 12 && line[12] != ' ')
		return -EBADMSG;
	for (size_t i = 9; i < 12; i++) {
		if (line[i] < '0' || line[i] > '9')
			return -EBADMSG;
		ret->status = ret->status * 10 + (unsigned int)(line[i] - '0');
	}
	for (size_t i = 12; i < len; i++)
		if (!is_text(line[i]))
			return -EBADMSG;
	return ret->status >= 100 && ret->status <= 599 ? 0 : -EBADMSG;
}

static int parse_header(const char *line, size_t len, struct upstream_header *ret)
{
	size_t n = 0;

	while (n < len && is_token(line[n]))
		n++;
	if (n == 0 || n == len || line[n] != ':')
		return -EBADMSG;
	*ret = (struct upstream_header){ .name = line, .name_len = n };
	for (n++; n < len && is_blank(line[n]); n++)
		;
	while (len > n && is_blank(line[len - 1]))
		len--;
	ret->value = line + n;
	ret->value_len = len - n;
	for (; n < len; n++)
		if (!is_text(line[n]))
			return -EBADMSG;
	return 0;
}

bool upstream_header_is(const struct upstream_header *h, const char *name)
{
	return strlen(name) == h->name_len && strncasecmp(h->name, name, h->name_len) == 0;
}

static int parse_length(const struct upstream_header *h, int64_t *ret)
{
	int64_t v = 0;

	if (h->value_len == 0 || h->value_len > 18)
		return -EBADMSG;
	for (size_t i = 0; i < h->value_len; i++) {
		if (h->value[i] < '0' || h->value[i] > '9')
			return -EBADMSG;
		v = v * 10 + (h->value[i] - '0');
	}
	if (*ret >= 0 && *ret != v)
		return -EBADMSG;
	*ret = v;
	return 0;
}

/* What decides where the body ends */
static int see_framing(const struct upstream_header *h, struct upstream_head *ret)
{
	if (upstream_header_is(h, "content-length"))
		return parse_length(h, &ret->length);
	if (!upstream_header_is(h, "transfer-encoding"))
		return 0;
	if (ret->chunked || h->value_len != 7 || strncasecmp(h->value, "chunked", 7) != 0)
		return -EBADMSG;
	ret->chunked = true;
	return 0;
}

ssize_t upstream_head_parse(const char *data, size_t len, struct upstream_head *ret)
{
	const char *pos = data, *end = data + len, *line;
	ssize_t n = next_line(&pos, end, &line);
	struct upstream_header h;

	*ret = (struct upstream_head){ .length = -1 };
	if (n >= 0 && parse_status(line, (size_t)n, ret) < 0)
		return -EBADMSG;
	while (n >= 0 && (n = next_line(&pos, end, &line)) > 0) {
		if (parse_header(line, (size_t)n, &h) < 0 || see_framing(&h, ret) < 0)
			return -EBADMSG;
		if (ret->n_headers == UPSTREAM_HEADERS_MAX)
			return -EMSGSIZE;
		ret->header[ret->n_headers++] = h;
	}
	if (n < 0)
		return len < UPSTREAM_HEAD_MAX ? 0 : -EMSGSIZE;
	if ((size_t)(pos - data) > UPSTREAM_HEAD_MAX)
		return -EMSGSIZE;
	return ret->chunked && ret->length >= 0 ? -EBADMSG : pos - data;
}

bool upstream_list_has(const char *list, size_t len, const char *token, size_t token_len)
{
	size_t i = 0;

	while (i < len) {
		size_t start, end;

		while (i < len && (is_blank(list[i]) || list[i] == ','))
			i++;
		for (start = i; i < len && list[i] != ','; i++)
			;
		for (end = i; end > start && is_blank(list[end - 1]); end--)
			;
		if (end > start && end - start == token_len && strncasecmp(list + start, token, token_len) == 0)
			return true;
	}
	return false;
}

/* --- chunks --- */

enum { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_AFTER, CHUNK_TRAILER, CHUNK_END };

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int size_done(struct upstream_chunks *c)
{
	if (c->digits == 0)
		return -EBADMSG;
	c->left = c->size;
	c->state = c->size > 0 ? CHUNK_DATA : CHUNK_TRAILER;
	c->size = c->digits = c->line = 0;
	return 0;
}

/* A character of "1a2b ;ext\r\n" */
static int see_size(struct upstream_chunks *c, char ch)
{
	int v = hex_value(ch);

	if (++c->line > CHUNK_LINE_MAX)
		return -EBADMSG;
	if (ch == '\n')
		return size_done(c);
	if (c->state == CHUNK_EXTENSION)
		return is_text(ch) || ch == '\r' ? 0 : -EBADMSG;
	if (v >= 0) {
		if (++c->digits > CHUNK_DIGITS_MAX)
			return -EBADMSG;
		c->size = c->size << 4 | (unsigned int)v;
		return 0;
	}
	if (ch != '\r' && ch != ';' && !is_blank(ch))
		return -EBADMSG;
	c->state = CHUNK_EXTENSION;
	return c->digits > 0 ? 0 : -EBADMSG;
}

/* The line end behind a chunk's bytes */
static int see_after(struct upstream_chunks *c, char ch)
{
	if (ch == '\n') {
		c->state = CHUNK_SIZE;
		c->line = 0;
		return 0;
	}
	return ch == '\r' && c->line++ == 0 ? 0 : -EBADMSG;
}

/* Trailers are dropped; an empty line ends them */
static int see_trailer(struct upstream_chunks *c, char ch)
{
	if (++c->trailer > TRAILER_MAX)
		return -EBADMSG;
	if (ch == '\n') {
		if (c->line == 0)
			c->state = CHUNK_END;
		c->line = 0;
	} else if (ch != '\r') {
		c->line++;
	}
	return 0;
}

static int see(struct upstream_chunks *c, char ch)
{
	switch (c->state) {
	case CHUNK_AFTER:
		return see_after(c, ch);
	case CHUNK_TRAILER:
		return see_trailer(c, ch);
	default:
		return see_size(c, ch);
	}
}

int upstream_chunks_next(struct upstream_chunks *c, const char **pos, size_t *len, size_t max, const char **ret_data,
			 size_t *ret_len)
{
	while (c->state != CHUNK_END && *len > 0) {
		if (c->state == CHUNK_DATA) {
			size_t n = *len < max ? *len : max;

			if (n > c->left)
				n = (size_t)c->left;
			if (n == 0)
				return UPSTREAM_E_MORE;
			*ret_data = *pos;
			*ret_len = n;
			*pos += n;
			*len -= n;
			c->left -= n;
			if (c->left == 0)
				c->state = CHUNK_AFTER;
			return UPSTREAM_E_DATA;
		}
		if (see(c, **pos) < 0)
			return -EBADMSG;
		(*pos)++;
		(*len)--;
	}
	return c->state == CHUNK_END ? UPSTREAM_E_END : UPSTREAM_E_MORE;
}
