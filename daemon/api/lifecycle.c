/* SPDX-License-Identifier: GPL-2.0-or-later */
/* POST /sandboxes/{id}/pause and /resume. Both wait for a move that is under way, then look again. */
#include "api/api.h"
#include "core/pause.h"

struct pause_call {
	struct http_request *req;
	struct sandbox *sb;
};

static void pause_cancelled(void *userdata)
{
	struct pause_call *c = userdata;

	/* The pause itself goes on: whoever asked for it wants it */
	sandbox_unwait(&c->sb->move_waiters, c);
	sandbox_unref(c->sb);
	free(c);
}

static void pause_answer(void *userdata, enum fault fault, const char *detail)
{
	struct pause_call *c = userdata;

	http_request_on_cancel(c->req, NULL, NULL);
	if (fault == FAULT_NONE)
		api_reply(c->req, 200, json_object_new_object());
	else
		api_fail(c->req, fault, detail);
	sandbox_unref(c->sb);
	free(c);
}

void lifecycle_pause(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_live(userdata, req);
	struct pause_call *c;
	enum fault fault;

	if (!sb)
		return;
	if (sb->state != SANDBOX_RUNNING) {
		api_fail(req, FAULT_SANDBOX_STATE, sandbox_state_name(sb->state));
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	*c = (struct pause_call){ .req = req, .sb = sandbox_ref(sb) };
	http_request_on_cancel(req, pause_cancelled, c);
	fault = sandbox_pause(sb, pause_answer, c);
	if (fault == FAULT_NONE)
		return;
	http_request_on_cancel(req, NULL, NULL);
	sandbox_unref(sb);
	free(c);
	api_fail(req, fault, NULL);
}

void lifecycle_resume(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_live(userdata, req);
	json_object *o;

	if (!sb)
		return;
	if (sb->state == SANDBOX_PAUSED) {
		api_sandbox_wake(sb, req);
		return;
	}
	/* Also when it ran all the time: two clients may resume at once */
	o = json_object_new_object();
	if (o) {
		json_put_bool(o, "resumed", true);
		json_put_string(o, "sandbox_id", sb->id);
	}
	api_reply(req, 200, o);
}
