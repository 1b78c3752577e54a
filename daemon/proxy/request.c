/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See request.h. llhttp is paused at the end of each head, so that no byte behind it is looked at before it is judged. */
#include "proxy/request.h"

#include <llhttp.h>
#include <string.h>
#include <strings.h>

#define AUTHORITY_MAX 512u

struct request_parser {
	llhttp_t http;
	llhttp_settings_t settings;
	char url[AUTHORITY_MAX], field[32], host[AUTHORITY_MAX];
	size_t url_len, field_len, host_len, head;
	unsigned int hosts;
	bool in_head, complete, long_host, h2c;
};

static struct request_parser *of(llhttp_t *http)
{
	return container_of(http, struct request_parser, http);
}

/* Keeps the beginning; len goes on counting, so that what is too long is known */
static void keep(char *to, size_t size, size_t *len, const char *at, size_t n)
{
	if (*len < size)
		memcpy(to + *len, at, MIN_OF(n, size - *len));
	*len += n;
}

static int on_message_begin(llhttp_t *http)
{
	struct request_parser *p = of(http);

	p->url_len = p->host_len = p->field_len = p->hosts = 0;
	p->complete = p->h2c = false;
	p->in_head = true;
	return 0;
}

static int on_url(llhttp_t *http, const char *at, size_t n)
{
	keep(of(http)->url, AUTHORITY_MAX, &of(http)->url_len, at, n);
	return 0;
}

static int on_field(llhttp_t *http, const char *at, size_t n)
{
	keep(of(http)->field, sizeof(of(http)->field), &of(http)->field_len, at, n);
	return 0;
}

static bool field_is(const struct request_parser *p, const char *name)
{
	return p->field_len == strlen(name) && strncasecmp(p->field, name, p->field_len) == 0;
}

static int on_field_end(llhttp_t *http)
{
	struct request_parser *p = of(http);

	if (field_is(p, "host"))
		p->hosts++;
	return 0;
}

static int on_value(llhttp_t *http, const char *at, size_t n)
{
	struct request_parser *p = of(http);

	if (field_is(p, "host"))
		keep(p->host, AUTHORITY_MAX, &p->host_len, at, n);
	else if (field_is(p, "http2-settings"))
		p->h2c = true;
	return 0;
}

static int on_value_end(llhttp_t *http)
{
	of(http)->field_len = 0;
	return 0;
}

static int on_headers_complete(llhttp_t *http)
{
	of(http)->complete = true;
	return HPE_PAUSED;
}

/* Paused here too, so that what follows is known to be the next head */
static int on_message_complete(llhttp_t *http)
{
	of(http)->in_head = true;
	return HPE_PAUSED;
}

struct request_parser *request_parser_new(void)
{
	struct request_parser *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	llhttp_settings_init(&p->settings);
	p->settings.on_message_begin = on_message_begin;
	p->settings.on_url = on_url;
	p->settings.on_header_field = on_field;
	p->settings.on_header_field_complete = on_field_end;
	p->settings.on_header_value = on_value;
	p->settings.on_header_value_complete = on_value_end;
	p->settings.on_headers_complete = on_headers_complete;
	p->settings.on_message_complete = on_message_complete;
	llhttp_init(&p->http, HTTP_REQUEST, &p->settings);
	p->in_head = true;
	return p;
}

struct request_parser *request_parser_free(struct request_parser *p)
{
	free(p);
	return NULL;
}

/* host or host:port, nothing else */
static bool authority_name(const char *s, size_t len, char *ret)
{
	const char *colon = memchr(s, ':', len);
	size_t n = colon ? (size_t)(colon - s) : len;

	if (colon && (len - n < 2 || len - n > 6 || strspn(colon + 1, "0123456789") < len - n - 1))
		return false;
	return policy_name_canon(s, n, ret) == 0;
}

/* http://authority/..., whose authority must be the Host's */
static bool url_agrees(const struct request_parser *p, const char *host)
{
	static const char scheme[] = "http://";
	char name[POLICY_NAME_MAX];
	size_t start = sizeof(scheme) - 1, n;

	if (p->url_len == 0 || p->url[0] == '/' || (p->url_len == 1 && p->url[0] == '*'))
		return true;
	if (p->url_len < start || strncasecmp(p->url, scheme, start) != 0)
		return false;
	for (n = start; n < MIN_OF(p->url_len, AUTHORITY_MAX) && !strchr("/?#", p->url[n]); n++)
		;
	return n < AUTHORITY_MAX && authority_name(p->url + start, n - start, name) && str_eq(name, host);
}

static enum request_result judge_head(struct request_parser *p, char *name, const char **ret_why)
{
	char host[AUTHORITY_MAX + 1];

	*ret_why = "method";
	if (p->http.method == HTTP_CONNECT || p->http.method == HTTP_TRACE || p->http.method == HTTP_PRI)
		return REQUEST_BAD;
	*ret_why = "version";
	if (p->http.http_major != 1 || p->http.http_minor > 1)
		return REQUEST_BAD;
	*ret_why = "transfer_encoding";
	if (p->http.flags & F_TRANSFER_ENCODING && !(p->http.flags & F_CHUNKED))
		return REQUEST_BAD;
	*ret_why = "host";
	if (p->hosts != 1 || p->host_len == 0 || p->host_len > AUTHORITY_MAX)
		return REQUEST_BAD;
	memcpy(host, p->host, p->host_len);
	host[p->host_len] = '\0';
	if (!authority_name(host, p->host_len, name))
		return REQUEST_BAD;
	*ret_why = "absolute_form";
	if (!url_agrees(p, name))
		return REQUEST_BAD;
	*ret_why = "h2c";
	if (p->h2c)
		return REQUEST_BAD;
	return p->http.upgrade ? REQUEST_UPGRADE : REQUEST_HEAD;
}

bool request_in_head(const struct request_parser *p)
{
	return p->in_head;
}

enum request_result request_feed(struct request_parser *p, const char *data, size_t len, size_t *ret_used, char *name,
				 const char **ret_why)
{
	llhttp_errno_t e;

	p->complete = false;
	if (llhttp_get_errno(&p->http) == HPE_PAUSED)
		llhttp_resume(&p->http);
	else if (llhttp_get_errno(&p->http) == HPE_PAUSED_UPGRADE)
		llhttp_resume_after_upgrade(&p->http);	/* the server did not: requests again */
	e = llhttp_execute(&p->http, data, len);
	*ret_why = "syntax";
	*ret_used = len;
	if (e == HPE_PAUSED || e == HPE_PAUSED_UPGRADE) {
		*ret_used = (size_t)(llhttp_get_error_pos(&p->http) - data);
		if (p->complete) {
			p->in_head = false;
			p->head = 0;
			return judge_head(p, name, ret_why);
		}
		return REQUEST_MORE;
	}
	if (e != HPE_OK)
		return REQUEST_BAD;
	p->head = p->in_head ? p->head + len : 0;
	*ret_why = "head_too_large";
	return p->head > REQUEST_HEAD_MAX ? REQUEST_BAD : REQUEST_MORE;
}
