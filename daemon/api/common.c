/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all handlers share: answers, bodies, who asks, which sandbox. */
#include <string.h>

#include "api/api.h"
#include "core/pause.h"
#include "core/tier.h"
#include "util/clock.h"

void api_reply(struct http_request *req, int status, json_object *o)
{
	static const char fallback[] = "{\"message\":\"out of memory\",\"code\":\"internal\"}";
	const char *text = NULL;
	size_t len = 0;

	if (o)
		text = json_text(o, &len);
	if (text)
		http_reply(req, status, "application/json", text, len);
	else
		http_reply(req, 500, "application/json", fallback, sizeof(fallback) - 1);
	json_object_put(o);
}

json_object *api_body(struct http_request *req)
{
	json_object *o = NULL;
	const char *error = NULL, *text;
	size_t len;
	int r;

	text = http_request_body(req, &len);
	if (len == 0)
		return json_object_new_object();
	r = json_parse(text, len, &o, &error);
	if (r != 0) {
		api_fail(req, r < 0 ? FAULT_INTERNAL : FAULT_BAD_JSON, error);
		return NULL;
	}
	if (!json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		api_fail(req, FAULT_BAD_JSON, "it must be an object");
		return NULL;
	}
	return o;
}

const char *api_owner(const struct http_request *req)
{
	const struct keyfile_entry *e = http_request_principal(req);

	return e ? e->owner : "";
}

const char *api_tier(const struct http_request *req)
{
	const struct keyfile_entry *e = http_request_principal(req);

	return e ? e->tier : KEYFILE_TIER_DEFAULT;
}

bool api_is_admin(const struct http_request *req)
{
	const struct keyfile_entry *e = http_request_principal(req);

	return e && e->role == KEYFILE_ROLE_ADMIN;
}

struct sandbox *api_sandbox(struct manager *m, struct http_request *req)
{
	const char *id = http_request_param(req, "id");
	struct sandbox *sb = id && ident_sandbox_valid(id) ? manager_find(m, id) : NULL;

	/* Another's sandbox does not exist: no one learns which ids are taken */
	if (sb && (sb->role != SANDBOX_FOR_USER || (!str_eq(sb->owner, api_owner(req)) && !api_is_admin(req))))
		sb = NULL;
	if (!sb)
		api_fail(req, FAULT_SANDBOX_UNKNOWN, NULL);
	return sb;
}

/* --- waiting for a sandbox at rest --- */

/* A daemon that has just started finds its sandboxes within milliseconds, unless libvirt or systemd is away */
#define RECOVERY_PATIENCE_USEC (10 * USEC_PER_SEC)

struct gate {
	struct http_request *req;
	struct sandbox *sb;
	bool began;		/* this request began the move, and fails with it */
	sd_event_source *limit;
};

static void gate_free(struct gate *g)
{
	http_request_on_cancel(g->req, NULL, NULL);
	sd_event_source_disable_unref(g->limit);
	sandbox_unref(g->sb);
	free(g);
}

static void gate_cancelled(void *userdata)
{
	struct gate *g = userdata;

	sandbox_unwait(&g->sb->move_waiters, g);
	gate_free(g);
}

static int gate_limit(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct gate *g = userdata;
	struct http_request *req = g->req;

	gate_cancelled(g);
	api_fail(req, FAULT_BUSY, "start-up recovery is under way");
	return 0;
}

static void gate_opened(void *userdata, enum fault fault, const char *detail)
{
	struct gate *g = userdata;
	struct http_request *req = g->req;
	bool again = fault == FAULT_NONE || !g->began;

	gate_free(g);
	if (again)
		http_request_again(req);
	else
		api_fail(req, fault, detail);
}

/* Calls the handler again when the move is over; begins one with start unless it is NULL. */
static void gate_wait(struct sandbox *sb, struct http_request *req,
		      enum fault (*start)(struct sandbox *sb, sandbox_done_fn fn, void *userdata))
{
	struct manager *m = sb->manager;
	struct gate *g = calloc(1, sizeof(*g));
	enum fault fault = FAULT_INTERNAL;

