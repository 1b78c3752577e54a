/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes the frames of one write from what is due, in this order: GOAWAY, HELLO_ACK, PONGs, RESETs, replies,
 * windows and gaps, events whose streams have ended, data. Control frames pass data by being asked first
 * for every write, and data is one frame per stream and turn.
 */
#include <fcntl.h>
#include <string.h>

#include "agent.h"
#include "proc.h"
#include "wire/le.h"
#include "wire/tlv.h"

struct fill {
	struct agent *a;
	uint8_t *out;
	size_t len, size;
};

static bool fill_frame(struct fill *f, struct dclw_header h, const void *payload)
{
	size_t n;

	h.epoch = (uint16_t)f->a->session.epoch;
	n = wire_frame_put(f->out + f->len, f->size - f->len, &h, payload);
	f->len += n;
	return n > 0;
}

static void put_boot_id(struct wire_writer *w)
{
	char id[37] = "";
	_cleanup_close_ int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, id, 36) : -1;

	wire_put_bytes(w, DCLW_TAG_BOOT_ID, n == 36 ? id : "00000000-0000-0000-0000-000000000000", 36);
}

static void put_stream_states(struct agent *a, struct wire_writer *w)
{
	struct stream *s;

	for (unsigned int i = 0; i < SESSION_BUCKETS; i++) {
		list_foreach(&a->session.streams[i], s, struct stream, hash) {
			uint8_t state[16] = { 0 };

			if (s->dir != STREAM_IN)
				continue;
			le32_store(state, s->id);
			le64_store(state + 8, s->tail);
			wire_put_bytes(w, DCLW_TAG_STREAM_STATE, state, sizeof(state));
		}
	}
}

/* The acknowledgement opens the session, so it is alone in the first write and always fits. */
static void fill_hello_ack(struct fill *f)
{
	struct session *s = &f->a->session;
	struct dclw_header h = { .type = DCLW_HELLO_ACK };
	struct wire_writer w;

	_Static_assert(DCLW_STREAMS_MAX * (WIRE_TLV_HEADER + 16) + 256 < DCLW_PAYLOAD_MAX, "one frame");
	wire_writer_init(&w, f->out + f->len + DCLW_HEADER_SIZE, f->size - f->len - DCLW_HEADER_SIZE - DCLW_SEAL_SIZE);
	wire_put_u32(&w, DCLW_TAG_VERSION, DCLW_VERSION_MAX);
	wire_put_u64(&w, DCLW_TAG_EPOCH, s->epoch);
	wire_put_u64(&w, DCLW_TAG_AGENT_ID, s->agent_id);
	put_boot_id(&w);
	wire_put_str(&w, DCLW_TAG_AGENT_VERSION, AGENT_VERSION);
	wire_put_u32(&w, DCLW_TAG_VERSION_MIN, DCLW_VERSION_MIN);
	wire_put_u32(&w, DCLW_TAG_VERSION_MAX, DCLW_VERSION_MAX);
	put_stream_states(f->a, &w);
	h.length = (uint32_t)w.len;
	if (!w.error && fill_frame(f, h, NULL))
		s->ack_due = false;
}

static void fill_pongs(struct fill *f)
{
	struct session *s = &f->a->session;

	while (s->pong_count > 0) {
		struct dclw_header h = {
			.type = DCLW_PONG, .offset = s->pongs[s->pong_first].offset,
			.arg = s->pongs[s->pong_first].arg,
		};

		if (!fill_frame(f, h, NULL))
			return;
		s->pong_first = (s->pong_first + 1) % SESSION_PONGS;
		s->pong_count--;
	}
}

/* The end of a stream that is remembered only: what was acknowledged is a gap for who asks again. */
static bool fill_old_end(struct fill *f, uint32_t id, uint64_t from, uint64_t end)
{
	struct dclw_header gap = { .type = DCLW_GAP, .stream = id, .offset = from, .length = 8 };
	struct dclw_header fin = { .type = DCLW_DATA, .flags = DCLW_FIN, .stream = id, .offset = end };
	uint8_t to[8];

	le64_store(to, end);
	if (f->size - f->len < wire_frame_size(&gap) + wire_frame_size(&fin))
		return false;
	if (from < end)
		fill_frame(f, gap, to);
	return fill_frame(f, fin, NULL);
}

static void fill_resets(struct fill *f)
{
	struct session *s = &f->a->session;

	while (s->reset_count > 0) {
		uint32_t id = s->resets[s->reset_first].id, error = s->resets[s->reset_first].error;
		struct dclw_header h = { .type = DCLW_RESET, .stream = id, .arg = error };
		bool done = error ? fill_frame(f, h, NULL)
				  : fill_old_end(f, id, s->resets[s->reset_first].from,
						 s->resets[s->reset_first].end);

		if (!done)
			return;
		s->reset_first = (s->reset_first + 1) % SESSION_RESETS;
		s->reset_count--;
	}
}

static void fill_replies(struct fill *f)
{
	struct request *r;

	while ((r = list_first(&f->a->session.replies_due, struct request, due))) {
		struct dclw_header h = {
			.type = DCLW_REPLY, .offset = r->id, .length = (uint32_t)r->len, .arg = (uint32_t)r->error,
		};

		if (!fill_frame(f, h, r->reply))
			return;
		list_unlink(&r->due);	/* the slot stays: the reply may have to be repeated */
	}
}

static void fill_windows(struct fill *f, bool lazy_too)
{
	struct session *session = &f->a->session;
	struct stream *s;

	list_foreach(&session->control_ready, s, struct stream, control) {
		size_t n;

		if (s->lazy && !lazy_too)
			continue;
		n = stream_fill_control(s, f->out + f->len, f->size - f->len);
		if (n == 0)
			return;
		f->len += n;
	}
	if (list_empty(&session->control_ready))
		session->lazy_at = 0;
}

static void fill_data(struct fill *f)
{
	struct session *session = &f->a->session;
	struct stream *s;

	while ((s = list_first(&session->data_ready, struct stream, ready))) {
		size_t n = stream_fill_data(s, f->out + f->len, f->size - f->len);

		if (n == 0)
			return;		/* no room in this write or in the connection window */
		f->len += n;
	}
}

static void fill_events(struct fill *f)
{
	struct agent *a = f->a;
	struct dclw_header oom = { .type = DCLW_EVENT, .arg = DCLW_EVENT_OOM };

	if (a->oom_due && fill_frame(f, oom, NULL))
		a->oom_due = false;
	f->len += procs_fill_exits(a, f->out + f->len, f->size - f->len);
}

size_t session_fill(struct agent *a, uint8_t *out, size_t size)
{
	struct session *s = &a->session;
	struct fill f = { .a = a, .out = out, .size = size };

	if (s->goaway_due) {
		struct dclw_header h = {
			.type = DCLW_GOAWAY, .arg = s->goaway_reason,
			.length = (uint32_t)strlen(s->goaway_text),
		};

		s->goaway_due = !fill_frame(&f, h, s->goaway_text);
		return f.len;
	}
	if (!s->open)
		return 0;
	if (s->ack_due) {
		fill_hello_ack(&f);
		return f.len;
	}
	fill_pongs(&f);
	fill_resets(&f);
	fill_replies(&f);
	fill_windows(&f, s->lazy_at && s->lazy_at <= agent_now());
	fill_data(&f);
	fill_events(&f);
	if (f.len > 0)
		fill_windows(&f, true);
	return f.len;
}
