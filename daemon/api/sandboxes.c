/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Routes of group `sandboxes`: create, list, get, delete, kill-many, status, timeout. */
#include <string.h>

#include "api/api.h"
#include "api/listfilter.h"
#include "core/idem.h"
#include "core/snapshot.h"
#include "util/clock.h"
#include "util/digest.h"

/* --- create --- */

struct create_call {
	struct http_request *req;
	struct sandbox *sb;
};

static void create_cancelled(void *userdata)
{
	struct create_call *c = userdata;

	sandbox_unwait(&c->sb->create_waiters, c);
	/* Who has a key can ask again; otherwise nobody will ever learn the id: do not leave it running */
	if (!c->sb->options.idem_key)
		sandbox_destroy(c->sb, SANDBOX_END_REQUEST, NULL, NULL);
	sandbox_unref(c->sb);
	free(c);
}

static void create_done(void *userdata, enum fault fault, const char *detail)
{
	struct create_call *c = userdata;
	struct sandbox *sb = c->sb;
	json_object *o;

	http_request_on_cancel(c->req, NULL, NULL);
	if (fault == FAULT_NONE) {
		o = api_sandbox_object(sb);
		if (o && sb->options.idem_key) {
			sb->idem_reply = strdup(json_text(o, NULL) ?: "");
			sandbox_save(sb);
		}
		api_reply(c->req, 201, o);
	} else {
		api_fail(c->req, fault, detail);
	}
	sandbox_unref(sb);
	free(c);
}

/* Whether the request repeats an earlier one, and has been answered. */
static bool create_again(const struct manager *m, struct http_request *req, const char *key, const char *hash)
{
	struct sandbox *sb = idem_find(m, api_owner(req), key);

	if (!sb)
		return false;
	if (!str_eq(sb->options.idem_hash, hash))
		api_fail(req, FAULT_IDEM_REUSED, NULL);
	else if (sb->state == SANDBOX_CREATING)
		api_fail(req, FAULT_IDEM_IN_PROGRESS, NULL);
	else if (sb->idem_reply && *sb->idem_reply)
		http_reply(req, 201, "application/json", sb->idem_reply, strlen(sb->idem_reply));
	else
		api_reply(req, 201, api_sandbox_object(sb));	/* nobody was there to be answered the first time */
	return true;
}

static bool create_key(const struct manager *m, struct http_request *req, char hash[DIGEST_TEXT_MAX], const char **ret)
{
	const char *key = http_request_header(req, "Idempotency-Key"), *body;
	size_t len;

	*ret = NULL;
	if (!key || !*key)
		return true;
	if (!idem_key_valid(key)) {
		api_fail(req, FAULT_BAD_REQUEST, "an Idempotency-Key has 1 to 255 visible ASCII characters");
		return false;
	}
	body = http_request_body(req, &len);
	digest_text(body, len, hash);
	*ret = key;
	return !create_again(m, req, key, hash);
}

void sandboxes_create(struct http_request *req, void *userdata)
{
	struct manager *m = userdata;
	_cleanup_json_ json_object *body = NULL;
	_cleanup_free_ char *detail = NULL;
	struct sandbox_options options;
	const char *why = NULL, *key;
	char hash[DIGEST_TEXT_MAX];
	struct create_call *c;
	enum fault fault;

	if (!create_key(m, req, hash, &key))
		return;
	body = api_body(req);
	if (!body)
		return;
	fault = api_options_parse(m, body, &options, &detail);
	if (fault != FAULT_NONE) {
		api_fail(req, fault, detail);
		return;
	}
	/* Another's does not exist */
	if (options.snapshot_id && !snapshot_find_of(m, options.snapshot_id, api_owner(req), api_is_admin(req))) {
		sandbox_options_done(&options);
		api_fail(req, FAULT_SNAPSHOT_UNKNOWN, NULL);
		return;
	}
	options.tier = strdup(api_tier(req));
	options.idem_key = key ? strdup(key) : NULL;
	options.idem_hash = key ? strdup(hash) : NULL;
	c = calloc(1, sizeof(*c));
	fault = c && options.tier && (!key || (options.idem_key && options.idem_hash)) ?
		sandbox_create(m, api_owner(req), &options, create_done, c, &c->sb, &why) : FAULT_INTERNAL;
	if (fault != FAULT_NONE) {
		api_fail(req, fault, why);	/* the detail may be one of the options */
		sandbox_options_done(&options);
		free(c);
		return;
	}
	c->req = req;
	sandbox_ref(c->sb);
	http_request_on_cancel(req, create_cancelled, c);
}

/* --- list --- */

struct list_query {
	unsigned int states;	/* bits of enum sandbox_state */
	uint64_t limit, offset;
	char after[SANDBOX_ID_MAX];
	json_object *metadata;	/* owned; NULL = any */
};

