/* SPDX-License-Identifier: GPL-2.0-or-later */
/* policy/: what is taken, what is refused with which words, and what a policy says about names. */
#include <criterion/criterion.h>
#include <string.h>

#include "policy/policy.h"

static struct policy *parse(const char *json)
{
	json_object *o = json ? json_tokener_parse(json) : NULL;
	struct policy *p = NULL;
	char *detail = NULL;

	cr_assert(!json || o, "%s", json);
	cr_assert_eq(policy_parse(o, false, &p, &detail), 0, "%s: %s", json, detail);
	json_object_put(o);
	return p;
}

static void check_mode(const char *json, const char *mode)
{
	struct policy *p = parse(json);

	cr_assert_str_eq(policy_mode(p), mode, "%s", json);
	policy_free(p);
}

Test(policy, modes)
{
	check_mode(NULL, "open");
	check_mode("{}", "open");
	check_mode("{'allow_out':[]}", "open");
	check_mode("{'allow_out':['0.0.0.0/0']}", "open");
	check_mode("{'allow_out':['*'],'deny_out':['*']}", "open");
	check_mode("{'deny_out':['0.0.0.0/0']}", "closed");
	check_mode("{'deny_out':['ALL_TRAFFIC']}", "closed");
	check_mode("{'deny_out':['*']}", "closed");
	check_mode("{'deny_out':['10.1.2.3/0']}", "closed");
	check_mode("{'deny_out':['203.0.113.0/24']}", "addresses");
	check_mode("{'deny_out':['::/0','2001:db8::1']}", "closed");
	check_mode("{'deny_out':['2001:db8::1']}", "open");
	check_mode("{'allow_out':['203.0.113.0/24']}", "addresses");
	check_mode("{'allow_out':['api.github.com']}", "names");
	check_mode("{'allow_out':['api.github.com'],'deny_out':['0.0.0.0/0']}", "names");
	check_mode("{'deny_out':['evil.example.com']}", "names");
	check_mode("{'allow_out':['203.0.113.0/24'],'deny_out':['evil.example.com']}", "addresses");
}

static void check_refused(const char *entry, const char *word)
{
	json_object *o = json_object_new_object(), *list = json_object_new_array();
	struct policy *p = NULL;
	char *detail = NULL;

	json_object_array_add(list, json_object_new_string(entry));
	json_object_object_add(o, "allow_out", list);
	cr_assert_eq(policy_parse(o, false, &p, &detail), -EINVAL, "%s", entry);
	cr_assert_not_null(detail);
	cr_assert_not_null(strstr(detail, "network.allow_out[0]"), "%s", detail);
	cr_assert_not_null(strstr(detail, word), "%s: %s", entry, detail);
	cr_assert_null(p);
	free(detail);
	json_object_put(o);
}

Test(policy, refused)
{
	static const struct { const char *entry, *word; } rows[] = {
		{ "https://api.github.com", "scheme" }, { "api.github.com:443", "port" }, { "api.github.com/x", "path" },
		{ "10.0.0.0/33", "path" }, { "10.0.0.0/08", "path" }, { "10.0.0.0/", "path" }, { "~.*", "regular" },
		{ "*.com", "wildcard" }, { "*.", "wildcard" }, { "a.*.com", "wildcard" }, { "*x.com", "wildcard" },
		{ "**", "wildcard" }, { "2001:db8::1", "IPv6" }, { "2001:db8::/32", "IPv6" }, { "::ffff:1.2.3.4", "IPv6" },
		{ "127.1", "host name" }, { "0x7f000001", "host name" }, { "2130706433", "host name" },
		{ "1.2.3.4.", "host name" }, { "1.2.3", "host name" }, { "010.0.0.1", "host name" },
		{ "evil com", "host name" }, { "a..b", "host name" }, { ".a.b", "host name" }, { "-a.b", "host name" },
		{ "a-.b", "host name" }, { "evil@a.b", "host name" }, { "a\nb.c", "host name" }, { "a%2eb.c", "host name" },
		{ "\xff\xfe.com", "host name" },
	};
	char label[80];

	for (size_t i = 0; i < ELEMENTSOF(rows); i++)
		check_refused(rows[i].entry, rows[i].word);
	memset(label, 'a', 64);
	memcpy(label + 64, ".com", 5);
	check_refused(label, "host name");
}

