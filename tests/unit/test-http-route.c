/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Request targets and the route table: pure functions, by tables. */
#include "util-test.h"
#include "http/router.h"
#include "util/str.h"

static void handler(struct http_request *req _unused_, void *userdata _unused_)
{
}

#define R(method, pattern) { method, pattern, HTTP_BODY_NONE, false, handler }

static const struct http_route routes[] = {
	R("GET", "/"),
	R("GET", "/sandboxes"),
	R("POST", "/sandboxes"),
	R("GET", "/sandboxes/{id}"),
	R("DELETE", "/sandboxes/{id}"),
	R("POST", "/sandboxes/kill"),
	R("GET", "/sandboxes/{id}/files"),
	R("GET", "/sandboxes/{id}/files/raw"),
	R("GET", "/sandboxes/{id}/stdio/{cmd}/stream"),
	R("*", "/sandboxes/{id}/ports/{port}/{rest*}"),
	R("GET", "/sandboxes/{id}/ports/{port}/health"),
	R("GET", "/both/{x}/end"),
	R("GET", "/both/literal/{y}"),
	{ 0 },
};

static int find(const char *method, const char *target, struct uri *u, struct route_match *m)
{
	int r = uri_parse(u, target, strlen(target));

	cr_assert_eq(r, 0, "%s: %d", target, r);
	return route_find(routes, method, u, m);
}

static const struct {
	const char *method, *target;
	int outcome;
	const char *pattern, *id, *rest;
} table[] = {
	{ "GET", "/", 0, "/", NULL, NULL },
	{ "GET", "/sandboxes", 0, "/sandboxes", NULL, NULL },
	{ "GET", "/sandboxes?x=1", 0, "/sandboxes", NULL, NULL },
	{ "GET", "http://localhost:8080/sandboxes", 0, "/sandboxes", NULL, NULL },
	{ "GET", "/sandboxes/", ROUTE_E_NOT_FOUND, NULL, NULL, NULL },
	{ "GET", "//sandboxes", ROUTE_E_NOT_FOUND, NULL, NULL, NULL },
	{ "GET", "/sandboxes/sbx-1", 0, "/sandboxes/{id}", "sbx-1", NULL },
	{ "GET", "/sandboxes/a%2Fb%2f..%2Fetc", 0, "/sandboxes/{id}", "a/b/../etc", NULL },
	{ "GET", "/sandboxes/a%252Fb", 0, "/sandboxes/{id}", "a%2Fb", NULL },
	{ "GET", "/sandboxes/a+b%20c", 0, "/sandboxes/{id}", "a+b c", NULL },
	{ "GET", "/%73andboxes", 0, "/sandboxes", NULL, NULL },
	{ "GET", "/sandboxes%2Fx", ROUTE_E_NOT_FOUND, NULL, NULL, NULL },
	{ "POST", "/sandboxes/kill", 0, "/sandboxes/kill", NULL, NULL },
	{ "GET", "/sandboxes/kill", 0, "/sandboxes/{id}", "kill", NULL },
	{ "DELETE", "/sandboxes/x", 0, "/sandboxes/{id}", "x", NULL },
	{ "PUT", "/sandboxes/x", ROUTE_E_METHOD, NULL, NULL, NULL },
	{ "HEAD", "/sandboxes/x", 0, "/sandboxes/{id}", "x", NULL },
	{ "HEAD", "/nowhere", ROUTE_E_NOT_FOUND, NULL, NULL, NULL },
	{ "get", "/sandboxes", ROUTE_E_METHOD, NULL, NULL, NULL },
	{ "GET", "/sandboxes/x/files/raw", 0, "/sandboxes/{id}/files/raw", "x", NULL },
	{ "GET", "/sandboxes/x/files/raw/", ROUTE_E_NOT_FOUND, NULL, NULL, NULL },
	{ "GET", "/sandboxes//files", ROUTE_E_NOT_FOUND, NULL, NULL, NULL },
	{ "PATCH", "/sandboxes/x/ports/80/a/b%2Fc//d", 0, "/sandboxes/{id}/ports/{port}/{rest*}", "x", "a/b/c//d" },
	{ "GET", "/sandboxes/x/ports/80", 0, "/sandboxes/{id}/ports/{port}/{rest*}", "x", "" },
	{ "GET", "/sandboxes/x/ports/80/", 0, "/sandboxes/{id}/ports/{port}/{rest*}", "x", "" },
	{ "GET", "/sandboxes/x/ports/80/health", 0, "/sandboxes/{id}/ports/{port}/health", "x", NULL },
	{ "PUT", "/sandboxes/x/ports/80/health", 0, "/sandboxes/{id}/ports/{port}/{rest*}", "x", "health" },
	{ "GET", "/sandboxes/x/ports/80/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15", 0,
	  "/sandboxes/{id}/ports/{port}/{rest*}", "x", "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15" },
	{ "GET", "/both/literal/end", 0, "/both/literal/{y}", NULL, NULL },
	{ "GET", "/both/other/end", 0, "/both/{x}/end", NULL, NULL },
};

Test(http_route, table)
{
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct route_match m = { 0 };
		struct uri u;
		int r = find(table[i].method, table[i].target, &u, &m);
		const struct route_param *p;

		cr_assert_eq(r, table[i].outcome, "%s %s: %d", table[i].method, table[i].target, r);
		if (r == 0) {
			cr_assert_str_eq(m.route->pattern, table[i].pattern, "%s", table[i].target);
			p = route_param(&m, "id");
			cr_assert(str_eq(p ? p->value : NULL, table[i].id), "%s", table[i].target);
			p = route_param(&m, "rest");
			cr_assert(str_eq(p ? p->value : NULL, table[i].rest), "%s", table[i].target);
		}
		uri_done(&u);
	}
	test_leaks();
}

