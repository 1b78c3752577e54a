/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sandbox object: members of the contract with their types, nulls, echoes, states, what is said of policies. */
#include "api/api.h"
#include "lib/fake-agent.h"
#include "util-test.h"
#include "policy/policy.h"
#include "util/clock.h"

static struct manager *m;
static struct sandbox *sb;

static void setup(void)
{
	fake_host_init();
	m = fake_manager(NULL);
	sb = fake_running(m);
}

static void teardown(void)
{
	manager_free(m);
	fake_host_done();
}

TestSuite(render, .init = setup, .fini = teardown);

static json_object *parse(const char *text)
{
	const char *error = NULL;
	json_object *o = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &o, &error), 0, "%s", error);
	return o;
}

static const char *text_of(json_object *o, const char *key)
{
	json_object *v = NULL;

	cr_assert(json_object_object_get_ex(o, key, &v), "%s is missing", key);
	return v ? json_object_get_string(v) : NULL;
}

Test(render, every_member)
{
	static const struct { const char *key; enum json_type type; } members[] = {
		{ "sandbox_id", json_type_string }, { "template_id", json_type_string }, { "name", json_type_string },
		{ "state", json_type_string }, { "metadata", json_type_object }, { "envs", json_type_object },
		{ "network", json_type_null }, { "security", json_type_null }, { "lifecycle", json_type_null },
		{ "timeout", json_type_int }, { "started_at", json_type_string }, { "end_at", json_type_string },
		{ "envd_access_token", json_type_string }, { "traffic_access_token", json_type_string },
		{ "sandbox_domain", json_type_string }, { "envd_port", json_type_int }, { "resources", json_type_object },
		{ "policy_enforcement", json_type_object }, { "accelerator", json_type_string },
		{ "end_reason", json_type_null },
	};
	json_object *o = api_sandbox_object(sb), *v = NULL;
	uint64_t started = 0, end = 0;

	for (size_t i = 0; i < ELEMENTSOF(members); i++) {
		v = NULL;
		cr_assert(json_object_object_get_ex(o, members[i].key, &v), "%s is missing", members[i].key);
		cr_assert_eq(json_object_get_type(v), members[i].type, "%s: %s", members[i].key, json_text(v, NULL));
	}
	cr_assert_str_eq(text_of(o, "sandbox_id"), sb->id);
	cr_assert_str_eq(text_of(o, "template_id"), "tpl-base");
	cr_assert_str_eq(text_of(o, "state"), "running");
	cr_assert_str_eq(text_of(o, "timeout"), "300");
	cr_assert_str_eq(text_of(o, "accelerator"), "tcg");
	cr_assert_str_eq(text_of(o, "envd_port"), "49983");
	json_object_object_get_ex(o, "resources", &v);
	cr_assert_str_eq(json_text(v, NULL), "{\"vcpus\":2,\"memory_mb\":256,\"disk_mb\":4096}");
	cr_assert_eq(clock_parse(text_of(o, "started_at"), &started), 0);
	cr_assert_eq(clock_parse(text_of(o, "end_at"), &end), 0);
	cr_assert_eq(end - started, 300 * USEC_PER_SEC);
	json_object_put(o);
	m = manager_free(m);
	test_leaks();
}

Test(render, echoes)
{
	json_object *o, *v = NULL;

	sb->options.network = parse("{\"deny_out\":[\"0.0.0.0/0\"],\"x\":null}");
	sb->options.security = parse("{\"pii\":{\"enabled\":true}}");
	json_put_string(sb->options.metadata, "k", "\xc3\xa4\n\"");
	o = api_sandbox_object(sb);
	json_object_object_get_ex(o, "network", &v);
	cr_assert_str_eq(json_text(v, NULL), "{\"deny_out\":[\"0.0.0.0/0\"],\"x\":null}");
	json_object_object_get_ex(o, "security", &v);
	cr_assert_str_eq(json_text(v, NULL), "{\"pii\":{\"enabled\":true}}");
	json_object_object_get_ex(o, "metadata", &v);
	cr_assert_str_eq(text_of(v, "k"), "\xc3\xa4\n\"");
	json_object_put(o);
	/* The echo lives as long as anybody holds it, and no longer */
	m = manager_free(m);
	test_leaks();
}

/* Never accepted and ignored: what is not done is said. */
Test(render, policy_enforcement)
{
	for (int inspection = 0; inspection < 2; inspection++) {
		json_object *o, *v = NULL;
		char *detail;

		sb->options.inspection = inspection;
		sb->options.policy = policy_free(sb->options.policy);
		cr_assert_eq(policy_parse(NULL, inspection, &sb->options.policy, &detail), 0);
		o = api_sandbox_object(sb);
		json_object_object_get_ex(o, "policy_enforcement", &v);
		cr_assert_str_eq(text_of(v, "egress"), inspection ? "closed" : "open");
		if (inspection) {
			cr_assert_str_eq(text_of(v, "reason"), "inspection_unavailable");
			cr_assert_gt(strlen(text_of(v, "message")), 30);
		}
		json_object_put(o);
	}
}

Test(render, without_a_deadline_and_after_the_end)
{
	json_object *o;

	sandbox_set_timeout(sb, 0);
	fake_settle();
	o = api_sandbox_object(sb);
	cr_assert_null(text_of(o, "end_at"));
	cr_assert_str_eq(text_of(o, "timeout"), "0");
	json_object_put(o);
	sandbox_destroy(sb, SANDBOX_END_TIMEOUT, NULL, NULL);
	fake_settle();
	o = api_sandbox_object(sb);
	cr_assert_str_eq(text_of(o, "state"), "killed");
	cr_assert_str_eq(text_of(o, "end_reason"), "timeout");
	cr_assert_not_null(text_of(o, "end_at"));
	json_object_put(o);
}

Test(render, while_it_is_created)
{
	struct fake_wait w;
	struct sandbox *young = fake_create(m, &w, 60);
	json_object *o = api_sandbox_object(young);

	cr_assert_str_eq(text_of(o, "state"), "creating");
	cr_assert_not_null(text_of(o, "started_at"), "never null: clients parse it");
	json_object_put(o);
	fake_settle();
}
