/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The body of POST /sandboxes -> struct sandbox_options, or a sentence that names the field.
 *
 * Unknown keys are ignored (newer clients send them); a known key with a wrong type or an option this version cannot
 * honour is refused, never accepted and ignored. Policies are kept and echoed as received; what they need of traffic
 * inspection is noted so that core keeps that egress closed.
 */
#include <string.h>

#include "api/api.h"
#include "core/egress.h"
#include "core/snapshot.h"
#include "policy/policy.h"
#include "util/clock.h"

static int complain(char **ret_detail, const char *format, ...) _printf_(2, 3);
static int complain(char **ret_detail, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (vasprintf(ret_detail, format, ap) < 0)
		*ret_detail = NULL;
	va_end(ap);
	return -EINVAL;
}

static bool env_name_valid(const char *s)
{
	if (!*s || strlen(s) > LIMIT_ENV_NAME)
		return false;
	for (; *s; s++)
		if (*s == '=' || (unsigned char)*s < 0x21 || *s == 0x7f)
			return false;
	return true;
}

int api_string_map(json_object *body, const char *key, unsigned int pairs_max, size_t bytes_max, bool env_names,
		   json_object **ret, char **ret_detail)
{
	json_object *o = NULL;
	size_t bytes = 0;
	int r = json_get_object(body, key, &o);

	if (r == JSON_E_MISSING) {
		*ret = json_object_new_object();
		return *ret ? 0 : -ENOMEM;
	}
	if (r != 0)
		return complain(ret_detail, "%s must be an object of strings", key);
	if ((size_t)json_object_object_length(o) > pairs_max)
		return complain(ret_detail, "%s has more than %u entries", key, pairs_max);
	json_object_object_foreach(o, name, value) {
		if (!value || !json_object_is_type(value, json_type_string))
			return complain(ret_detail, "%s.%.64s must be a string", key, name);
		if (strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
			return complain(ret_detail, "%s.%.64s contains a NUL character", key, name);
		if (env_names && !env_name_valid(name))
			return complain(ret_detail, "%s: \"%.64s\" is no name for an environment variable", key, name);
		bytes += strlen(name) + (size_t)json_object_get_string_len(value) + 2;
	}
	if (bytes > bytes_max)
		return complain(ret_detail, "%s has more than %zu bytes", key, bytes_max);
	*ret = json_object_get(o);
	return 0;
}

/* What is kept and echoed has a size, whatever is in it: members that this version does not know as well */
static int check_size(json_object *o, const char *key, size_t max, char **ret_detail)
{
	size_t len = 0;

	if (!json_text(o, &len))
		return -ENOMEM;
	return len > max ? complain(ret_detail, "%s has more than %zu bytes", key, max) : 0;
}

static int check_string_list(json_object *o, const char *key, char **ret_detail)
{
	json_object *list = NULL;
	int r = json_get_array(o, key, &list);

	if (r == JSON_E_MISSING)
		return 0;
	if (r != 0)
		return complain(ret_detail, "network.%s must be a list of strings", key);
	if (json_object_array_length(list) > LIMIT_NETWORK_ENTRIES)
		return complain(ret_detail, "network.%s has more than %u entries", key, LIMIT_NETWORK_ENTRIES);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object *s = json_object_array_get_idx(list, i);
		size_t len = s && json_object_is_type(s, json_type_string) ? (size_t)json_object_get_string_len(s) : 0;

		if (len == 0 || len > LIMIT_NETWORK_ENTRY || strlen(json_object_get_string(s)) != len)
			return complain(ret_detail, "network.%s[%zu] must be a name, address or range", key, i);
	}
	return 0;
}

