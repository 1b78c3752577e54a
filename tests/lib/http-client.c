/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See http-client.h. Failures of the test's own plumbing abort: they are bugs of the test. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "http-client.h"

#define MUST(x) ((x) ? (void)0 : abort())
#define CLIENT_BUFFER (64 * 1024)
#define CLIENT_BODY_MAX (64 * 1024 * 1024)

void http_pattern_fill(void *ret, size_t len, uint64_t offset)
{
	for (size_t i = 0; i < len; i++)
		((unsigned char *)ret)[i] = http_pattern(offset + i);
}

bool http_pattern_matches(const void *data, size_t len, uint64_t offset)
{
	for (size_t i = 0; i < len; i++)
		if (((const unsigned char *)data)[i] != http_pattern(offset + i))
			return false;
	return true;
}

static void take_in(struct http_client *c, size_t n)
{
	memmove(c->in.data, c->in.data + n, c->in.len - n);
	c->in.len -= n;
	c->in.data[c->in.len] = '\0';
}

static void see_body(struct http_client *c, size_t n)
{
	if (c->pattern)
		c->pattern_bad |= !http_pattern_matches(c->in.data, n, c->body_len);
	else
		MUST(buf_append(&c->body, c->in.data, n) == 0);
	c->body_len += n;
	if (c->left > 0)
		c->left -= (int64_t)n;
	take_in(c, n);
}

const char *http_client_header(struct http_client *c, const char *name)
{
	static char value[1024];
	size_t n = strlen(name);

	for (const char *line = c->head.data; line && (line = strstr(line, "\r\n")); ) {
		line += 2;
		if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
			size_t len = strcspn(line + n + 1, "\r");

			MUST(len < sizeof(value));
			memcpy(value, line + n + 1, len);
			value[len] = '\0';
			return value + strspn(value, " ");
		}
	}
	return NULL;
}

const char *http_client_body(struct http_client *c)
{
	return c->body.data ? c->body.data : "";
}

static bool parse_head(struct http_client *c)
{
	const char *end = c->in.len ? strstr(c->in.data, "\r\n\r\n") : NULL, *value;
	uint64_t length = 0;

	if (!end)
		return false;
	c->head.len = 0;
	MUST(buf_append(&c->head, c->in.data, (size_t)(end - c->in.data) + 4) == 0);
	take_in(c, c->head.len);
	if (sscanf(c->head.data, "HTTP/1.1 %3d ", &c->status) != 1) {
		c->state = HTTP_CLIENT_BROKEN;
		return false;
	}
	if (c->status == 100) {
		c->continues++;
		return true;
	}
	value = http_client_header(c, "Transfer-Encoding");
	c->chunked = value && strcasecmp(value, "chunked") == 0;
	value = http_client_header(c, "Content-Length");
	if (value)
		MUST(str_to_u64(value, 0, INT64_MAX, &length) == 0);
	c->left = value ? (int64_t)length : -1;
	c->state = c->chunked ? HTTP_CLIENT_CHUNK_HEAD : HTTP_CLIENT_BODY;
	if (c->head_only || (!c->chunked && c->left == 0))
		c->state = HTTP_CLIENT_DONE;
	return true;
}

static bool parse_body(struct http_client *c)
{
	size_t n = c->in.len;

	if (c->left >= 0)
		n = MIN_OF(n, (size_t)c->left);
	if (n == 0)
		return false;
	see_body(c, n);
	if (c->left == 0)
		c->state = c->chunked ? HTTP_CLIENT_CHUNK_END : HTTP_CLIENT_DONE;
	return true;
}

static bool parse_chunk_head(struct http_client *c)
{
	const char *end = c->in.len ? strstr(c->in.data, "\r\n") : NULL;
	unsigned int size;

	if (!end)
		return false;
	if (sscanf(c->in.data, "%x", &size) != 1) {
		c->state = HTTP_CLIENT_BROKEN;
		return false;
	}
	take_in(c, (size_t)(end - c->in.data) + 2);
	c->left = (int64_t)size;
	c->state = size > 0 ? HTTP_CLIENT_CHUNK : HTTP_CLIENT_TRAILER;
	return true;
}

/* The line end behind a chunk, or the empty trailer. */
static bool parse_line_end(struct http_client *c, enum http_client_state next)
{
	if (c->in.len < 2)
		return false;
	c->state = memcmp(c->in.data, "\r\n", 2) == 0 ? next : HTTP_CLIENT_BROKEN;
	take_in(c, 2);
	return true;
}

/* One step of the parser; false when it needs more bytes or has come to an end. */
static bool parse_step(struct http_client *c)
{
	switch (c->state) {
	case HTTP_CLIENT_HEAD:
		return parse_head(c);
	case HTTP_CLIENT_BODY:
	case HTTP_CLIENT_CHUNK:
		return parse_body(c);
	case HTTP_CLIENT_CHUNK_HEAD:
		return parse_chunk_head(c);
	case HTTP_CLIENT_CHUNK_END:
		return parse_line_end(c, HTTP_CLIENT_CHUNK_HEAD);
	case HTTP_CLIENT_TRAILER:
		return parse_line_end(c, HTTP_CLIENT_DONE);
	case HTTP_CLIENT_DONE:
	case HTTP_CLIENT_BROKEN:
		break;
	}
	return false;
}

