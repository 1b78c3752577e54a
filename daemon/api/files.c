/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Content of files: GET /files and /files/raw, POST /files, PUT /files/raw.
 *
 * Both directions are pumps between an HTTP request and an agent stream with one bounded buffer: the guest gets credit
 * for what the client took, the client is read as fast as the guest takes it. Nothing here is sized by a file.
 */
#include <string.h>

#include "api/api.h"

#define WRITE_MODE 0644u
#define ANNOUNCE_MIN (64u << 10)

/* Path and user of query or body; answers itself and returns false when they cannot be used. */
bool api_path_ok(struct http_request *req, const char *path, const char *user)
{
	if (!path || !*path) {
		api_fail(req, FAULT_MISSING_FIELD, "path is needed");
	} else if (path[0] != '/') {
		api_fail(req, FAULT_FILE_NAME, "it must be absolute, beginning with /");
	} else if (strlen(path) > LIMIT_PATH) {
		api_fail(req, FAULT_FILE_NAME, "it is longer than 4095 bytes");
	} else if (user && (!*user || strlen(user) > LIMIT_USER)) {
		api_fail(req, FAULT_FILE_USER, "username must have 1 to 64 characters");
	} else {
		return true;
	}
	return false;
}

/* --- download --- */

struct download {
	struct http_request *req;	/* NULL: the client is gone */
	bool asked;			/* the reply has not come yet */
	struct agent_stream *stream;
	char *path;
	struct buf pending;	/* bounded by the stream's window */
	size_t sent;
	uint64_t left;		/* of the announced size */
	bool begun, ended, sized;
	int error;
};

/* Twice at most: the client's side and the reply's side end in either order */
static void download_free(struct download *d)
{
	d->req = NULL;
	d->stream = agent_stream_free(d->stream);
	if (d->asked)
		return;
	buf_done(&d->pending);
	free(d->path);
	free(d);
}

static void download_gone(void *userdata)
{
	download_free(userdata);
}

static void download_close(struct download *d, bool clean)
{
	http_request_on_cancel(d->req, NULL, NULL);
	if (clean)
		http_stream_end(d->req);
	else
		http_stream_abort(d->req);
	download_free(d);
}

/* Passes on what the client has room for; returns how much that was. */
static size_t download_pass(struct download *d, const void *data, size_t len)
{
	size_t n = MIN_OF(http_stream_room(d->req), len);

	if (n > 0) {
		http_stream_write(d->req, data, n);
		agent_stream_consumed(d->stream, n);
		d->left -= MIN_OF(d->left, (uint64_t)n);
	}
	return n;
}

/* A file that grew meanwhile ends where it ended when it was opened; one that shrank is an answer cut short. */
static void download_pump(void *userdata)
{
	struct download *d = userdata;

	d->sent += download_pass(d, d->pending.data + d->sent, d->pending.len - d->sent);
	if (d->sent == d->pending.len)
		d->pending.len = d->sent = 0;
	if (d->sized && d->left == 0)
		download_close(d, true);
	else if (d->ended && d->pending.len == 0)
		download_close(d, d->error == 0 && !d->sized);
}

static void download_data(void *userdata, uint64_t offset _unused_, const uint8_t *data, size_t len)
{
	struct download *d = userdata;
	size_t n = 0;

	if (d->begun && d->pending.len == 0)
		n = download_pass(d, data, len);
	if (n < len && d->sent > 0) {
		memmove(d->pending.data, d->pending.data + d->sent, d->pending.len - d->sent);
		d->pending.len -= d->sent;
		d->sent = 0;
	}
	if (n < len && buf_append(&d->pending, data + n, len - n) < 0)
		d->error = -ENOMEM;
}

static void download_end(void *userdata, int error)
{
	struct download *d = userdata;

	d->ended = true;
	d->error = d->error ?: error;
	if (d->begun)
		download_pump(d);
}

