/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client's side of an HTTP/1 connection: where heads end, and what host each names. The parser is llhttp in its
 * strict mode, so that a request two servers could read in two ways is no request.
 */
#ifndef DECLAW_PROXY_REQUEST_H
#define DECLAW_PROXY_REQUEST_H

#include <stddef.h>

#include "policy/policy.h"

#define REQUEST_HEAD_MAX 32768u

struct request_parser;

enum request_result {
	REQUEST_MORE,		/* nothing to judge so far */
	REQUEST_HEAD,		/* a head ends at *ret_used; name says whom it is for. Judge it, then go on behind it */
	REQUEST_BAD,		/* no request, or one that must not pass; *ret_why */
	REQUEST_UPGRADE,	/* as REQUEST_HEAD, and asks for another protocol, which begins behind it */
};

struct request_parser *request_parser_new(void);
struct request_parser *request_parser_free(struct request_parser *p);
/*
 * The next bytes, of which *ret_used were read. name[POLICY_NAME_MAX] is set with a head. What was read while
 * request_in_head() was true before the call belongs to a head and is kept back until that is judged; never both.
 */
enum request_result request_feed(struct request_parser *p, const char *data, size_t len, size_t *ret_used, char *name,
				 const char **ret_why);
/* Whether the next bytes belong to a head */
bool request_in_head(const struct request_parser *p);

#endif
