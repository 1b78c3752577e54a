/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Watching a path. The SDKs ask with POST, get {} and never read anything; this project's extension is the same as a
 * stream: GET files/watch?path=&recursive= sends each change as `event: change` with {"type","path"}, in the SDK's words
 * (create, write, remove). A reader that stalls makes the guest's queue overflow: `event: overflow` tells that changes were lost.
 */
#include <string.h>

#include "api/fileentry.h"
#include "api/sse.h"

/* --- POST: is there something to watch? --- */

static void check_gone(void *userdata)
{
	*(struct http_request **)userdata = NULL;
}

static void check_reply(void *userdata, int error, const struct agent_file_info *info _unused_)
{
	struct http_request **req = userdata;

	if (*req) {
		http_request_on_cancel(*req, NULL, NULL);
		if (error == 0)
			api_reply(*req, 200, json_object_new_object());
		else
			api_fail(*req, api_file_fault(error), error > 0 ? strerror(error) : NULL);
	}
	free(req);
}

void files_watch_check(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	_cleanup_json_ json_object *body = sb ? api_body(req) : NULL;
	const char *path = NULL, *user = NULL;
	struct http_request **call;
	bool recursive;
	int r;

	if (!body)
		return;
	if (json_get_string(body, "path", &path) > JSON_E_MISSING || json_get_string(body, "username", &user) > JSON_E_MISSING ||
	    json_get_bool(body, "recursive", &recursive) > JSON_E_MISSING) {
		api_fail(req, FAULT_BAD_FIELD, "path and username must be strings, recursive true or false");
		return;
	}
	if (!api_path_ok(req, path, user))
		return;
	call = calloc(1, sizeof(struct http_request *));
	r = call ? agent_file_stat(sb->agent, path, check_reply, call) : -ENOMEM;
	if (r < 0) {
		free(call);
		api_fail(req, api_agent_fault(r), strerror(-r));
		return;
	}
	*call = req;
	http_request_on_cancel(req, check_gone, call);
}

/* --- GET: the stream --- */

struct watch {
	struct http_request *req;	/* until the stream begins; NULL: the client is gone */
	struct manager *manager;
	struct sse *sse;
	bool asked;
	struct fileentry_reader entries;
	char *path;
};

/* Twice at most: the client's side and the reply's side end in either order */
static void watch_free(struct watch *w)
{
	w->req = NULL;
	fileentry_done(&w->entries);
	if (w->asked)
		return;
	free(w->path);
	free(w);
}

static void watch_gone(void *userdata)
{
	watch_free(userdata);
}

static int send_change(struct watch *w, const struct agent_file_info *info)
{
	static const char *const words[] = {
		[AGENT_CHANGE_CREATE] = "create", [AGENT_CHANGE_MODIFY] = "write", [AGENT_CHANGE_DELETE] = "remove",
	};
	_cleanup_buf_ struct buf b = BUF_INIT(FILEENTRY_JSON_MAX);
	int r = fileentry_path(&b, "path", info->path);

	if (r < 0)
		return r;
	if (info->change >= ELEMENTSOF(words) || !words[info->change])
		return sse_printf(w->sse, "overflow", "{%s}", b.data);
	return sse_printf(w->sse, "change", "{\"type\":\"%s\",%s}", words[info->change], b.data);
}

static void pump(void *userdata)
{
	struct watch *w = userdata;
	struct agent_file_info info;
	char path[LIMIT_PATH + 1];
	int r = 1;

	if (!w->sse)
		return;
	while (r > 0 && sse_ready(w->sse)) {
		r = fileentry_next(&w->entries, &info, path, sizeof(path));
		if (r > 0 && send_change(w, &info) < 0)
			r = -ENOMEM;
	}
	if (r > 0 || (r == 0 && !w->entries.ended))
		return;
	/* The path itself is gone: that is the end, and a clean one */
	if (r == 0)
		sse_end(w->sse);
	else
		sse_abort(w->sse);
	watch_free(w);
}

static void watch_reply(void *userdata, int error)
{
	static const struct sse_ops ops = { .pump = pump, .gone = watch_gone };
	struct watch *w = userdata;
	struct http_request *req = w->req;

	w->asked = false;
	if (!req) {
		watch_free(w);
		return;
	}
	http_request_on_cancel(req, NULL, NULL);
	if (error) {
		api_fail(req, api_file_fault(error), api_file_detail(error, w->path));
		watch_free(w);
	} else if (sse_begin(req, w->manager->event, 0, &ops, w, &w->sse) < 0) {
		watch_free(w);
	} else {
		pump(w);
	}
}

void files_watch(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	const char *path = http_request_query(req, "path", 0), *recursive = http_request_query(req, "recursive", 0);
	struct watch *w;
	int r;

	if (!sb || !api_path_ok(req, path, http_request_query(req, "username", 0)))
		return;
	if (recursive && !str_eq(recursive, "true") && !str_eq(recursive, "false")) {
		api_fail(req, FAULT_BAD_QUERY, "recursive must be true or false");
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	w->manager = userdata;
	w->path = strdup(path);
	r = w->path ? fileentry_open(&w->entries, sb->agent, pump, w) : -ENOMEM;
	if (r == 0)
		r = agent_file_watch(sb->agent, path, str_eq(recursive, "true"), w->entries.stream, watch_reply, w);
	if (r < 0) {
		watch_free(w);
		api_fail(req, api_agent_fault(r), strerror(-r));
		return;
	}
	w->asked = true;
	w->req = req;
	http_request_on_cancel(req, watch_gone, w);
}