static const struct agent_stream_ops download_ops = { .data = download_data, .end = download_end };

/*
 * The size is announced, which is also what makes large files fast: MHD moves chunks through the few KiB its connection
 * has, and content of known length through a block of its own. Not for small ones: files of /proc and /sys do not have the
 * size they show, and SDKs take an announced length of 0 for null.
 */
static void download_reply(void *userdata, int error, const struct agent_file_info *info)
{
	static const struct http_stream_ops ops = { .room = download_pump };
	struct download *d = userdata;
	bool raw;

	d->asked = false;
	if (!d->req) {
		download_free(d);
		return;
	}
	if (error) {
		http_request_on_cancel(d->req, NULL, NULL);
		api_fail(d->req, api_file_fault(error), api_file_detail(error, d->path));
		download_free(d);
		return;
	}
	raw = str_ends(http_request_path(d->req), "/raw");
	d->begun = true;
	d->sized = info->size >= ANNOUNCE_MIN && info->size <= INT64_MAX;
	d->left = d->sized ? info->size : 0;
	http_stream_begin(d->req, 200, raw ? "application/octet-stream" : "text/plain; charset=utf-8",
			  d->sized ? (int64_t)info->size : -1, &ops, d);
	download_pump(d);
}

void files_read(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	const char *path = http_request_query(req, "path", 0), *user = http_request_query(req, "username", 0);
	struct download *d;
	int r;

	if (!sb || !api_path_ok(req, path, user))
		return;
	d = calloc(1, sizeof(*d));
	if (!d) {
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	d->req = req;
	d->pending.max = 2 * FILE_WINDOW;
	d->path = strdup(path);
	r = d->path ? agent_stream_open(sb->agent, AGENT_STREAM_IN, FILE_WINDOW, &download_ops, d, &d->stream) : -ENOMEM;
	if (r == 0)
		r = agent_file_read(sb->agent, path, user ?: "user", d->stream, download_reply, d);
	d->asked = r == 0;
	if (r < 0) {
		download_free(d);
		api_fail(req, api_agent_fault(r), strerror(-r));
		return;
	}
	http_request_on_cancel(req, download_gone, d);
}

/* --- upload --- */

struct upload {
	struct http_request *req;	/* NULL: the client is gone */
	struct agent_stream *stream;
	char *path;
	json_object *json;		/* POST: owns the text of */
	const char *body;
	size_t body_len, body_sent;
	uint64_t received, max;		/* PUT */
	bool asked, streaming;
};

static void upload_free(struct upload *u)
{
	u->req = NULL;
	u->stream = agent_stream_free(u->stream);
	if (u->asked)
		return;
	json_object_put(u->json);
	free(u->path);
	free(u);
}

static void upload_gone(void *userdata)
{
	struct upload *u = userdata;

	/* Without FIN nothing is renamed into place: half a file never replaces a whole one */
	if (u->stream)
		agent_stream_reset(u->stream, ECANCELED);
	upload_free(u);
}

static void upload_reply(void *userdata, int error, const struct agent_file_info *info)
{
	struct upload *u = userdata;
	json_object *o;

	u->asked = false;
	if (u->req) {
		http_request_on_cancel(u->req, NULL, NULL);
		if (error) {
			api_fail(u->req, api_file_fault(error), api_file_detail(error, u->path));
		} else {
			o = json_object_new_object();
			if (o) {
				json_put_string(o, "path", u->path);
				json_put_int(o, "size", (int64_t)info->size);
			}
			api_reply(u->req, 200, o);
		}
	}
	upload_free(u);
}

static void upload_push(struct upload *u)
{
	ssize_t n;

	while (u->body_sent < u->body_len) {
		n = agent_stream_write(u->stream, u->body + u->body_sent, u->body_len - u->body_sent);
		if (n <= 0)
			return;		/* upload_writable(), or the reply with the error */
		u->body_sent += (size_t)n;
	}
	agent_stream_finish(u->stream);
	u->body_len = 0;
}

static void upload_writable(void *userdata)
{
	struct upload *u = userdata;

	if (!u->req)
		return;
	if (u->streaming)
		http_body_continue(u->req);
	else if (u->body_len)
		upload_push(u);
}

static void upload_end(void *userdata _unused_, int error _unused_)
{
	/* The reply says what happened */
}

static const struct agent_stream_ops upload_ops = { .writable = upload_writable, .end = upload_end };

static int upload_begin(struct sandbox *sb, struct http_request *req, const char *path, const char *user, struct upload **ret)
{
	struct upload *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	u->req = req;
	u->path = strdup(path);
	r = u->path ? agent_stream_open(sb->agent, AGENT_STREAM_OUT, FILE_WINDOW, &upload_ops, u, &u->stream) : -ENOMEM;
	if (r == 0)
		r = agent_file_write(sb->agent, path, user ?: "user", WRITE_MODE, u->stream, upload_reply, u);
	u->asked = r == 0;
	if (r < 0) {
		upload_free(u);
		return r;
	}
	http_request_on_cancel(req, upload_gone, u);
	*ret = u;
	return 0;
}

void files_write(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	json_object *body = sb ? api_body(req) : NULL, *data = NULL;
	const char *path = NULL, *user = NULL;
	struct upload *u;
	int r;

	if (!body)
		return;
	json_object_object_get_ex(body, "data", &data);
	r = json_get_string(body, "path", &path);
	if (r != JSON_E_TYPE)
		r = json_get_string(body, "username", &user);
	if (r == JSON_E_TYPE || !data || !json_object_is_type(data, json_type_string)) {
		api_fail(req, FAULT_BAD_FIELD, "path, data and username must be strings");
	} else if (api_path_ok(req, path, user)) {
		r = upload_begin(sb, req, path, user, &u);
		if (r < 0) {
			api_fail(req, api_agent_fault(r), strerror(-r));
		} else {
			u->json = body;
			u->body = json_object_get_string(data);
			u->body_len = (size_t)json_object_get_string_len(data);
			upload_push(u);
			return;
		}
	}
	json_object_put(body);
}

static size_t upload_take(void *userdata, const void *data, size_t len)
{
	struct upload *u = userdata;
	ssize_t n;

	if (u->received + len > u->max) {
		struct http_request *req = u->req;

		http_request_on_cancel(req, NULL, NULL);
		agent_stream_reset(u->stream, EFBIG);
		upload_free(u);
		api_fail(req, FAULT_TOO_LARGE, "raw_body_max in declawd.conf is the limit");
		return 0;
	}
	n = agent_stream_write(u->stream, data, len);
	if (n < 0)
		return len;	/* failed in the guest: the reply with the reason is on its way */
	u->received += (uint64_t)n;
	return (size_t)n;
}

static void upload_complete(void *userdata)
{
	struct upload *u = userdata;

	agent_stream_finish(u->stream);
}

void files_write_raw(struct http_request *req, void *userdata)
{
	static const struct http_body_ops ops = { .take = upload_take, .end = upload_complete };
	struct manager *m = userdata;
	struct sandbox *sb = api_sandbox_running(m, req);
	const char *path = http_request_query(req, "path", 0), *user = http_request_query(req, "username", 0);
	struct upload *u;
	int r;

	if (!sb || !api_path_ok(req, path, user))
		return;
	if (http_request_content_length(req) > (int64_t)m->settings.raw_body_max) {
		api_fail(req, FAULT_TOO_LARGE, "raw_body_max in declawd.conf is the limit");
		return;
	}
	r = upload_begin(sb, req, path, user, &u);
	if (r < 0) {
		api_fail(req, api_agent_fault(r), strerror(-r));
		return;
	}
	u->streaming = true;
	u->max = m->settings.raw_body_max;
	http_body_start(req, &ops, u);
}
