/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sandbox.json: what is saved is what is loaded; what is damaged is refused and harms nothing else. */
#include "core/limits.h"
#include "lib/fake-host.h"
#include "util-test.h"
#include "util/fileio.h"

static const char id[] = "sbx-0123456789";
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

TestSuite(store, .init = setup, .fini = teardown);

static void finish(void)
{
	m = manager_free(m);
	test_leaks();
}

static json_object *parse(const char *text)
{
	const char *error = NULL;
	json_object *o = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &o, &error), 0, "%s", error);
	return o;
}

static void path_of(char ret[PATH_MAX], bool ended)
{
	snprintf(ret, PATH_MAX, ended ? "%s/state/ended/%s.json" : "%s/state/sandboxes/%s/sandbox.json", fake.dir, id);
}

/* In its directory, with every field set to something of its own */
static struct sandbox *make(void)
{
	struct sandbox_options options;
	_cleanup_free_ char *dir = NULL;
	struct sandbox *sb = NULL;

	fake_options(m, &options, 7777);
	json_object_put(options.metadata);
	json_object_put(options.envs);
	options.metadata = parse("{\"k\":\"\xc3\xa4\xf0\x9f\x90\xbe\",\"\":\"empty\",\"x\":\"\\u0001\\u2028\\\"\\\\/\"}");
	options.envs = parse("{\"PATH\":\"/bin\",\"LF\":\"a\\nb\"}");
	options.network = parse("{\"allow_out\":[],\"deny_out\":[\"0.0.0.0/0\"],\"more\":null,\"n\":1.5e300}");
	options.security = parse("{\"pii\":{\"enabled\":true},\"big\":9223372036854775807}");
	options.lifecycle = parse("{\"on_timeout\":\"kill\",\"auto_resume\":false}");
	free(options.policy_text);
	options.policy_text = strdup("{ \"pii\" : {\"enabled\":true} }");
	options.inspection = true;
	options.auto_resume = true;
	options.pause_on_timeout = true;
	options.secure = false;
	cr_assert_eq(sandbox_new(m, id, "alice \xc3\xa9", &options, &sb), 0);
	sb->state = SANDBOX_RUNNING;
	sb->created_usec = 1700000000000001;
	sb->started_usec = 1700000000000002;
	sb->deadline_usec = 1700000000000003;
	sb->held = HELD_DIR | HELD_TAP;
	sb->pid = 4711;
	sb->agent_id = 0xfedcba9876543210;
	sb->vcpus = 7;
	sb->memory_mb = 777;
	sb->disk_mb = 7777;
	dir = sandbox_path(sb, NULL);
	cr_assert_eq(dir_make(dir, 0700), 0);
	return sb;
}

static void same_json(json_object *a, json_object *b)
{
	cr_assert_eq(a == NULL, b == NULL);
	if (a)
		cr_assert_str_eq(json_text(a, NULL), json_text(b, NULL));
}

