/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Routes of group `pty`: a login shell on a terminal.
 *
 * Output that nobody has seen yet waits for the next reader; what any reader was sent is not repeated to later ones
 * (spool.h's mark). So the first prompt is not lost to the reader that attaches after the answer, and neither is what is
 * printed while the daemon restarts.
 */
#include <string.h>

#include "api/procapi.h"
#include "api/procstream.h"
#include "util/clock.h"

#define COLS_DEFAULT 80
#define ROWS_DEFAULT 24
#define SIZE_MAX_CELLS 65535	/* struct winsize has 16 bits */

static struct proc *find_pty(struct sandbox *sb, struct http_request *req)
{
	struct proc *p;
	uint64_t pid;

	if (str_to_u64(http_request_param(req, "pid") ?: "", 1, UINT32_MAX, &pid) < 0)
		return NULL;
	p = proc_find_pid(sb, (uint32_t)pid);
	return p && p->kind == PROC_PTY ? p : NULL;
}

static struct proc *pty_param(struct sandbox *sb, struct http_request *req)
{
	struct proc *p = find_pty(sb, req);

	if (!p)
		api_fail(req, FAULT_PROC_UNKNOWN, NULL);
	return p;
}

/* Leaves what is not given as it is. */
static bool parse_size(json_object *body, uint32_t *cols, uint32_t *rows)
{
	json_object *size = NULL;
	int64_t c = *cols, r = *rows;
	int outcome = json_get_object(body, "size", &size);

	if (outcome == JSON_E_MISSING)
		return true;
	if (outcome != 0 || json_get_int(size, "cols", 1, SIZE_MAX_CELLS, &c) > JSON_E_MISSING ||
	    json_get_int(size, "rows", 1, SIZE_MAX_CELLS, &r) > JSON_E_MISSING)
		return false;
	*cols = (uint32_t)c;
	*rows = (uint32_t)r;
	return true;
}

/* --- create, stdin, kill --- */

static json_object *answer_pid(const struct proc *p)
{
	json_object *o = json_object_new_object();

	if (o)
		json_put_int(o, "pid", p->pid);
	return o;
}

void pty_create(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	_cleanup_json_ json_object *body = sb ? api_body(req) : NULL, *envs = NULL;
	_cleanup_free_ char *detail = NULL;
	struct proc_spec spec = { .kind = PROC_PTY, .cols = COLS_DEFAULT, .rows = ROWS_DEFAULT };
	double timeout = 0;
	enum fault fault;
	bool given;

	if (!body)
		return;
	fault = procapi_parse(body, false, &spec, &timeout, &given, &detail);
	envs = spec.envs;
	spec.timeout_usec = (uint64_t)(timeout * USEC_PER_SEC);
	if (fault != FAULT_NONE)
		api_fail(req, fault, detail);
	else if (!parse_size(body, &spec.cols, &spec.rows))
		api_fail(req, FAULT_BAD_FIELD, "size must be {\"cols\",\"rows\"} with numbers from 1 to 65535");
	else
		procapi_start(req, sb, &spec, answer_pid);
}

void pty_stdin(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	_cleanup_json_ json_object *body = sb ? api_body(req) : NULL;
	struct proc *p = body ? pty_param(sb, req) : NULL;
	json_object *data = NULL;

	if (!p)
		return;
	/* Not a C string: Control-@ is a NUL */
	json_object_object_get_ex(body, "data", &data);
	if (data && json_object_is_type(data, json_type_string))
		api_stdin(req, p, json_object_get_string(data), (size_t)json_object_get_string_len(data));
	else
		api_fail(req, FAULT_MISSING_FIELD, "data must be a string");
}

void pty_kill(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);

	if (sb)
		procapi_kill(req, find_pty(sb, req));
}

/* --- resize --- */

struct resize_call {
	struct http_request *req;	/* NULL: the client is gone */
};

static void resize_gone(void *userdata)
{
	struct resize_call *c = userdata;

	c->req = NULL;
}

static void resized(void *userdata, int error)
{
	struct resize_call *c = userdata;

	if (c->req) {
		http_request_on_cancel(c->req, NULL, NULL);
		if (error == 0)
			api_reply(c->req, 200, json_object_new_object());
		else
			api_fail(c->req, error < 0 ? FAULT_AGENT_LOST : FAULT_PROC_ENDED, NULL);
	}
	free(c);
}

void pty_resize(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	_cleanup_json_ json_object *body = sb ? api_body(req) : NULL;
	struct proc *p = body ? pty_param(sb, req) : NULL;
	uint32_t cols = 0, rows = 0;
	struct resize_call *c;
	int r;

	if (!p)
		return;
	if (!parse_size(body, &cols, &rows) || !cols || !rows) {
		api_fail(req, FAULT_BAD_FIELD, "size must be {\"cols\",\"rows\"} with numbers from 1 to 65535");
		return;
	}
	if (p->state != PROC_RUNNING || !sb->agent) {
		api_fail(req, FAULT_PROC_ENDED, NULL);
		return;
	}
	c = calloc(1, sizeof(*c));
	r = c ? agent_pty_resize(sb->agent, p->pid, rows, cols, resized, c) : -ENOMEM;
	if (r < 0) {
		free(c);
		api_fail(req, api_agent_fault(r), strerror(-r));
		return;
	}
	c->req = req;
	http_request_on_cancel(req, resize_gone, c);
}

/* --- stream --- */

static int on_entry(struct procstream *ps, const struct spool_entry *e, const void *data)
{
	int r = 0;

	/* The spool's cap was passed before the first reader came. Clients skip events they do not know */
	if (e->lost)
		r = sse_printf(ps->sse, "gap", "{\"lost_entries\":%llu}", (unsigned long long)e->lost);
	return r < 0 ? r : sse_base64(ps->sse, "data", data, e->len, 0);
}

static int on_end(struct procstream *ps)
{
	return sse_printf(ps->sse, "exit", "{\"exit_code\":%d}", procstream_exit_code(ps->p));
}

void pty_stream(struct http_request *req, void *userdata)
{
	static const struct procstream_style style = { .entry = on_entry, .end = on_end, .marks = true };
	struct sandbox *sb = api_sandbox_running(userdata, req);
	struct proc *p = sb ? pty_param(sb, req) : NULL;
	struct spool_cursor from;

	if (!p)
		return;
	spool_get_mark(p->spool, &from);
	procstream_run(req, userdata, p, &from, 0, &style, 0);
}
