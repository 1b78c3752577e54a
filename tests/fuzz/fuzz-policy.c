/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any JSON as a `network` object, any bytes as a name. Beyond not crashing: a refusal names the entry; what was taken
 * survives the workers' form unchanged, with the same verdict on every name; a canonical name is its own canonical form
 * and holds nothing but letters, digits, hyphens, underscores and dots; a closed policy allows nothing.
 */
#include <string.h>

#include "fuzz-main.h"
#include "policy/policy.h"
#include "util/str.h"

/* assert() that no build turns off */
#define MUST(x) ((x) ? (void)0 : abort())

static void check_name(const char *bytes, size_t size)
{
	char canon[POLICY_NAME_MAX], again[POLICY_NAME_MAX];
	struct policy_net n;

	if (policy_name_canon(bytes, size, canon) < 0)
		return;
	MUST(*canon && strspn(canon, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == strlen(canon));
	MUST(canon[strlen(canon) - 1] != '.' && policy_net_parse(canon, &n) < 0);
	MUST(policy_name_canon(canon, strlen(canon), again) == 0 && str_eq(canon, again));
}

/* Both say the same about a name, and for the same reason */
static bool agree(const struct policy *a, const struct policy *b, const char *name)
{
	const char *why_a = NULL, *why_b = NULL;
	bool allowed = policy_allows_name(a, name, &why_a);

	MUST(!(a->closed && allowed));
	MUST(allowed == policy_allows_name(b, name, &why_b) && str_eq(why_a, why_b));
	return allowed;
}

static void check_names(const struct policy *a, const struct policy *b)
{
	const char *rule;

	for (size_t i = 0; i < a->n_allow_names; i++) {
		const struct policy_name *n = &a->allow_names[i];
		_cleanup_free_ char *below = str_format("w.%s", n->name);

		check_name(n->name, strlen(n->name));
		MUST(below && (agree(a, b, n->wildcard ? below : n->name) || a->closed));
		agree(a, b, n->name);
	}
	for (size_t i = 0; i < a->n_deny_names; i++)
		agree(a, b, a->deny_names[i].name);
	if (a->deny_default)
		MUST(!policy_allows_name(a, "nobody.lists.this.example.invalid", &rule) || a->n_allow_names > 0);
}

static void check_policy(const char *text, size_t size)
{
	_cleanup_(cleanup_policy_free) struct policy *p = NULL, *back = NULL;
	_cleanup_json_ json_object *o = NULL, *out = NULL, *again = NULL;
	_cleanup_free_ char *detail = NULL;
	const char *why;
	int r;

	if (json_parse(text, size, &o, &why) != 0 || !json_object_is_type(o, json_type_object))
		return;
	r = policy_parse(o, false, &p, &detail);
	MUST(r == 0 ? p && !detail : r == -EINVAL && !p && detail && str_starts(detail, "network."));
	if (r < 0)
		return;
	out = policy_to_json(p);
	MUST(out && policy_from_json(out, &back) == 0);
	again = policy_to_json(back);
	MUST(again && json_object_equal(out, again));
	MUST(!p->closed || !policy_name_checked(p));
	check_names(p, back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1u << 16)
		return 0;
	check_name((const char *)data, size);
	check_policy((const char *)data, size);
	return 0;
}
