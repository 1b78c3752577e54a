/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What handlers may ask a request. MHD's header text is gone when MHD is through with it, everything else is ours. */
#include <string.h>

#include "http/internal.h"

const char *http_request_method(const struct http_request *req)
{
	return req->method;
}

const char *http_request_path(const struct http_request *req)
{
	return req->uri.path ? req->uri.path : "";
}

const char *http_request_param(const struct http_request *req, const char *name)
{
	const struct route_param *p = route_param(&req->match, name);

	return p ? p->value : NULL;
}

const char *http_request_raw_param(const struct http_request *req, const char *name)
{
	const struct route_param *p = route_param(&req->match, name);
	char **copy;

	if (!p)
		return NULL;
	copy = (char **)&req->rest_raw[p - req->match.param];
	if (!*copy)
		*copy = strndup(p->raw, p->raw_len);
	return *copy;
}

const char *http_request_raw_query(const struct http_request *req)
{
	return req->uri.raw_query;
}

const char *http_request_header(const struct http_request *req, const char *name)
{
	return req->conn ? MHD_lookup_connection_value(req->conn->mhd, MHD_HEADER_KIND, name) : NULL;
}

struct each {
	bool (*fn)(void *userdata, const char *name, const char *value);
	void *userdata;
};

static enum MHD_Result each_header(void *userdata, enum MHD_ValueKind kind _unused_, const char *name,
				   const char *value)
{
	struct each *e = userdata;

	return e->fn(e->userdata, name, value ? value : "") ? MHD_YES : MHD_NO;
}

void http_request_each_header(const struct http_request *req,
			      bool (*fn)(void *userdata, const char *name, const char *value), void *userdata)
{
	struct each e = { fn, userdata };

	if (req->conn)
		MHD_get_connection_values(req->conn->mhd, MHD_HEADER_KIND, each_header, &e);
}

const char *http_request_query(const struct http_request *req, const char *name, unsigned int n)
{
	return uri_query(&req->uri, name, n);
}

const char *http_request_body(const struct http_request *req, size_t *ret_len)
{
	if (ret_len)
		*ret_len = req->body.len;
	return req->body.data ? req->body.data : "";
}

int64_t http_request_content_length(const struct http_request *req)
{
	return req->content_length;
}

void http_request_set_principal(struct http_request *req, const void *principal)
{
	req->principal = principal;
}

const void *http_request_principal(const struct http_request *req)
{
	return req->principal;
}

void http_request_on_cancel(struct http_request *req, void (*fn)(void *userdata), void *userdata)
{
	req->cancel = fn;
	req->cancel_userdata = userdata;
	if (fn && request_is_lost(req) && !req->user_done && !req->cancelling)
		request_add_work(req, HTTP_WORK_LEFT);
}
