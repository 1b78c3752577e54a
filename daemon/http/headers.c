/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is decided from the header alone: limits, framing, route, authorisation. The first thing wrong is answered.
 *
 * Framing is stricter than MHD's: a request that two parsers could delimit differently (both Transfer-Encoding and
 * Content-Length, several different lengths, an encoding other than chunked) is malformed.
 */
#include <string.h>
#include <strings.h>

#include "http/internal.h"

struct framing {
	const char *length;
	const char *encoding;
	const char *host;
	bool bad;
};

static enum MHD_Result see_header(void *userdata, enum MHD_ValueKind kind _unused_, const char *name, const char *value)
{
	struct framing *f = userdata;

	if (!value)
		value = "";
	if (strcasecmp(name, "Content-Length") == 0) {
		f->bad |= f->length && !str_eq(f->length, value);
		f->length = value;
	} else if (strcasecmp(name, "Transfer-Encoding") == 0) {
		f->bad |= f->encoding != NULL || strcasecmp(value, "chunked") != 0;
		f->encoding = value;
	} else if (strcasecmp(name, "Host") == 0) {
		f->bad |= f->host != NULL;
		f->host = value;
	}
	return MHD_YES;
}

/* Sets content_length; false when malformed. */
static bool read_framing(struct http_request *req, const char *version)
{
	struct framing f = {};
	uint64_t length = 0;

	MHD_get_connection_values(req->conn->mhd, MHD_HEADER_KIND, see_header, &f);
	if (f.bad || (f.length && f.encoding) || (!f.host && str_eq(version, "HTTP/1.1")))
		return false;
	if (f.length && str_to_u64(f.length, 0, INT64_MAX, &length) < 0)
		return false;
	req->content_length = f.encoding ? -1 : (int64_t)length;
	return true;
}

static size_t header_size(const struct http_request *req)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(req->conn->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

	return info ? info->header_size : 0;
}

static const char *skip_spaces(const char *s)
{
	while (*s == ' ' || *s == '\t')
		s++;
	return s;
}

/* The bearer token, else X-API-Key, else NULL; an empty one counts as not sent. */
static const char *request_key(const struct http_request *req)
{
	const char *value = http_request_header(req, "Authorization");

	if (value && strncasecmp(value, "Bearer", 6) == 0 && (value[6] == ' ' || value[6] == '\t')) {
		value = skip_spaces(value + 6);
		if (*value)
			return value;
	}
	value = http_request_header(req, "X-API-Key");
	return value && *value ? value : NULL;
}

static void refuse_method(struct http_request *req)
{
	char allow[128];

	route_allow(req->server->routes, &req->uri, allow, sizeof(allow));
	http_reply_header(req, "Allow", allow);
	if (str_eq(req->method, "OPTIONS"))
		http_reply(req, MHD_HTTP_OK, "application/json", "{}", 2);
	else
		request_refuse(req, MHD_HTTP_METHOD_NOT_ALLOWED);
}

static bool authorise(struct http_request *req)
{
	if (req->match.route && req->match.route->open)
		return true;
	if (!req->server->ops.authorise)
		return true;
	req->user_done = false;
	if (!req->server->ops.authorise(req->server->userdata, req, request_key(req))) {
		request_must_be_answered(req);
		return false;
	}
	req->user_done = true;
	return !req->answered;
}

static void dispatch(struct http_request *req)
{
	int outcome = route_find(req->server->routes, req->method, &req->uri, &req->match);

	if (!authorise(req))
		return;
	if (outcome == ROUTE_E_METHOD)
		refuse_method(req);
	else if (outcome == ROUTE_E_NOT_FOUND)
		request_not_found(req);
	else if (req->match.route->body == HTTP_BODY_STREAM)
		request_call_handler(req);
	else if (req->content_length > 0 && (uint64_t)req->content_length > req->server->config.json_body_max)
		request_refuse(req, MHD_HTTP_CONTENT_TOO_LARGE);
}

void request_check_head(struct http_request *req, const char *version)
{
	const char *expect = http_request_header(req, "Expect");
	bool framed = read_framing(req, version);

	req->expect_continue = expect && strcasecmp(expect, "100-continue") == 0;
	if (!framed)
		req->content_length = -1;	/* where it ends is unknown: the connection ends with the answer */
	if (req->conn->over_limit)
		request_refuse(req, MHD_HTTP_SERVICE_UNAVAILABLE);
	else if (header_size(req) > HTTP_HEADERS_MAX)
		request_refuse(req, MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE);
	else if (req->target_error == -ENOMEM)
		request_refuse(req, MHD_HTTP_SERVICE_UNAVAILABLE);
	else if (!framed || req->target_error < 0)
		request_refuse(req, MHD_HTTP_BAD_REQUEST);
	else
		dispatch(req);
}
