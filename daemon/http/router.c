/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The route table: patterns against decoded segments. Linear over the table; a request costs a few hundred short
 * comparisons, which is far below what reading it from the socket costs, and there is nothing to keep in sync.
 */
#include <string.h>
#include <strings.h>

#include "http/router.h"
#include "util/str.h"

enum piece_kind {
	PIECE_REST = 1,
	PIECE_PARAM,
	PIECE_LITERAL,
};

struct piece {
	enum piece_kind kind;
	const char *text;	/* literal text or parameter name */
	size_t len;
};

/* Next piece of a pattern; *at points at its '/' and moves behind it. false at the end. */
static bool next_piece(const char **at, struct piece *ret)
{
	const char *p = *at;
	size_t len;

	if (*p != '/')
		return false;
	len = strcspn(++p, "/");
	*at = p + len;
	*ret = (struct piece){ PIECE_LITERAL, p, len };
	if (len >= 2 && p[0] == '{' && p[len - 1] == '}') {
		bool rest = p[len - 2] == '*';

		*ret = (struct piece){ rest ? PIECE_REST : PIECE_PARAM, p + 1, len - 2 - (rest ? 1 : 0) };
	}
	return true;
}

int route_check(const struct http_route *routes)
{
	for (; routes->method; routes++) {
		const char *at = routes->pattern;
		size_t pieces = 0, params = 0;
		struct piece piece;

		if (!at || *at != '/' || !routes->handler)
			return -EINVAL;
		while (next_piece(&at, &piece)) {
			pieces++;
			if (piece.kind == PIECE_LITERAL)
				continue;
			params++;
			if (piece.len == 0 || (piece.kind == PIECE_REST && *at))
				return -EINVAL;
		}
		if (pieces > URI_SEGMENTS_MAX || params > ROUTE_PARAMS_MAX)
			return -EINVAL;
	}
	return 0;
}

static void add_param(struct route_match *m, const struct piece *piece, const char *value, const char *raw,
		      size_t raw_len)
{
	m->param[m->n_params++] = (struct route_param){ piece->text, piece->len, value, raw, raw_len };
}

/* What is left of the path from segment i on, which may be nothing. */
static void add_rest(struct route_match *m, const struct piece *piece, const struct uri *u, size_t i)
{
	if (i < u->n_segments)
		add_param(m, piece, u->path + u->segment[i].path_offset, u->segment[i].raw, strlen(u->segment[i].raw));
	else
		add_param(m, piece, "", "", 0);
}

static bool fits_piece(struct route_match *m, const struct piece *piece, const struct uri_segment *s)
{
	if (piece->kind == PIECE_LITERAL)
		return strlen(s->text) == piece->len && memcmp(s->text, piece->text, piece->len) == 0;
	if (s->text[0] == '\0')
		return false;
	add_param(m, piece, s->text, s->raw, s->raw_len);
	return true;
}

/* 0 when it does not fit; else how literal the pattern is, the leftmost segment weighing most. */
static uint64_t fit(const struct http_route *route, const struct uri *u, struct route_match *ret)
{
	const char *at = route->pattern;
	uint64_t score = 0;
	struct piece piece;
	size_t i = 0;

	*ret = (struct route_match){ .route = route };
	for (; next_piece(&at, &piece); i++) {
		score |= (uint64_t)piece.kind << (62 - 2 * i);
		if (piece.kind == PIECE_REST) {
			add_rest(ret, &piece, u, i);
			return score;
		}
		if (i >= u->n_segments || i >= URI_SEGMENTS_MAX || !fits_piece(ret, &piece, &u->segment[i]))
			return 0;
	}
	return i == u->n_segments ? score : 0;
}

static int find_method(const struct http_route *routes, const char *method, const struct uri *u,
		       struct route_match *ret)
{
	int outcome = ROUTE_E_NOT_FOUND;
	uint64_t best = 0;

	for (; routes->method; routes++) {
		struct route_match m;
		bool exact = str_eq(routes->method, method);
		uint64_t score = fit(routes, u, &m);

		if (score == 0)
			continue;
		if (!exact && !str_eq(routes->method, "*")) {
			if (outcome == ROUTE_E_NOT_FOUND)
				outcome = ROUTE_E_METHOD;
			continue;
		}
		score |= exact ? 1 : 0;
		if (score > best) {
			best = score;
			*ret = m;
			outcome = 0;
		}
	}
	return outcome;
}

int route_find(const struct http_route *routes, const char *method, const struct uri *u, struct route_match *ret)
{
	int r = find_method(routes, method, u, ret);

	if (r == ROUTE_E_METHOD && str_eq(method, "HEAD"))
		r = find_method(routes, "GET", u, ret);
	return r;
}

const struct route_param *route_param(const struct route_match *m, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < m->n_params; i++)
		if (m->param[i].name_len == len && memcmp(m->param[i].name, name, len) == 0)
			return &m->param[i];
	return NULL;
}

static void allow_add(char *list, size_t size, const char *method)
{
	size_t len = strlen(list), n = strlen(method);

	for (const char *p = list; (p = strstr(p, method)); p += n)
		if ((p == list || p[-1] == ' ') && (p[n] == ',' || p[n] == '\0'))
			return;
	if (len + n + 3 <= size)
		snprintf(list + len, size - len, "%s%s", len ? ", " : "", method);
}

void route_allow(const struct http_route *routes, const struct uri *u, char *ret, size_t size)
{
	struct route_match m;

	ret[0] = '\0';
	for (; routes->method; routes++) {
		if (str_eq(routes->method, "*") || fit(routes, u, &m) == 0)
			continue;
		allow_add(ret, size, routes->method);
		if (str_eq(routes->method, "GET"))
			allow_add(ret, size, "HEAD");
	}
	allow_add(ret, size, "OPTIONS");
}
