/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole answers.
 *
 * Normally the response is handed to MHD when the request is complete, which keeps the connection usable. When more
 * body is outstanding than is worth reading for that, the answer is written to the socket at once, past MHD, which has
 * nothing to send while it reads a body; our side is shut down and the body read and dropped for a while, because
 * closing with unread data would reset the connection and could take the answer with it.
 */
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "http/internal.h"

#define RAW_HEAD_MAX (24 * 1024)

static bool header_text_ok(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

int http_reply_header(struct http_request *req, const char *name, const char *value)
{
	_cleanup_free_ char *n = NULL, *v = NULL;

	if (req->answered)
		return -EALREADY;
	if (!*name || !header_text_ok(name) || !header_text_ok(value))
		return -EINVAL;
	if (req->n_headers == HTTP_REPLY_HEADERS_MAX)
		return -ENOBUFS;
	n = strdup(name);
	v = strdup(value);
	if (!n || !v)
		return -ENOMEM;
	req->header[req->n_headers].name = TAKE_PTR(n);
	req->header[req->n_headers].value = TAKE_PTR(v);
	req->n_headers++;
	return 0;
}

static int add_headers(struct http_request *req)
{
	for (size_t i = 0; i < req->n_headers; i++)
		if (MHD_add_response_header(req->response, req->header[i].name, req->header[i].value) != MHD_YES)
			return -ENOMEM;
	if (req->conn->over_limit && MHD_add_response_header(req->response, "Connection", "close") != MHD_YES)
		return -ENOMEM;
	return 0;
}

static int raw_head(struct http_request *req, int status, const char *type, size_t len, struct buf *ret)
{
	int r = buf_printf(ret, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %zu\r\n", status,
			   MHD_get_reason_phrase_for((unsigned int)status), len);

	if (r >= 0 && type)
		r = buf_printf(ret, "Content-Type: %s\r\n", type);
	for (size_t i = 0; i < req->n_headers && r >= 0; i++)
		r = buf_printf(ret, "%s: %s\r\n", req->header[i].name, req->header[i].value);
	return r < 0 ? r : buf_puts(ret, "\r\n");
}

/* The socket's send buffer is empty, so an answer of a few KiB goes out whole; a longer one may be cut. */
static int reply_raw(struct http_request *req, int status, const char *type, const void *body, size_t len)
{
	_cleanup_buf_ struct buf head = BUF_INIT(RAW_HEAD_MAX);
	struct iovec iov[2];
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = ELEMENTSOF(iov) };
	int r = raw_head(req, status, type, len, &head);

	if (r < 0)
		return r;
	iov[0] = (struct iovec){ head.data, head.len };
	iov[1] = (struct iovec){ (void *)body, str_eq(req->method, "HEAD") ? 0 : len };
	if (sendmsg(req->conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return -errno;
	shutdown(req->conn->fd, SHUT_WR);
	req->raw_sent = true;
	return 0;
}

/* With "Expect: 100-continue" and nothing received, MHD can answer instead of continuing. */
static bool reply_early(const struct http_request *req)
{
	if (req->phase != HTTP_PHASE_BODY || (req->expect_continue && req->body_seen == 0))
		return false;
	return request_body_left(req) > HTTP_DRAIN_MAX;
}

static int make_response(struct http_request *req, int status, const char *type, const void *body, size_t len)
{
	req->response = MHD_create_response_from_buffer(len, (void *)body, MHD_RESPMEM_MUST_COPY);
	if (!req->response)
		return -ENOMEM;
	req->status = (unsigned int)status;
	if (type && MHD_add_response_header(req->response, "Content-Type", type) != MHD_YES)
		return -ENOMEM;
	return add_headers(req);
}

int http_reply(struct http_request *req, int status, const char *content_type, const void *body, size_t len)
{
	int r;

	if (req->cancelling)
		return -ECANCELED;
	if (req->gone || !req->conn) {
		request_finish(req);
		return -ECANCELED;
	}
	if (req->answered)
		return -EALREADY;
	req->answered = true;
	if (reply_early(req))
		r = reply_raw(req, status, content_type, body, len);
	else
		r = make_response(req, status, content_type, body, len);
	if (r < 0)
		request_cut(req);
	request_wake(req);
	request_finish(req);
	return r;
}

static int begin_response(struct http_request *req, const char *type)
{
	req->response = stream_response(req);
	if (!req->response)
		return -ENOMEM;
	if (type && MHD_add_response_header(req->response, "Content-Type", type) != MHD_YES)
		return -ENOMEM;
	return add_headers(req);
}

/* A client that has left, or cannot be served, is told to the handler as it would be a moment later. */
int http_stream_begin(struct http_request *req, int status, const char *content_type, int64_t size,
		      const struct http_stream_ops *ops, void *userdata)
{
	if (req->answered || req->cancelling)
		return -EALREADY;
	req->answered = true;
	req->status = (unsigned int)status;
	req->stream.ops = ops ? *ops : (struct http_stream_ops){};
	req->stream.userdata = userdata;
	req->stream.size = size;
	req->stream.pending.max = req->server->config.stream_pending_max;
	req->stream.begun = true;
	if (request_is_lost(req)) {
		request_add_work(req, HTTP_WORK_LEFT);
	} else if (begin_response(req, content_type) < 0) {
		request_cut(req);
		request_add_work(req, HTTP_WORK_LEFT);
	} else {
		request_wake(req);
	}
	return 0;
}

int http_upgrade(struct http_request *req, const char *protocol, const struct http_upgrade_ops *ops, void *userdata)
{
	if (req->answered || req->cancelling)
		return -EALREADY;
	if (!header_text_ok(protocol) || request_has_body(req))
		return -EINVAL;
	req->answered = true;
	req->status = MHD_HTTP_SWITCHING_PROTOCOLS;
	if (request_is_lost(req)) {
		request_add_work(req, HTTP_WORK_LEFT);
		return 0;
	}
	if (tunnel_new(req, ops, userdata) == 0)
		req->response = tunnel_response(req, protocol);
	if (!req->response || add_headers(req) < 0) {
		request_cut(req);
		request_add_work(req, HTTP_WORK_LEFT);
	} else {
		request_wake(req);
	}
	return 0;
}

enum MHD_Result request_queue_answer(struct http_request *req)
{
	struct MHD_Response *response = TAKE_PTR(req->response);
	enum MHD_Result r;

	req->phase = HTTP_PHASE_ANSWER;
	if (req->stream.begun)
		conn_set_timeout(req->conn, HTTP_STALL_SEC);
	r = MHD_queue_response(req->conn->mhd, req->status, response);
	MHD_destroy_response(response);
	return r;
}