	if (g) {
		*g = (struct gate){ .req = req, .sb = sandbox_ref(sb), .began = start };
		http_request_on_cancel(req, gate_cancelled, g);
		if (start)
			fault = start(sb, gate_opened, g);
		else if ((m->recovered || sd_event_add_time_relative(m->event, &g->limit, CLOCK_MONOTONIC,
					RECOVERY_PATIENCE_USEC, 0, gate_limit, g) >= 0) &&
			 sandbox_move_wait(sb, gate_opened, g) == 0)
			fault = FAULT_NONE;
	}
	if (fault == FAULT_NONE)
		return;
	if (g)
		gate_free(g);
	api_fail(req, fault, NULL);
}

struct sandbox *api_sandbox_recovered(struct manager *m, struct http_request *req)
{
	struct sandbox *sb = api_sandbox(m, req);

	if (!sb || m->recovered)
		return sb;
	gate_wait(sb, req, NULL);
	return NULL;
}

struct sandbox *api_sandbox_live(struct manager *m, struct http_request *req)
{
	struct sandbox *sb = api_sandbox_recovered(m, req);

	if (!sb)
		return NULL;
	if (sb->moving != SANDBOX_MOVE_NONE)
		gate_wait(sb, req, NULL);
	else if (sb->state == SANDBOX_RUNNING || sb->state == SANDBOX_PAUSED)
		return sb;
	else if (sb->state == SANDBOX_KILLED)
		api_fail(req, FAULT_SANDBOX_KILLED, NULL);
	else
		api_fail(req, FAULT_SANDBOX_STATE, sandbox_state_name(sb->state));
	return NULL;
}

void api_sandbox_wake(struct sandbox *sb, struct http_request *req)
{
	gate_wait(sb, req, sandbox_resume);
}

struct sandbox *api_sandbox_running(struct manager *m, struct http_request *req)
{
	struct sandbox *sb = api_sandbox_recovered(m, req);

	/* While a snapshot is made of it, it is used as ever; not while it is found again after that was cut off */
	if (!sb || (sb->state == SANDBOX_RUNNING && sb->moving == SANDBOX_MOVE_COPYING && sb->agent))
		return sb;
	sb = api_sandbox_live(m, req);
	if (!sb || sb->state == SANDBOX_RUNNING)
		return sb;
	/* Contract 2.1: activity wakes a sandbox that asked for it, or that somebody has connected to since its pause */
	if (sb->options.auto_resume || sb->fetched)
		api_sandbox_wake(sb, req);
	else
		api_fail(req, FAULT_SANDBOX_PAUSED, NULL);
	return NULL;
}

static bool authorise(void *userdata, struct http_request *req, const char *key)
{
	struct manager *m = userdata;
	const struct keyfile_entry *e = key ? keyfile_check(m->keys, key, strlen(key)) : NULL;
	const char *other = http_request_header(req, "X-API-Key");
	enum fault fault;

	/* Either header opens the door, also beside a wrong one in the other (contract 1.2) */
	if (!e && other && !str_eq(other, key))
		e = keyfile_check(m->keys, other, strlen(other));
	if (!e) {
		api_fail(req, FAULT_UNAUTHORIZED, NULL);
		return false;
	}
	fault = tier_request(m, e->owner, e->tier);
	if (fault != FAULT_NONE) {
		api_fail(req, fault, NULL);
		return false;
	}
	http_request_set_principal(req, e);
	return true;
}

static void not_found(void *userdata _unused_, struct http_request *req)
{
	api_fail(req, FAULT_ROUTE_UNKNOWN, NULL);
}

static void refused(void *userdata _unused_, struct http_request *req, int status)
{
	switch (status) {
	case 405:
		api_fail(req, FAULT_METHOD, NULL);
		break;
	case 413:
		api_fail(req, FAULT_TOO_LARGE, "a JSON body may have at most 10 MiB");
		break;
	case 431:
		api_fail(req, FAULT_HEADERS_TOO_LARGE, NULL);
		break;
	case 503:
		api_fail(req, FAULT_BUSY, "too many connections");
		break;
	default:
		api_fail(req, FAULT_BAD_REQUEST, "it is not HTTP/1.1 as this server reads it, or its path or query holds an encoding such as %00");
	}
}

const struct http_server_ops api_server_ops = {
	.authorise = authorise,
	.not_found = not_found,
	.refused = refused,
};
