/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net/ruleset: golden files, refused names; net/elements. That the kernel takes it and what it does: test-ruleset-kernel.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "lib/golden.h"
#include "net/ruleset.h"
#include "policy/policy.h"
#include "util/macro.h"

static void check(const char *name, int r, struct elems *v)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 20);

	cr_assert_eq(r, 0);
	cr_assert_eq(elems_text(v, &text), 0);
	golden_check(name, text.data);
	elems_done(v);
}

static struct policy *policy_of(const char *json)
{
	json_object *o = json ? json_tokener_parse(json) : NULL;
	struct policy *p = NULL;
	char *detail = NULL;

	cr_assert_eq(policy_parse(o, false, &p, &detail), 0, "%s", detail);
	json_object_put(o);
	return p;
}

Test(ruleset, base)
{
	static char opened[] = "192.168.7.0/24", *const list[] = { opened, NULL };
	static char server[] = "192.168.7.53", *const servers[] = { server, NULL };
	static char evil[] = "1.2.3.4 }; flush ruleset", *const evils[] = { evil, NULL };
	const struct firewall_config plain = { .network = "10.214.0.0/16", .proxy_uid = (uid_t)-1, .resolver_uid = (uid_t)-1 };
	const struct firewall_config all = { .network = "10.0.0.0/8", .opened = list, .drop = true, .epoch = 0xfedcba99,
					     .proxy_uid = 123, .resolver_uid = 124, .upstream = servers };
	const struct firewall_config bad[] = {
		{ .network = "10.0.0.0/8; flush ruleset" }, { .network = NULL }, { .network = "10.0.0.0/8", .upstream = evils },
	};
	char *s = NULL, *more = NULL;

	cr_assert_eq(ruleset_base(&plain, &s), 0);
	cr_assert_eq(ruleset_base(&all, &more), 0);
	/* what follows the file that is built in */
	golden_check("ruleset-base.nft", strstr(s, "flush set inet declaw opened"));
	golden_check("ruleset-base-configured.nft", strstr(more, "flush set inet declaw opened"));
	free(s);
	free(more);
	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		cr_assert_eq(ruleset_base(&bad[i], &s), -EINVAL);
}

/* The ranges of the file are those of the policy library */
Test(ruleset, ranges_of_the_base)
{
	const struct firewall_config plain = { .network = "10.214.0.0/16", .proxy_uid = (uid_t)-1, .resolver_uid = (uid_t)-1 };
	char *s = NULL;

	cr_assert_eq(ruleset_base(&plain, &s), 0);
	for (size_t i = 0; policy_never_nets[i]; i++)
		cr_assert_not_null(strstr(s, policy_never_nets[i]), "%s", policy_never_nets[i]);
	for (size_t i = 0; policy_private_nets[i]; i++)
		cr_assert_not_null(strstr(s, policy_private_nets[i]), "%s", policy_private_nets[i]);
	free(s);
}

Test(ruleset, close)
{
	struct elems v = { 0 };

	check("ruleset-close.nft", ruleset_close("0123456789", "dcl0123456789", &v), &v);
}

static const struct firewall_pin some_pins[] = { { 0xcb00710a, 90 }, { 0xcb00710b, 3630 } };

static void check_policy(const char *name, const char *json)
{
	struct policy *p = policy_of(json);
	const struct firewall_sandbox sb = {
		.short_id = "0123456789", .tap = "dcl0123456789", .mac = "02:00:00:00:00:07", .address = "10.214.0.7",
		.policy = p, .epoch = 0xabcdef07, .pins = some_pins, .n_pins = policy_name_checked(p) ? 1 : 0,
	};
	struct elems v = { 0 };

	check(name, ruleset_sandbox(&sb, &v), &v);
	policy_free(p);
}

Test(ruleset, policies)
{
	check_policy("ruleset-open.nft", NULL);
	check_policy("ruleset-closed.nft", "{\"deny_out\":[\"0.0.0.0/0\"]}");
	check_policy("ruleset-ranges.nft", "{\"allow_out\":[\"203.0.113.0/24\",\"203.0.113.7\"]}");
	check_policy("ruleset-names.nft", "{\"allow_out\":[\"api.github.com\",\"*.example.com\",\"203.0.113.7\"]}");
	check_policy("ruleset-denied.nft", "{\"deny_out\":[\"203.0.113.0/24\"]}");
	check_policy("ruleset-denied-names.nft", "{\"deny_out\":[\"203.0.113.0/24\",\"evil.example.com\"]}");
}

