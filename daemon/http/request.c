/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A request from its first line to MHD's completion callback.
 *
 * MHD calls the access handler several times: once when the headers are in, for each piece of the body, and when the
 * request is complete. An answer queued in the first of these calls closes the connection afterwards, and none can be
 * queued between the first and the last; so answers wait for the last call, the body they do not care for is read and
 * dropped, and where that would be too much they go past MHD (reply.c).
 *
 * Whoever has to wait suspends the connection in such a call; request_wake() resumes it, and MHD then makes the same
 * call again. Suspended connections are invisible to MHD, see conn.c for how their end is noticed.
 */
#include <string.h>

#include "http/internal.h"

void *request_on_uri(void *userdata, const char *uri, struct MHD_Connection *mhd)
{
	struct http_listener *l = userdata;
	struct http_conn *c = conn_of(mhd);
	struct http_request *req = c ? calloc(1, sizeof(*req)) : NULL;

	if (!req)
		return NULL;
	req->server = l->server;
	req->conn = c;
	req->user_done = true;
	req->stream.size = -1;
	req->body.max = l->server->config.json_body_max;
	list_append(&l->server->requests, &req->link);
	list_init(&req->work_link);
	c->req = req;
	req->target_error = uri ? uri_parse(&req->uri, uri, strlen(uri)) : -EINVAL;
	return req;
}

static void free_headers(struct http_request *req)
{
	for (size_t i = 0; i < req->n_headers; i++) {
		free(req->header[i].name);
		free(req->header[i].value);
	}
}

struct http_request *request_free(struct http_request *req)
{
	if (!req)
		return NULL;
	list_unlink(&req->link);
	list_unlink(&req->work_link);
	if (req->response)
		MHD_destroy_response(req->response);
	free_headers(req);
	for (size_t i = 0; i < ROUTE_PARAMS_MAX; i++)
		free(req->rest_raw[i]);
	stream_done(&req->stream);
	tunnel_free(req);
	buf_done(&req->body);
	uri_done(&req->uri);
	free(req);
	return NULL;
}

void request_finish(struct http_request *req)
{
	req->user_done = true;
	req->cancel = NULL;
	if (!req->conn && !req->cancelling)
		request_free(req);
}

void request_suspend(struct http_request *req)
{
	if (req->suspended)
		return;
	MHD_suspend_connection(req->conn->mhd);
	req->suspended = true;
	conn_watch(req->conn);
	if (req->conn->left && !req->user_done)
		request_add_work(req, HTTP_WORK_LEFT);
}

void request_wake(struct http_request *req)
{
	if (!req->suspended)
		return;
	req->suspended = false;
	MHD_resume_connection(req->conn->mhd);
	listener_kick(req->conn->listener);
}

void request_add_work(struct http_request *req, unsigned int work)
{
	req->work |= work;
	if (list_empty(&req->work_link))
		list_append(&req->server->work, &req->work_link);
	sd_event_source_set_enabled(req->server->kick, SD_EVENT_ONESHOT);
}

void request_run_work(struct http_request *req)
{
	unsigned int work = req->work;

	req->work = 0;
	list_unlink(&req->work_link);
	if (req->user_done)
		return;
	if (work & HTTP_WORK_LEFT) {
		request_gone(req);
	} else if (work & HTTP_WORK_ROOM && req->stream.begun && req->stream.ops.room) {
		req->stream.ops.room(req->stream.userdata);
	}
}

/* Without a callback the handler still owns the request; a producer that waits for room is told to go on. */
static void cancel(struct http_request *req)
{
	if (req->cancel) {
		req->cancelling = true;
		req->cancel(req->cancel_userdata);
		req->cancelling = false;
		req->cancel = NULL;
		req->user_done = true;
	} else if (req->stream.begun) {
		request_add_work(req, HTTP_WORK_ROOM);
	}
}

void request_gone(struct http_request *req)
{
	bool known = req->gone;

	req->gone = true;
	if (!req->user_done)
		cancel(req);
	if (!req->conn) {
		if (req->user_done)
			request_free(req);
	} else if (!known) {
		request_cut(req);
	}
}

void request_cut(struct http_request *req)
{
	req->gone = true;
	if (tunnel_is_open(req))
		tunnel_close(req);
	else if (req->suspended)
		request_wake(req);
	else if (req->conn)
		conn_cut(req->conn);
}

void request_on_completed(void *userdata _unused_, struct MHD_Connection *mhd _unused_, void **context,
			  enum MHD_RequestTerminationCode code _unused_)
{
	struct http_request *req = *context;

	*context = NULL;
	if (!req)
		return;
	req->phase = HTTP_PHASE_DONE;
	req->conn->req = NULL;
	req->conn = NULL;
	req->suspended = false;
	if (req->user_done)
		request_free(req);
	else if (req->gone || !stream_is_whole(&req->stream))
		request_add_work(req, HTTP_WORK_LEFT);
}

/* A hook that answers nothing must not let the request through. */
void request_must_be_answered(struct http_request *req)
{
	if (req->answered)
		return;
	req->gone = true;
	request_finish(req);
}

void request_refuse(struct http_request *req, int status)
{
	req->user_done = false;
	req->server->ops.refused(req->server->userdata, req, status);
	request_must_be_answered(req);
}

void request_not_found(struct http_request *req)
{
	req->user_done = false;
	req->handled = true;
	req->server->ops.not_found(req->server->userdata, req);
}

void request_call_handler(struct http_request *req)
{
	req->handled = true;
	req->user_done = false;
	req->match.route->handler(req, req->server->userdata);
}

void http_request_again(struct http_request *req)
{
	req->match.route->handler(req, req->server->userdata);
}

static void first_call(struct http_request *req, const char *method, const char *version)
{
	req->phase = HTTP_PHASE_BODY;
	conn_set_timeout(req->conn, req->server->config.idle_timeout_sec);
	if (strlen(method) < sizeof(req->method))
		memcpy(req->method, method, strlen(method) + 1);
	else
		req->target_error = -EINVAL;
	request_check_head(req, version);
}

/* The first call, and its repetitions after a suspension. */
static enum MHD_Result before_body(struct http_request *req)
{
	req->parked = false;
	if (req->response && req->expect_continue && req->body_seen == 0)
		return request_queue_answer(req);	/* closes, but nothing needs to be sent for nothing */
	if (!req->answered && req->handled && !req->body_started) {
		req->parked = true;
		request_suspend(req);
	}
	return MHD_YES;
}

static enum MHD_Result last_call(struct http_request *req)
{
	if (req->phase == HTTP_PHASE_BODY) {
		req->phase = HTTP_PHASE_FULL;
		if (!req->answered && !req->handled)
			request_call_handler(req);
	}
	body_complete(req);
	if (req->gone || req->raw_sent)
		return MHD_NO;
	if (req->response)
		return request_queue_answer(req);
	request_suspend(req);
	return MHD_YES;
}

enum MHD_Result request_on_access(void *userdata _unused_, struct MHD_Connection *mhd _unused_,
				  const char *url _unused_, const char *method, const char *version,
				  const char *data, size_t *size, void **context)
{
	struct http_request *req = *context;
	bool first;

	if (!req || req->gone)
		return MHD_NO;
	first = req->phase == HTTP_PHASE_HEAD;
	if (first)
		first_call(req, method, version);
	if (req->gone)
		return MHD_NO;
	if (*size > 0)
		return body_data(req, data, size);
	if ((first || req->parked) && request_has_body(req))
		return before_body(req);
	return first ? MHD_YES : last_call(req);
}
