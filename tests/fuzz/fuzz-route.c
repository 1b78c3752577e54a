/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as "METHOD target": the target parser, both ways of decoding, and the route table. Beyond not crashing:
 * nothing decoded holds a NUL, no segment is "." or "..", pieces add up to the path, and a match's parameters are
 * pieces of the target.
 */
#include <string.h>

#include "fuzz-main.h"
#include "http/router.h"
#include "util/macro.h"

/* assert() that no build turns off */
#define MUST(x) ((x) ? (void)0 : abort())

static void handler(struct http_request *req _unused_, void *userdata _unused_)
{
}

#define R(method, pattern) { method, pattern, HTTP_BODY_NONE, false, handler }

static const struct http_route routes[] = {
	R("GET", "/"),
	R("GET", "/sandboxes"),
	R("POST", "/sandboxes/kill"),
	R("GET", "/sandboxes/{id}"),
	R("GET", "/sandboxes/{id}/files/{rest*}"),
	R("GET", "/sandboxes/{id}/files/raw"),
	R("*", "/sandboxes/{id}/ports/{port}/{rest*}"),
	R("PUT", "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}"),
	R("GET", "/{all*}"),
	{ 0 },
};

static void check_decode(const char *text, size_t size)
{
	for (int plus = 0; plus < 2; plus++) {
		char *out = malloc(size + 1);
		ssize_t n;

		MUST(out);
		n = uri_decode(text, size, plus, out);
		if (n >= 0) {
			MUST((size_t)n <= size && strlen(out) == (size_t)n);
			MUST(!plus || !memchr(text, '+', size) || memchr(out, ' ', (size_t)n));
		} else {
			MUST(n == -EINVAL);
		}
		free(out);
	}
}

static void check_uri(const struct uri *u)
{
	size_t offset = 0;

	MUST(u->n_segments > 0 && u->path[0] == '/' && u->raw_path[0] == '/');
	for (size_t i = 0; i < MIN_OF(u->n_segments, (size_t)URI_SEGMENTS_MAX); i++) {
		const struct uri_segment *s = &u->segment[i];

		MUST(s->path_offset == offset + 1);
		MUST(strncmp(u->path + s->path_offset, s->text, strlen(s->text)) == 0);
		MUST(strcmp(s->text, ".") != 0 && strcmp(s->text, "..") != 0);
		MUST(!memchr(s->raw, '/', s->raw_len));
		offset = s->path_offset + strlen(s->text);
	}
	if (u->n_segments <= URI_SEGMENTS_MAX)
		MUST(u->path[offset] == '\0');
	for (size_t i = 0; i < u->n_query; i++)
		MUST(uri_query(u, u->query[i].name, 0));
}

static void check_match(const struct route_match *m, const struct uri *u)
{
	size_t raw_len = strlen(u->raw_path);

	for (size_t i = 0; i < m->n_params; i++) {
		const struct route_param *p = &m->param[i];

		MUST(p->raw_len == 0 || (p->raw >= u->raw_path && p->raw + p->raw_len <= u->raw_path + raw_len));
		MUST(strlen(p->value) <= p->raw_len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *space = memchr(data, ' ', size);
	char method[ROUTE_METHOD_MAX] = "GET", allow[64];
	struct route_match m;
	struct uri u;
	int r;

	if (size > 1u << 16)
		return 0;
	check_decode(text, size);
	if (space && (size_t)(space - text) < sizeof(method)) {
		size_t n = (size_t)(space - text);

		memcpy(method, text, n);
		method[n] = '\0';
		text += n + 1;
		size -= n + 1;
	}
	r = uri_parse(&u, text, size);
	MUST(r == 0 || r == -EINVAL);
	if (r < 0)
		return 0;
	check_uri(&u);
	r = route_find(routes, method, &u, &m);
	MUST(r == 0 || r == ROUTE_E_METHOD || r == ROUTE_E_NOT_FOUND);
	if (r == 0)
		check_match(&m, &u);
	route_allow(routes, &u, allow, sizeof(allow));
	uri_done(&u);
	return 0;
}