static int parse_network(json_object *body, json_object **ret, char **ret_detail)
{
	json_object *o = NULL, *mask = NULL;
	bool flag;
	int r = json_get_object(body, "network", &o);

	if (r == JSON_E_MISSING)
		return 0;
	if (r != 0)
		return complain(ret_detail, "network must be an object");
	r = check_string_list(o, "allow_out", ret_detail);
	if (r == 0)
		r = check_string_list(o, "deny_out", ret_detail);
	if (r < 0)
		return r;
	if (json_get_bool(o, "allow_public_traffic", &flag) == JSON_E_TYPE)
		return complain(ret_detail, "network.allow_public_traffic must be true or false");
	json_object_object_get_ex(o, "mask_request_host", &mask);
	if (mask && !json_object_is_type(mask, json_type_string) && !json_object_is_type(mask, json_type_boolean))
		return complain(ret_detail, "network.mask_request_host must be a string or a boolean");
	r = check_size(o, "network", LIMIT_NETWORK_BYTES, ret_detail);
	if (r < 0)
		return r;
	*ret = json_object_get(o);
	return 0;
}

enum fault api_network_parse(json_object *network, bool inspection, struct egress_change *ret, char **ret_detail)
{
	_cleanup_json_ json_object *body = json_object_new_object(), *kept = NULL;
	int r = body && network && json_put(body, "network", json_object_get(network)) == 0 ? 0 : -ENOMEM;

	*ret_detail = NULL;
	if (r == 0)
		r = parse_network(body, &kept, ret_detail);
	if (r == 0)
		r = policy_parse(kept, inspection, &ret->policy, ret_detail);
	if (r != 0)
		return r == -EINVAL ? FAULT_BAD_FIELD : FAULT_INTERNAL;
	ret->network = TAKE_PTR(kept);
	return FAULT_NONE;
}

/* A section is on when it is true, or an object that does not say enabled: false */
static int section_on(json_object *policy, const char *key, bool *on, char **ret_detail)
{
	json_object *o = NULL;
	bool enabled = false;
	int r;

	if (!json_object_object_get_ex(policy, key, &o) || !o)
		return 0;
	if (json_object_is_type(o, json_type_boolean)) {
		*on |= json_object_get_boolean(o);
		return 0;
	}
	if (!json_object_is_type(o, json_type_object))
		return complain(ret_detail, "security.%s must be an object or a boolean", key);
	r = json_get_bool(o, "enabled", &enabled);
	if (r == JSON_E_TYPE)
		return complain(ret_detail, "security.%s.enabled must be true or false", key);
	*on |= enabled;
	return 0;
}

static int check_policy(json_object *policy, struct sandbox_options *ret, char **ret_detail)
{
	static const char *const inspecting[] = { "pii", "injection_defense", "toxicity", "code_security", "invisible_text",
						  "content_gate", "custom_policy" };
	_cleanup_json_ json_object *unused = NULL;
	json_object *list = NULL;
	bool audit = false;
	int r;

	for (size_t i = 0; i < ELEMENTSOF(inspecting); i++) {
		r = section_on(policy, inspecting[i], &ret->inspection, ret_detail);
		if (r < 0)
			return r;
	}
	r = section_on(policy, "audit", &audit, ret_detail);
	if (r < 0)
		return r;
	r = json_get_array(policy, "transformations", &list);
	if (r == JSON_E_TYPE)
		return complain(ret_detail, "security.transformations must be a list");
	if (r == 0 && json_object_array_length(list) > 0)
		ret->inspection = true;
	/* Checked in any case; the one beside the policy, when there is one, is the one that counts */
	return parse_network(policy, ret->network ? &unused : &ret->network, ret_detail);
}

static int parse_security(json_object *body, struct sandbox_options *ret, char **ret_detail)
{
	_cleanup_json_ json_object *parsed = NULL;
	const char *text = NULL, *error = NULL;
	json_object *o = NULL, *policy;
	int r = json_get_object(body, "security", &o);

	if (r == JSON_E_MISSING) {
		ret->policy_text = strdup("{}");
		return ret->policy_text ? 0 : -ENOMEM;
	}
	if (r != 0)
		return complain(ret_detail, "security must be an object");
	policy = o;
	if (json_has(o, "policy_json")) {
		if (json_get_string(o, "policy_json", &text) != 0)
			return complain(ret_detail, "security.policy_json must be a string");
		r = json_parse(text, strlen(text), &parsed, &error);
		if (r != 0 || !json_object_is_type(parsed, json_type_object))
			return complain(ret_detail, "security.policy_json is not a JSON object: %s", error ?: "wrong type");
		policy = parsed;
	} else {
		text = json_text(o, NULL);
	}
	if (!text || strlen(text) > LIMIT_POLICY_BYTES)
		return complain(ret_detail, "security has more than %u bytes", LIMIT_POLICY_BYTES);
	/* As a string inside it every quote of the policy is escaped */
	r = check_size(o, "security", 2 * LIMIT_POLICY_BYTES + 1024, ret_detail);
	if (r == 0)
		r = check_policy(policy, ret, ret_detail);
	if (r < 0)
		return r;
	ret->security = json_object_get(o);
	ret->policy_text = strdup(text);
	return ret->policy_text ? 0 : -ENOMEM;
}

