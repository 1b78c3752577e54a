/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bodies of POST /sandboxes and of the commands routes. Beyond not crashing and not leaking: a body that is taken gives
 * options within the limits, whose echo and environment can be made; one that is refused leaves nothing and says why.
 */
#include <string.h>

#include "api/api.h"
#include "api/procapi.h"
#include "fuzz-main.h"

/* assert() that no build turns off */
#define MUST(x) ((x) ? (void)0 : abort())

static struct manager manager;
static struct template base = { .name = (char *)"base", .id = (char *)"tpl-base", .rootfs = (char *)"/rootfs", .vcpus = 1 };

static void setup(void)
{
	if (manager.templates.templates.next)
		return;
	manager.settings.timeout_default_usec = 300000000;
	list_init(&manager.templates.templates);
	list_init(&base.link);
	list_append(&manager.templates.templates, &base.link);
}

/* What the guest's kernel would refuse as an environment may not get this far. */
static void check_env(const struct sandbox *sb, json_object *extra)
{
	_cleanup_strv_ char **env = NULL;

	MUST(sandbox_env(sb, extra, &env) == 0);
	for (char **e = env; *e; e++) {
		const char *eq = strchr(*e, '=');

		MUST(eq && eq > *e);
		MUST(strlen(*e) < 128u << 10);
		/* Each name once: which of two a program sees is anybody's guess */
		for (char **other = env; other < e; other++)
			MUST(strncmp(*other, *e, (size_t)(eq - *e) + 1) != 0);
	}
	MUST(strv_len(env) >= 4);
}

static void check_options(struct sandbox_options *o)
{
	_cleanup_(cleanup_sandbox_unref) struct sandbox *sb = NULL;
	_cleanup_json_ json_object *policy = NULL, *echo = NULL;
	const char *error;

	MUST(o->template == &base && o->name && o->envs && o->metadata && o->policy_text);
	MUST(o->timeout_sec <= LIMIT_TIMEOUT_SEC);
	MUST((size_t)json_object_object_length(o->envs) <= LIMIT_ENVS);
	MUST(strlen(o->policy_text) <= LIMIT_POLICY_BYTES);
	MUST(json_parse(o->policy_text, strlen(o->policy_text), &policy, &error) == 0);
	MUST(json_object_is_type(policy, json_type_object));
	MUST(sandbox_new(&manager, "sbx-0123456789", "fuzz", o, &sb) == 0);
	check_env(sb, NULL);
	echo = api_sandbox_object(sb);
	MUST(echo && json_text(echo, NULL));
}

static void try_create(json_object *body)
{
	_cleanup_free_ char *detail = NULL;
	struct sandbox_options o;
	enum fault f = api_options_parse(&manager, body, &o, &detail);

	if (f == FAULT_NONE) {
		MUST(!detail);
		check_options(&o);
		return;
	}
	MUST(f != FAULT_INTERNAL && api_fault_status(f) >= 400 && api_fault_status(f) < 500);
	MUST(f == FAULT_RESOURCES_FIELD || (detail && *detail));
	MUST(!o.name && !o.envs && !o.metadata && !o.network && !o.security && !o.lifecycle && !o.policy_text);
}

static void try_command(json_object *body, bool need_cmd)
{
	_cleanup_free_ char *detail = NULL;
	struct proc_spec spec = { 0 };
	double timeout = 60;
	bool given = false;
	enum fault f = procapi_parse(body, need_cmd, &spec, &timeout, &given, &detail);

	if (f == FAULT_NONE) {
		MUST(spec.envs && timeout >= 0 && timeout <= LIMIT_TIMEOUT_SEC);
		MUST(!need_cmd || (spec.cmd && *spec.cmd && strlen(spec.cmd) <= LIMIT_CMD_BYTES));
		MUST(!spec.cwd || spec.cwd[0] == '/');
	} else {
		MUST(f == FAULT_BAD_FIELD && detail && *detail);
	}
	json_object_put(spec.envs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_json_ json_object *o = NULL;
	const char *error = NULL;

	setup();
	if (size > 1u << 20 || json_parse((const char *)data, size, &o, &error) != 0 ||
	    !json_object_is_type(o, json_type_object))
		return 0;
	try_create(o);
	try_command(o, true);
	try_command(o, false);
	return 0;
}
