/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sandbox object: the state table, names, waiters, the environment of processes. */
#include <signal.h>

#include "lib/fake-host.h"
#include "util-test.h"
#include "util/fileio.h"

static struct manager *m;

static void setup(void)
{
	fake_host_init();
	m = fake_manager(NULL);
}

static void teardown(void)
{
	manager_free(m);
	fake_host_done();
}

TestSuite(sandbox, .init = setup, .fini = teardown);

static struct sandbox *make(const char *id)
{
	struct sandbox_options options;
	struct sandbox *sb = NULL;

	fake_options(m, &options, 60);
	cr_assert_eq(sandbox_new(m, id, "alice", &options, &sb), 0);
	cr_assert_null(options.name, "the options were taken");
	return sb;
}

static void finish(struct sandbox *sb)
{
	sandbox_unref(sb);
	m = manager_free(m);
	test_leaks();
}

Test(sandbox, state_names)
{
	for (int s = 0; s < SANDBOX_STATE_MAX; s++)
		cr_assert_eq((int)sandbox_state_from_name(sandbox_state_name((enum sandbox_state)s)), s);
	cr_assert_eq(sandbox_state_from_name("dead"), SANDBOX_STATE_INVALID);
	cr_assert_eq(sandbox_state_from_name(NULL), SANDBOX_STATE_INVALID);
	cr_assert_str_eq(sandbox_state_name(SANDBOX_STATE_INVALID), "invalid");
	for (int e = 0; e < SANDBOX_END_MAX; e++)
		cr_assert_eq((int)sandbox_end_from_name(sandbox_end_name((enum sandbox_end)e)), e);
	cr_assert_eq(sandbox_end_from_name("boredom"), SANDBOX_END_NONE);
}

/* Written down a second time, on purpose. */
static const bool legal[SANDBOX_STATE_MAX][SANDBOX_STATE_MAX] = {
	[SANDBOX_CREATING] = { [SANDBOX_RUNNING] = true, [SANDBOX_KILLED] = true },
	[SANDBOX_RUNNING] = { [SANDBOX_PAUSED] = true, [SANDBOX_CREATING] = true, [SANDBOX_KILLED] = true },
	[SANDBOX_PAUSED] = { [SANDBOX_RUNNING] = true, [SANDBOX_CREATING] = true, [SANDBOX_KILLED] = true },
};

Test(sandbox, legal_moves)
{
	for (int from = 0; from < SANDBOX_STATE_MAX; from++)
		for (int to = 0; to < SANDBOX_STATE_MAX; to++) {
			struct sandbox *sb;

			if (!legal[from][to])
				continue;
			sb = make("sbx-0123456789");
			sb->state = (enum sandbox_state)from;
			sandbox_set_state(sb, (enum sandbox_state)to);
			cr_assert_eq((int)sb->state, to);
			cr_assert_eq(sb->ended_usec != 0, to == SANDBOX_KILLED);
			sandbox_unref(sb);
		}
	finish(NULL);
}

#define ILLEGAL(from, to)							\
	Test(sandbox, illegal_##from##_##to, .signal = SIGABRT)			\
	{									\
		struct sandbox *sb = make("sbx-0123456789");			\
										\
		cr_assert_not(legal[SANDBOX_##from][SANDBOX_##to]);		\
		sb->state = SANDBOX_##from;					\
		dir_remove_tree(fake.dir);	/* nobody comes back to it */	\
		sandbox_set_state(sb, SANDBOX_##to);				\
	}

ILLEGAL(CREATING, CREATING)
ILLEGAL(CREATING, PAUSED)
ILLEGAL(RUNNING, RUNNING)
ILLEGAL(PAUSED, PAUSED)
ILLEGAL(KILLED, CREATING)
ILLEGAL(KILLED, RUNNING)
ILLEGAL(KILLED, PAUSED)
ILLEGAL(KILLED, KILLED)

Test(sandbox, names)
{
	struct sandbox *a = make("sbx-abcdefghij"), *b = make("sbx-0123456789");
	_cleanup_free_ char *path = sandbox_path(a, "x"), *run = sandbox_run_path(a, NULL), *want = NULL;

	cr_assert_str_eq(a->tap, "dclabcdefghij");
	cr_assert_lt(strlen(a->tap), 16, "IFNAMSIZ");
	cr_assert_str_eq(a->unit, "declaw-sbx-abcdefghij.scope");
	cr_assert_eq(strlen(a->uuid), 36);
	cr_assert_eq(a->uuid[14], '4');
	cr_assert_not_null(strchr("89ab", a->uuid[19]));
	cr_assert_str_neq(a->uuid, b->uuid);
	cr_assert(str_starts(a->envd_token, "envd-tok-"));
	cr_assert(str_starts(a->traffic_token, "traffic-"));
	cr_assert_str_neq(a->envd_token + 9, b->envd_token + 9);
	cr_assert_str_neq(a->envd_token + 9, a->traffic_token + 8);
	cr_assert_geq(strlen(a->traffic_token), 8 + 32);
	cr_assert_str_eq(a->template_id, "tpl-base");
	cr_assert_eq(a->vcpus, 2);
	want = str_format("%s/state/sandboxes/sbx-abcdefghij/x", fake.dir);
	cr_assert_str_eq(path, want);
	cr_assert(str_ends(run, "/run/vm/sbx-abcdefghij"));
	sandbox_unref(b);
	finish(a);
}

Test(sandbox, ids_in_unit_names)
{
	static const struct { const char *unit, *id; } table[] = {
		{ "declaw-sbx-0123456789.scope", "sbx-0123456789" },
		{ "declaw-expire@sbx-0123456789.timer", "sbx-0123456789" },
		{ "declaw-expire@sbx-0123456789.service", NULL },
		{ "declaw-sbx-0123456789.service", NULL },
		{ "declaw-sbx-0123456789.timer", NULL },
		{ "declaw-sbx-0123456789x.scope", NULL },
		{ "declaw-sbx-0123456789-x.scope", NULL },
		{ "declaw-sbx-012345678.scope", NULL },
		{ "declaw-sbx-0123456 89.scope", NULL },
		{ "declaw-SBX-0123456789.scope", NULL },
		{ "other-sbx-0123456789.scope", NULL },
		{ "declaw-expire@x-sbx-0123456789.timer", NULL },
		{ "declaw.slice", NULL },
		{ "sbx-", NULL },
		{ "", NULL },
	};
	char id[SANDBOX_ID_MAX];

	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		cr_assert_eq(unit_sandbox_id(table[i].unit, id), table[i].id != NULL, "%s", table[i].unit);
		if (table[i].id)
			cr_assert_str_eq(id, table[i].id);
	}
}

/* The value of name, NULL when there is none; it must not be there twice. */
static const char *env_get(char **env, const char *name)
{
	const char *found = NULL;
	size_t n = strlen(name);

	for (; *env; env++)
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=') {
			cr_assert_null(found, "%s is there twice", name);
			found = *env + n + 1;
		}
	return found;
}

static json_object *parse(const char *text)
{
	const char *error = NULL;
	json_object *o = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &o, &error), 0, "%s", error);
	return o;
}

