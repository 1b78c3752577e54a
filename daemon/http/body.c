/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Request bodies: dropped, collected, or handed on piece by piece.
 *
 * A consumer that takes less than it is offered pauses the client: the rest stays in MHD's buffer, the connection is
 * suspended, so nothing more is read and TCP does the rest.
 */
#include "http/internal.h"

/* Nobody wants it any more (answered before the end). */
static enum MHD_Result drop(struct http_request *req, size_t *size)
{
	req->body_dropped += *size;
	*size = 0;
	return req->body_dropped > HTTP_LINGER_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result collect(struct http_request *req, const char *data, size_t *size)
{
	bool keep = req->match.route->body == HTTP_BODY_BUFFER;

	if (req->body_seen > req->server->config.json_body_max)
		request_refuse(req, MHD_HTTP_CONTENT_TOO_LARGE);
	else if (keep && buf_append(&req->body, data, *size) < 0)
		request_refuse(req, MHD_HTTP_SERVICE_UNAVAILABLE);
	*size = 0;
	return req->gone ? MHD_NO : MHD_YES;
}

static void pause_client(struct http_request *req)
{
	req->body_paused = true;
	request_suspend(req);
	if (req->body_continued) {
		req->body_paused = false;
		request_wake(req);
	}
}

static enum MHD_Result hand_on(struct http_request *req, const char *data, size_t *size)
{
	size_t taken;

	req->body_continued = false;
	req->body_taking = true;
	taken = req->body_ops.take(req->body_userdata, data, *size);
	req->body_taking = false;
	if (req->gone)
		return MHD_NO;
	if (req->answered) {
		req->body_seen += *size;
		return drop(req, size);
	}
	taken = MIN_OF(taken, *size);
	req->body_seen += taken;
	*size -= taken;
	if (*size > 0)
		pause_client(req);
	return MHD_YES;
}

enum MHD_Result body_data(struct http_request *req, const char *data, size_t *size)
{
	if (!req->answered && req->handled && req->body_paused) {
		request_suspend(req);
		return MHD_YES;
	}
	if (!req->answered && req->handled)
		return hand_on(req, data, size);
	req->body_seen += *size;
	return req->answered ? drop(req, size) : collect(req, data, size);
}

void body_complete(struct http_request *req)
{
	if (!req->body_started || req->body_ended || req->answered || req->gone)
		return;
	req->body_ended = true;
	if (req->body_ops.end)
		req->body_ops.end(req->body_userdata);
}

int http_body_start(struct http_request *req, const struct http_body_ops *ops, void *userdata)
{
	if (req->gone || !req->conn)
		return -ECANCELED;
	if (req->body_started || req->answered)
		return -EALREADY;
	if (!req->match.route || req->match.route->body != HTTP_BODY_STREAM)
		return -EINVAL;
	req->body_ops = *ops;
	req->body_userdata = userdata;
	req->body_started = true;
	request_wake(req);
	return 0;
}

void http_body_continue(struct http_request *req)
{
	if (req->body_taking) {
		req->body_continued = true;
	} else if (req->body_paused) {
		req->body_paused = false;
		request_wake(req);
	}
}
