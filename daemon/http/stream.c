/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streamed answers: a bounded ring between the handler and MHD's content reader.
 *
 * The reader takes what is pending; with nothing pending it suspends the connection until the next write. MHD turns
 * Nagle off and pushes the header before it asks for content, so what is written leaves in the same loop iteration. A
 * client that does not read makes MHD stop asking, the ring fills, and the handler sees no room: backpressure without
 * a message. The room callback comes when the ring is half empty and again when it is empty.
 */
#include <string.h>

#include "http/internal.h"

#define RING_MIN 4096

/* Doubles, in order; the ring has at least `need` bytes then. */
static int ring_grow(struct http_ring *ring, size_t need)
{
	size_t size = MAX_OF(ring->size, (size_t)RING_MIN), first;
	char *data;

	while (size < need)
		size *= 2;
	size = MAX_OF(MIN_OF(size, ring->max), need);
	data = malloc(size);
	if (!data)
		return -ENOMEM;
	first = MIN_OF(ring->len, ring->size - ring->head);
	if (ring->len > 0) {
		memcpy(data, ring->data + ring->head, first);
		memcpy(data + first, ring->data, ring->len - first);
	}
	free(ring->data);
	ring->data = data;
	ring->size = size;
	ring->head = 0;
	return 0;
}

static int ring_write(struct http_ring *ring, const char *data, size_t len)
{
	size_t tail, first;

	if (ring->len + len > ring->size) {
		int r = ring_grow(ring, ring->len + len);

		if (r < 0)
			return r;
	}
	tail = ring->head + ring->len;
	if (tail >= ring->size)
		tail -= ring->size;
	first = MIN_OF(len, ring->size - tail);
	memcpy(ring->data + tail, data, first);
	memcpy(ring->data, data + first, len - first);
	ring->len += len;
	return 0;
}

static size_t ring_read(struct http_ring *ring, char *ret, size_t max)
{
	size_t len = MIN_OF(max, ring->len);
	size_t first = MIN_OF(len, ring->size - ring->head);

	memcpy(ret, ring->data + ring->head, first);
	memcpy(ret + first, ring->data, len - first);
	ring->len -= len;
	ring->head = ring->len == 0 ? 0 : (ring->head + len) % ring->size;
	return len;
}

static void note_room(struct http_request *req)
{
	struct http_stream *s = &req->stream;

	if (!s->want_room || req->user_done || s->pending.len > s->pending.max / 2)
		return;
	if (s->pending.len == 0)
		s->want_room = false;
	request_add_work(req, HTTP_WORK_ROOM);
}

static ssize_t read_content(void *userdata, uint64_t position _unused_, char *ret, size_t max)
{
	struct http_request *req = userdata;
	struct http_stream *s = &req->stream;
	size_t n;

	if (req->gone || s->aborted)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (s->pending.len > 0) {
		n = ring_read(&s->pending, ret, max);
		note_room(req);
		return (ssize_t)n;
	}
	if (s->ended)
		return s->size < 0 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
	request_suspend(req);
	return 0;
}

struct MHD_Response *stream_response(struct http_request *req)
{
	bool sized = req->stream.size >= 0;
	struct MHD_Response *response =
		MHD_create_response_from_callback(sized ? (uint64_t)req->stream.size : MHD_SIZE_UNKNOWN,
						  sized ? HTTP_BLOCK_SIZE : HTTP_BLOCK_SIZE_UNUSED,
						  read_content, req, NULL);

	/* MHD 0.9.75 ends a chunked answer to HEAD with the last chunk, which the client would take for the start of the
	 * next answer. This way it neither uses chunks nor the connection again. */
	if (response && !sized && str_eq(req->method, "HEAD"))
		MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
	return response;
}

void stream_done(struct http_stream *s)
{
	free(s->pending.data);
}

size_t http_stream_room(const struct http_request *req)
{
	/* A client that has left takes everything, so that its producer comes to an end. */
	struct http_stream *s = (struct http_stream *)&req->stream;
	size_t room = request_is_lost(req) ? s->pending.max : s->pending.max - s->pending.len;

	if (s->ended || !s->begun)
		return 0;
	if (room < s->pending.max)
		s->want_room = true;
	if (s->size >= 0)
		room = (size_t)MIN_OF((uint64_t)room, (uint64_t)s->size - s->accepted);
	return room;
}

int http_stream_write(struct http_request *req, const void *data, size_t len)
{
	struct http_stream *s = &req->stream;
	int r;

	if (!s->begun || s->ended)
		return -EINVAL;
	if (request_is_lost(req))
		return -EPIPE;
	if (s->size >= 0 && len > (uint64_t)s->size - s->accepted)
		return -EMSGSIZE;
	if (len > s->pending.max - s->pending.len) {
		s->want_room = true;
		return -ENOBUFS;
	}
	if (len == 0)
		return 0;
	r = ring_write(&s->pending, data, len);
	if (r < 0)
		return r;
	s->accepted += len;
	if (s->pending.len > s->pending.max / 2)
		s->want_room = true;
	request_wake(req);
	return 0;
}

/* Wakes the reader to see that the end has come. */
void http_stream_end(struct http_request *req)
{
	if (!req->stream.begun || req->stream.ended || req->cancelling)
		return;
	req->stream.ended = true;
	request_wake(req);
	request_finish(req);
}

void http_stream_abort(struct http_request *req)
{
	if (!req->stream.begun || req->stream.ended || req->cancelling)
		return;
	req->stream.ended = req->stream.aborted = true;
	request_cut(req);
	request_finish(req);
}
