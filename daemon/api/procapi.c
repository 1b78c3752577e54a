/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bodies and starts of processes, see procapi.h. */
#include "api/procapi.h"

#include <string.h>

/* --- bodies --- */

static const char *check_text(json_object *body, const char *key, size_t max, const char **ret)
{
	int r = json_get_string(body, key, ret);

	if (r == JSON_E_MISSING)
		return NULL;
	return r != 0 || strlen(*ret) > max || !**ret ? key : NULL;
}

/* NULL, or the name of the field that cannot be used */
static const char *check_timeout(json_object *body, double *timeout, bool *ret_given)
{
	int r = json_get_double(body, "timeout", timeout);

	*ret_given = r == 0;
	return r == JSON_E_TYPE || !(*timeout >= 0 && *timeout <= LIMIT_TIMEOUT_SEC) ? "timeout" : NULL;
}

enum fault procapi_parse(json_object *body, bool need_cmd, struct proc_spec *spec, double *timeout, bool *ret_given,
			 char **ret_detail)
{
	const char *bad = NULL;

	if (need_cmd) {
		bad = check_text(body, "cmd", LIMIT_CMD_BYTES, &spec->cmd);
		if (!bad && !spec->cmd)
			bad = "cmd";
	}
	if (!bad)
		bad = check_text(body, "user", LIMIT_USER, &spec->user);
	if (!bad)
		bad = check_text(body, "cwd", LIMIT_PATH, &spec->cwd);
	if (!bad && spec->cwd && spec->cwd[0] != '/')
		bad = "cwd";
	if (!bad)
		bad = check_timeout(body, timeout, ret_given);
	if (!bad && api_string_map(body, "envs", LIMIT_ENVS, LIMIT_ENV_BYTES, true, &spec->envs, ret_detail) < 0)
		bad = "envs";
	if (bad && !*ret_detail)
		*ret_detail = str_format("%s is missing, of the wrong type, empty or out of range", bad);
	return bad ? FAULT_BAD_FIELD : FAULT_NONE;
}

/* --- start --- */

struct start_call {
	struct http_request *req;
	struct proc *p;
	json_object *(*answer)(const struct proc *p);
};

static void start_free(struct start_call *c)
{
	proc_unref(c->p);
	free(c);
}

static void start_gone(void *userdata)
{
	struct start_call *c = userdata;

	proc_start_forget(c->p);
	proc_kill(c->p);
	start_free(c);
}

static void started(void *userdata, enum fault fault, const char *detail)
{
	struct start_call *c = userdata;

	http_request_on_cancel(c->req, NULL, NULL);
	if (fault == FAULT_NONE)
		api_reply(c->req, 200, c->answer(c->p));
	else
		api_fail(c->req, fault, detail);
	start_free(c);
}

void procapi_start(struct http_request *req, struct sandbox *sb, const struct proc_spec *spec,
		   json_object *(*answer)(const struct proc *p))
{
	struct start_call *c = calloc(1, sizeof(*c));
	const char *why = NULL;
	enum fault fault = c ? proc_start(sb, spec, started, c, &c->p, &why) : FAULT_INTERNAL;

	if (fault != FAULT_NONE) {
		free(c);
		api_fail(req, fault, why);
		return;
	}
	c->req = req;
	c->answer = answer;
	http_request_on_cancel(req, start_gone, c);
}

void procapi_kill(struct http_request *req, struct proc *p)
{
	json_object *o = json_object_new_object();

	if (o)
		json_put_bool(o, "killed", p && proc_kill(p));
	api_reply(req, 200, o);
}