static int parse_lifecycle(json_object *body, struct sandbox_options *ret, char **ret_detail)
{
	json_object *o = NULL;
	const char *s = NULL;
	int r = json_get_object(body, "lifecycle", &o);

	if (r == JSON_E_MISSING)
		return 0;
	if (r != 0)
		return complain(ret_detail, "lifecycle must be an object");
	r = json_get_string(o, "on_timeout", &s);
	if (r > 0 && r != JSON_E_MISSING)
		return complain(ret_detail, "lifecycle.on_timeout must be \"kill\" or \"pause\"");
	if (s && !str_eq(s, "kill") && !str_eq(s, "pause"))
		return complain(ret_detail, "lifecycle.on_timeout must be \"kill\" or \"pause\"");
	ret->pause_on_timeout = str_eq(s, "pause");
	if (json_get_bool(o, "auto_resume", &ret->auto_resume) == JSON_E_TYPE)
		return complain(ret_detail, "lifecycle.auto_resume must be true or false");
	r = check_size(o, "lifecycle", LIMIT_LIFECYCLE_BYTES, ret_detail);
	if (r < 0)
		return r;
	ret->lifecycle = json_object_get(o);
	return 0;
}

static bool no_entries(json_object *network, const char *key)
{
	json_object *list = NULL;

	return json_get_array(network, key, &list) != 0 || json_object_array_length(list) == 0;
}

/*
 * allow_internet_access: false. A network with lists of its own says more exactly what is meant, and counts alone; one
 * without (clients send {}) must not open what was asked to be closed. A copy: the security policy's is echoed too.
 */
static int no_internet(struct sandbox_options *o)
{
	_cleanup_json_ json_object *network = NULL, *all = json_object_new_array();

	if (o->network && (!no_entries(o->network, "allow_out") || !no_entries(o->network, "deny_out")))
		return 0;
	if (!o->network)
		network = json_object_new_object();
	else if (json_object_deep_copy(o->network, &network, NULL) < 0)
		return -ENOMEM;
	if (!network || !all || json_object_array_add(all, json_object_new_string("0.0.0.0/0")) < 0 ||
	    json_put(network, "deny_out", TAKE_PTR(all)) < 0)
		return -ENOMEM;
	cleanup_jsonp(&o->network);
	o->network = TAKE_PTR(network);
	return 0;
}

static int parse_scalars(struct manager *m, json_object *body, struct sandbox_options *ret, char **ret_detail)
{
	int64_t timeout = (int64_t)(m->settings.timeout_default_usec / USEC_PER_SEC);
	bool internet = true;
	int r;

	r = json_get_int(body, "timeout", 0, LIMIT_TIMEOUT_SEC, &timeout);
	if (r == JSON_E_TYPE || r == JSON_E_RANGE)
		return complain(ret_detail, "timeout must be a whole number of seconds from 0 to %u", LIMIT_TIMEOUT_SEC);
	ret->timeout_sec = (uint64_t)timeout;
	ret->secure = true;
	if (json_get_bool(body, "secure", &ret->secure) == JSON_E_TYPE)
		return complain(ret_detail, "secure must be true or false");
	r = json_get_bool(body, "allow_internet_access", &internet);
	if (r == JSON_E_TYPE)
		return complain(ret_detail, "allow_internet_access must be true or false");
	return r == 0 && !internet ? no_internet(ret) : 0;
}

/* Options of the contract that this version cannot honour: refused when they ask for something */
static enum fault refuse_later(json_object *body, char **ret_detail)
{
	static const char *const later[] = { "volumes", "vault_refs" };