static void check_name(struct policy *p, const char *name, bool allowed, const char *rule)
{
	const char *got = NULL;

	cr_assert_eq(policy_allows_name(p, name, &got), allowed, "%s", name);
	cr_assert_str_eq(got, rule, "%s", name);
}

Test(policy, names)
{
	struct policy *p = parse("{'allow_out':['API.GitHub.com.','*.Example.com','b\xc3\xbc"
				 "cher.example','_srv.x.org']}");

	check_name(p, "api.github.com", true, "api.github.com");
	check_name(p, "github.com", false, "default");
	check_name(p, "xapi.github.com", false, "default");
	check_name(p, "api.github.com.evil.org", false, "default");
	check_name(p, "a.example.com", true, "*.example.com");
	check_name(p, "a.b.example.com", true, "*.example.com");
	check_name(p, "example.com", false, "wildcard_apex");
	check_name(p, "evilexample.com", false, "default");
	check_name(p, ".example.com", false, "default");
	check_name(p, "xn--bcher-kva.example", true, "xn--bcher-kva.example");
	check_name(p, "_srv.x.org", true, "_srv.x.org");
	policy_free(p);
}

Test(policy, denied_names)
{
	struct policy *p = parse("{'allow_out':['good.evil.org'],'deny_out':['*.evil.org','evil.org','0.0.0.0/0']}");

	check_name(p, "good.evil.org", true, "good.evil.org");
	check_name(p, "other.org", false, "default");
	policy_free(p);
	p = parse("{'deny_out':['*.evil.org']}");
	check_name(p, "a.evil.org", false, "*.evil.org");
	check_name(p, "evil.org", true, "default");
	check_name(p, "other.org", true, "default");
	policy_free(p);
	p = parse("{'deny_out':['*']}");
	check_name(p, "other.org", false, "closed");
	policy_free(p);
}

static void forwards(const char *network, bool near, bool far)
{
	json_object *o = json_tokener_parse(network);
	struct policy *p = NULL;
	char *detail = NULL;

	cr_assert_eq(policy_parse(o, false, &p, &detail), 0, "%s", detail);
	cr_assert_eq(policy_forwards(p, 0xcb007107), near, "%s", network);
	cr_assert_eq(policy_forwards(p, 0xc6336407), far, "%s", network);
	policy_free(p);
	json_object_put(o);
}

Test(policy, what_leaves_without_the_proxy)
{
	forwards("{}", true, true);
	forwards("{'deny_out':['*']}", false, false);
	forwards("{'allow_out':['203.0.113.0/24']}", true, false);
	forwards("{'deny_out':['203.0.113.0/24']}", false, true);
	forwards("{'allow_out':['203.0.113.7','a.example.com']}", true, false);
	forwards("{'deny_out':['203.0.113.7','a.example.com']}", false, false);
	forwards("{'allow_out':['203.0.113.7'],'deny_out':['203.0.113.0/24','a.example.com']}", true, false);
}

Test(policy, inspection_closes)
{
	struct policy *p = NULL;
	char *detail;

	cr_assert_eq(policy_parse(NULL, true, &p, &detail), 0);
	cr_assert_str_eq(policy_mode(p), "closed");
	check_name(p, "other.org", false, "inspection_unavailable");
	policy_free(p);
}

static void check_canon(const char *in, size_t len, const char *out)
{
	char name[POLICY_NAME_MAX];
	int r = policy_name_canon(in, len, name);

	if (!out) {
		cr_assert_eq(r, -EINVAL, "%s -> %s", in, r == 0 ? name : "");
		return;
	}
	cr_assert_eq(r, 0, "%s", in);
	cr_assert_str_eq(name, out);
}

Test(policy, canonical)
{
	char deep[300];

	check_canon("WWW.Example.COM.", 16, "www.example.com");
	check_canon("localhost", 9, "localhost");
	check_canon("evil\0.example.com", 17, NULL);
	check_canon("", 0, NULL);
	check_canon(".", 1, NULL);
	check_canon("a..", 3, NULL);
	check_canon("1.1.1.1", 7, NULL);
	check_canon("a.123", 5, NULL);
	check_canon("a.0x1f", 6, NULL);
	check_canon("a.1x", 4, NULL);
	check_canon("a.1z", 4, "a.1z");
	check_canon("a:b", 3, NULL);
	check_canon("a\xe3\x80\x82" "com", 7, "a.com");	/* ideographic full stop */
	check_canon("fa\xc3\x9f.de", 7, "xn--fa-hia.de");
	/* 127 labels are 253 bytes, 128 are too many */
	for (size_t i = 0; i < sizeof(deep); i++)
		deep[i] = i % 2 ? '.' : 'a';
	deep[253] = '\0';
	check_canon(deep, 253, deep);
	check_canon(deep, 257, NULL);
}