static int state_word(const char *word, size_t len, unsigned int *states)
{
	char name[16];
	enum sandbox_state s;

	if (len == 0 || len >= sizeof(name))
		return -EINVAL;
	memcpy(name, word, len);
	name[len] = '\0';
	if (str_eq(name, "all")) {
		*states |= (1u << SANDBOX_STATE_MAX) - 1;
	} else if (str_eq(name, "live")) {
		*states |= 1u << SANDBOX_RUNNING | 1u << SANDBOX_CREATING;
	} else {
		s = sandbox_state_from_name(name);
		if (s < 0)
			return -EINVAL;
		*states |= 1u << s;
	}
	return 0;
}

static int parse_states(struct http_request *req, unsigned int *states)
{
	const char *v;

	*states = 0;
	for (unsigned int i = 0; i < 16 && (v = http_request_query(req, "state", i)); i++)
		while (*v) {
			size_t n = strcspn(v, ",");

			if (state_word(v, n, states) < 0)
				return -EINVAL;
			v += n + (v[n] == ',');
		}
	if (*states == 0)
		*states = ((1u << SANDBOX_STATE_MAX) - 1) & ~(1u << SANDBOX_KILLED);
	return 0;
}

static const char *parse_list(struct http_request *req, struct list_query *q)
{
	const char *v;

	memset(q, 0, sizeof(*q));
	if (parse_states(req, &q->states) < 0)
		return "state must be creating, running, paused, killed, live or all";
	q->limit = LIST_PAGE_DEFAULT;
	v = http_request_query(req, "limit", 0);
	if (v && str_to_u64(v, 1, LIMIT_LIST_PAGE, &q->limit) < 0)
		return "limit must be a number from 1 to 1000";
	q->offset = 0;
	v = http_request_query(req, "offset", 0);
	if (v && str_to_u64(v, 0, UINT32_MAX, &q->offset) < 0)
		return "offset must be a number";
	v = http_request_query(req, "next_token", 0);
	if (v && *v && !ident_sandbox_valid(v))
		return "next_token is not one this server gave out";
	snprintf(q->after, sizeof(q->after), "%s", v ?: "");
	q->metadata = listfilter_parse(http_request_query(req, "metadata", 0));
	return NULL;
}

static bool list_wants(const struct sandbox *sb, const struct list_query *q, const struct http_request *req)
{
	return sb->role == SANDBOX_FOR_USER && q->states & 1u << sb->state && listfilter_matches(q->metadata, sb->options.metadata) && (str_eq(sb->owner, api_owner(req)) || api_is_admin(req));
}

void sandboxes_list(struct http_request *req, void *userdata)
{
	struct manager *m = userdata;
	json_object *o = json_object_new_object(), *list = json_object_new_array();
	const struct sandbox *last = NULL;
	struct list_query q;
	const char *error = parse_list(req, &q);	/* sets all of q */
	uint64_t total = 0, skipped = 0, shown = 0;
	bool started, more = false;
	struct sandbox *sb;

	if (error || !o || !list) {
		json_object_put(o);
		json_object_put(list);
		json_object_put(q.metadata);
		api_fail(req, error ? FAULT_BAD_QUERY : FAULT_INTERNAL, error);
		return;
	}
	/* A token whose sandbox has been forgotten meanwhile ends the walk: an empty page, not a first one */
	started = !*q.after;
	list_foreach(&m->sandboxes, sb, struct sandbox, link) {
		bool wanted = list_wants(sb, &q, req);

		total += wanted;
		if (!started) {
			started = str_eq(sb->id, q.after);
			continue;
		}
		if (!wanted || skipped++ < q.offset)
			continue;
		if (shown == q.limit) {
			more = true;
			continue;
		}
		json_object_array_add(list, api_sandbox_object(sb));
		last = sb;
		shown++;
	}
	json_put(o, "sandboxes", list);
	json_put_string(o, "next_token", more && last ? last->id : NULL);
	json_put_int(o, "total", (int64_t)total);
	json_object_put(q.metadata);
	api_reply(req, 200, o);
}

/* --- get, status, timeout --- */

void sandboxes_get(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox(userdata, req);
	uint64_t seconds;
	const char *v;

	if (!sb)
		return;
	/* Connecting to a paused sandbox is this request; it shows it paused, and the next one that needs it wakes it */
	if (sb->state == SANDBOX_PAUSED && !sb->fetched) {
		sb->fetched = true;
		sandbox_save(sb);
	}
	v = http_request_query(req, "timeout", 0);
	if (v && (sb->state == SANDBOX_RUNNING || sb->state == SANDBOX_PAUSED)) {
		if (str_to_u64(v, 0, LIMIT_TIMEOUT_SEC, &seconds) < 0) {
			api_fail(req, FAULT_BAD_QUERY, "timeout must be a whole number of seconds");
			return;
		}
		if (sandbox_set_timeout(sb, seconds) != FAULT_NONE) {
			api_fail(req, FAULT_TIER_DURATION, NULL);
			return;
		}
	}
	api_reply(req, 200, api_sandbox_object(sb));
}

void sandboxes_status(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox(userdata, req);
	json_object *o;

	if (!sb)
		return;
	o = json_object_new_object();
	if (o)
		json_put_bool(o, "is_running", sb->state == SANDBOX_RUNNING);
	api_reply(req, 200, o);
}

