/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as what a server in a sandbox answers: head, then chunks. Beyond not crashing: a head is found only with all
 * of it there and lies within it, headers are clean enough to be sent on, and chunks give the same body however cut.
 */
#include <errno.h>
#include <string.h>

#include "fuzz-main.h"
#include "http/upstream.h"
#include "util/macro.h"

#define MUST(x) ((x) ? (void)0 : abort())

static void check_head(const char *data, size_t size, const struct upstream_head *h)
{
	MUST(h->status >= 100 && h->status <= 599 && h->n_headers <= UPSTREAM_HEADERS_MAX);
	MUST(h->length >= -1 && !(h->chunked && h->length >= 0));
	for (size_t i = 0; i < h->n_headers; i++) {
		const struct upstream_header *x = &h->header[i];

		MUST(x->name >= data && x->name_len > 0 && x->value + x->value_len <= data + size);
		MUST(!memchr(x->name, ' ', x->name_len) && !memchr(x->name, '\n', x->name_len));
		for (size_t k = 0; k < x->value_len; k++)
			MUST(x->value[k] != '\r' && x->value[k] != '\n' && x->value[k] != '\0');
		upstream_list_has(x->value, x->value_len, "close", 5);
	}
}

/* The outcome, and a sum over the body */
static int decode(const char *data, size_t size, size_t step, uint64_t *ret_sum, size_t *ret_used)
{
	struct upstream_chunks c = { 0 };
	int r = UPSTREAM_E_MORE;
	size_t used = 0;

	*ret_sum = 0;
	while (used < size && r == UPSTREAM_E_MORE) {
		const char *pos = data + used, *piece;
		size_t left = MIN_OF(step, size - used), before = left, n;

		do {
			r = upstream_chunks_next(&c, &pos, &left, step, &piece, &n);
			for (size_t i = 0; r == UPSTREAM_E_DATA && i < n; i++)
				*ret_sum = *ret_sum * 31 + (unsigned char)piece[i] + 1;
		} while (r == UPSTREAM_E_DATA);
		used += before - left;
	}
	*ret_used = used;
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct upstream_head h;
	uint64_t sum[2];
	size_t used[2];
	ssize_t n = upstream_head_parse(text, size, &h);
	int r;

	MUST(n >= 0 ? (size_t)n <= size : n == -EBADMSG || n == -EMSGSIZE);
	if (n > 0) {
		struct upstream_head cut;

		check_head(text, (size_t)n, &h);
		MUST(upstream_head_parse(text, (size_t)n - 1, &cut) == 0);
		text += n;
		size -= (size_t)n;
	}
	r = decode(text, size, 1, &sum[0], &used[0]);
	MUST(decode(text, size, 4096, &sum[1], &used[1]) == r);
	MUST(r < 0 || (sum[0] == sum[1] && used[0] == used[1]));
	return 0;
}
