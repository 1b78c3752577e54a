/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The body of POST /sandboxes: what is good, what is refused and with which words, what is echoed. */
#include "api/api.h"
#include "policy/policy.h"
#include "util-test.h"

static struct manager manager;
static struct template base = { .name = (char *)"base", .id = (char *)"tpl-base" };

static void setup(void)
{
	manager.settings.timeout_default_usec = 300000000;
	list_init(&manager.templates.templates);
	list_init(&base.link);
	list_append(&manager.templates.templates, &base.link);
}

TestSuite(options, .init = setup, .timeout = 60);

static json_object *parse(const char *text)
{
	const char *error = NULL;
	json_object *o = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &o, &error), 0, "%s: %s", text, error);
	return o;
}

static enum fault try(const char *text, struct sandbox_options *ret, char **detail)
{
	_cleanup_json_ json_object *body = parse(text);

	return api_options_parse(&manager, body, ret, detail);
}

static void good(const char *text, struct sandbox_options *ret)
{
	_cleanup_free_ char *detail = NULL;
	enum fault f = try(text, ret, &detail);

	cr_assert_eq(f, FAULT_NONE, "%s: %d %s", text, f, detail);
	cr_assert_null(detail);
	cr_assert(ret->template && ret->name && ret->policy_text && ret->envs && ret->metadata);
}

Test(options, empty)
{
	struct sandbox_options o;

	good("{}", &o);
	cr_assert_str_eq(o.name, "base");
	cr_assert_eq(o.template, &base);
	cr_assert_eq(o.timeout_sec, 300);
	cr_assert_str_eq(o.policy_text, "{}");
	cr_assert_eq(json_object_object_length(o.envs), 0);
	cr_assert_eq(json_object_object_length(o.metadata), 0);
	cr_assert(!o.network && !o.security && !o.lifecycle && !o.inspection && !o.pause_on_timeout);
	sandbox_options_done(&o);
	test_leaks();
}

Test(options, good)
{
	static const char *const bodies[] = {
		"{\"template\":\"base\"}", "{\"template\":\"tpl-base\"}", "{\"template\":null}", "{\"timeout\":0}",
		"{\"timeout\":2592000}", "{\"timeout\":null}", "{\"metadata\":null,\"envs\":null,\"network\":null}",
		"{\"security\":null,\"lifecycle\":null,\"secure\":null}", "{\"secure\":false}",
		"{\"envs\":{\"A\":\"\"}}", "{\"metadata\":{\"\":\"\"}}", "{\"metadata\":{\"a=b c\":\"x\"}}",
		"{\"network\":{}}", "{\"network\":{\"allow_out\":[\"*\"],\"deny_out\":[]}}",
		"{\"network\":{\"mask_request_host\":true}}", "{\"network\":{\"mask_request_host\":\"x\"}}",
		"{\"network\":{\"allow_public_traffic\":false}}", "{\"network\":{\"later\":[1,{}]}}",
		"{\"security\":{}}", "{\"security\":{\"policy_json\":\"{}\"}}", "{\"security\":{\"audit\":true}}",
		"{\"security\":{\"transformations\":[]}}", "{\"security\":{\"pii\":{}}}", "{\"security\":{\"pii\":null}}",
		"{\"lifecycle\":{\"on_timeout\":\"kill\"}}", "{\"lifecycle\":{\"auto_resume\":true}}",
		"{\"volumes\":[]}", "{\"volumes\":null,\"vault_refs\":{},\"snapshot_id\":null}",
		"{\"allow_internet_access\":true}", "{\"allow_internet_access\":null}", "{\"allow_internet_access\":false}",
		"{\"something_new\":{\"a\":1}}",
	};

	for (size_t i = 0; i < ELEMENTSOF(bodies); i++) {
		struct sandbox_options o;

		good(bodies[i], &o);
		sandbox_options_done(&o);
	}
	test_leaks();
}

