/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ANY /sandboxes/{id}/ports/{port}/{path}: a reverse proxy to a server inside the sandbox.
 *
 * The way in is the agent channel (CONNECT: a TCP connection to the guest's loopback as two streams), not the sandbox's
 * network: it needs no open port in any firewall, reaches servers that only listen on the loopback, cannot be reached
 * past the API's keys, and ends with the request. One connection carries one request and one answer, so no answer can
 * be taken for another one's.
 *
 * Both directions are pumps with bounded buffers: the guest gets credit for what the client took, the client is read as
 * fast as the guest takes it. Answers are sent on as they come, which is what event streams need. 101 turns the request
 * into a pipe (WebSocket).
 */
#include <string.h>

#include "api/proxyhead.h"

#define PORT_RESERVED 49983		/* the contract's own */
#define CHUNK_FRAMING 16u
#define BODY_PIECE (64u << 10)
#define INFORMAL_MAX 8u			/* 1xx answers before the real one */

enum stage { STAGE_HEAD, STAGE_LENGTH, STAGE_CHUNKS, STAGE_CLOSE, STAGE_TUNNEL };

struct proxy {
	struct http_request *req;	/* NULL: the client is gone, or has its answer */
	bool asked;			/* the connection's reply has not come yet */
	struct agent_stream *in, *out;
	enum stage stage;
	struct buf from;		/* of the guest; bounded by the stream's window */
	size_t from_at;
	bool from_ended;
	int from_error;
	struct buf to;			/* for the guest: the head, then pieces of a body */
	size_t to_at;
	bool body_started, body_chunked, body_ended, client_ended;
	bool head_only, upgrade;
	unsigned int informal;
	uint64_t left;			/* STAGE_LENGTH */
	struct upstream_chunks chunks;
	uint16_t port;
};

/* Twice at most: the client's side and the reply's side end in either order */
static void proxy_free(struct proxy *x)
{
	x->req = NULL;
	/* Resets what is not over: the connection inside closes */
	x->in = agent_stream_free(x->in);
	x->out = agent_stream_free(x->out);
	if (x->asked)
		return;
	buf_done(&x->from);
	buf_done(&x->to);
	free(x);
}

static void proxy_gone(void *userdata)
{
	proxy_free(userdata);
}

/* Before the answer began */
static void proxy_fail(struct proxy *x, enum fault fault, const char *detail)
{
	http_request_on_cancel(x->req, NULL, NULL);
	api_fail(x->req, fault, detail);
	proxy_free(x);
}

static void proxy_end(struct proxy *x, bool clean)
{
	http_request_on_cancel(x->req, NULL, NULL);
	if (x->stage == STAGE_TUNNEL)
		http_upgrade_end(x->req);
	else if (clean)
		http_stream_end(x->req);
	else
		http_stream_abort(x->req);
	proxy_free(x);
}

/* --- to the guest --- */

/* True when all of it is handed on. A failing stream is told by the other one, or by the reply. */
static bool push(struct proxy *x)
{
	while (x->to_at < x->to.len) {
		ssize_t n = agent_stream_write(x->out, x->to.data + x->to_at, x->to.len - x->to_at);

		if (n <= 0)
			return false;
		x->to_at += (size_t)n;
	}
	x->to_at = x->to.len = 0;
	return true;
}

static void last_chunk(struct proxy *x)
{
	if (x->body_chunked && buf_puts(&x->to, "0\r\n\r\n") == 0)
		push(x);
}

static void out_writable(void *userdata)
{
	struct proxy *x = userdata;

	if (!x->req || !push(x))
		return;
	if (x->stage == STAGE_TUNNEL)
		http_upgrade_continue(x->req);
	else if (x->body_started && !x->body_ended)
		http_body_continue(x->req);
}

static size_t body_take(void *userdata, const void *data, size_t len)
{
	struct proxy *x = userdata;
	ssize_t n;

	if (!push(x))
		return 0;
	if (!x->body_chunked) {
		n = agent_stream_write(x->out, data, len);
		return n < 0 ? len : (size_t)n;		/* nobody reads it any more: drop it */
	}
	len = MIN_OF(len, (size_t)BODY_PIECE);
	if (buf_printf(&x->to, "%zx\r\n", len) < 0 || buf_append(&x->to, data, len) < 0 || buf_puts(&x->to, "\r\n") < 0)
		return len;
	push(x);
	return len;
}

static void body_end(void *userdata)
{
	struct proxy *x = userdata;

	x->body_ended = true;
	/* No FIN: servers take it for a client that left */
	last_chunk(x);
}

static void out_end(void *userdata _unused_, int error _unused_)
{
	/* What the server has to say comes the other way */
}

/* --- WebSocket and the like --- */

static size_t tunnel_take(void *userdata, const void *data, size_t len)
{
	struct proxy *x = userdata;
	ssize_t n = agent_stream_write(x->out, data, len);

	return n < 0 ? len : (size_t)n;
}

static void tunnel_end(void *userdata)
{
	struct proxy *x = userdata;

	agent_stream_finish(x->out);
}

/* --- from the guest --- */

static void used(struct proxy *x, size_t n)
{
	x->from_at += n;
	agent_stream_consumed(x->in, n);
}

static const char *seen(const struct proxy *x, size_t *ret_len)
{
	*ret_len = x->from.len - x->from_at;
	return *ret_len ? x->from.data + x->from_at : "";
}

static void pump(void *userdata);

static int begin_tunnel(struct proxy *x, const struct upstream_head *head)
{
	static const struct http_upgrade_ops ops = { .take = tunnel_take, .end = tunnel_end, .room = pump };
	_cleanup_free_ char *protocol = NULL;

	for (size_t i = 0; i < head->n_headers && !protocol; i++)
		if (upstream_header_is(&head->header[i], "upgrade"))
			protocol = strndup(head->header[i].value, head->header[i].value_len);
	if (!protocol || !*protocol || proxyhead_answer(x->req, head) < 0 ||
	    http_upgrade(x->req, protocol, &ops, x) < 0)
		return -EBADMSG;
	x->stage = STAGE_TUNNEL;
	return 1;
}

static int begin_answer(struct proxy *x, const struct upstream_head *head)
{
	static const struct http_stream_ops ops = { .room = pump };
	bool empty = x->head_only || head->status == 204 || head->status == 304;
	int64_t size = head->chunked ? -1 : head->length;

	x->stage = head->chunked ? STAGE_CHUNKS : size >= 0 ? STAGE_LENGTH : STAGE_CLOSE;
	x->left = size >= 0 ? (uint64_t)size : 0;
	if (empty && !x->head_only)
		size = 0;
	if (proxyhead_answer(x->req, head) < 0)
		return -EBADMSG;
	if (http_stream_begin(x->req, (int)head->status, NULL, size, &ops, x) < 0)
		return -EIO;
	if (!empty)
		return 1;
	proxy_end(x, true);
	return 0;
}

/* 1: go on, 0: more must come, or x is gone; negative: the server cannot be understood */
static int pump_head(struct proxy *x)
{
	struct upstream_head head;
	size_t len;
	const char *data = seen(x, &len);
	ssize_t n = upstream_head_parse(data, len, &head);
	int r;

	if (n <= 0)
		return n < 0 || x->from_ended ? -EBADMSG : 0;
	if (head.status == 101 ? !x->upgrade : head.status < 200 && ++x->informal > INFORMAL_MAX)
		return -EBADMSG;
	if (head.status < 200 && head.status != 101) {
		used(x, (size_t)n);
		return 1;
	}
	/* head points into the buffer */
	r = head.status == 101 ? begin_tunnel(x, &head) : begin_answer(x, &head);
	if (r > 0)
		used(x, (size_t)n);
	return r;
}

static int pump_body(struct proxy *x)
{
	size_t room = http_stream_room(x->req), len, n = 0;
	const char *data = seen(x, &len), *pos = data, *piece = NULL;
	int r;

	if (x->stage == STAGE_LENGTH && x->left == 0) {
		proxy_end(x, true);
		return 0;
	}
	if (len == 0 && x->from_ended) {
		/* Too early an end must not look like one */
		proxy_end(x, x->stage == STAGE_CLOSE && x->from_error == 0);
		return 0;
	}
	if (x->stage != STAGE_CHUNKS) {
		n = MIN_OF(room, len);
		if (x->stage == STAGE_LENGTH)
			n = (size_t)MIN_OF((uint64_t)n, x->left);
		if (n == 0)
			return 0;
		http_stream_write(x->req, data, n);
		x->left -= x->stage == STAGE_LENGTH ? n : 0;
		used(x, n);
		return 1;
	}
	r = upstream_chunks_next(&x->chunks, &pos, &len, room, &piece, &n);
	if (r == UPSTREAM_E_DATA)
		http_stream_write(x->req, piece, n);
	used(x, (size_t)(pos - data));
	if (r < 0 || r == UPSTREAM_E_END) {
		proxy_end(x, r == UPSTREAM_E_END);
		return 0;
	}
	return r == UPSTREAM_E_DATA || (len == 0 && x->from_ended);
}

static int pump_tunnel(struct proxy *x)
{
	size_t len;
	const char *data = seen(x, &len);
	ssize_t n = len ? http_upgrade_write(x->req, data, len) : 0;

	if (n < 0)
		return 0;	/* the cancel callback follows */
	used(x, (size_t)n);
	if ((size_t)n == len && x->from_ended)
		proxy_end(x, true);
	return 0;
}

static void pump(void *userdata)
{
	struct proxy *x = userdata;
	int r = 1;

	while (r > 0) {
		if (x->stage == STAGE_HEAD)
			r = pump_head(x);
		else if (x->stage == STAGE_TUNNEL)
			r = pump_tunnel(x);
		else
			r = pump_body(x);
	}
	if (r < 0)
		proxy_fail(x, FAULT_PORT_ANSWER, x->from_ended && x->from.len == x->from_at ? "it closed the connection" :
			   "its answer is no HTTP/1.1, or its headers are larger than 16 KiB");
}

static void in_data(void *userdata, uint64_t offset _unused_, const uint8_t *data, size_t len)
{
	struct proxy *x = userdata;

	if (!x->req)
		return;
	if (x->from_at > 0) {
		memmove(x->from.data, x->from.data + x->from_at, x->from.len - x->from_at);
		x->from.len -= x->from_at;
		x->from_at = 0;
	}
	if (buf_append(&x->from, data, len) < 0) {
		x->from_ended = true;
		x->from_error = -ENOMEM;
	}
	pump(x);
}

static void in_end(void *userdata, int error)
{
	struct proxy *x = userdata;

	if (!x->req)
		return;
	x->from_ended = true;
	x->from_error = x->from_error ?: error;
	pump(x);
}

/* --- the connection --- */

static void connected(void *userdata, int error)
{
	static const struct http_body_ops body_ops = { .take = body_take, .end = body_end };
	struct proxy *x = userdata;
	char port[8];

	x->asked = false;
	if (!x->req) {
		proxy_free(x);
		return;
	}
	if (error) {
		snprintf(port, sizeof(port), "%u", x->port);
		proxy_fail(x, error < 0 ? FAULT_AGENT_LOST : FAULT_PORT_UNREACHABLE, port);
		return;
	}
	if (http_request_content_length(x->req) != 0) {
		x->body_started = true;
		http_body_start(x->req, &body_ops, x);
	}
}

static int proxy_open(struct proxy *x, struct http_request *req, struct sandbox *sb)
{
	static const struct agent_stream_ops in_ops = { .data = in_data, .end = in_end };
	static const struct agent_stream_ops out_ops = { .end = out_end, .writable = out_writable };
	const char *upgrade = proxyhead_upgrade(req);
	int r;

	x->upgrade = upgrade != NULL;
	x->head_only = str_eq(http_request_method(req), "HEAD");
	x->body_chunked = http_request_content_length(req) < 0;
	x->from.max = 2 * STREAM_WINDOW;
	x->to.max = MAX_OF(PROXYHEAD_MAX, BODY_PIECE + CHUNK_FRAMING);
	r = proxyhead_request(req, sb, x->port, upgrade, &x->to);
	if (r == 0)
		r = agent_stream_open(sb->agent, AGENT_STREAM_IN, STREAM_WINDOW, &in_ops, x, &x->in);
	if (r == 0)
		r = agent_stream_open(sb->agent, AGENT_STREAM_OUT, STREAM_WINDOW, &out_ops, x, &x->out);
	if (r == 0)
		r = agent_connect_port(sb->agent, x->port, x->in, x->out, connected, x);
	return r;
}

static bool is_open(struct http_request *req, const struct sandbox *sb, uint16_t port)
{
	bool public = true;

	json_get_bool(sb->options.network, "allow_public_traffic", &public);
	if (!public)
		api_fail(req, FAULT_PORT_CLOSED, "network.allow_public_traffic is false");
	else if (port == PORT_RESERVED)
		api_fail(req, FAULT_PORT_CLOSED, "port 49983 is reserved");
	else
		return true;
	return false;
}

void ports_proxy(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_running(userdata, req);
	uint64_t port = 0;
	struct proxy *x;
	int r;

	if (!sb)
		return;
	if (str_to_u64(http_request_param(req, "port") ?: "", 1, UINT16_MAX, &port) < 0) {
		api_fail(req, FAULT_BAD_REQUEST, "the port must be a number from 1 to 65535");
		return;
	}
	if (!is_open(req, sb, (uint16_t)port))
		return;
	x = calloc(1, sizeof(*x));
	if (!x) {
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	x->port = (uint16_t)port;
	r = proxy_open(x, req, sb);
	if (r < 0) {
		proxy_free(x);
		api_fail(req, api_agent_fault(r), strerror(-r));
		return;
	}
	x->asked = true;
	x->req = req;
	http_request_on_cancel(req, proxy_gone, x);
	push(x);	/* behind the request for the connection: saves a round trip */
}