Test(http_route, raw_parameters_keep_their_escapes)
{
	struct route_match m;
	const struct route_param *p;
	struct uri u;

	cr_assert_eq(find("GET", "/sandboxes/x/ports/80/a%2Fb/%C3%A9?q=%20", &u, &m), 0);
	p = route_param(&m, "rest");
	cr_assert_str_eq(p->value, "a/b/\xc3\xa9");
	cr_assert_eq(p->raw_len, strlen("a%2Fb/%C3%A9"));
	cr_assert_eq(strncmp(p->raw, "a%2Fb/%C3%A9", p->raw_len), 0);
	cr_assert_str_eq(u.raw_query, "q=%20");
	cr_assert_str_eq(u.path, "/sandboxes/x/ports/80/a/b/\xc3\xa9");
	uri_done(&u);
	test_leaks();
}

static const char *const malformed[] = {
	"", "x", "*", "/%", "/%0", "/%0g", "/%g0", "/%00", "/a%00b", "/a b", "/a\tb", "/a\x01" "b", "/a\x7f" "b", "/..",
	"/.", "/a/..", "/a/../b", "/%2e%2e", "/%2E./x", "/a/%2e", "/a?b=%", "/a?b=%00", "/a?%zz=1", "/a?b= c",
	"http://host", "http:///..", "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/../r", "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/%zz",
};

Test(http_route, malformed_targets_are_refused)
{
	for (size_t i = 0; i < ELEMENTSOF(malformed); i++) {
		struct uri u;

		cr_assert_eq(uri_parse(&u, malformed[i], strlen(malformed[i])), -EINVAL, "%s", malformed[i]);
		cr_assert_null(u.memory);
	}
	cr_assert_eq(uri_parse(&(struct uri){ 0 }, "/a\0b", 4), -EINVAL);
	test_leaks();
}

Test(http_route, dots_inside_names_are_fine)
{
	static const char *const good[] = { "/...", "/.a", "/a..b", "/..a/b..", "/a%2F..", "/%2e%2e%2e" };

	for (size_t i = 0; i < ELEMENTSOF(good); i++) {
		struct uri u;

		cr_assert_eq(uri_parse(&u, good[i], strlen(good[i])), 0, "%s", good[i]);
		uri_done(&u);
	}
	test_leaks();
}

Test(http_route, queries)
{
	static const char target[] = "/a?path=/tmp/a+b%20c%2Bd&x=1&x=2&&empty=&bare&%C3%A9=%26%3D&x=3&=v";
	struct uri u;

	cr_assert_eq(uri_parse(&u, target, strlen(target)), 0);
	cr_assert_str_eq(uri_query(&u, "path", 0), "/tmp/a b c+d");
	cr_assert_str_eq(uri_query(&u, "x", 0), "1");
	cr_assert_str_eq(uri_query(&u, "x", 1), "2");
	cr_assert_str_eq(uri_query(&u, "x", 2), "3");
	cr_assert_null(uri_query(&u, "x", 3));
	cr_assert_str_eq(uri_query(&u, "empty", 0), "");
	cr_assert_str_eq(uri_query(&u, "bare", 0), "");
	cr_assert_str_eq(uri_query(&u, "\xc3\xa9", 0), "&=");
	cr_assert_str_eq(uri_query(&u, "", 0), "v");
	cr_assert_null(uri_query(&u, "absent", 0));
	uri_done(&u);
	test_leaks();
}

/* The sizes that stress the one allocation: many tiny pairs, segments and escapes. */
Test(http_route, memory_is_large_enough)
{
	char target[8192];

	for (size_t n = 0; n <= URI_QUERY_MAX + 1; n++) {
		struct uri u;

		memcpy(target, "/?", 3);
		for (size_t i = 0; i < n; i++)
			memcpy(target + 2 + 2 * i, "a&", 3);
		cr_assert_eq(uri_parse(&u, target, strlen(target)), n <= URI_QUERY_MAX ? 0 : -EINVAL);
		uri_done(&u);
		memset(target, '/', n + 1);
		cr_assert_eq(uri_parse(&u, target, n + 1), 0);
		cr_assert_eq(u.n_segments, n + 1);
		cr_assert_eq(strlen(u.path), n + 1);
		uri_done(&u);
	}
	test_leaks();
}

Test(http_route, allow)
{
	struct uri u;
	char allow[128], tiny[8];

	cr_assert_eq(uri_parse(&u, "/sandboxes/kill", 15), 0);
	route_allow(routes, &u, allow, sizeof(allow));
	cr_assert_str_eq(allow, "GET, HEAD, DELETE, POST, OPTIONS");
	route_allow(routes, &u, tiny, sizeof(tiny));
	cr_assert_str_eq(tiny, "GET");
	uri_done(&u);
	test_leaks();
}

Test(http_route, tables_are_checked)
{
	static const char *const bad[] = { "x", "/{}", "/{*}", "/{a*}/b", "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17",
					   "/{1}/{2}/{3}/{4}/{5}/{6}/{7}/{8}/{9}" };

	cr_assert_eq(route_check(routes), 0);
	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		struct http_route table_of_one[] = { R("GET", bad[i]), { 0 } };

		cr_assert_eq(route_check(table_of_one), -EINVAL, "%s", bad[i]);
	}
	cr_assert_eq(route_check((struct http_route[]){ { "GET", "/", HTTP_BODY_NONE, true, NULL }, { 0 } }), -EINVAL);
}
