/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Routes of group `commands`: run (foreground and background), list, kill, stdin, wait. */
#include <string.h>

#include "api/procapi.h"
#include "util/clock.h"

#define TIMEOUT_DEFAULT_SEC 60.0

/* --- run --- */

struct run_call {
	struct http_request *req;
	struct sandbox *sb;
	struct proc *p;
	struct proc_reader reader;	/* foreground: told of the end */
	double timeout;
	bool background;
};

static void run_free(struct run_call *c)
{
	if (c->p) {
		proc_start_forget(c->p);
		proc_reader_remove(c->p, &c->reader);
		proc_unref(c->p);
	}
	sandbox_unref(c->sb);
	free(c);
}

static void run_cancelled(void *userdata)
{
	struct run_call *c = userdata;

	/* Foreground commands end with their client; background ones go on */
	if (!c->background)
		proc_kill(c->p);
	run_free(c);
}

static void run_answer_end(struct run_call *c)
{
	struct http_request *req = c->req;
	char seconds[32];

	http_request_on_cancel(req, NULL, NULL);
	if (c->p->timed_out) {
		snprintf(seconds, sizeof(seconds), "%g", c->timeout);
		api_fail(req, FAULT_CMD_TIMEOUT, seconds);
	} else if (c->p->fault != FAULT_NONE) {
		api_fail(req, c->p->fault, NULL);
	} else {
		api_reply_output(req, c->p);
	}
	run_free(c);
}

static void run_notify(void *userdata)
{
	struct run_call *c = userdata;

	if (!proc_alive(c->p) && !c->p->start_fn)
		run_answer_end(c);
}

static void run_started(void *userdata, enum fault fault, const char *detail)
{
	struct run_call *c = userdata;
	json_object *o;

	if (fault == FAULT_NONE && !c->background)
		return;		/* run_notify() at the end */
	http_request_on_cancel(c->req, NULL, NULL);
	if (fault != FAULT_NONE) {
		api_fail(c->req, fault, detail);
	} else {
		o = json_object_new_object();
		if (o)
			json_put_int(o, "pid", c->p->pid);
		api_reply(c->req, 200, o);
	}
	run_free(c);
}