Test(sandbox, environment)
{
	struct sandbox *sb = make("sbx-0123456789");
	_cleanup_json_ json_object *extra = parse("{\"B\":\"command\",\"C\":\"\",\"DECLAW_SANDBOX\":\"no\",\"LF\":\"a\\nb=c\"}");
	_cleanup_strv_ char **env = NULL;

	json_object_put(sb->options.envs);
	sb->options.envs = parse("{\"A\":\"session\",\"B\":\"session\",\"DECLAW_SANDBOX_ID\":\"sbx-xxxxxxxxxx\","
				 "\"DECLAW_SECURITY_POLICY\":\"none\",\"DECLAW_TEMPLATE_ID\":\"x\",\"DECLAW_SANDBOX_DOMAIN\":\"d\"}");
	free(sb->options.policy_text);
	sb->options.policy_text = strdup("{\"pii\":{\"enabled\":true}}");
	cr_assert_eq(sandbox_env(sb, extra, &env), 0);
	cr_assert_str_eq(env_get(env, "A"), "session");
	cr_assert_str_eq(env_get(env, "B"), "command");
	cr_assert_str_eq(env_get(env, "C"), "");
	cr_assert_str_eq(env_get(env, "LF"), "a\nb=c");
	cr_assert_str_eq(env_get(env, "DECLAW_SANDBOX"), "true");
	cr_assert_str_eq(env_get(env, "DECLAW_SANDBOX_ID"), "sbx-0123456789");
	cr_assert_str_eq(env_get(env, "DECLAW_TEMPLATE_ID"), "tpl-base");
	cr_assert_str_eq(env_get(env, "DECLAW_SECURITY_POLICY"), "{\"pii\":{\"enabled\":true}}");
	cr_assert_str_eq(env_get(env, "DECLAW_SANDBOX_DOMAIN"), "d", "only the four are ours");
	finish(sb);
}

Test(sandbox, environment_without_anything)
{
	struct sandbox *sb = make("sbx-0123456789");
	_cleanup_strv_ char **env = NULL;

	cr_assert_eq(sandbox_env(sb, NULL, &env), 0);
	cr_assert_eq(strv_len(env), 4);
	cr_assert_str_eq(env_get(env, "DECLAW_SECURITY_POLICY"), "{}");
	finish(sb);
}

Test(sandbox, waiters)
{
	struct list waiters = LIST_INIT(waiters);
	struct fake_wait w[3] = { 0 };

	for (size_t i = 0; i < 3; i++)
		cr_assert_eq(sandbox_wait(&waiters, fake_waited, &w[i]), 0);
	sandbox_unwait(&waiters, &w[1]);
	sandbox_unwait(&waiters, "nobody");
	sandbox_wake(&waiters, FAULT_BUSY, "why");
	sandbox_wake(&waiters, FAULT_NONE, NULL);
	cr_assert_eq(w[0].calls, 1);
	cr_assert_eq(w[0].fault, FAULT_BUSY);
	cr_assert_str_eq(w[0].detail, "why");
	cr_assert_eq(w[1].calls, 0);
	cr_assert_eq(w[2].calls, 1);
	finish(NULL);
}
