/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A raw HTTP/1.1 client on an event loop, for tests: sends exactly the bytes it is given, parses answers strictly, can
 * stop reading, read slowly, and vanish. One test process runs server and clients on the same loop.
 */
#ifndef DECLAW_TEST_HTTP_CLIENT_H
#define DECLAW_TEST_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "util/str.h"

/* Byte number `offset` of every generated body, in either direction. */
static inline unsigned char http_pattern(uint64_t offset)
{
	return (unsigned char)(offset * 131 + (offset >> 8) * 7 + (offset >> 16));
}
void http_pattern_fill(void *ret, size_t len, uint64_t offset);
bool http_pattern_matches(const void *data, size_t len, uint64_t offset);

enum http_client_state {
	HTTP_CLIENT_HEAD,
	HTTP_CLIENT_BODY,	/* Content-Length, or to the end of the connection */
	HTTP_CLIENT_CHUNK_HEAD,
	HTTP_CLIENT_CHUNK,
	HTTP_CLIENT_CHUNK_END,
	HTTP_CLIENT_TRAILER,
	HTTP_CLIENT_DONE,	/* one answer is complete; http_client_next() for the next */
	HTTP_CLIENT_BROKEN,	/* not HTTP, or ended in the middle of an answer */
};

struct http_client {
	sd_event *event;
	sd_event_source *io;
	int fd;
	enum http_client_state state;
	int status;
	struct buf head;	/* status line and headers, NUL terminated */
	struct buf body;	/* unless pattern is set */
	uint64_t body_len;	/* bytes of body seen */
	int64_t left;		/* of the body or chunk; -1: to the end of the connection */
	bool chunked, head_only;	/* head_only: the request was HEAD */
	bool closed;		/* the server closed */
	unsigned int continues;	/* 100 Continue seen */
	bool pattern, pattern_bad;	/* check the body instead of keeping it */
	size_t read_max;	/* bytes a read may take; 0: 64 KiB */
	bool paused;
	struct buf in, out;
	size_t out_sent;
	uint64_t upload_left, upload_offset;	/* generated body that follows `out` */
	bool upload_chunked;
	int error;		/* of the socket, negative errno */
};

struct http_client *http_client_new(sd_event *event, uint16_t port);
struct http_client *http_client_free(struct http_client *c);
void http_client_send(struct http_client *c, const void *data, size_t len);
void http_client_printf(struct http_client *c, const char *format, ...) _printf_(2, 3);
/* "METHOD target HTTP/1.1", Host, the extra header lines (each with \r\n), empty line */
void http_client_request(struct http_client *c, const char *method, const char *target, const char *extra);
/* A generated body of len bytes after what was sent so far; chunked: with chunk framing and its end. */
void http_client_upload(struct http_client *c, uint64_t len, bool chunked);
void http_client_pause(struct http_client *c, bool pause);
void http_client_next(struct http_client *c);
/* Value of a header of the answer, valid until the next call; NULL when absent. */
const char *http_client_header(struct http_client *c, const char *name);
const char *http_client_body(struct http_client *c);

#endif