void commands_run(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	_cleanup_json_ json_object *body = sb ? api_body(req) : NULL, *envs = NULL;
	_cleanup_free_ char *detail = NULL;
	struct proc_spec spec = { 0 };
	const char *why = NULL;
	struct run_call *c;
	enum fault fault;
	bool given;

	if (!body)
		return;
	c = calloc(1, sizeof(*c));
	if (!c) {
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	c->timeout = TIMEOUT_DEFAULT_SEC;
	list_init(&c->reader.link);
	fault = procapi_parse(body, true, &spec, &c->timeout, &given, &detail);
	envs = spec.envs;
	if (fault == FAULT_NONE && json_get_bool(body, "background", &c->background) == JSON_E_TYPE) {
		fault = FAULT_BAD_FIELD;
		detail = strdup("background must be true or false");
	}
	spec.kind = c->background ? PROC_BACKGROUND : PROC_FOREGROUND;
	/*
	 * The SDKs send their default of 60 with background commands, too, and nobody who starts a server wants it to end
	 * after a minute: there it means none. Any other value was meant.
	 */
	if (!c->background || (given && c->timeout != TIMEOUT_DEFAULT_SEC))
		spec.timeout_usec = (uint64_t)(c->timeout * USEC_PER_SEC);
	if (fault == FAULT_NONE)
		fault = proc_start(sb, &spec, run_started, c, &c->p, &why);
	if (fault != FAULT_NONE) {
		api_fail(req, fault, detail ?: why);
		run_free(c);
		return;
	}
	c->req = req;
	c->sb = sandbox_ref(sb);
	c->reader.notify = run_notify;
	c->reader.userdata = c;
	proc_reader_add(c->p, &c->reader);
	http_request_on_cancel(req, run_cancelled, c);
}

/* --- list, kill --- */

void commands_list(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	json_object *list, *o;
	struct proc *p;

	if (!sb)
		return;
	list = json_object_new_array();
	list_foreach(&sb->procs, p, struct proc, link) {
		if (p->state != PROC_RUNNING || p->killed || p->kind == PROC_STDIO)
			continue;
		o = json_object_new_object();
		if (!o)
			break;
		json_put_int(o, "pid", p->pid);
		json_put_string(o, "cmd", p->cmd);
		json_put_bool(o, "is_pty", p->kind == PROC_PTY);
		json_put(o, "envs", json_object_get(p->envs));
		json_object_array_add(list, o);
	}
	api_reply(req, 200, list);
}

static struct proc *pid_param(struct sandbox *sb, struct http_request *req)
{
	uint64_t pid;

	if (str_to_u64(http_request_param(req, "pid") ?: "", 1, UINT32_MAX, &pid) < 0)
		return NULL;
	return proc_find_pid(sb, (uint32_t)pid);
}

void commands_kill(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	struct proc *p = sb ? pid_param(sb, req) : NULL;

	if (sb)
		procapi_kill(req, p);
}

/* --- stdin --- */

struct stdin_call {
	struct http_request *req;
	struct proc *p;
};

static void stdin_cancelled(void *userdata)
{
	struct stdin_call *c = userdata;

	proc_stdin_forget(c->p, c);
	proc_unref(c->p);
	free(c);
}

static void stdin_done(void *userdata, enum fault fault, const char *detail)
{
	struct stdin_call *c = userdata;

	http_request_on_cancel(c->req, NULL, NULL);
	if (fault == FAULT_NONE)
		api_reply(c->req, 200, json_object_new_object());
	else
		api_fail(c->req, fault, detail);
	proc_unref(c->p);
	free(c);
}

void api_stdin(struct http_request *req, struct proc *p, const void *data, size_t len)
{
	struct stdin_call *c;
	enum fault fault;

	if (len == 0) {
		api_reply(req, 200, json_object_new_object());
		return;
	}
	c = calloc(1, sizeof(*c));
	fault = c ? proc_stdin(p, data, len, stdin_done, c) : FAULT_INTERNAL;
	if (fault != FAULT_NONE) {
		free(c);
		api_fail(req, fault, NULL);
		return;
	}
	c->req = req;
	c->p = proc_ref(p);
	http_request_on_cancel(req, stdin_cancelled, c);
}

void commands_stdin(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	_cleanup_json_ json_object *body = sb ? api_body(req) : NULL;
	json_object *data = NULL;
	struct proc *p;

	if (!body)
		return;
	p = pid_param(sb, req);
	json_object_object_get_ex(body, "data", &data);
	if (!data || !json_object_is_type(data, json_type_string))
		api_fail(req, FAULT_MISSING_FIELD, "data must be a string");
	else if (!p)
		api_fail(req, FAULT_PROC_UNKNOWN, NULL);
	else
		api_stdin(req, p, json_object_get_string(data), (size_t)json_object_get_string_len(data));
}

/* --- wait --- */

static void wait_unknown(struct http_request *req)
{
	json_object *o = json_object_new_object();

	/* Contract 2.2: an unknown pid is an answer, not an error */
	if (o) {
		json_put_string(o, "stdout", "");
		json_put_string(o, "stderr", "process not found");
		json_put_int(o, "exit_code", 1);
	}
	api_reply(req, 200, o);
}

void commands_wait(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	struct proc *p = sb ? pid_param(sb, req) : NULL;
	struct run_call *c;

	if (!sb)
		return;
	if (!p) {
		wait_unknown(req);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	*c = (struct run_call){
		.req = req, .sb = sandbox_ref(sb), .p = proc_ref(p), .background = true,
		.reader = { .notify = run_notify, .userdata = c },
	};
	list_init(&c->reader.link);
	if (!proc_alive(p)) {
		run_answer_end(c);
		return;
	}
	proc_reader_add(p, &c->reader);
	http_request_on_cancel(req, run_cancelled, c);
}