static const struct { const char *body; enum fault fault; const char *word; } bad[] = {
	{ "{\"resources\":{\"vcpus\":1}}", FAULT_RESOURCES_FIELD, NULL },
	{ "{\"resources\":null}", FAULT_RESOURCES_FIELD, NULL },
	{ "{\"template\":\"nope\"}", FAULT_TEMPLATE_UNKNOWN, "nope" },
	{ "{\"template\":\"\"}", FAULT_BAD_FIELD, "template" },
	{ "{\"template\":7}", FAULT_BAD_FIELD, "template" },
	{ "{\"template\":\"a\\u0000b\"}", FAULT_BAD_FIELD, "template" },
	{ "{\"timeout\":-1}", FAULT_BAD_FIELD, "timeout" },
	{ "{\"timeout\":2592001}", FAULT_BAD_FIELD, "timeout" },
	{ "{\"timeout\":9223372036854775807}", FAULT_BAD_FIELD, "timeout" },
	{ "{\"timeout\":\"300\"}", FAULT_BAD_FIELD, "timeout" },
	{ "{\"timeout\":1.5}", FAULT_BAD_FIELD, "timeout" },
	{ "{\"timeout\":true}", FAULT_BAD_FIELD, "timeout" },
	{ "{\"secure\":1}", FAULT_BAD_FIELD, "secure" },
	{ "{\"envs\":[]}", FAULT_BAD_FIELD, "envs" },
	{ "{\"envs\":\"A=B\"}", FAULT_BAD_FIELD, "envs" },
	{ "{\"envs\":{\"A\":1}}", FAULT_BAD_FIELD, "envs.A" },
	{ "{\"envs\":{\"A\":null}}", FAULT_BAD_FIELD, "envs.A" },
	{ "{\"envs\":{\"\":\"x\"}}", FAULT_BAD_FIELD, "envs" },
	{ "{\"envs\":{\"A=B\":\"x\"}}", FAULT_BAD_FIELD, "A=B" },
	{ "{\"envs\":{\"A B\":\"x\"}}", FAULT_BAD_FIELD, "A B" },
	{ "{\"envs\":{\"A\":\"x\\u0000y\"}}", FAULT_BAD_FIELD, "envs.A" },
	{ "{\"metadata\":{\"k\":{}}}", FAULT_BAD_FIELD, "metadata.k" },
	{ "{\"metadata\":1}", FAULT_BAD_FIELD, "metadata" },
	{ "{\"network\":[]}", FAULT_BAD_FIELD, "network" },
	{ "{\"network\":{\"allow_out\":\"*\"}}", FAULT_BAD_FIELD, "network.allow_out" },
	{ "{\"network\":{\"deny_out\":[\"ok\",7]}}", FAULT_BAD_FIELD, "network.deny_out[1]" },
	{ "{\"network\":{\"deny_out\":[\"\"]}}", FAULT_BAD_FIELD, "network.deny_out[0]" },
	{ "{\"network\":{\"deny_out\":[null]}}", FAULT_BAD_FIELD, "network.deny_out[0]" },
	{ "{\"network\":{\"allow_public_traffic\":\"yes\"}}", FAULT_BAD_FIELD, "allow_public_traffic" },
	{ "{\"network\":{\"mask_request_host\":7}}", FAULT_BAD_FIELD, "mask_request_host" },
	{ "{\"allow_internet_access\":\"no\"}", FAULT_BAD_FIELD, "allow_internet_access" },
	{ "{\"security\":\"strict\"}", FAULT_BAD_FIELD, "security" },
	{ "{\"security\":{\"policy_json\":{}}}", FAULT_BAD_FIELD, "security.policy_json" },
	{ "{\"security\":{\"policy_json\":\"{\"}}", FAULT_BAD_FIELD, "security.policy_json" },
	{ "{\"security\":{\"policy_json\":\"[]\"}}", FAULT_BAD_FIELD, "security.policy_json" },
	{ "{\"security\":{\"policy_json\":\"null\"}}", FAULT_BAD_FIELD, "security.policy_json" },
	{ "{\"security\":{\"policy_json\":\"{} {}\"}}", FAULT_BAD_FIELD, "security.policy_json" },
	{ "{\"security\":{\"pii\":\"on\"}}", FAULT_BAD_FIELD, "security.pii" },
	{ "{\"security\":{\"pii\":{\"enabled\":1}}}", FAULT_BAD_FIELD, "security.pii.enabled" },
	{ "{\"security\":{\"policy_json\":\"{\\\"toxicity\\\":[]}\"}}", FAULT_BAD_FIELD, "security.toxicity" },
	{ "{\"security\":{\"transformations\":{}}}", FAULT_BAD_FIELD, "security.transformations" },
	{ "{\"security\":{\"network\":{\"deny_out\":1}}}", FAULT_BAD_FIELD, "network.deny_out" },
	{ "{\"lifecycle\":[]}", FAULT_BAD_FIELD, "lifecycle" },
	{ "{\"lifecycle\":{\"on_timeout\":\"explode\"}}", FAULT_BAD_FIELD, "lifecycle.on_timeout" },
	{ "{\"lifecycle\":{\"on_timeout\":1}}", FAULT_BAD_FIELD, "lifecycle.on_timeout" },
	{ "{\"lifecycle\":{\"auto_resume\":\"x\"}}", FAULT_BAD_FIELD, "lifecycle.auto_resume" },
	{ "{\"volumes\":[{\"id\":\"x\"}]}", FAULT_OPTION_LATER, "volumes" },
	{ "{\"vault_refs\":{\"A\":\"b\"}}", FAULT_OPTION_LATER, "vault_refs" },
	{ "{\"snapshot_id\":\"x\"}", FAULT_SNAPSHOT_UNKNOWN, NULL },
	{ "{\"snapshot_id\":7}", FAULT_BAD_FIELD, "snapshot_id" },
};

