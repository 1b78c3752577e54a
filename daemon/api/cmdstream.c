/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * POST commands/stream: a foreground command whose output is sent as it comes. It ends with its client.
 *
 * Nothing is answered before the guest has started it, so that what is wrong with the request is a plain error.
 */
#include <string.h>

#include "api/procapi.h"
#include "api/procstream.h"
#include "util/clock.h"

#define TIMEOUT_DEFAULT_SEC 60.0
#define EXIT_TIMEOUT 124	/* as timeout(1) and the contract have it */

enum { END_STDOUT, END_STDERR, END_ERROR, END_EXIT };

static int on_entry(struct procstream *ps, const struct spool_entry *e, const void *data)
{
	return sse_text(ps->sse, e->stream == SPOOL_STDOUT ? "stdout" : "stderr", &ps->text[e->stream - 1], data, e->len);
}

static int send_error(struct procstream *ps)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_buf_ struct buf safe = BUF_INIT(4096);
	struct json_escape_state state = { 0 };
	char seconds[32];

	if (!ps->p->timed_out && ps->p->fault == FAULT_NONE)
		return 0;
	snprintf(seconds, sizeof(seconds), "%g", ps->timeout);
	text = api_fault_text(ps->p->timed_out ? FAULT_CMD_TIMEOUT : ps->p->fault, seconds);
	if (!text || json_escape_append(&safe, &state, text, strlen(text)) < 0)
		return -ENOMEM;
	return sse_printf(ps->sse, "error", "{\"error\":\"%s\"}", safe.data);
}

static int on_end(struct procstream *ps)
{
	int r;

	switch (ps->stage++) {
	case END_STDOUT:
		r = sse_text(ps->sse, "stdout", &ps->text[0], NULL, 0);
		break;
	case END_STDERR:
		r = sse_text(ps->sse, "stderr", &ps->text[1], NULL, 0);
		break;
	case END_ERROR:
		r = send_error(ps);
		break;
	default:
		return sse_printf(ps->sse, "exit", "{\"exit_code\":%d}", ps->p->timed_out ? EXIT_TIMEOUT :
				  ps->p->fault != FAULT_NONE ? -1 : proc_shell_code(ps->p));
	}
	return r < 0 ? r : 1;
}

static const struct procstream_style style = { .entry = on_entry, .end = on_end, .kill = true };

struct stream_call {
	struct http_request *req;
	struct manager *manager;
	struct proc *p;
	double timeout;
};

static void call_free(struct stream_call *c)
{
	proc_unref(c->p);
	free(c);
}

static void call_gone(void *userdata)
{
	struct stream_call *c = userdata;

	proc_start_forget(c->p);
	proc_kill(c->p);
	call_free(c);
}

static void started(void *userdata, enum fault fault, const char *detail)
{
	static const struct spool_cursor start;
	struct stream_call *c = userdata;

	http_request_on_cancel(c->req, NULL, NULL);
	if (fault == FAULT_NONE)
		procstream_run(c->req, c->manager, c->p, &start, c->timeout, &style, c->timeout);
	else
		api_fail(c->req, fault, detail);
	call_free(c);
}

void commands_stream(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	_cleanup_json_ json_object *body = sb ? api_body(req) : NULL, *envs = NULL;
	_cleanup_free_ char *detail = NULL;
	struct proc_spec spec = { .kind = PROC_FOREGROUND };
	struct stream_call *c;
	const char *why = NULL;
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
	fault = procapi_parse(body, true, &spec, &c->timeout, &given, &detail);
	envs = spec.envs;
	spec.timeout_usec = (uint64_t)(c->timeout * USEC_PER_SEC);
	if (fault == FAULT_NONE)
		fault = proc_start(sb, &spec, started, c, &c->p, &why);
	if (fault != FAULT_NONE) {
		call_free(c);
		api_fail(req, fault, detail ?: why);
		return;
	}
	c->req = req;
	c->manager = userdata;
	http_request_on_cancel(req, call_gone, c);
}
