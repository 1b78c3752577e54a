/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GET files/list: entries as the guest walks, rendered one by one. A directory of millions costs one entry of memory and
 * the guest's window.
 */
#include <string.h>

#include "api/fileentry.h"

#define DEPTH_MAX 64u

struct listing {
	struct http_request *req;	/* NULL: the client is gone */
	bool asked;			/* the reply has not come yet */
	bool begun;
	struct fileentry_reader entries;
	struct buf pending;
	size_t sent;
	unsigned int n;
	bool closed;			/* the last bracket is written */
	char *path;
};

/* Twice at most: the client's side and the reply's side end in either order */
static void listing_free(struct listing *l)
{
	l->req = NULL;
	fileentry_done(&l->entries);
	if (l->asked)
		return;
	buf_done(&l->pending);
	free(l->path);
	free(l);
}

static void listing_gone(void *userdata)
{
	listing_free(userdata);
}

static void listing_end(struct listing *l, bool clean)
{
	http_request_on_cancel(l->req, NULL, NULL);
	if (clean)
		http_stream_end(l->req);
	else
		http_stream_abort(l->req);
	listing_free(l);
}

/* 1: something was added, 0: nothing for now, negative: it cannot go on */
static int produce(struct listing *l)
{
	struct agent_file_info info;
	char path[LIMIT_PATH + 1];
	int r = fileentry_next(&l->entries, &info, path, sizeof(path));

	if (r > 0) {
		r = l->n++ > 0 ? buf_puts(&l->pending, ",") : 0;
		if (r == 0)
			r = fileentry_json(&l->pending, NULL, &info);
	} else if (r == 0 && l->entries.ended) {
		l->closed = true;
		r = buf_puts(&l->pending, "]");
	} else {
		return r;
	}
	return r < 0 ? r : 1;
}

static void pump(void *userdata)
{
	struct listing *l = userdata;
	int r = 1;

	if (!l->begun)
		return;
	while (r > 0) {
		size_t n = MIN_OF(http_stream_room(l->req), l->pending.len - l->sent);

		/* A client that left takes everything until gone() is called */
		if (n > 0)
			http_stream_write(l->req, l->pending.data + l->sent, n);
		l->sent += n;
		if (l->sent < l->pending.len)
			return;
		l->pending.len = l->sent = 0;
		if (l->closed) {
			listing_end(l, true);
			return;
		}
		r = produce(l);
	}
	if (r < 0)
		listing_end(l, false);
}

static void listing_reply(void *userdata, int error)
{
	static const struct http_stream_ops ops = { .room = pump };
	struct listing *l = userdata;

	l->asked = false;
	if (!l->req) {
		listing_free(l);
		return;
	}
	if (error) {
		http_request_on_cancel(l->req, NULL, NULL);
		/* Contract 2.5: what is no directory has no entries */
		if (error == ENOENT || error == ENOTDIR)
			http_reply(l->req, 200, "application/json", "[]", 2);
		else
			api_fail(l->req, api_file_fault(error), api_file_detail(error, l->path));
		listing_free(l);
		return;
	}
	if (buf_puts(&l->pending, "[") < 0) {
		http_request_on_cancel(l->req, NULL, NULL);
		api_fail(l->req, FAULT_INTERNAL, "out of memory");
		listing_free(l);
		return;
	}
	l->begun = true;
	if (http_stream_begin(l->req, 200, "application/json", -1, &ops, l) < 0)
		listing_free(l);
	else
		pump(l);
}

void files_list(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	const char *path = http_request_query(req, "path", 0), *depth_text = http_request_query(req, "depth", 0);
	uint64_t depth = 1;
	struct listing *l;
	int r;

	if (!sb || !api_path_ok(req, path, http_request_query(req, "username", 0)))
		return;
	if (depth_text && str_to_u64(depth_text, 1, DEPTH_MAX, &depth) < 0) {
		api_fail(req, FAULT_BAD_QUERY, "depth must be a number from 1 to 64");
		return;
	}
	l = calloc(1, sizeof(*l));
	if (!l) {
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	l->pending.max = FILEENTRY_JSON_MAX;
	l->path = strdup(path);
	r = l->path ? fileentry_open(&l->entries, sb->agent, pump, l) : -ENOMEM;
	if (r == 0)
		r = agent_file_list(sb->agent, path, (uint32_t)depth, l->entries.stream, listing_reply, l);
	if (r < 0) {
		listing_free(l);
		api_fail(req, api_agent_fault(r), strerror(-r));
		return;
	}
	l->asked = true;
	l->req = req;
	http_request_on_cancel(req, listing_gone, l);
}
