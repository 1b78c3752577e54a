/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Request targets and the route table. Pure: no I/O, no library but libc.
 *
 * A target is split on the raw '/', '?', '&' and '=' first and decoded after that, once, so an encoded separator is
 * data for ever. Refused: %00, an incomplete or non-hexadecimal escape, raw control characters and spaces, and path
 * segments that decode to "." or "..".
 */
#ifndef DECLAW_HTTP_ROUTER_H
#define DECLAW_HTTP_ROUTER_H

#include "http/http.h"

#define URI_SEGMENTS_MAX 16	/* deeper paths only match a {rest*} that starts above this depth */
#define URI_QUERY_MAX 64	/* parameters; more is malformed */
#define ROUTE_PARAMS_MAX 8
#define ROUTE_METHOD_MAX 24	/* with NUL */

struct uri_segment {
	const char *raw;	/* runs to the next '/', '?' or the end */
	size_t raw_len;
	const char *text;	/* decoded, NUL terminated */
	size_t path_offset;	/* where it starts in uri.path */
};

struct uri_pair {
	const char *name, *value;	/* decoded; value is "" when there was no '=' */
};

struct uri {
	char *memory;			/* everything below points in here */
	const char *path;		/* decoded as a whole */
	const char *raw_path;		/* NUL terminated, without the query */
	const char *raw_query;		/* NULL when there was no '?' */
	struct uri_segment segment[URI_SEGMENTS_MAX];
	size_t n_segments;		/* may be more than are stored */
	struct uri_pair query[URI_QUERY_MAX];
	size_t n_query;
};

/* Decodes n bytes into ret (room for n + 1), NUL terminates, returns the length; -EINVAL as stated above. */
ssize_t uri_decode(const char *text, size_t n, bool plus_is_space, char *ret);
/* Takes origin-form ("/a?b=c") and absolute-form ("http://host/a"). -EINVAL, -ENOMEM. */
int uri_parse(struct uri *ret, const char *target, size_t len);
void uri_done(struct uri *u);
/* The n-th value of that name or NULL */
const char *uri_query(const struct uri *u, const char *name, unsigned int n);

struct route_param {
	const char *name;		/* not NUL terminated */
	size_t name_len;
	const char *value;		/* decoded */
	const char *raw;		/* as sent */
	size_t raw_len;
};

struct route_match {
	const struct http_route *route;
	struct route_param param[ROUTE_PARAMS_MAX];
	size_t n_params;
};

enum route_outcome {
	ROUTE_E_NOT_FOUND = 1,
	ROUTE_E_METHOD,		/* the path exists with other methods */
};

/* -EINVAL when a pattern is not well formed. */
int route_check(const struct http_route *routes);
/*
 * The most literal pattern that fits path and method wins, from the left; an exact method before "*". HEAD falls
 * back to GET.
 */
int route_find(const struct http_route *routes, const char *method, const struct uri *u, struct route_match *ret);
const struct route_param *route_param(const struct route_match *m, const char *name);
/* "GET, HEAD, PUT": the methods of all patterns that fit the path; cut at size. */
void route_allow(const struct http_route *routes, const struct uri *u, char *ret, size_t size);

#endif