/* Each alone, and each after a body full of things that are good by then: all of them must be let go. */
Test(options, bad)
{
	static const char before[] = "{\"metadata\":{\"k\":\"v\"},\"envs\":{\"A\":\"b\"},\"network\":{\"allow_out\":[\"x\"]},"
				     "\"security\":{\"policy_json\":\"{\\\"pii\\\":true}\"},\"lifecycle\":{\"auto_resume\":true}}";

	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		for (int full = 0; full < 2; full++) {
			_cleanup_json_ json_object *body = parse(bad[i].body), *all = parse(before);
			_cleanup_free_ char *detail = NULL;
			struct sandbox_options o;
			enum fault f;

			json_object_object_foreach(body, key, value)
				json_put(all, key, json_object_get(value));
			f = api_options_parse(&manager, full ? all : body, &o, &detail);
			cr_assert_eq(f, bad[i].fault, "%s: %d %s", bad[i].body, f, detail);
			if (bad[i].word)
				cr_assert(detail && strstr(detail, bad[i].word), "%s: \"%s\"", bad[i].body, detail);
			cr_assert(!o.name && !o.policy_text && !o.envs && !o.metadata && !o.network && !o.security,
				  "%s: something is kept", bad[i].body);
		}
	test_leaks();
}

Test(options, fallback)
{
	_cleanup_free_ char *detail = NULL;
	struct sandbox_options o;

	manager.settings.template_fallback = true;
	good("{\"template\":\"unheard-of\"}", &o);
	cr_assert_str_eq(o.name, "unheard-of", "the name as requested");
	cr_assert_eq(o.template, &base);
	sandbox_options_done(&o);
	list_unlink(&base.link);
	cr_assert_eq(try("{}", &o, &detail), FAULT_TEMPLATE_UNKNOWN);
}

Test(options, policies_are_echoed_as_received)
{
	static const char body[] = "{\"security\":{\"z\":1,\"pii\":{\"enabled\":true,\"actions\":[\"redact\"]},\"a\":null},"
				   "\"network\":{\"deny_out\":[\"0.0.0.0/0\"],\"allow_out\":[\"a.b\"],\"x\":{\"y\":[1.50]}},"
				   "\"lifecycle\":{\"on_timeout\":\"kill\",\"auto_resume\":false,\"more\":1}}";
	_cleanup_json_ json_object *o = parse(body), *again = json_object_new_object();
	struct sandbox_options options;
	char *detail = NULL;

	cr_assert_eq(api_options_parse(&manager, o, &options, &detail), FAULT_NONE, "%s", detail);
	json_put(again, "security", json_object_get(options.security));
	json_put(again, "network", json_object_get(options.network));
	json_put(again, "lifecycle", json_object_get(options.lifecycle));
	cr_assert_str_eq(json_text(again, NULL), json_text(o, NULL));
	cr_assert_str_eq(options.policy_text, json_text(options.security, NULL), "DECLAW_SECURITY_POLICY");
	cr_assert(options.inspection);
	sandbox_options_done(&options);
	json_object_put(TAKE_PTR(again));
	json_object_put(TAKE_PTR(o));
	test_leaks();
}

