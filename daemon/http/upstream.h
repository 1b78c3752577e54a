/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a server answers, read by the proxy: the head of an HTTP/1 response, and chunked bodies. Pure: no I/O, no memory
 * of its own, positions in the caller's buffer.
 *
 * The bytes come from inside a sandbox and are hostile. Every connection carries one request and one answer, so there is
 * nothing behind an answer that could be taken for another one; still, what two readers could understand in two ways is
 * refused (several lengths, other transfer codings, folded lines, control characters).
 */
#ifndef DECLAW_HTTP_UPSTREAM_H
#define DECLAW_HTTP_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define UPSTREAM_HEAD_MAX (16u << 10)
#define UPSTREAM_HEADERS_MAX 60u	/* fewer than an answer of ours can have */

struct upstream_header {
	const char *name, *value;	/* not NUL terminated */
	size_t name_len, value_len;
};

struct upstream_head {
	unsigned int status;		/* 100 to 599 */
	struct upstream_header header[UPSTREAM_HEADERS_MAX];
	size_t n_headers;
	int64_t length;			/* Content-Length, -1: none */
	bool chunked;
};

/* Bytes of the head with its empty line; 0: not all of it is there; -EBADMSG, or -EMSGSIZE. */
ssize_t upstream_head_parse(const char *data, size_t len, struct upstream_head *ret);
/* Is the header of that name? (lower case) */
bool upstream_header_is(const struct upstream_header *h, const char *name);
/* Does a list of tokens, as in Connection, have this one? Case does not matter. */
bool upstream_list_has(const char *list, size_t len, const char *token, size_t token_len);

struct upstream_chunks {
	unsigned int state;
	uint64_t left;		/* of the chunk */
	uint64_t size;
	unsigned int digits, line, trailer;
};

enum upstream_outcome {
	UPSTREAM_E_MORE,	/* everything was used; more is needed */
	UPSTREAM_E_DATA,	/* *ret_data, *ret_len is a piece of the body */
	UPSTREAM_E_END,		/* the body is complete */
};
/* Begins zero-initialised. Moves *pos and *len over what it used; pieces are at most max long. -EBADMSG. */
int upstream_chunks_next(struct upstream_chunks *c, const char **pos, size_t *len, size_t max, const char **ret_data,
			 size_t *ret_len);

#endif