static void same(const struct sandbox *a, const struct sandbox *b)
{
	cr_assert_str_eq(a->id, b->id);
	cr_assert_str_eq(a->owner, b->owner);
	cr_assert_str_eq(a->options.name, b->options.name);
	cr_assert_eq(a->options.template, b->options.template);
	cr_assert_str_eq(a->template_id, b->template_id);
	cr_assert_str_eq(a->options.policy_text, b->options.policy_text);
	same_json(a->options.metadata, b->options.metadata);
	same_json(a->options.envs, b->options.envs);
	same_json(a->options.network, b->options.network);
	same_json(a->options.security, b->options.security);
	same_json(a->options.lifecycle, b->options.lifecycle);
	cr_assert_eq(a->options.timeout_sec, b->options.timeout_sec);
	cr_assert_eq(a->options.inspection, b->options.inspection);
	cr_assert_eq(a->options.secure, b->options.secure);
	cr_assert_eq(a->options.auto_resume, b->options.auto_resume);
	cr_assert_eq(a->options.pause_on_timeout, b->options.pause_on_timeout);
	cr_assert_eq(a->state, b->state);
	cr_assert_eq(a->end, b->end);
	cr_assert_eq(a->created_usec, b->created_usec);
	cr_assert_eq(a->started_usec, b->started_usec);
	cr_assert_eq(a->deadline_usec, b->deadline_usec);
	cr_assert_eq(a->ended_usec, b->ended_usec);
	cr_assert_str_eq(a->envd_token, b->envd_token);
	cr_assert_str_eq(a->traffic_token, b->traffic_token);
	cr_assert_str_eq(a->uuid, b->uuid);
	cr_assert_str_eq(a->tap, b->tap);
	cr_assert_str_eq(a->mac, b->mac);
	cr_assert_str_eq(a->unit, b->unit);
	cr_assert_eq(a->pid, b->pid);
	cr_assert_eq(a->agent_id, b->agent_id);
	cr_assert(a->vcpus == b->vcpus && a->memory_mb == b->memory_mb && a->disk_mb == b->disk_mb);
}

Test(store, round_trip)
{
	struct sandbox *sb = make(), *again = NULL;
	char path[PATH_MAX];
	struct stat st;

	cr_assert_eq(store_save(sb, true), 0);
	path_of(path, false);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600, "tokens are in it");
	cr_assert_eq(store_load(m, id, &again), 0);
	same(sb, again);
	cr_assert_eq(again->held, HELD_ALL, "its record was not written at each step");
	cr_assert_not(again->destroying);
	sandbox_unref(again);
	sandbox_unref(sb);
	finish();
}

Test(store, nulls)
{
	struct sandbox *sb = make(), *again = NULL;
	json_object **v[] = { &sb->options.network, &sb->options.security, &sb->options.lifecycle };

	for (size_t i = 0; i < ELEMENTSOF(v); i++) {
		json_object_put(*v[i]);
		*v[i] = NULL;
	}
	sb->deadline_usec = sb->started_usec = 0;
	cr_assert_eq(store_save(sb, false), 0);
	cr_assert_eq(store_load(m, id, &again), 0);
	same(sb, again);
	cr_assert_null(again->options.network);
	sandbox_unref(again);
	sandbox_unref(sb);
	finish();
}

Test(store, ended_wins_over_live)
{
	struct sandbox *sb = make(), *again = NULL;
	char path[PATH_MAX];

	cr_assert_eq(store_save(sb, false), 0);
	sb->end = SANDBOX_END_TIMEOUT;
	sandbox_set_state(sb, SANDBOX_KILLED);
	sb->held = HELD_DIR | HELD_RULES;
	cr_assert_eq(store_save(sb, false), 0);
	path_of(path, false);
	cr_assert(test_exists(path), "removing the directory is not the store's business");
	cr_assert_eq(store_load(m, id, &again), 0);
	same(sb, again);
	cr_assert_eq(again->held, HELD_DIR | HELD_RULES);
	cr_assert(again->destroying, "nothing kills it a second time");
	sandbox_unref(again);
	sandbox_unref(sb);
	finish();
}

Test(store, absent)
{
	struct sandbox *again = NULL;

	cr_assert_eq(store_load(m, id, &again), -ENOENT);
	cr_assert_null(again);
	finish();
}

/* Cut at each length: never a sandbox, never a leak. */
Test(store, cut_off)
{
	struct sandbox *sb = make(), *again = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 20);
	char path[PATH_MAX];

	cr_assert_eq(store_save(sb, false), 0);
	path_of(path, false);
	cr_assert_eq(file_read(path, 1 << 20, &text), 0);
	for (size_t n = 0; n < text.len; n++) {
		cr_assert_eq(file_write_atomic(path, text.data, n, 0600, false), 0);
		cr_assert_lt(store_load(m, id, &again), 0, "%zu bytes", n);
		cr_assert_null(again);
	}
	sandbox_unref(sb);
	finish();
}

