/* SPDX-License-Identifier: GPL-2.0-or-later */
/* net/ruleset: golden files, refused names. That the kernel takes it and what it does: test-ruleset-kernel.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>

#include "lib/golden.h"
#include "net/ruleset.h"
#include "util/macro.h"

/* One line for the daemon, many for the reader of a diff. */
static void check(const char *name, int r, char **text)
{
	_cleanup_free_ char *compact = *text, *pretty = NULL;
	json_object *o;

	cr_assert_eq(r, 0);
	o = json_tokener_parse(compact);
	cr_assert_not_null(o);
	cr_assert_gt(asprintf(&pretty, "%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
									      JSON_C_TO_STRING_SPACED)), 0);
	golden_check(name, pretty);
	json_object_put(o);
}

Test(ruleset, base)
{
	char *s = NULL;

	check("ruleset-base.json", ruleset_base(&s), &s);
}

Test(ruleset, close)
{
	char *s = NULL;

	check("ruleset-close.json", ruleset_close("0123456789", "dcl0123456789", &s), &s);
}

Test(ruleset, remove)
{
	char *s = NULL;

	check("ruleset-remove.json", ruleset_remove("0123456789", "dcl0123456789", &s), &s);
}

Test(ruleset, list)
{
	char *s = NULL;

	check("ruleset-list.json", ruleset_list(&s), &s);
}

Test(ruleset, teardown)
{
	char *s = NULL;

	check("ruleset-teardown.json", ruleset_teardown(&s), &s);
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
