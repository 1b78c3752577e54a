/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Routes of group `stdio`: a process whose standard input stays open, and whose output is numbered from its first byte
 * and can be read from any entry on, by any number of readers, also when it is over.
 */
#include <string.h>

#include "api/procapi.h"
#include "api/procstream.h"
#include "util/base64.h"
#include "util/clock.h"

static struct proc *stdio_param(struct sandbox *sb, struct http_request *req)
{
	struct proc *p = proc_find_id(sb, http_request_param(req, "cmd_id"));

	if (p && p->kind == PROC_STDIO)
		return p;
	api_fail(req, FAULT_PROC_UNKNOWN, NULL);
	return NULL;
}

/* --- start, stdin, close, kill --- */

static json_object *answer_id(const struct proc *p)
{
	json_object *o = json_object_new_object();

	if (o)
		json_put_string(o, "cmd_id", p->id);
	return o;
}

void stdio_start(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	_cleanup_json_ json_object *body = sb ? api_body(req) : NULL, *envs = NULL;
	_cleanup_free_ char *detail = NULL;
	struct proc_spec spec = { .kind = PROC_STDIO };
	double timeout = 0;
	enum fault fault;
	bool given;

	if (!body)
		return;
	fault = procapi_parse(body, true, &spec, &timeout, &given, &detail);
	envs = spec.envs;
	spec.timeout_usec = (uint64_t)(timeout * USEC_PER_SEC);
	if (fault == FAULT_NONE)
		procapi_start(req, sb, &spec, answer_id);
	else
		api_fail(req, fault, detail);
}

void stdio_stdin(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	_cleanup_json_ json_object *body = sb ? api_body(req) : NULL;
	_cleanup_free_ char *data = NULL;
	const char *text = NULL;
	struct proc *p;
	ssize_t n;
	size_t len;

	p = body ? stdio_param(sb, req) : NULL;
	if (!p)
		return;
	if (json_get_string(body, "data", &text) != 0) {
		api_fail(req, FAULT_MISSING_FIELD, "data must be a string");
		return;
	}
	len = strlen(text);
	data = malloc(len / 4 * 3 + 1);
	n = data ? base64_decode(text, len, data) : -ENOMEM;
	if (n == -EINVAL)
		api_fail(req, FAULT_BAD_FIELD, "data must be base64 with padding");
	else if (n < 0)
		api_fail(req, FAULT_INTERNAL, "out of memory");
	else
		api_stdin(req, p, data, (size_t)n);
}

void stdio_close(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	struct proc *p = sb ? stdio_param(sb, req) : NULL;

	if (!p)
		return;
	/* Of a process that is over it is closed, too */
	proc_stdin_close(p);
	api_reply(req, 200, json_object_new_object());
}

void stdio_kill(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	struct proc *p = sb ? stdio_param(sb, req) : NULL;

	if (p)
		procapi_kill(req, p);
}

/* --- stream --- */

static int on_entry(struct procstream *ps, const struct spool_entry *e, const void *data)
{
	int r = 0;

	/* The spool's cap was passed before this reader came this far */
	if (e->lost)
		r = sse_printf(ps->sse, "gap", "{\"from_entry_id\":%llu,\"to_entry_id\":%llu}",
			       (unsigned long long)(e->id - e->lost), (unsigned long long)(e->id - 1));
	return r < 0 ? r : sse_base64(ps->sse, e->stream == SPOOL_STDOUT ? "stdout" : "stderr", data, e->len, e->id);
}

static int on_end(struct procstream *ps)
{
	return sse_printf(ps->sse, "exit", "{\"exit_code\":%d}", procstream_exit_code(ps->p));
}

void stdio_stream(struct http_request *req, void *userdata)
{
	static const struct procstream_style style = { .entry = on_entry, .end = on_end };
	struct sandbox *sb = api_sandbox_running(userdata, req);
	struct proc *p = sb ? stdio_param(sb, req) : NULL;
	const char *after = http_request_query(req, "last_entry_id", 0);
	struct spool_cursor from = { 0 };
	uint64_t id = 0;

	if (!p)
		return;
	if (after && str_to_u64(after, 0, UINT64_MAX, &id) < 0)
		api_fail(req, FAULT_BAD_QUERY, "last_entry_id must be a number of an entry, or 0");
	else if (spool_seek(p->spool, &from, id) < 0)
		api_fail(req, FAULT_INTERNAL, "the output cannot be read back");
	else
		procstream_run(req, userdata, p, &from, 0, &style, 0);
}