/* Every length of range is found by one of the four lookups, and by nothing beside it */
Test(ruleset, pieces)
{
	static const struct {
		const char *range, *in, *out;
		size_t n;
	} cases[] = {
		{ "64.0.0.0/2", "127.255.255.255", "128.0.0.0", 64 }, { "8.0.0.0/8", "8.255.0.1", "9.0.0.0", 1 },
		{ "8.128.0.0/9", "8.255.255.255", "8.127.255.255", 128 }, { "172.16.0.0/12", "172.31.255.255", "172.32.0.0", 16 },
		{ "8.8.0.0/16", "8.8.255.255", "8.9.0.0", 1 }, { "140.82.112.0/20", "140.82.127.255", "140.82.128.0", 16 },
		{ "8.8.8.0/24", "8.8.8.255", "8.8.9.0", 1 }, { "8.8.8.128/25", "8.8.8.255", "8.8.8.127", 128 },
		{ "8.8.8.8", "8.8.8.8", "8.8.8.9", 1 },
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_free_ char *json = str_format("{\"allow_out\":[\"%s\"]}", cases[i].range);
		struct policy *p = policy_of(json);
		const struct firewall_sandbox sb = {
			.short_id = "a", .tap = "dcla", .mac = "02:00:00:00:00:07", .address = "10.214.0.7", .policy = p,
		};
		struct policy_net in, out;
		struct elems v = { 0 };
		size_t pieces = 0;
		bool has_in = false, has_out = false;

		cr_assert_eq(ruleset_sandbox(&sb, &v), 0);
		policy_net_parse(cases[i].in, &in);
		policy_net_parse(cases[i].out, &out);
		for (size_t k = 0; k < v.n; k++) {
			struct elem_fields f;
			uint32_t mask;

			if (v.v[k].set < NFT_ALLOW8 || v.v[k].set > NFT_ALLOW32)
				continue;
			pieces++;
			elem_read(&v.v[k], &f);
			mask = ~(uint32_t)0 << (24 - 8 * (v.v[k].set - NFT_ALLOW8));
			has_in |= (in.addr & mask) == f.other;
			has_out |= (out.addr & mask) == f.other;
			cr_assert_eq(f.addr, 0x0ad60007);
		}
		cr_assert_eq(pieces, cases[i].n, "%s", cases[i].range);
		cr_assert(has_in && !has_out, "%s", cases[i].range);
		elems_done(&v);
		policy_free(p);
	}
}

Test(ruleset, too_much)
{
	_cleanup_free_ struct firewall_pin *pins = calloc(RULESET_PINS_MAX + 1, sizeof(*pins));
	_cleanup_free_ struct policy_net *nets = calloc(RULESET_PIECES_MAX / 128 + 1, sizeof(*nets));
	struct policy p = { .deny_default = true, .allow_nets = nets };
	struct elems v = { 0 };

	cr_assert_eq(ruleset_pins(1, pins, RULESET_PINS_MAX + 1, &v), -ENOSPC);
	for (uint32_t i = 0; i <= RULESET_PIECES_MAX / 128; i++)
		nets[i] = (struct policy_net){ .addr = 0x08000000 + (i << 8), .bits = 25 };
	for (size_t n = RULESET_PIECES_MAX / 128; n <= RULESET_PIECES_MAX / 128 + 1; n++) {
		const struct firewall_sandbox sb = {
			.short_id = "a", .tap = "dcla", .mac = "02:00:00:00:00:07", .address = "10.214.0.7", .policy = &p,
		};

		p.n_allow_nets = n;
		elems_done(&v);
		cr_assert_eq(ruleset_sandbox(&sb, &v), n > RULESET_PIECES_MAX / 128 ? -E2BIG : 0);
	}
	elems_done(&v);
}