Test(store, damaged)
{
	static const char *const texts[] = {
		"", "null", "[]", "\"x\"", "{}", "{\"id\":\"sbx-0123456789\"}",
		"{\"id\":\"sbx-9999999999\",\"owner\":\"a\",\"template_id\":\"tpl-base\",\"state\":\"running\"}",
		"{\"id\":\"sbx-0123456789\",\"owner\":\"\",\"template_id\":\"tpl-base\",\"state\":\"running\"}",
		"{\"id\":\"sbx-0123456789\",\"owner\":\"a\",\"template_id\":\"\",\"state\":\"running\"}",
		"{\"id\":\"sbx-0123456789\",\"owner\":\"a\",\"template_id\":\"tpl-base\",\"state\":\"asleep\"}",
		"{\"id\":\"sbx-0123456789\",\"owner\":\"a\",\"template_id\":\"tpl-base\",\"state\":7}",
		"{\"id\":\"sbx-0123456789\",\"owner\":\"a\",\"template_id\":\"tpl-base\",\"state\":\"running\"} x",
	};
	struct sandbox *sb = make(), *again = NULL;
	char path[PATH_MAX];

	path_of(path, false);
	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		test_write(path, texts[i]);
		cr_assert_lt(store_load(m, id, &again), 0, "%s", texts[i]);
		cr_assert_null(again);
	}
	/* Odd values of what is not needed become defaults */
	test_write(path, "{\"id\":\"sbx-0123456789\",\"owner\":\"a\",\"template_id\":\"tpl-gone\",\"state\":\"killed\","
		   "\"held\":-1,\"created\":\"x\",\"uuid\":12,\"envs\":null,\"end\":\"??\"}");
	cr_assert_eq(store_load(m, id, &again), 0);
	cr_assert_null(again->options.template);
	cr_assert_str_eq(again->template_id, "tpl-gone");
	cr_assert_eq(again->held, 0);
	sandbox_unref(again);
	sandbox_unref(sb);
	finish();
}

Test(store, oversize)
{
	struct sandbox *sb = make(), *again = NULL;
	char path[PATH_MAX];

	path_of(path, false);
	test_write(path, "{}");
	cr_assert_eq(truncate(path, 64 << 20), 0);
	cr_assert_eq(store_load(m, id, &again), -EFBIG);
	sandbox_unref(sb);
	finish();
}

static json_object *string_of(char c, size_t len)
{
	char *s = malloc(len);
	json_object *o;

	cr_assert_not_null(s);
	memset(s, c, len);
	o = json_object_new_string_len(s, (int)len);
	free(s);
	return o;
}

/* What the API lets in can be read again, however much escaping makes of it. */
Test(store, largest_that_is_let_in)
{
	struct sandbox *sb = make(), *again = NULL;
	json_object *list = json_object_new_array();

	json_put(sb->options.envs, "X", string_of(1, LIMIT_ENV_BYTES));
	json_put(sb->options.metadata, "X", string_of(1, LIMIT_METADATA_BYTES));
	for (unsigned int i = 0; i < LIMIT_NETWORK_ENTRIES; i++)
		json_object_array_add(list, string_of('x', LIMIT_NETWORK_ENTRY));
	json_put(sb->options.network, "allow_out", json_object_get(list));
	json_put(sb->options.network, "deny_out", list);
	json_put(sb->options.security, "x", string_of('"', LIMIT_POLICY_BYTES / 2));
	free(sb->options.policy_text);
	sb->options.policy_text = strdup(json_text(sb->options.security, NULL));
	cr_assert_eq(store_save(sb, false), 0);
	cr_assert_eq(store_load(m, id, &again), 0);
	same(sb, again);
	sandbox_unref(again);
	sandbox_unref(sb);
	finish();
}
