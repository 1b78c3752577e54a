/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers of servers in sandboxes: heads and chunks, whole, cut at every byte, and everything that is none. */
#include "util-test.h"
#include "http/upstream.h"
#include "util/str.h"

static const char good[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Empty:\r\nX-Pad: \t a b \t\r\nCONTENT-length: 5\r\n\r\n";

static bool value_is(const struct upstream_header *h, const char *value)
{
	return h->value_len == strlen(value) && memcmp(h->value, value, h->value_len) == 0;
}

Test(upstream, head)
{
	struct upstream_head head;

	cr_assert_eq(upstream_head_parse(good, sizeof(good) - 1, &head), (ssize_t)sizeof(good) - 1);
	cr_assert_eq(head.status, 200);
	cr_assert_eq(head.n_headers, 4);
	cr_assert_eq(head.length, 5);
	cr_assert(!head.chunked);
	cr_assert(upstream_header_is(&head.header[0], "content-type") && value_is(&head.header[0], "text/plain"));
	cr_assert(value_is(&head.header[1], ""));
	cr_assert(value_is(&head.header[2], "a b"));
}

Test(upstream, head_in_pieces)
{
	struct upstream_head head;
	char *piece;

	for (size_t n = 0; n < sizeof(good) - 1; n++) {
		/* Of exactly that size: reading beyond is seen */
		piece = malloc(n ? n : 1);
		memcpy(piece, good, n);
		cr_assert_eq(upstream_head_parse(piece, n, &head), 0, "cut at %zu", n);
		free(piece);
	}
}

static ssize_t parse(const char *text, struct upstream_head *head)
{
	return upstream_head_parse(text, strlen(text), head);
}

Test(upstream, what_servers_do)
{
	struct upstream_head head;

	cr_assert_gt(parse("HTTP/1.0 404\r\n\r\n", &head), 0);
	cr_assert_eq(head.status, 404);
	cr_assert_eq(head.length, -1);
	cr_assert_gt(parse("HTTP/1.1 204 \r\n\r\n", &head), 0);
	cr_assert_gt(parse("HTTP/1.1 200 OK\nServer: by hand\n\nbody", &head), 0);
	cr_assert_eq(head.n_headers, 1);
	cr_assert_gt(parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", &head), 0);
	cr_assert(head.chunked);
	cr_assert_gt(parse("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n", &head), 0);
	cr_assert_eq(head.length, 7);
	cr_assert_gt(parse("HTTP/1.1 200 \xc3\xbc\r\nX: \xff\r\n\r\n", &head), 0, "old texts may have any bytes");
}

static const char *const bad[] = {
	"\r\n", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.2 200 OK\r\n\r\n", "http/1.1 200 OK\r\n\r\n", "HTTP/1.1 99 X\r\n\r\n",
	"HTTP/1.1 600 X\r\n\r\n", "HTTP/1.1 20x\r\n\r\n", "HTTP/1.1 2000 X\r\n\r\n", "HTTP/1.1  200 X\r\n\r\n", "ICY 200 OK\r\n\r\n",
	"HTTP/1.1 200 O\x01K\r\n\r\n", "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n", "HTTP/1.1 200 OK\r\n: x\r\n\r\n",
	"HTTP/1.1 200 OK\r\nName : x\r\n\r\n", "HTTP/1.1 200 OK\r\nA: x\r\n folded\r\n\r\n", "HTTP/1.1 200 OK\r\nA: x\x7f\r\n\r\n",
	"HTTP/1.1 200 OK\r\nA: a\rb\r\n\r\n", "HTTP/1.1 200 OK\r\n\xc3\xbc: x\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
};

Test(upstream, refused)
{
	struct upstream_head head;

	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		cr_assert_eq(parse(bad[i], &head), -EBADMSG, "%zu: %s", i, bad[i]);
	cr_assert_eq(upstream_head_parse("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", 25, &head), -EBADMSG, "a NUL");
}

Test(upstream, too_much)
{
	_cleanup_buf_ struct buf b = BUF_INIT(64 * 1024);
	struct upstream_head head;

	buf_puts(&b, "HTTP/1.1 200 OK\r\n");
	for (size_t i = 0; i < UPSTREAM_HEADERS_MAX; i++)
		buf_printf(&b, "H%zu: x\r\n", i);
	cr_assert_eq(upstream_head_parse(b.data, b.len, &head), 0);
	buf_puts(&b, "One: more\r\n\r\n");
	cr_assert_eq(upstream_head_parse(b.data, b.len, &head), -EMSGSIZE);
	b.len = 0;
	buf_puts(&b, "HTTP/1.1 200 OK\r\nA: ");
	while (b.len < UPSTREAM_HEAD_MAX)
		buf_puts(&b, "x");
	cr_assert_eq(upstream_head_parse(b.data, b.len, &head), -EMSGSIZE, "no end in sight");
	buf_puts(&b, "\r\n\r\n");
	cr_assert_eq(upstream_head_parse(b.data, b.len, &head), -EMSGSIZE);
}

Test(upstream, lists)
{
	static const char list[] = " keep-alive ,,\tUpgrade,x";

	cr_assert(upstream_list_has(list, strlen(list), "upgrade", 7));
	cr_assert(upstream_list_has(list, strlen(list), "KEEP-ALIVE", 10));
	cr_assert(upstream_list_has(list, strlen(list), "x", 1));
	cr_assert(!upstream_list_has(list, strlen(list), "keep", 4));
	cr_assert(!upstream_list_has(list, strlen(list), "", 0));
	cr_assert(!upstream_list_has("", 0, "x", 1));
}

/* --- chunks --- */

/* Feeds step bytes at a time, takes at most max. Returns the last outcome; body holds what came out. */
static int decode(const char *text, size_t len, size_t step, size_t max, struct buf *body, size_t *ret_used)
{
	struct upstream_chunks c = { 0 };
	const char *piece;
	int r = UPSTREAM_E_MORE;
	size_t used = 0, n;

	body->len = 0;
	while (used < len && r == UPSTREAM_E_MORE) {
		size_t left = MIN_OF(step, len - used), before;
		const char *pos = text + used;

		do {
			before = left;
			r = upstream_chunks_next(&c, &pos, &left, max, &piece, &n);
			if (r == UPSTREAM_E_DATA) {
				cr_assert(n > 0 && n <= max);
				cr_assert_eq(buf_append(body, piece, n), 0);
			}
			used += before - left;
		} while (r == UPSTREAM_E_DATA);
	}
	*ret_used = used;
	return r;
}

static const char chunks[] = "5\r\nhello\r\n1;name=\"v\"\r\n \r\n00A \r\n0123456789\r\n6\nworld!\n0\r\nTrailer: x\r\n\r\nREST";

Test(upstream, chunks_however_they_are_cut)
{
	_cleanup_buf_ struct buf body = BUF_INIT(100);
	size_t used;

	for (size_t step = 1; step < sizeof(chunks); step++)
		for (size_t max = 1; max < 8; max++) {
			cr_assert_eq(decode(chunks, sizeof(chunks) - 1, step, max, &body, &used), UPSTREAM_E_END);
			cr_assert_str_eq(body.data, "hello 0123456789world!");
			cr_assert_eq(used, sizeof(chunks) - 1 - 4, "what follows is not touched");
		}
	for (size_t len = 0; len < sizeof(chunks) - 5; len++)
		cr_assert_eq(decode(chunks, len, 100, 100, &body, &used), UPSTREAM_E_MORE, "cut at %zu", len);
}

Test(upstream, chunks_refused)
{
	static const char *const none[] = {
		"\r\n", "x\r\n", " 5\r\n", ";x\r\n", "-1\r\n", "5 5\x01\r\n", "5\r\nhelloX", "5\r\nhello\r\r\n", "0x5\r\n", "1000000000000000\r\n",
	};
	_cleanup_buf_ struct buf body = BUF_INIT(64 * 1024), text = BUF_INIT(64 * 1024);
	size_t used;

	for (size_t i = 0; i < ELEMENTSOF(none); i++)
		for (size_t step = 1; step < 20; step++)
			cr_assert_eq(decode(none[i], strlen(none[i]), step, 100, &body, &used), -EBADMSG, "%s", none[i]);
	buf_puts(&text, "5;");
	while (text.len < 2000)
		buf_puts(&text, "x");
	cr_assert_eq(decode(text.data, text.len, 100, 100, &body, &used), -EBADMSG, "an extension without end");
	text.len = 0;
	buf_puts(&text, "0\r\n");
	while (text.len < 10000)
		buf_puts(&text, "a: b\r\n");
	cr_assert_eq(decode(text.data, text.len, 100, 100, &body, &used), -EBADMSG, "trailers without end");
}

Test(upstream, no_room)
{
	const char *pos = "5\r\nhello", *piece = NULL;
	struct upstream_chunks c = { 0 };
	size_t left = 8, n = 0;

	cr_assert_eq(upstream_chunks_next(&c, &pos, &left, 0, &piece, &n), UPSTREAM_E_MORE);
	cr_assert_eq(left, 5, "only the size was used");
	cr_assert_eq(upstream_chunks_next(&c, &pos, &left, 9, &piece, &n), UPSTREAM_E_DATA);
	cr_assert_eq(n, 5);
}
