/* SPDX-License-Identifier: GPL-2.0-or-later */
/* net/ruleset: golden files, refused names. That the kernel takes it and what it does: test-ruleset-kernel.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "lib/golden.h"
#include "net/ruleset.h"
#include "policy/policy.h"
#include "util/macro.h"

static void check(const char *name, int r, char **text)
{
	_cleanup_free_ char *s = *text;

	cr_assert_eq(r, 0);
	golden_check(name, s);
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
	const struct firewall_config all = { .network = "10.0.0.0/8", .opened = list, .drop = true, .proxy_uid = 123,
					     .resolver_uid = 124, .upstream = servers };
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
	char *s = NULL;

	check("ruleset-close.nft", ruleset_close("0123456789", "dcl0123456789", &s), &s);
}

static const struct firewall_pin some_pins[] = { { 0xcb00710a, 90 }, { 0xcb00710b, 3630 } };

static void check_policy(const char *name, const char *json)
{
	struct policy *p = policy_of(json);
	const struct firewall_sandbox sb = {
		.short_id = "0123456789", .tap = "dcl0123456789", .mac = "02:00:00:00:00:07", .address = "10.214.0.7",
		.policy = p, .pins = some_pins, .n_pins = policy_name_checked(p) ? 1 : 0,
	};
	char *s = NULL;

	check(name, ruleset_sandbox(&sb, &s), &s);
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

Test(ruleset, pin)
{
	char *s = NULL;

	cr_assert_eq(ruleset_pin_set("0123456789", &s), 0);
	cr_assert_str_eq(s, "pin_0123456789");
	free(s);
}

Test(ruleset, remove)
{
	char *s = NULL;

	check("ruleset-remove.nft", ruleset_remove("0123456789", "dcl0123456789", &s), &s);
}

Test(ruleset, names)
{
	static const struct {
		const char *id, *tap;
	} bad[] = {
		{ "", "dcl0" }, { "a b", "dcl0" }, { "a;b", "dcl0" }, { "A", "dcl0" }, { "a_b", "dcl0" },
		{ "a\"", "dcl0" }, { "01234567890123456", "dcl0" }, { "a", "" }, { "a", "dcl*" },
		{ "a", "dcl0123456789abc" }, { "a", "../x" }, { "\xc3\xa9", "dcl0" },
	};
	char *s = (char *)"untouched";

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		cr_assert_eq(ruleset_close(bad[i].id, bad[i].tap, &s), -EINVAL, "%s %s", bad[i].id, bad[i].tap);
		cr_assert_eq(ruleset_remove(bad[i].id, bad[i].tap, &s), -EINVAL);
		cr_assert_str_eq(s, "untouched");
	}
}

/* Nothing but what it should be gets into the text */
Test(ruleset, hostile_fields)
{
	struct policy *p = policy_of(NULL);
	const struct firewall_sandbox good = {
		.short_id = "a", .tap = "dcla", .mac = "02:00:00:00:00:07", .address = "10.214.0.7", .policy = p,
	};
	struct firewall_sandbox bad[5] = { good, good, good, good, good };
	char *s = NULL;

	bad[0].mac = "02:00:00:00:00:07 drop";
	bad[1].mac = "02:00:00:00:00";
	bad[2].address = "10.214.0.7; drop";
	bad[3].address = "010.214.0.7";
	bad[4].mac = NULL;
	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		cr_assert_eq(ruleset_sandbox(&bad[i], &s), -EINVAL, "%zu", i);
	cr_assert_eq(ruleset_pin_set("a b", &s), -EINVAL);
	policy_free(p);
}