Test(options, policy_json_is_the_policy)
{
	struct sandbox_options o;

	good("{\"security\":{\"policy_json\":\" {\\\"pii\\\" : {\\\"enabled\\\": true}}\\n\"}}", &o);
	cr_assert_str_eq(o.policy_text, " {\"pii\" : {\"enabled\": true}}\n", "to the last blank");
	cr_assert(json_has(o.security, "policy_json"));
	cr_assert(o.inspection);
	sandbox_options_done(&o);
	good("{\"security\":{\"policy_json\":\"{\\\"network\\\":{\\\"deny_out\\\":[\\\"*\\\"]}}\"}}", &o);
	cr_assert_not_null(o.network, "a policy's network counts when there is no other");
	sandbox_options_done(&o);
	test_leaks();
}

Test(options, lifecycle)
{
	struct sandbox_options o;

	good("{\"lifecycle\":{\"on_timeout\":\"pause\",\"auto_resume\":true}}", &o);
	cr_assert(o.pause_on_timeout && o.auto_resume);
	sandbox_options_done(&o);
	good("{\"lifecycle\":{\"on_timeout\":\"kill\"}}", &o);
	cr_assert_not(o.pause_on_timeout || o.auto_resume);
	sandbox_options_done(&o);
	test_leaks();
}

Test(options, inspection)
{
	static const struct { const char *policy; bool needed; } table[] = {
		{ "{}", false }, { "{\"pii\":false}", false }, { "{\"pii\":true}", true },
		{ "{\"pii\":{\"enabled\":false}}", false }, { "{\"pii\":{\"enabled\":true}}", true },
		{ "{\"injection_defense\":{\"enabled\":true}}", true }, { "{\"toxicity\":true}", true },
		{ "{\"code_security\":true}", true }, { "{\"invisible_text\":true}", true },
		{ "{\"content_gate\":true}", true }, { "{\"custom_policy\":true}", true },
		{ "{\"pii\":true,\"toxicity\":false}", true }, { "{\"audit\":true}", false },
		{ "{\"transformations\":[{}]}", true },
	};

	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		_cleanup_free_ char *body = str_format("{\"security\":%s}", table[i].policy);
		struct sandbox_options o;

		good(body, &o);
		cr_assert_eq(o.inspection, table[i].needed, "%s", table[i].policy);
		sandbox_options_done(&o);
	}
	test_leaks();
}

/* A network that says nothing about what goes out does not open what was asked to be closed */
Test(options, no_internet)
{
	static const char *const silent[] = {
		"{\"allow_internet_access\":false,\"network\":{}}",
		"{\"allow_internet_access\":false,\"network\":{\"allow_public_traffic\":false}}",
		"{\"allow_internet_access\":false,\"network\":{\"allow_out\":[],\"deny_out\":[]}}",
		"{\"allow_internet_access\":false,\"security\":{\"network\":{\"allow_public_traffic\":true}}}",
	};
	struct sandbox_options o;

	good("{\"allow_internet_access\":false}", &o);
	cr_assert_str_eq(json_text(o.network, NULL), "{\"deny_out\":[\"0.0.0.0/0\"]}", "contract 2.1");
	sandbox_options_done(&o);
	good("{\"allow_internet_access\":false,\"network\":{\"allow_out\":[\"x\"]}}", &o);
	cr_assert_str_eq(json_text(o.network, NULL), "{\"allow_out\":[\"x\"]}", "what was sent is echoed");
	sandbox_options_done(&o);
	for (size_t i = 0; i < ELEMENTSOF(silent); i++) {
		good(silent[i], &o);
		cr_assert_str_eq(policy_mode(o.policy), "closed", "%s", silent[i]);
		cr_assert_not_null(strstr(json_text(o.network, NULL), "\"deny_out\":[\"0.0.0.0/0\"]"), "and says so");
		sandbox_options_done(&o);
	}
	good(silent[3], &o);
	cr_assert_null(strstr(json_text(o.security, NULL), "deny_out"), "the security policy is echoed as it came");
	sandbox_options_done(&o);
	test_leaks();
}

