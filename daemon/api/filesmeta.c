/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names and attributes of files: info, exists, mkdir, rename, remove. One request to the guest each.
 */
#include <string.h>

#include "api/fileentry.h"

struct meta_call {
	struct http_request *req;	/* NULL: the client is gone */
	char *path;			/* the one the answer is about */
	void (*answer)(struct http_request *req, const struct meta_call *c, const struct agent_file_info *info);
	bool (*failed)(struct http_request *req, int error);	/* true: has answered */
};

static struct meta_call *meta_free(struct meta_call *c)
{
	if (c)
		free(c->path);
	free(c);
	return NULL;
}

static void meta_gone(void *userdata)
{
	struct meta_call *c = userdata;

	c->req = NULL;
}

static void meta_reply(void *userdata, int error, const struct agent_file_info *info)
{
	struct meta_call *c = userdata;

	if (c->req) {
		http_request_on_cancel(c->req, NULL, NULL);
		if (error == 0)
			c->answer(c->req, c, info);
		else if (!c->failed || !c->failed(c->req, error))
			api_fail(c->req, api_file_fault(error), api_file_detail(error, c->path));
	}
	meta_free(c);
}

static void meta_done(void *userdata, int error)
{
	static const struct agent_file_info nothing;

	meta_reply(userdata, error, &nothing);
}

static struct meta_call *meta_new(struct http_request *req, const char *path)
{
	struct meta_call *c = calloc(1, sizeof(*c));

	if (c)
		c->path = strdup(path);
	if (c && c->path)
		return c;
	meta_free(c);
	api_fail(req, FAULT_INTERNAL, "out of memory");
	return NULL;
}

/* r: what asking the agent returned */
static void meta_wait(struct http_request *req, struct meta_call *c, int r)
{
	if (r < 0) {
		if (r == -ENAMETOOLONG)
			api_fail(req, FAULT_FILE_NAME, "it is too long");
		else
			api_fail(req, api_agent_fault(r), strerror(-r));
		meta_free(c);
		return;
	}
	c->req = req;
	http_request_on_cancel(req, meta_gone, c);
}

/* --- info, exists --- */

static void answer_entry(struct http_request *req, const struct meta_call *c, const struct agent_file_info *info)
{
	_cleanup_buf_ struct buf b = BUF_INIT(FILEENTRY_JSON_MAX);

	/* The path as it was asked for */
	if (fileentry_json(&b, c->path, info) < 0)
		api_fail(req, FAULT_INTERNAL, "out of memory");
	else
		http_reply(req, 200, "application/json", b.data, b.len);
}

static void answer_bool(struct http_request *req, const char *key, bool value)
{
	json_object *o = json_object_new_object();

	if (o)
		json_put_bool(o, key, value);
	api_reply(req, 200, o);
}

static void answer_exists(struct http_request *req, const struct meta_call *c _unused_,
			  const struct agent_file_info *info _unused_)
{
	answer_bool(req, "exists", true);
}

/* What cannot be there is not there */
static bool exists_failed(struct http_request *req, int error)
{
	if (error != ENOENT && error != ENOTDIR && error != ENAMETOOLONG && error != ELOOP)
		return false;
	answer_bool(req, "exists", false);
	return true;
}

static void stat_query(struct http_request *req, struct manager *m, bool exists)
{
	struct sandbox *sb = api_sandbox_running(m, req);
	const char *path = http_request_query(req, "path", 0);
	struct meta_call *c;

	if (!sb || !api_path_ok(req, path, http_request_query(req, "username", 0)))
		return;
	c = meta_new(req, path);
	if (!c)
		return;
	c->answer = exists ? answer_exists : answer_entry;
	c->failed = exists ? exists_failed : NULL;
	meta_wait(req, c, agent_file_stat(sb->agent, path, meta_reply, c));
}

void files_info(struct http_request *req, void *userdata)
{
	stat_query(req, userdata, false);
}

void files_exists(struct http_request *req, void *userdata)
{
	stat_query(req, userdata, true);
}

/* --- remove --- */

static void answer_empty(struct http_request *req, const struct meta_call *c _unused_,
			 const struct agent_file_info *info _unused_)
{
	api_reply(req, 200, json_object_new_object());
}

void files_remove(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	const char *path = http_request_query(req, "path", 0);
	struct meta_call *c;

	if (!sb || !api_path_ok(req, path, http_request_query(req, "username", 0)))
		return;
	c = meta_new(req, path);
	if (!c)
		return;
	c->answer = answer_empty;
	meta_wait(req, c, agent_file_remove(sb->agent, path, meta_done, c));
}

/* --- mkdir, rename --- */

/* Members of the body that are strings, or not there; answers itself when one is neither. */
static bool body_strings(struct http_request *req, json_object *body, const char *const keys[], const char **const ret[])
{
	char text[64];

	for (size_t i = 0; keys[i]; i++)
		if (json_get_string(body, keys[i], ret[i]) > JSON_E_MISSING) {
			snprintf(text, sizeof(text), "%s must be a string without NUL", keys[i]);
			api_fail(req, FAULT_BAD_FIELD, text);
			return false;
		}
	return true;
}

static void answer_created(struct http_request *req, const struct meta_call *c _unused_,
			   const struct agent_file_info *info)
{
	answer_bool(req, "created", info->created);
}

void files_mkdir(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	_cleanup_json_ json_object *body = sb ? api_body(req) : NULL;
	const char *path = NULL, *user = NULL;
	struct meta_call *c;

	if (!body || !body_strings(req, body, (const char *const[]){ "path", "username", NULL },
				   (const char **const[]){ &path, &user }))
		return;
	if (!api_path_ok(req, path, user))
		return;
	c = meta_new(req, path);
	if (!c)
		return;
	c->answer = answer_created;
	meta_wait(req, c, agent_file_mkdir(sb->agent, path, user ?: "user", meta_reply, c));
}

void files_rename(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	_cleanup_json_ json_object *body = sb ? api_body(req) : NULL;
	const char *from = NULL, *to = NULL, *user = NULL;
	struct meta_call *c;

	if (!body || !body_strings(req, body, (const char *const[]){ "old_path", "new_path", "username", NULL },
				   (const char **const[]){ &from, &to, &user }))
		return;
	if (!from || !to) {
		api_fail(req, FAULT_MISSING_FIELD, "old_path and new_path are needed");
		return;
	}
	if (!api_path_ok(req, from, user) || !api_path_ok(req, to, user))
		return;
	c = meta_new(req, to);
	if (!c)
		return;
	c->answer = answer_entry;
	meta_wait(req, c, agent_file_rename(sb->agent, from, to, user ?: "user", meta_reply, c));
}
