/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * POST files/batch: several small files in one body, written one after another in their order.
 *
 * The whole body is looked at before the first byte is written, so a request that cannot be right writes nothing. Each
 * file is replaced in one step; the first that fails ends the batch, and those before it stay.
 */
#include <string.h>

#include "api/api.h"

#define WRITE_MODE 0644u

struct batch {
	struct http_request *req;	/* NULL: the client is gone */
	struct sandbox *sb;
	json_object *body, *files, *result;	/* files is part of body */
	size_t next;
	const char *user;
	struct agent_stream *stream;
	const char *path, *data;	/* of the file under way; part of body */
	size_t len, sent;
	bool asked;
};

static void batch_free(struct batch *b)
{
	b->req = NULL;
	b->stream = agent_stream_free(b->stream);
	if (b->asked)
		return;
	json_object_put(b->body);
	json_object_put(b->result);
	sandbox_unref(b->sb);
	free(b);
}

static void batch_gone(void *userdata)
{
	struct batch *b = userdata;

	/* Without FIN nothing is renamed into place */
	if (b->stream)
		agent_stream_reset(b->stream, ECANCELED);
	batch_free(b);
}

static void batch_fail(struct batch *b, enum fault fault, const char *detail)
{
	http_request_on_cancel(b->req, NULL, NULL);
	api_fail(b->req, fault, detail);
	batch_free(b);
}

static void push(void *userdata)
{
	struct batch *b = userdata;

	while (b->sent < b->len) {
		ssize_t n = agent_stream_write(b->stream, b->data + b->sent, b->len - b->sent);

		if (n <= 0)
			return;		/* writable() calls again, or the reply has the error */
		b->sent += (size_t)n;
	}
	agent_stream_finish(b->stream);
}

static void stream_end(void *userdata _unused_, int error _unused_)
{
	/* The reply says what happened */
}

static void write_next(struct batch *b);

static int add_result(struct batch *b, uint64_t size)
{
	json_object *o = json_object_new_object();

	if (o && json_put_string(o, "path", b->path) == 0 && json_put_int(o, "size", (int64_t)size) == 0 &&
	    json_object_array_add(b->result, o) == 0)
		return 0;
	json_object_put(o);
	return -ENOMEM;
}

static void written(void *userdata, int error, const struct agent_file_info *info)
{
	struct batch *b = userdata;

	b->asked = false;
	if (!b->req) {
		batch_free(b);
		return;
	}
	b->stream = agent_stream_free(b->stream);
	if (error)
		batch_fail(b, api_file_fault(error), api_file_detail(error, b->path));
	else if (add_result(b, info->size) < 0)
		batch_fail(b, FAULT_INTERNAL, "out of memory");
	else
		write_next(b);
}

static const char *member(json_object *o, const char *key)
{
	const char *text = NULL;

	json_get_string(o, key, &text);
	return text;
}

static int write_one(struct batch *b)
{
	static const struct agent_stream_ops ops = { .writable = push, .end = stream_end };
	json_object *file = json_object_array_get_idx(b->files, b->next++), *data = NULL;
	int r;

	json_object_object_get_ex(file, "data", &data);
	b->path = member(file, "path");
	b->data = json_object_get_string(data);
	b->len = (size_t)json_object_get_string_len(data);
	b->sent = 0;
	r = agent_stream_open(b->sb->agent, AGENT_STREAM_OUT, FILE_WINDOW, &ops, b, &b->stream);
	if (r == 0)
		r = agent_file_write(b->sb->agent, b->path, member(file, "username") ?: b->user, WRITE_MODE, b->stream,
				     written, b);
	if (r < 0)
		return r;
	b->asked = true;
	push(b);
	return 0;
}

static void write_next(struct batch *b)
{
	int r;

	if (b->next == json_object_array_length(b->files)) {
		http_request_on_cancel(b->req, NULL, NULL);
		api_reply(b->req, 200, TAKE_PTR(b->result));
		batch_free(b);
	} else if (b->sb->state != SANDBOX_RUNNING || !b->sb->agent) {
		batch_fail(b, FAULT_ENDED_MEANWHILE, NULL);
	} else {
		r = write_one(b);
		if (r < 0)
			batch_fail(b, api_agent_fault(r), strerror(-r));
	}
}

/* Answers itself and returns false when the body cannot be carried out. */
static bool batch_check(struct http_request *req, json_object *files, const char *user)
{
	for (size_t i = 0; i < json_object_array_length(files); i++) {
		json_object *file = json_object_array_get_idx(files, i), *data = NULL;
		const char *path = NULL, *own = NULL;

		if (!json_object_is_type(file, json_type_object) || json_get_string(file, "path", &path) > JSON_E_MISSING ||
		    json_get_string(file, "username", &own) > JSON_E_MISSING ||
		    !json_object_object_get_ex(file, "data", &data) || !json_object_is_type(data, json_type_string)) {
			api_fail(req, FAULT_BAD_FIELD, "each of files must have path and data, and maybe username, all strings");
			return false;
		}
		if (!api_path_ok(req, path, own ?: user))
			return false;
	}
	return true;
}

void files_batch(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	_cleanup_json_ json_object *body = sb ? api_body(req) : NULL;
	json_object *files = NULL;
	const char *user = NULL;
	struct batch *b;

	if (!body)
		return;
	if (json_get_array(body, "files", &files) != 0 || json_get_string(body, "username", &user) > JSON_E_MISSING ||
	    json_object_array_length(files) > LIMIT_BATCH_FILES) {
		api_fail(req, FAULT_BAD_FIELD, "files must be an array of at most 4096, username a string");
		return;
	}
	if (!batch_check(req, files, user))
		return;
	b = calloc(1, sizeof(*b));
	if (b)
		b->result = json_object_new_array();
	if (!b || !b->result) {
		free(b);
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	b->req = req;
	b->sb = sandbox_ref(sb);
	b->body = TAKE_PTR(body);
	b->files = files;
	b->user = user ?: "user";
	http_request_on_cancel(req, batch_gone, b);
	write_next(b);
}