/* {"<key>":{"<member>":"xxx..."}} or, with count, that many members or list entries */
static enum fault sized(const char *key, const char *member, size_t len, unsigned int count, char **detail)
{
	_cleanup_json_ json_object *body = json_object_new_object();
	json_object *o = json_object_new_object(), *list = NULL;
	_cleanup_free_ char *s = malloc(len + 1);
	struct sandbox_options options;
	enum fault f;

	memset(s, 'x', len);
	s[len] = '\0';
	if (member && count > 1)
		json_put(o, member, list = json_object_new_array());
	for (unsigned int i = 0; i < count; i++) {
		_cleanup_free_ char *name = str_format("K%u", i);

		if (list)
			json_object_array_add(list, json_object_new_string(s));
		else
			json_put_string(o, member ?: name, s);
	}
	json_put(body, key, o);
	f = api_options_parse(&manager, body, &options, detail);
	sandbox_options_done(&options);
	return f;
}

Test(options, limits)
{
	static const struct { const char *key, *member; size_t len; unsigned int count; bool good; } table[] = {
		{ "envs", NULL, 1, LIMIT_ENVS, true }, { "envs", NULL, 1, LIMIT_ENVS + 1, false },
		{ "envs", "A", LIMIT_ENV_BYTES - 3, 1, true }, { "envs", "A", LIMIT_ENV_BYTES - 2, 1, false },
		{ "envs", NULL, LIMIT_ENV_BYTES / 2, 3, false },
		{ "metadata", NULL, 1, LIMIT_METADATA, true }, { "metadata", NULL, 1, LIMIT_METADATA + 1, false },
		{ "metadata", "A", LIMIT_METADATA_BYTES, 1, false },
		{ "network", "allow_out", 63, 2, true },
		{ "network", "allow_out", LIMIT_NETWORK_ENTRY + 1, 2, false },
		{ "network", "deny_out", 10, LIMIT_NETWORK_ENTRIES, true },
		{ "network", "deny_out", 10, LIMIT_NETWORK_ENTRIES + 1, false },
		{ "security", "x", LIMIT_POLICY_BYTES - 100, 1, true }, { "security", "x", LIMIT_POLICY_BYTES, 1, false },
		/* Members nobody knows are kept as well, for as long as the sandbox is remembered */
		{ "network", "x", 2u << 20, 1, false }, { "lifecycle", "x", 2u << 20, 1, false },
	};

	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		_cleanup_free_ char *detail = NULL;
		enum fault f = sized(table[i].key, table[i].member, table[i].len, table[i].count, &detail);

		cr_assert_eq(f, table[i].good ? FAULT_NONE : FAULT_BAD_FIELD, "%s %s %zu %u: %d %s", table[i].key,
			     table[i].member, table[i].len, table[i].count, f, detail);
		if (!table[i].good)
			cr_assert(detail && strstr(detail, table[i].key), "%s: %s", table[i].key, detail);
	}
	test_leaks();
}

/* A small policy in a large object around it */
Test(options, policy_json_with_luggage)
{
	_cleanup_json_ json_object *body = parse("{\"security\":{\"policy_json\":\"{}\"}}");
	_cleanup_free_ char *s = calloc(1, (2u << 20) + 1), *detail = NULL;
	json_object *security = NULL;
	struct sandbox_options o;

	memset(s, 'x', 2u << 20);
	json_object_object_get_ex(body, "security", &security);
	json_put_string(security, "luggage", s);
	cr_assert_eq(api_options_parse(&manager, body, &o, &detail), FAULT_BAD_FIELD);
	cr_assert_not_null(strstr(detail, "security"));
}
