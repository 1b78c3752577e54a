/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handshake. Each HELLO has an epoch of its own, of which only the newest counts; so a guest
 * that boots slowly may find several and answer all, and only the last answer begins the session.
 */
#include <string.h>

#include "agent/internal.h"
#include "util/clock.h"
#include "util/ident.h"
#include "wire/le.h"

#define HELLO_PAUSE_MIN (3 * USEC_PER_SEC)
#define HELLO_PAUSE_MAX (15 * USEC_PER_SEC)

void hello_begin(struct agent *a)
{
	a->hello_due = true;
	a->hello_pause = HELLO_PAUSE_MIN;
	a->hello_at = clock_monotonic() + a->hello_pause;
}

void hello_again(struct agent *a)
{
	a->hello_due = true;
	a->hello_pause = MIN_OF(a->hello_pause * 2, HELLO_PAUSE_MAX);
	a->hello_at = clock_monotonic() + a->hello_pause;
}

bool hello_fill(struct agent *a)
{
	struct dclw_header h;
	struct wire_writer w;
	struct link_frame *f;
	uint8_t tlvs[LINK_SMALL];

	if (!a->hello_due)
		return true;
	a->epoch = random_u64();
	wire_writer_init(&w, tlvs, sizeof(tlvs));
	wire_put_u32(&w, DCLW_TAG_VERSION_MIN, DCLW_VERSION_MIN);
	wire_put_u32(&w, DCLW_TAG_VERSION_MAX, DCLW_VERSION_MAX);
	wire_put_u64(&w, DCLW_TAG_EPOCH, a->epoch);
	wire_put_u64(&w, DCLW_TAG_INSTANCE, a->instance);
	h = agent_header(a, DCLW_HELLO, 0, (uint32_t)w.len, 0);
	f = link_add(&a->link, &h, NULL);
	if (!f)
		return false;
	memcpy(f->small, tlvs, w.len);
	f->kind = FRAME_HELLO;
	return true;
}

struct ack {
	uint64_t epoch;
	uint32_t version;
	struct agent_peer peer;
	unsigned int seen;
};
enum { SEEN_EPOCH = 1, SEEN_VERSION = 2, SEEN_AGENT = 4, SEEN_BOOT = 8, SEEN_ALL = 15 };

static bool is_boot_id(const char *s)
{
	return strlen(s) == 36 && strspn(s, "0123456789abcdef-") == 36;
}

static bool is_printable(const char *s)
{
	for (; *s; s++)
		if (*s < 0x20 || *s > 0x7e)
			return false;
	return true;
}

static int parse_tag(struct ack *k, uint16_t tag, const uint8_t *data, size_t len)
{
	int r;

	switch (tag) {
	case DCLW_TAG_EPOCH:
		k->seen |= SEEN_EPOCH;
		return wire_get_u64(data, len, &k->epoch);
	case DCLW_TAG_VERSION:
		k->seen |= SEEN_VERSION;
		return wire_get_u32(data, len, &k->version);
	case DCLW_TAG_AGENT_ID:
		k->seen |= SEEN_AGENT;
		return wire_get_u64(data, len, &k->peer.agent_id);
	case DCLW_TAG_BOOT_ID:
		k->seen |= SEEN_BOOT;
		r = wire_get_str(data, len, k->peer.boot_id, sizeof(k->peer.boot_id));
		return r < 0 ? r : is_boot_id(k->peer.boot_id) ? 0 : -EBADMSG;
	case DCLW_TAG_AGENT_VERSION:
		r = wire_get_str(data, len, k->peer.version, sizeof(k->peer.version));
		return r < 0 ? r : is_printable(k->peer.version) ? 0 : -EBADMSG;
	case DCLW_TAG_STREAM_STATE:
		return len == 16 ? 0 : -EBADMSG;
	default:
		return 0;
	}
}

static int parse(const struct wire_frame *f, struct ack *ret)
{
	struct ack k = { 0 };
	struct wire_reader rd;
	const uint8_t *data;
	uint16_t tag;
	size_t len;
	int r;

	wire_reader_init(&rd, f->payload, f->header.length);
	while ((r = wire_next(&rd, &tag, &data, &len)) > 0) {
		r = parse_tag(&k, tag, data, len);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	*ret = k;
	return k.seen == SEEN_ALL && k.peer.agent_id != 0 ? 0 : -EBADMSG;
}

static void stream_states(struct agent *a, const struct wire_frame *f)
{
	struct wire_reader rd;
	const uint8_t *data;
	uint16_t tag;
	size_t len;

	wire_reader_init(&rd, f->payload, f->header.length);
	while (agent_is_talking(a) && wire_next(&rd, &tag, &data, &len) > 0) {
		struct agent_stream *s;

		if (tag != DCLW_TAG_STREAM_STATE || len != 16)
			continue;
		s = stream_find(a, le32_load(data));
		if (s && s->announced && !s->over && s->dir == AGENT_STREAM_OUT)
			stream_out_state(s, le64_load(data + 8));
	}
}

/* What the session had with another agent is gone. */
static void forget_agent(struct agent *a)
{
	event_drop_all(a);
	request_fail(a, false, -ECONNRESET);
	if (!a->dead)
		stream_fail(a, false, -ECONNRESET);
}

static void resync(struct agent *a, const struct wire_frame *f)
{
	unsigned int session = a->session;

	stream_states(a, f);
	if (!agent_is_talking(a))
		return;
	request_resync(a);
	stream_resync(a);
	if (!agent_is_talking(a) || a->session != session)
		return;
	if (a->ops.up)
		a->ops.up(a->userdata, &a->peer);
}

void hello_ack(struct agent *a, const struct wire_frame *f)
{
	bool first = a->peer.agent_id == 0;
	struct ack k;
	int r = parse(f, &k);

	/* Only who read our HELLO knows the epoch; anything else is left over from before. */
	if (r < 0 || k.epoch != a->epoch) {
		a->counters.stale++;
		if (r < 0 && f->header.epoch == (uint16_t)a->epoch)
			agent_violation(a, "malformed HELLO_ACK");
		return;
	}
	if (k.version < DCLW_VERSION_MIN || k.version > DCLW_VERSION_MAX) {
		agent_lose(a, -EPROTO);
		return;
	}
	k.peer.same_agent = first ? a->expect == 0 || a->expect == k.peer.agent_id :
				    a->peer.agent_id == k.peer.agent_id;
	a->peer = k.peer;
	agent_up(a);
	if (!k.peer.same_agent)
		forget_agent(a);
	if (agent_is_talking(a))
		resync(a, f);
}
