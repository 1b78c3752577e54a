/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What arrives: the decoder is fed, frames are checked for epoch, direction and state, and handed on.
 * What leaves: buffers made by session_fill() are written, whole frames per write, because a virtio port
 * takes one write as one buffer with one notification.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent.h"
#include "log.h"
#include "proc.h"
#include "session.h"
#include "wire/le.h"
#include "wire/tlv.h"

#define RESUMES_NS (2ull * 1000 * 1000 * 1000)
/* Reads and writes of one turn, so that neither direction starves the other or the processes. */
#define TURN_READS 24
#define TURN_WRITES 16
/*
 * Where in a block of a frame's size the buffer of a write begins. The kernel copies it into a buffer of its own that is
 * aligned to that size. An emulated processor finds both pages of a copy in a table by the low bits of their numbers: were
 * these the same, each of 4096 loads and stores of a page would throw out the other's entry, which made the guest two
 * times slower for as long as it sent. Half a block away they are never the same. Real processors do not care.
 */
#define OUT_COLOUR (DCLW_FRAME_MAX / 2)
/*
 * What a virtio port gives is a page, and goes into one page of ours when the decoder's buffer begins with one: an emulated
 * processor pays for each page that it comes to. An upload takes a guest a tenth less.
 */
#define IN_PAGE 4096u
#define IN_SIZE ((sizeof(struct wire_decoder) + IN_PAGE - 1) / IN_PAGE * IN_PAGE)

int session_init(struct agent *a)
{
	struct session *s = &a->session;

	s->out_memory = aligned_alloc(DCLW_FRAME_MAX, 2 * DCLW_FRAME_MAX);
	s->decoder = aligned_alloc(IN_PAGE, IN_SIZE);
	if (!s->out_memory || !s->decoder) {
		free(TAKE_PTR(s->out_memory));
		free(TAKE_PTR(s->decoder));
		return -ENOMEM;
	}
	s->out = (uint8_t *)s->out_memory + OUT_COLOUR;
	wire_decoder_init(s->decoder);
	list_init(&s->replies_due);
	list_init(&s->data_ready);
	list_init(&s->control_ready);
	for (unsigned int i = 0; i < SESSION_BUCKETS; i++)
		list_init(&s->streams[i]);
	for (unsigned int i = 0; i < REQUEST_SLOTS; i++) {
		s->requests[i].agent = a;
		list_init(&s->requests[i].due);
	}
	if (getrandom(&s->agent_id, sizeof(s->agent_id), GRND_NONBLOCK) != sizeof(s->agent_id))
		s->agent_id = agent_now() * 0x9e3779b97f4a7c15ull;	/* early boot: unique will do */
	return 0;
}

void session_done(struct agent *a)
{
	struct session *s = &a->session;

	for (unsigned int i = 0; i < SESSION_BUCKETS; i++) {
		struct stream *stream;

		while ((stream = list_first(&s->streams[i], struct stream, hash)))
			stream_drop(stream);
	}
	requests_free(a);
	free(TAKE_PTR(s->out_memory));
	free(TAKE_PTR(s->decoder));
}

static void session_goaway(struct agent *a, uint32_t reason, const char *text)
{
	struct session *s = &a->session;

	s->open = false;
	s->goaway_due = true;
	s->goaway_reason = reason;
	snprintf(s->goaway_text, sizeof(s->goaway_text), "%s", text);
}

void session_protocol_error(struct agent *a, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	if (!a->session.open)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!a->dry)
		log_warn("the host broke the protocol: %s", text);
	session_goaway(a, DCLW_REASON_PROTOCOL, text);
}

void session_queue_end(struct agent *a, uint32_t id, uint64_t from, uint64_t end)
{
	struct session *s = &a->session;
	unsigned int at = (s->reset_first + s->reset_count) % SESSION_RESETS;

	if (s->reset_count == SESSION_RESETS)
		return;		/* cannot be: receiving stops at half */
	s->resets[at].id = id;
	s->resets[at].error = 0;
	s->resets[at].from = from;
	s->resets[at].end = end;
	s->reset_count++;
}

void session_queue_reset(struct agent *a, uint32_t id, int error)
{
	struct session *s = &a->session;

	if (!s->open || s->reset_count == SESSION_RESETS)
		return;
	session_queue_end(a, id, 0, 0);
	s->resets[(s->reset_first + s->reset_count - 1) % SESSION_RESETS].error = (uint32_t)error;
}

void session_remember_end(struct agent *a, uint32_t id, uint64_t end)
{
	struct session *s = &a->session;

	s->ends[s->end_next].id = id;
	s->ends[s->end_next].end = end;
	s->end_next = (s->end_next + 1) % SESSION_ENDS;
}

bool session_find_end(const struct agent *a, uint32_t id, uint64_t *ret_end)
{
	for (unsigned int i = 0; id && i < SESSION_ENDS; i++) {
		if (a->session.ends[i].id == id) {
			*ret_end = a->session.ends[i].end;
			return true;
		}
	}
	return false;
}

void session_forget_end(struct agent *a, uint32_t id)
{
	for (unsigned int i = 0; i < SESSION_ENDS; i++) {
		if (a->session.ends[i].id == id)
			a->session.ends[i].id = 0;
	}
}

struct hello {
	uint32_t min, max;
	uint64_t epoch, instance;
};