static void parse(struct http_client *c)
{
	while (parse_step(c))
		;
}

static void set_events(struct http_client *c)
{
	bool out = c->out.len > c->out_sent || c->upload_left > 0;
	uint32_t events = (c->paused || c->closed ? 0u : (uint32_t)EPOLLIN) | (out ? (uint32_t)EPOLLOUT : 0u);

	sd_event_source_set_io_events(c->io, events);
	sd_event_source_set_enabled(c->io, events ? SD_EVENT_ON : SD_EVENT_OFF);
}

static void see_end(struct http_client *c, int error)
{
	c->closed = true;
	c->error = error;
	if (c->state == HTTP_CLIENT_BODY && c->left < 0 && error == 0)
		c->state = HTTP_CLIENT_DONE;
	else if (c->state != HTTP_CLIENT_DONE && (c->state != HTTP_CLIENT_HEAD || c->in.len > 0))
		c->state = HTTP_CLIENT_BROKEN;
}

static void read_some(struct http_client *c)
{
	char chunk[CLIENT_BUFFER];
	ssize_t n = recv(c->fd, chunk, c->read_max ? MIN_OF(c->read_max, sizeof(chunk)) : sizeof(chunk), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		see_end(c, n < 0 ? -errno : 0);
		return;
	}
	MUST(buf_append(&c->in, chunk, (size_t)n) == 0);
	parse(c);
}

/* Moves the next piece of the generated body to the output buffer. */
static void generate(struct http_client *c)
{
	char piece[CLIENT_BUFFER];
	size_t n = (size_t)MIN_OF(c->upload_left, (uint64_t)sizeof(piece));

	http_pattern_fill(piece, n, c->upload_offset);
	c->upload_offset += n;
	c->upload_left -= n;
	if (c->upload_chunked)
		MUST(buf_printf(&c->out, "%zx\r\n", n) == 0);
	MUST(buf_append(&c->out, piece, n) == 0);
	if (c->upload_chunked)
		MUST(buf_puts(&c->out, c->upload_left == 0 ? "\r\n0\r\n\r\n" : "\r\n") == 0);
}

static void write_some(struct http_client *c)
{
	ssize_t n;

	if (c->out_sent == c->out.len) {
		c->out.len = c->out_sent = 0;
		if (c->upload_left > 0)
			generate(c);
	}
	n = send(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent, MSG_NOSIGNAL);
	if (n > 0) {
		c->out_sent += (size_t)n;
	} else if (n < 0 && errno != EAGAIN) {
		c->error = -errno;	/* an answer may have come before: go on reading */
		c->out.len = c->out_sent = 0;
		c->upload_left = 0;
	}
}

static int on_client(sd_event_source *source _unused_, int fd _unused_, uint32_t revents, void *userdata)
{
	struct http_client *c = userdata;

	if (revents & EPOLLOUT && (c->out.len > c->out_sent || c->upload_left > 0))
		write_some(c);
	if (!c->paused && !c->closed && revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		read_some(c);
	set_events(c);
	return 0;
}

struct http_client *http_client_new(sd_event *event, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct http_client *c = calloc(1, sizeof(*c));

	MUST(c);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->event = sd_event_ref(event);
	c->in.max = c->out.max = c->body.max = CLIENT_BODY_MAX;
	c->head.max = CLIENT_BUFFER;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(c->fd >= 0);
	MUST(connect(c->fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	MUST(fcntl(c->fd, F_SETFL, O_NONBLOCK) == 0);
	MUST(sd_event_add_io(event, &c->io, c->fd, EPOLLIN, on_client, c) >= 0);
	return c;
}

struct http_client *http_client_free(struct http_client *c)
{
	if (!c)
		return NULL;
	sd_event_source_disable_unref(c->io);
	close(c->fd);
	buf_done(&c->in);
	buf_done(&c->out);
	buf_done(&c->head);
	buf_done(&c->body);
	sd_event_unref(c->event);
	free(c);
	return NULL;
}

void http_client_send(struct http_client *c, const void *data, size_t len)
{
	MUST(buf_append(&c->out, data, len) == 0);
	set_events(c);
}

void http_client_printf(struct http_client *c, const char *format, ...)
{
	char text[4096];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	MUST(n >= 0 && (size_t)n < sizeof(text));
	http_client_send(c, text, (size_t)n);
}

void http_client_request(struct http_client *c, const char *method, const char *target, const char *extra)
{
	c->head_only = str_eq(method, "HEAD");
	http_client_printf(c, "%s %s HTTP/1.1\r\nHost: test\r\n%s\r\n", method, target, extra ? extra : "");
}

void http_client_upload(struct http_client *c, uint64_t len, bool chunked)
{
	c->upload_left = len;
	c->upload_offset = 0;
	c->upload_chunked = chunked;
	set_events(c);
}

void http_client_pause(struct http_client *c, bool pause)
{
	c->paused = pause;
	set_events(c);
}

void http_client_next(struct http_client *c)
{
	MUST(c->state == HTTP_CLIENT_DONE);
	c->state = HTTP_CLIENT_HEAD;
	c->status = 0;
	c->body.len = 0;
	c->body_len = 0;
	if (c->body.data)
		c->body.data[0] = '\0';
	parse(c);
}
