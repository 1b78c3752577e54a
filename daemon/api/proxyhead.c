/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Headers through the proxy, see proxyhead.h. */
#include "api/proxyhead.h"

#include <string.h>
#include <strings.h>

#include "policy/policy.h"

/* Of one connection, or written anew */
static const char *const not_forwarded[] = {
	"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
	"transfer-encoding", "upgrade", "content-length", NULL,
};
static const char *const not_in[] = { "host", "expect", "x-api-key", "x-forwarded-host", "x-forwarded-proto",
				      "x-forwarded-prefix", NULL };
/* libmicrohttpd writes its own Date; a cookie would be for the API's origin, and go to every other sandbox's server */
static const char *const not_out[] = { "set-cookie", "set-cookie2", "date", NULL };

static bool is_one_of(const char *const list[], const char *name, size_t len)
{
	for (; *list; list++)
		if (strlen(*list) == len && strncasecmp(*list, name, len) == 0)
			return true;
	return false;
}

/* --- in --- */

struct in {
	struct buf *out;
	const char *connection;
	int r;
};

/* The key is not for the server in the sandbox; another kind of credentials may well be */
static bool is_key(const char *name, const char *value)
{
	return strcasecmp(name, "Authorization") == 0 && strncasecmp(value, "Bearer", 6) == 0;
}

static bool put_in(void *userdata, const char *name, const char *value)
{
	struct in *in = userdata;
	size_t len = strlen(name);

	if (is_one_of(not_forwarded, name, len) || is_one_of(not_in, name, len) || is_key(name, value) ||
	    (in->connection && upstream_list_has(in->connection, strlen(in->connection), name, len)))
		return true;
	in->r = buf_printf(in->out, "%s: %s\r\n", name, value);
	return in->r == 0;
}

static bool has_body_by_nature(const char *method)
{
	return str_eq(method, "POST") || str_eq(method, "PUT") || str_eq(method, "PATCH");
}

static int put_framing(const struct http_request *req, const char *upgrade, struct buf *b)
{
	int64_t length = http_request_content_length(req);
	int r = 0;

	if (length < 0)
		r = buf_puts(b, "Transfer-Encoding: chunked\r\n");
	else if (length > 0 || has_body_by_nature(http_request_method(req)))
		r = buf_printf(b, "Content-Length: %lld\r\n", (long long)length);
	if (r < 0)
		return r;
	if (upgrade)
		return buf_printf(b, "Connection: Upgrade\r\nUpgrade: %s\r\n", upgrade);
	return buf_puts(b, "Connection: close\r\n");
}

/* Development servers refuse names they do not know; all know their own. */
static int put_host(const struct http_request *req, const struct sandbox *sb, uint16_t port, struct buf *b)
{
	/* policy_parse() has seen to it that it can stand here */
	const char *mask = sb->options.policy && sb->options.policy->mask_host ? sb->options.policy->mask_host : "localhost:${PORT}";
	const char *host = http_request_header(req, "Host"), *at = strstr(mask, "${PORT}");
	int r;

	if (at)
		r = buf_printf(b, "Host: %.*s%u%s\r\n", (int)(at - mask), mask, port, at + strlen("${PORT}"));
	else
		r = buf_printf(b, "Host: %s\r\n", mask);
	if (r == 0 && host)
		r = buf_printf(b, "X-Forwarded-Host: %s\r\n", host);
	return r < 0 ? r : buf_printf(b, "X-Forwarded-Proto: http\r\nX-Forwarded-Prefix: /sandboxes/%s/ports/%u\r\n",
				      sb->id, port);
}

int proxyhead_request(const struct http_request *req, const struct sandbox *sb, uint16_t port, const char *upgrade,
		      struct buf *ret)
{
	const char *path = http_request_raw_param(req, "path"), *query = http_request_raw_query(req);
	struct in in = { .out = ret, .connection = http_request_header(req, "Connection") };
	int r = buf_printf(ret, "%s /%s%s%s HTTP/1.1\r\n", http_request_method(req), path ?: "", query ? "?" : "",
			   query ?: "");

	if (r == 0)
		r = put_host(req, sb, port, ret);
	if (r == 0)
		http_request_each_header(req, put_in, &in);
	if (r == 0)
		r = in.r;
	if (r == 0)
		r = put_framing(req, upgrade, ret);
	return r < 0 ? r : buf_puts(ret, "\r\n");
}

const char *proxyhead_upgrade(const struct http_request *req)
{
	const char *connection = http_request_header(req, "Connection"), *upgrade = http_request_header(req, "Upgrade");

	if (!connection || !upgrade || !*upgrade || http_request_content_length(req) != 0 ||
	    !upstream_list_has(connection, strlen(connection), "upgrade", 7))
		return NULL;
	return upgrade;
}

/* --- out --- */

static bool is_dropped(const struct upstream_head *head, const struct upstream_header *h)
{
	/* An empty value cannot be sent by libmicrohttpd */
	if (h->value_len == 0 || is_one_of(not_forwarded, h->name, h->name_len) || is_one_of(not_out, h->name, h->name_len))
		return true;
	for (size_t i = 0; i < head->n_headers; i++)
		if (upstream_header_is(&head->header[i], "connection") &&
		    upstream_list_has(head->header[i].value, head->header[i].value_len, h->name, h->name_len))
			return true;
	return false;
}

int proxyhead_answer(struct http_request *req, const struct upstream_head *head)
{
	for (size_t i = 0; i < head->n_headers; i++) {
		const struct upstream_header *h = &head->header[i];
		_cleanup_free_ char *name = NULL, *value = NULL;
		int r;

		if (is_dropped(head, h))
			continue;
		name = strndup(h->name, h->name_len);
		value = strndup(h->value, h->value_len);
		r = name && value ? http_reply_header(req, name, value) : -ENOMEM;
		/* -EINVAL: a tab in the value, which nobody needs */
		if (r < 0 && r != -EINVAL)
			return r;
	}
	return 0;
}
