/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Routes of group `snapshots`: make, list, delete, restore. */
#include <string.h>

#include "api/api.h"
#include "core/snapshot.h"
#include "util/clock.h"

static json_object *snapshot_object(const struct snapshot *s)
{
	json_object *o = json_object_new_object();
	char text[CLOCK_TEXT_MAX];

	if (!o)
		return NULL;
	clock_format(s->created_usec, text);
	json_put_string(o, "snapshot_id", s->id);
	json_put_string(o, "sandbox_id", s->sandbox_id);
	json_put_string(o, "source", "manual");
	/* Keys of a blob store, which this server does not have */
	json_put_string(o, "mem_blob_key", "");
	json_put_string(o, "vmstate_blob_key", "");
	json_put_int(o, "mem_size_bytes", (int64_t)(s->memory_mb << 20));
	json_put_int(o, "pause_duration_ms", (int64_t)((s->pause_usec + USEC_PER_MSEC - 1) / USEC_PER_MSEC));
	json_put_string(o, "created_at", text);
	json_put_string(o, "template_id", s->template_id);
	return o;
}

/* --- make --- */

struct take_call {
	struct http_request *req;
	struct manager *m;
};

static void take_cancelled(void *userdata)
{
	struct take_call *c = userdata;

	/* The snapshot is made all the same: the list shows it */
	snapshot_forget(c->m, c);
	free(c);
}

static void take_done(void *userdata, enum fault fault, const char *detail, const struct snapshot *s)
{
	struct take_call *c = userdata;

	http_request_on_cancel(c->req, NULL, NULL);
	if (fault == FAULT_NONE)
		api_reply(c->req, 201, snapshot_object(s));
	else
		api_fail(c->req, fault, detail);
	free(c);
}