void sandboxes_timeout(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_live(userdata, req);
	_cleanup_json_ json_object *body = NULL;
	json_object *o;
	int64_t seconds;
	int r;

	if (!sb)
		return;
	body = api_body(req);
	if (!body)
		return;
	r = json_get_int(body, "timeout", 0, LIMIT_TIMEOUT_SEC, &seconds);
	if (r != 0) {
		api_fail(req, r == JSON_E_MISSING ? FAULT_MISSING_FIELD : FAULT_BAD_FIELD,
			 "timeout must be a whole number of seconds");
		return;
	}
	if (sandbox_set_timeout(sb, (uint64_t)seconds) != FAULT_NONE) {
		api_fail(req, FAULT_TIER_DURATION, NULL);
		return;
	}
	o = json_object_new_object();
	if (o)
		json_put_bool(o, "ok", true);
	api_reply(req, 200, o);
}

/* --- delete --- */

struct delete_call {
	struct http_request *req;
	struct sandbox *sb;
};

static void delete_cancelled(void *userdata)
{
	struct delete_call *c = userdata;

	sandbox_unwait(&c->sb->destroy_waiters, c);
	sandbox_unref(c->sb);
	free(c);
}

static void delete_done(void *userdata, enum fault fault, const char *detail)
{
	struct delete_call *c = userdata;
	json_object *o;

	http_request_on_cancel(c->req, NULL, NULL);
	if (fault == FAULT_NONE) {
		o = json_object_new_object();
		if (o)
			json_put_bool(o, "killed", true);
		api_reply(c->req, 200, o);
	} else {
		api_fail(c->req, fault, detail);
	}
	sandbox_unref(c->sb);
	free(c);
}

static bool wants_async(struct http_request *req)
{
	const char *v = http_request_query(req, "async", 0);

	return str_eq(v, "true") || str_eq(v, "1");
}

void sandboxes_delete(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_recovered(userdata, req);
	struct delete_call *c;
	json_object *o;
	bool was_live;

	if (!sb)
		return;
	was_live = sb->state != SANDBOX_KILLED;
	if (was_live && !wants_async(req)) {
		c = calloc(1, sizeof(*c));
		if (!c) {
			api_fail(req, FAULT_INTERNAL, "out of memory");
			return;
		}
		c->req = req;
		c->sb = sandbox_ref(sb);
		http_request_on_cancel(req, delete_cancelled, c);
		sandbox_destroy(sb, SANDBOX_END_REQUEST, delete_done, c);
		return;
	}
	if (was_live)
		sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	o = json_object_new_object();
	if (o) {
		if (wants_async(req))
			json_put_bool(o, "queued", was_live);
		json_put_bool(o, "killed", was_live);
	}
	api_reply(req, was_live ? 202 : 200, o);
}

static json_object *kill_one(struct manager *m, struct http_request *req, const char *id)
{
	struct sandbox *sb = ident_sandbox_valid(id) ? manager_find(m, id) : NULL;
	json_object *o = json_object_new_object();
	bool was_live;

	if (!o)
		return NULL;
	if (!sb || sb->role != SANDBOX_FOR_USER || (!str_eq(sb->owner, api_owner(req)) && !api_is_admin(req))) {
		_cleanup_free_ char *text = api_fault_text(FAULT_SANDBOX_UNKNOWN, NULL);

		json_put_string(o, "error", text);
		return o;
	}
	was_live = sb->state != SANDBOX_KILLED;
	if (was_live)
		sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	if (wants_async(req))
		json_put_bool(o, "queued", was_live);
	json_put_bool(o, "killed", was_live);
	return o;
}

void sandboxes_kill_many(struct http_request *req, void *userdata)
{
	_cleanup_json_ json_object *body = api_body(req);
	json_object *ids = NULL, *o, *results;
	int r;

	if (!body)
		return;
	r = json_get_array(body, "sandbox_ids", &ids);
	if (r != 0 || json_object_array_length(ids) > LIMIT_KILL_MANY) {
		api_fail(req, r == JSON_E_MISSING ? FAULT_MISSING_FIELD : FAULT_BAD_FIELD,
			 "sandbox_ids must be a list of at most 1000 ids");
		return;
	}
	for (size_t i = 0; i < json_object_array_length(ids); i++)
		if (!json_object_is_type(json_object_array_get_idx(ids, i), json_type_string)) {
			api_fail(req, FAULT_BAD_FIELD, "sandbox_ids must be a list of strings");
			return;
		}
	o = json_object_new_object();
	results = json_object_new_object();
	if (!o || !results) {
		json_object_put(o);
		json_object_put(results);
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	for (size_t i = 0; i < json_object_array_length(ids); i++) {
		const char *id = json_object_get_string(json_object_array_get_idx(ids, i));

		/* An id given twice is killed once and answered once */
		if (!json_has(results, id))
			json_put(results, id, kill_one(userdata, req, id));
	}
	json_put(o, "results", results);
	api_reply(req, wants_async(req) ? 202 : 200, o);
}