static int hello_parse(const struct wire_frame *f, struct hello *ret)
{
	struct wire_reader rd;
	const uint8_t *data;
	size_t len;
	uint16_t tag;
	int r;

	*ret = (struct hello) { 0 };
	wire_reader_init(&rd, f->payload, f->header.length);
	while ((r = wire_next(&rd, &tag, &data, &len)) > 0) {
		int bad = 0;

		if (tag == DCLW_TAG_VERSION_MIN)
			bad = wire_get_u32(data, len, &ret->min);
		else if (tag == DCLW_TAG_VERSION_MAX)
			bad = wire_get_u32(data, len, &ret->max);
		else if (tag == DCLW_TAG_EPOCH)
			bad = wire_get_u64(data, len, &ret->epoch);
		else if (tag == DCLW_TAG_INSTANCE)
			bad = wire_get_u64(data, len, &ret->instance);
		if (bad < 0)
			return bad;
	}
	if (r < 0)
		return r;
	return ret->epoch && (uint16_t)ret->epoch == f->header.epoch && ret->min <= ret->max ? 0 : -EBADMSG;
}

/* Whatever was about to be sent is void; a frame that is half written must be completed all the same. */
static void session_void(struct agent *a)
{
	struct session *s = &a->session;

	if (s->out_pos == 0)
		s->out_len = 0;
	s->goaway_due = false;
	s->pong_count = s->reset_count = 0;
}

static void session_on_hello(struct agent *a, const struct wire_frame *f)
{
	struct session *s = &a->session;
	struct hello hello;
	bool same;

	if (hello_parse(f, &hello) < 0) {
		s->epoch = f->header.epoch;
		session_goaway(a, DCLW_REASON_PROTOCOL, "malformed HELLO");
		return;
	}
	session_void(a);
	s->epoch = hello.epoch;
	if (hello.max < DCLW_VERSION_MIN || hello.min > DCLW_VERSION_MAX) {
		session_goaway(a, DCLW_REASON_VERSION, "no common version");
		return;
	}
	same = s->instance == hello.instance;
	s->instance = hello.instance;
	s->open = s->ack_due = true;
	s->hello_at = agent_now();
	s->resumes_over = false;
	requests_hello(a, same);
	streams_hello(a);
	procs_hello(a);
}

static void session_on_ping(struct agent *a, const struct dclw_header *h)
{
	struct session *s = &a->session;
	unsigned int at;

	if (s->pong_count == SESSION_PONGS) {
		s->pong_first = (s->pong_first + 1) % SESSION_PONGS;
		s->pong_count--;
	}
	at = (s->pong_first + s->pong_count++) % SESSION_PONGS;
	s->pongs[at].offset = h->offset;
	s->pongs[at].arg = h->arg;
}

static void session_on_frame(struct agent *a, const struct wire_frame *f)
{
	struct session *s = &a->session;
	const struct dclw_header *h = &f->header;
	int r = 0;

	if (h->type == DCLW_HELLO) {
		session_on_hello(a, f);
		return;
	}
	if (!s->open || h->epoch != (uint16_t)s->epoch) {
		s->stale++;
		return;
	}
	switch (h->type) {
	case DCLW_PING:
		session_on_ping(a, h);
		break;
	case DCLW_GOAWAY:
		s->open = false;
		break;
	case DCLW_REQUEST:
		request_on_frame(a, f);
		break;
	case DCLW_DATA:
		r = stream_on_data(a, f);
		break;
	case DCLW_WINDOW:
		r = stream_on_window(a, f);
		break;
	case DCLW_RESUME:
		r = stream_on_resume(a, f);
		break;
	case DCLW_RESET:
		stream_on_reset(a, f);
		break;
	default:
		if (h->type < 0x80)
			session_protocol_error(a, "frame type 0x%02x is not for the guest", h->type);
	}
	if (r < 0)
		session_protocol_error(a, "frame type 0x%02x of stream %u at offset %llu against the rules",
				       h->type, h->stream, (unsigned long long)h->offset);
}

/* While the host does not take what it provoked, it is not listened to. */
static bool session_gated(const struct agent *a)
{
	return a->session.reset_count > SESSION_RESETS / 2;
}

bool session_receive(struct agent *a)
{
	struct wire_decoder *d = a->session.decoder;
	struct wire_frame frame;

	for (int i = 0; i < TURN_READS; i++) {
		uint8_t *space;
		size_t room;
		ssize_t n;

		if (session_gated(a))
			return false;
		space = wire_decoder_space(d, &room);
		n = port_read(&a->port, space, room);
		if (n <= 0)
			return false;
		wire_decoder_commit(d, (size_t)n);
		while (wire_decoder_next(d, &frame))
			session_on_frame(a, &frame);
	}
	return a->port.readable;
}

void session_send(struct agent *a)
{
	struct session *s = &a->session;

	for (int i = 0; i < TURN_WRITES; i++) {
		ssize_t n;

		if (!a->port.writable)
			return;
		if (s->out_pos == s->out_len) {
			s->out_pos = 0;
			s->out_len = session_fill(a, s->out, DCLW_FRAME_MAX);
			if (s->out_len == 0)
				return;
		}
		n = port_write(&a->port, s->out + s->out_pos, s->out_len - s->out_pos);
		if (n <= 0)
			return;
		s->out_pos += (size_t)n;
	}
}

void session_tick(struct agent *a)
{
	struct session *s = &a->session;

	if (s->open && !s->resumes_over && agent_now() - s->hello_at > RESUMES_NS)
		s->resumes_over = true;
	streams_tick(a);
}

int session_timeout(const struct agent *a, int max)
{
	const struct session *s = &a->session;
	uint64_t at = s->lazy_at, now;

	/* Bytes left after TURN_WRITES: come back at once. */
	if (a->port.writable && s->out_pos != s->out_len)
		return 0;
	if (s->shut_at && (at == 0 || s->shut_at < at))
		at = s->shut_at;
	if (at == 0 || !s->open || !a->port.writable)
		return max;
	now = agent_now();
	return at <= now ? 0 : (int)MIN_OF((at - now) / 1000000 + 1, (uint64_t)max);
}