	for (size_t i = 0; i < ELEMENTSOF(later); i++) {
		json_object *o = NULL;

		if (!json_object_object_get_ex(body, later[i], &o) || !o ||
		    (json_object_is_type(o, json_type_array) && json_object_array_length(o) == 0) ||
		    (json_object_is_type(o, json_type_object) && json_object_object_length(o) == 0))
			continue;
		*ret_detail = strdup(later[i]);
		return FAULT_OPTION_LATER;
	}
	return FAULT_NONE;
}

/* What it is made of says the template: one in the body (the clients' default) does not count. */
static enum fault parse_snapshot(struct manager *m, json_object *body, struct sandbox_options *ret, char **ret_detail)
{
	const struct snapshot *s;
	const char *id = NULL;
	int r = json_get_string(body, "snapshot_id", &id);

	if (r == JSON_E_MISSING || (r == 0 && !*id))
		return FAULT_NONE;
	if (r != 0) {
		complain(ret_detail, "snapshot_id must be a string");
		return FAULT_BAD_FIELD;
	}
	s = ident_snapshot_valid(id) ? snapshot_find(m, id) : NULL;
	if (!s)
		return FAULT_SNAPSHOT_UNKNOWN;
	ret->snapshot_id = strdup(id);
	ret->name = strdup(s->name);
	ret->template = template_find(&m->templates, s->template_id);
	if (!ret->snapshot_id || !ret->name)
		return FAULT_INTERNAL;
	if (!ret->template) {
		*ret_detail = strdup(s->name);
		return FAULT_TEMPLATE_UNKNOWN;
	}
	return FAULT_NONE;
}

static enum fault parse_template(struct manager *m, json_object *body, struct sandbox_options *ret, char **ret_detail)
{
	const char *name = "base";
	int r = json_get_string(body, "template", &name);

	if ((r != 0 && r != JSON_E_MISSING) || !*name || strlen(name) > 128) {
		complain(ret_detail, "template must be a name of 1 to 128 characters");
		return FAULT_BAD_FIELD;
	}
	ret->name = strdup(name);
	ret->template = template_find(&m->templates, name);
	if (!ret->template && m->settings.template_fallback)
		ret->template = template_find(&m->templates, "base");
	if (!ret->name)
		return FAULT_INTERNAL;
	if (!ret->template) {
		*ret_detail = strdup(name);
		return FAULT_TEMPLATE_UNKNOWN;
	}
	return FAULT_NONE;
}

enum fault api_options_parse(struct manager *m, json_object *body, struct sandbox_options *ret, char **ret_detail)
{
	enum fault fault;
	int r;

	memset(ret, 0, sizeof(*ret));
	*ret_detail = NULL;
	if (json_has(body, "resources"))
		return FAULT_RESOURCES_FIELD;
	fault = refuse_later(body, ret_detail);
	if (fault == FAULT_NONE)
		fault = parse_snapshot(m, body, ret, ret_detail);
	if (fault == FAULT_NONE && !ret->snapshot_id)
		fault = parse_template(m, body, ret, ret_detail);
	if (fault == FAULT_NONE) {
		r = api_string_map(body, "envs", LIMIT_ENVS, LIMIT_ENV_BYTES, true, &ret->envs, ret_detail);
		if (r == 0)
			r = api_string_map(body, "metadata", LIMIT_METADATA, LIMIT_METADATA_BYTES, false, &ret->metadata,
					   ret_detail);
		if (r == 0)
			r = parse_network(body, &ret->network, ret_detail);
		if (r == 0)
			r = parse_security(body, ret, ret_detail);
		if (r == 0)
			r = parse_lifecycle(body, ret, ret_detail);
		if (r == 0)
			r = parse_scalars(m, body, ret, ret_detail);
		if (r == 0)
			r = policy_parse(ret->network, ret->inspection, &ret->policy, ret_detail);
		if (r != 0)
			fault = r == -EINVAL ? FAULT_BAD_FIELD : FAULT_INTERNAL;
	}
	if (fault != FAULT_NONE)
		sandbox_options_done(ret);
	return fault;
}