void snapshots_make(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_live(userdata, req);
	const char *detail = NULL;
	struct take_call *c;
	enum fault fault;

	if (!sb)
		return;
	if (sb->state == SANDBOX_PAUSED) {
		api_fail(req, FAULT_SANDBOX_PAUSED, NULL);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	*c = (struct take_call){ .req = req, .m = userdata };
	http_request_on_cancel(req, take_cancelled, c);
	fault = snapshot_take(sb, take_done, c, &detail);
	if (fault == FAULT_NONE)
		return;
	http_request_on_cancel(req, NULL, NULL);
	free(c);
	api_fail(req, fault, detail);
}

/* --- list --- */

static bool visible(const struct snapshot *s, const struct http_request *req, const char *sandbox_id)
{
	return s->ready && (api_is_admin(req) || str_eq(s->owner, api_owner(req))) &&
	       (!sandbox_id || str_eq(s->sandbox_id, sandbox_id));
}

/* A page behind `after` (NULL: the first); *ret_next is the token of the next one, or NULL. */
static json_object *list(struct manager *m, const struct http_request *req, const char *sandbox_id, const char *after,
			 uint64_t limit, const char **ret_next)
{
	json_object *v = json_object_new_array();
	const struct snapshot *s, *last = NULL;
	uint64_t n = 0;
	bool started = !after;

	*ret_next = NULL;
	list_foreach(&m->snapshots, s, struct snapshot, link) {
		if (!started) {
			started = str_eq(s->id, after);
			continue;
		}
		if (!v || !visible(s, req, sandbox_id))
			continue;
		if (n++ == limit) {
			*ret_next = last->id;
			break;
		}
		json_object_array_add(v, snapshot_object(s));
		last = s;
	}
	return v;
}

static void reply_list(struct http_request *req, json_object *v, bool paged, const char *next)
{
	json_object *o = json_object_new_object();

	if (!o) {
		json_object_put(v);
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	json_put(o, "snapshots", v);
	if (paged)
		json_put_string(o, "next_token", next);
	api_reply(req, 200, o);
}

/* Snapshots outlive their sandbox, whose record is forgotten one day. False: answered 404. */
static bool sandbox_known(struct manager *m, struct http_request *req)
{
	const char *id = http_request_param(req, "id");
	const struct snapshot *s;

	list_foreach(&m->snapshots, s, struct snapshot, link)
		if (id && visible(s, req, id))
			return true;
	return api_sandbox(m, req) != NULL;
}

void snapshots_of(struct http_request *req, void *userdata)
{
	const char *next;

	if (sandbox_known(userdata, req))
		reply_list(req, list(userdata, req, http_request_param(req, "id"), NULL, UINT64_MAX, &next), false, NULL);
}

void snapshots_list(struct http_request *req, void *userdata)
{
	const char *v = http_request_query(req, "limit", 0), *after = http_request_query(req, "next_token", 0), *next;
	const char *sandbox_id = http_request_query(req, "sandbox_id", 0);
	uint64_t limit = LIST_PAGE_DEFAULT;
	json_object *page;

	if (v && str_to_u64(v, 1, LIMIT_LIST_PAGE, &limit) < 0) {
		api_fail(req, FAULT_BAD_QUERY, "limit must be a number from 1 to 1000");
	} else if (after && *after && !ident_snapshot_valid(after)) {
		api_fail(req, FAULT_BAD_QUERY, "next_token is not one this server gave out");
	} else {
		page = list(userdata, req, sandbox_id && *sandbox_id ? sandbox_id : NULL, after && *after ? after : NULL, limit, &next);
		reply_list(req, page, true, next);
	}
}

/* --- delete --- */

void snapshots_delete(struct http_request *req, void *userdata)
{
	const char *id = http_request_param(req, "snapshot_id"), *sandbox_id = http_request_param(req, "id");
	struct snapshot *s = id ? snapshot_find_of(userdata, id, api_owner(req), api_is_admin(req)) : NULL;
	json_object *o;

	if (s && !str_eq(s->sandbox_id, sandbox_id))
		s = NULL;
	if (!s && !sandbox_known(userdata, req))
		return;
	if (s && snapshot_wanted(s)) {
		api_fail(req, FAULT_SANDBOX_STATE, sandbox_state_name(SANDBOX_CREATING));
		return;
	}
	if (s)
		snapshot_remove(s);
	o = json_object_new_object();
	if (o)
		json_put_bool(o, "deleted", s != NULL);
	api_reply(req, 200, o);
}

/* --- restore --- */

struct restore_call {
	struct http_request *req;
	struct sandbox *sb;
	char snapshot_id[SNAPSHOT_ID_MAX];
};

static void restore_cancelled(void *userdata)
{
	struct restore_call *c = userdata;

	/* It goes on: what was is gone */
	sandbox_unwait(&c->sb->create_waiters, c);
	sandbox_unref(c->sb);
	free(c);
}

static void restore_done(void *userdata, enum fault fault, const char *detail)
{
	struct restore_call *c = userdata;
	json_object *o = fault == FAULT_NONE ? json_object_new_object() : NULL;

	http_request_on_cancel(c->req, NULL, NULL);
	if (o) {
		json_put_string(o, "sandbox_id", c->sb->id);
		json_put_string(o, "node_id", "local");
		json_put_string(o, "snapshot_id", c->snapshot_id);
	}
	if (fault == FAULT_NONE)
		api_reply(c->req, 200, o);
	else
		api_fail(c->req, fault, detail);
	sandbox_unref(c->sb);
	free(c);
}

/* The one asked for, or the newest; of this sandbox */
static const struct snapshot *wanted(struct manager *m, const struct http_request *req, const struct sandbox *sb)
{
	const char *id = http_request_query(req, "snapshot_id", 0);
	const struct snapshot *s;

	list_foreach(&m->snapshots, s, struct snapshot, link)
		if (visible(s, req, sb->id) && (!id || !*id || str_eq(s->id, id)))
			return s;
	return NULL;
}

void snapshots_restore(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_live(userdata, req);
	const struct snapshot *s = sb ? wanted(userdata, req, sb) : NULL;
	struct restore_call *c;
	enum fault fault;

	if (!sb)
		return;
	if (!s) {
		api_fail(req, FAULT_SNAPSHOT_UNKNOWN, NULL);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	*c = (struct restore_call){ .req = req, .sb = sandbox_ref(sb) };
	memcpy(c->snapshot_id, s->id, sizeof(c->snapshot_id));
	http_request_on_cancel(req, restore_cancelled, c);
	fault = snapshot_restore(sb, s, restore_done, c);
	if (fault == FAULT_NONE)
		return;
	http_request_on_cancel(req, NULL, NULL);
	sandbox_unref(sb);
	free(c);
	api_fail(req, fault, sandbox_state_name(sb->state));
}