Test(policy, addresses)
{
	static const struct { const char *s; enum policy_addr class; } rows[] = {
		{ "1.1.1.1", POLICY_ADDR_PUBLIC }, { "10.0.0.1", POLICY_ADDR_PRIVATE }, { "100.64.0.1", POLICY_ADDR_PRIVATE },
		{ "172.16.0.1", POLICY_ADDR_PRIVATE }, { "172.32.0.1", POLICY_ADDR_PUBLIC }, { "192.168.0.1", POLICY_ADDR_PRIVATE },
		{ "169.254.169.254", POLICY_ADDR_NEVER }, { "127.0.0.1", POLICY_ADDR_NEVER }, { "0.0.0.0", POLICY_ADDR_NEVER },
		{ "100.100.100.200", POLICY_ADDR_NEVER }, { "168.63.129.16", POLICY_ADDR_NEVER },
		{ "224.0.0.1", POLICY_ADDR_NEVER }, { "255.255.255.255", POLICY_ADDR_NEVER }, { "240.0.0.1", POLICY_ADDR_NEVER },
	};
	struct policy_net n;
	char text[20];

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		cr_assert_eq(policy_net_parse(rows[i].s, &n), 0);
		cr_assert_eq(policy_addr_class(n.addr), rows[i].class, "%s", rows[i].s);
	}
	cr_assert_eq(policy_net_parse("192.0.2.77/24", &n), 0);
	policy_net_format(&n, text);
	cr_assert_str_eq(text, "192.0.2.0/24");
	cr_assert(policy_net_has(&n, 0xc00002ff) && !policy_net_has(&n, 0xc0000300));
	cr_assert_eq(policy_net_parse("0.0.0.0/0", &n), 0);
	cr_assert(policy_net_has(&n, 0xffffffff));
}

Test(policy, mask_and_traffic)
{
	struct policy *p = parse("{'mask_request_host':'localhost:${PORT}','allow_public_traffic':false}");
	char *detail = NULL;
	json_object *o;

	cr_assert_str_eq(p->mask_host, "localhost:${PORT}");
	cr_assert_not(p->public_traffic);
	policy_free(p);
	p = parse("{'mask_request_host':true}");
	cr_assert_null(p->mask_host);
	cr_assert(p->public_traffic);
	policy_free(p);
	o = json_tokener_parse("{'mask_request_host':'a\\r\\nX: y'}");
	cr_assert_eq(policy_parse(o, false, &p, &detail), -EINVAL);
	cr_assert_not_null(strstr(detail, "mask_request_host"));
	free(detail);
	json_object_put(o);
}

Test(policy, json_round_trip)
{
	static const char *const texts[] = {
		"{}", "{'deny_out':['*']}", "{'allow_out':['a.b','*.c.d','203.0.113.0/24'],'deny_out':['e.f','10.0.0.0/8']}",
	};

	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		struct policy *p = parse(texts[i]), *q = NULL;
		json_object *a = policy_to_json(p), *b;

		cr_assert_eq(policy_from_json(a, &q), 0, "%s", texts[i]);
		b = policy_to_json(q);
		cr_assert_str_eq(json_object_to_json_string(a), json_object_to_json_string(b));
		json_object_put(a);
		json_object_put(b);
		policy_free(p);
		policy_free(q);
	}
}

Test(policy, json_hostile)
{
	static const char *const texts[] = {
		"{}", "[]", "{'closed':1}", "{'closed':false,'inspection':false,'deny_default':true}",
		"{'closed':false,'inspection':false,'deny_default':true,'allow_nets':[1],'allow_names':[],'deny_nets':[],'deny_names':[]}",
		"{'closed':false,'inspection':false,'deny_default':true,'allow_nets':['*'],'allow_names':[],'deny_nets':[],'deny_names':[]}",
	};

	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		json_object *o = json_tokener_parse(texts[i]);
		struct policy *p = NULL;

		cr_assert_eq(policy_from_json(o, &p), -EINVAL, "%s", texts[i]);
		cr_assert_null(p);
		json_object_put(o);
	}
}