/* What goes in comes out, and a difference is what it says */
Test(ruleset, elements)
{
	const struct elem_fields f = { .tap = "dcl0123456789", .mac = { 2, 0, 0, 0, 0, 7 }, .addr = 0x0ad60007,
				       .other = 0xcb00710a, .mark = 0xdec10017 };
	struct elems all = { 0 }, some = { 0 }, rest = { 0 };
	struct elem_fields back;
	struct elem e;

	for (enum nft_set set = 0; set < NFT_SET_MAX; set++) {
		elem_fill(&e, set, &f);
		elem_read(&e, &back);
		cr_assert(set > NFT_MEMBERS || str_eq(back.tap, f.tap));
		cr_assert(set != NFT_MEMBERS || (back.addr == f.addr && memcmp(back.mac, f.mac, 6) == 0));
		cr_assert(set != NFT_PINS || (back.addr == f.addr && back.other == f.other));
		cr_assert(set != NFT_COUNTS || (back.mark == f.mark && str_eq(back.tap, f.tap)));
		cr_assert(elem_key_len(set) <= ELEM_KEY_MAX && elem_key_len(set) % 4 == 0);
		e.seconds = set == NFT_PINS ? 5 : 0;
		cr_assert_eq(elems_add(&all, &e) | (set % 3 ? elems_add(&some, &e) : 0), 0);
	}
	e.seconds = 0;
	elem_fill(&e, NFT_PINS, &f);
	e.seconds = 7;
	cr_assert_eq(elems_add(&all, &e), 0);
	elems_sort(&all);
	elems_sort(&some);
	cr_assert_eq(all.n, NFT_SET_MAX);
	cr_assert_eq(all.v[NFT_PINS].seconds, 7, "the longer life");
	cr_assert_eq(elems_minus(&all, &some, &rest), 0);
	cr_assert_eq(rest.n, all.n - some.n);
	for (size_t i = 0; i < rest.n; i++)
		cr_assert_eq(rest.v[i].set % 3, 0);
	elems_done(&all);
	some.v[0].seconds = 9;
	cr_assert_eq(elems_add(&rest, &some.v[0]), 0);
	rest.v[rest.n - 1].seconds = 8;
	elems_sort(&rest);
	cr_assert_eq(elems_merge(&rest, &some, &all), 0);
	cr_assert_eq(all.n, NFT_SET_MAX, "all again");
	for (size_t i = 0; i < all.n; i++)
		cr_assert(all.v[i].set == i && all.v[i].seconds == (i == some.v[0].set ? 9 : i == NFT_PINS ? all.v[i].seconds : 0));
	elems_done(&all);
	elems_done(&some);
	elems_done(&rest);
}

Test(ruleset, names)
{
	static const struct {
		const char *id, *tap;
	} bad[] = {
		{ "", "dcl" }, { "a b", "dcla b" }, { "a;b", "dcla;b" }, { "A", "dclA" }, { "a_b", "dcla_b" },
		{ "a\"", "dcla\"" }, { "0123456789abc", "dcl0123456789abc" }, { "a", "" }, { "a", "dcl*" },
		{ "a", "dclb" }, { "a", "a" }, { "a", "../x" }, { "\xc3\xa9", "dcl\xc3\xa9" },
	};
	struct elems v = { 0 };

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		cr_assert_eq(ruleset_close(bad[i].id, bad[i].tap, &v), -EINVAL, "%s %s", bad[i].id, bad[i].tap);
		cr_assert_eq(v.n, 0);
	}
}

/* Nothing but what it should be gets to the kernel */
Test(ruleset, hostile_fields)
{
	struct policy *p = policy_of(NULL);
	const struct firewall_sandbox good = {
		.short_id = "a", .tap = "dcla", .mac = "02:00:00:00:00:07", .address = "10.214.0.7", .policy = p,
	};
	struct firewall_sandbox bad[7] = { good, good, good, good, good, good, good };
	struct elems v = { 0 };

	bad[0].mac = "02:00:00:00:00:07 drop";
	bad[1].mac = "02:00:00:00:00";
	bad[2].address = "10.214.0.7; drop";
	bad[3].address = "010.214.0.7";
	bad[4].mac = NULL;
	bad[5].mac = "02:00:00:00:00-07";
	bad[6].address = "10.214.0.0/24";
	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		cr_assert_eq(ruleset_sandbox(&bad[i], &v), -EINVAL, "%zu", i);
		cr_assert_eq(v.n, 0);
	}
	policy_free(p);
}
