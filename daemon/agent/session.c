/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent object: states, timers, which frames are legal, and when to give up.
 *
 * A guest that breaks a rule is cut off, and gets STRIKES_MAX more chances through a reconnect with
 * a growing pause, because a bug in an old agent should not cost the user his sandbox at once. Then
 * it is lost.
 */
#include <string.h>

#include "agent/internal.h"
#include "util/clock.h"
#include "util/ident.h"
#include "wire/le.h"

/* A socket that worked once and refuses for so long has no QEMU behind it any more. */
#define REFUSED_MAX (2 * USEC_PER_SEC)

static const struct link_ops link_ops;

static struct agent *of(struct link *l)
{
	return container_of(l, struct agent, link);
}

/* --- lifetime --- */

static void destroy(struct agent *a)
{
	link_done(&a->link);
	a->defer = sd_event_source_disable_unref(a->defer);
	a->timer = sd_event_source_disable_unref(a->timer);
	event_drop_all(a);
	request_drop(a);
	stream_orphan_all(a);
	a->event = sd_event_unref(a->event);
	free(a);
}

void agent_enter(struct agent *a)
{
	a->depth++;
}

void agent_leave(struct agent *a)
{
	if (--a->depth > 0)
		return;
	if (a->dead) {
		destroy(a);
		return;
	}
	stream_sweep(a);
	request_sweep(a);
}

struct agent *agent_free(struct agent *a)
{
	if (!a)
		return NULL;
	if (a->depth == 0) {
		destroy(a);
		return NULL;
	}
	a->dead = true;
	link_close(&a->link);
	return NULL;
}

static int on_defer(_unused_ sd_event_source *s, void *userdata)
{
	struct agent *a = userdata;

	agent_enter(a);
	event_release_exits(a);
	if (!a->dead)
		link_flush(&a->link);
	agent_leave(a);
	return 0;
}

void agent_kick(struct agent *a)
{
	if (a->defer && !a->dead)
		sd_event_source_set_enabled(a->defer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static int add_sources(struct agent *a)
{
	int r = sd_event_add_defer(a->event, &a->defer, on_defer, a);

	if (r < 0)
		return r;
	r = sd_event_source_set_enabled(a->defer, SD_EVENT_OFF);
	if (r < 0)
		return r;
	r = sd_event_add_time(a->event, &a->timer, CLOCK_MONOTONIC, 0, 10 * USEC_PER_MSEC, on_timer,
			      a);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(a->timer, SD_EVENT_OFF);
}

static void init_lists(struct agent *a)
{
	struct list *heads[] = {
		&a->streams, &a->resume, &a->window,  &a->reset, &a->ready,	    &a->grave,
		&a->procs,   &a->exits,	 &a->waiting, &a->sent,	 &a->request_grave,
	};

	for (unsigned int i = 0; i < ELEMENTSOF(heads); i++)
		list_init(heads[i]);
}

int agent_new(sd_event *event, const char *path, const struct agent_config *config,
	      const struct agent_ops *ops, void *userdata, struct agent **ret)
{
	struct agent *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	init_lists(a);
	a->event = sd_event_ref(event);
	a->config = *config;
	a->ops = *ops;
	a->userdata = userdata;
	a->instance = random_u64();
	random_bytes(&a->next_id, sizeof(a->next_id));
	a->next_request = 0;
	r = link_init(&a->link, event, path, &link_ops);
	if (r >= 0)
		r = add_sources(a);
	if (r < 0) {
		destroy(a);
		return r;
	}
	*ret = a;
	return 0;
}

/* --- the timer: HELLO again, deadline, ping --- */

static uint64_t next_wake(const struct agent *a)
{
	if (a->state == AGENT_CONNECTING)
		return a->deadline;
	if (a->state == AGENT_GREETING)
		return MIN_OF(a->deadline, a->hello_at);
	return a->state == AGENT_UP && a->config.ping_interval_usec && !a->held ? a->ping_at : 0;
}

static void arm(struct agent *a)
{
	uint64_t at = next_wake(a);

	if (!a->timer)
		return;
	if (at)
		sd_event_source_set_time(a->timer, at);
	sd_event_source_set_enabled(a->timer, at ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void tick_ping(struct agent *a, uint64_t now)
{
	if (now < a->ping_at)
		return;
	if (a->counters.frames != a->frames_at_ping)
		a->ping_missed = 0;
	else if (a->ping_seq > a->pong_seq && ++a->ping_missed >= MAX_OF(a->config.ping_misses, 1u))
		return agent_lose(a, -ETIMEDOUT);
	a->frames_at_ping = a->counters.frames;
	a->ping_due = true;
	a->ping_at = now + a->config.ping_interval_usec;
}

static int on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata)
{
	struct agent *a = userdata;
	uint64_t now = clock_monotonic();

	agent_enter(a);
	if (a->state == AGENT_UP)
		tick_ping(a, now);
	else if (now >= a->deadline)
		agent_lose(a, a->cause ? a->cause : -ETIMEDOUT);
	else if (a->state == AGENT_GREETING && now >= a->hello_at)
		hello_again(a);
	if (!a->dead) {
		link_flush(&a->link);
		arm(a);
	}
	agent_leave(a);
	return 0;
}

/* --- states --- */

static void connecting(struct agent *a)
{
	a->state = AGENT_CONNECTING;
	a->deadline = clock_monotonic() + a->config.connect_timeout_usec;
	arm(a);
}

static int begin(struct agent *a)
{
	if (a->dead)
		return -ECANCELED;
	if (a->state != AGENT_IDLE && a->state != AGENT_LOST)
		return -EALREADY;
	if (a->state == AGENT_LOST)
		a->peer = (struct agent_peer) { 0 };
	a->strikes = 0;
	a->cause = 0;
	link_settled(&a->link);
	connecting(a);
	return 0;
}

int agent_start(struct agent *a)
{
	int r = begin(a);

	if (r < 0)
		return r;
	r = link_open(&a->link);
	if (r < 0)
		agent_detach(a);
	return r;
}

int agent_start_fd(struct agent *a, int fd_taken)
{
	_cleanup_close_ int fd = fd_taken;
	int r = begin(a);

	if (r < 0)
		return r;
	r = link_open_fd(&a->link, TAKE_FD(fd));
	if (r < 0)
		agent_detach(a);
	return r;
}

void agent_detach(struct agent *a)
{
	link_close(&a->link);
	if (a->state != AGENT_LOST)
		a->state = AGENT_IDLE;
	arm(a);
}

void agent_hold(struct agent *a, bool held)
{
	a->held = held;
	a->ping_at = clock_monotonic() + a->config.ping_interval_usec;
	a->ping_missed = 0;
	arm(a);
}

void agent_expect(struct agent *a, uint64_t agent_id)
{
	a->expect = agent_id;
}

int agent_fd(const struct agent *a)
{
	return link_is_open(&a->link) ? a->link.fd : -EBADF;
}

bool agent_is_up(const struct agent *a)
{
	return a->state == AGENT_UP;
}

void agent_get_counters(const struct agent *a, struct agent_counters *ret)
{
	*ret = a->counters;
	ret->desyncs += a->link.decoder->bad_headers + a->link.decoder->bad_seals;
}

void agent_up(struct agent *a)
{
	a->state = AGENT_UP;
	if (a->session++ > 0)
		a->counters.resyncs++;
	link_settled(&a->link);
	a->ping_missed = 0;
	a->pong_seq = a->ping_seq;
	a->ping_due = a->n_zombies > 0;
	a->frames_at_ping = a->counters.frames;
	a->ping_at = clock_monotonic() + a->config.ping_interval_usec;
	a->cause = 0;
	arm(a);
}

void agent_lose(struct agent *a, int reason)
{
	if (a->state == AGENT_LOST || a->dead)
		return;
	link_close(&a->link);
	a->state = AGENT_LOST;
	arm(a);
	event_drop_all(a);
	request_fail(a, true, reason);
	if (!a->dead)
		stream_fail(a, true, reason);
	if (!a->dead && a->ops.lost)
		a->ops.lost(a->userdata, reason);
}

void agent_abort(struct agent *a, int reason)
{
	if (!a)
		return;
	agent_enter(a);
	agent_lose(a, reason);
	agent_leave(a);
}

/* The connection is of no use any more; reason is what is told when no other comes about. */
static void reconnect(struct agent *a, int reason)
{
	if (a->dead || a->state == AGENT_LOST || a->state == AGENT_IDLE)
		return;
	if (a->state == AGENT_UP || a->cause == 0)
		a->cause = reason;
	if (a->state == AGENT_UP)
		connecting(a);
	a->state = AGENT_CONNECTING;
	arm(a);
	if (link_retry(&a->link) < 0)
		agent_lose(a, reason);
}

void agent_violation(struct agent *a, const char *which)
{
	if (a->dead || a->state == AGENT_LOST || a->state == AGENT_IDLE)
		return;
	a->counters.violations++;
	snprintf(a->counters.last_violation, sizeof(a->counters.last_violation), "%s", which);
	if (++a->strikes > STRIKES_MAX)
		agent_lose(a, -EPROTO);
	else
		reconnect(a, -EPROTO);
}

void agent_noise(struct agent *a)
{
	uint64_t now = clock_monotonic();

	a->counters.noise++;
	if (now - a->noise_since >= USEC_PER_SEC) {
		a->noise_since = now;
		a->noise = 0;
	}
	if (++a->noise > NOISE_MAX)
		agent_violation(a, "flood of meaningless frames");
}

/* --- frames --- */

static void on_pong(struct agent *a, const struct wire_frame *f)
{
	uint64_t seq = f->header.offset;

	if (seq > a->ping_seq || seq <= a->pong_seq)
		return agent_noise(a);
	a->pong_seq = seq;
	stream_ponged(a, seq);
}

static void on_goaway(struct agent *a, const struct wire_frame *f)
{
	switch (f->header.arg) {
	case DCLW_REASON_VERSION:
		return agent_lose(a, -EPROTO);
	case DCLW_REASON_SHUTDOWN:
		return agent_lose(a, -ECONNRESET);
	default:
		return agent_violation(a, "GOAWAY: the guest says we broke a rule");
	}
}

static void open_frame(struct agent *a, const struct wire_frame *f)
{
	switch (f->header.type) {
	case DCLW_PONG:
		return on_pong(a, f);
	case DCLW_REPLY:
		return request_reply(a, f);
	case DCLW_DATA:
	case DCLW_WINDOW:
	case DCLW_GAP:
	case DCLW_RESET:
		return stream_frame(a, f);
	case DCLW_EVENT:
		return event_frame(a, f);
	case DCLW_GOAWAY:
		return on_goaway(a, f);
	case DCLW_HELLO_ACK:
		return agent_violation(a, "HELLO_ACK twice");
	default:
		if (f->header.type < 0x80)
			agent_violation(a, "frame of an unknown type");
		else
			agent_noise(a);
	}
}

static void on_frame(struct link *l, const struct wire_frame *f)
{
	struct agent *a = of(l);
	bool current = f->header.epoch == (uint16_t)a->epoch;

	a->counters.frames++;
	if (a->state == AGENT_GREETING) {
		if (f->header.type == DCLW_HELLO_ACK)
			hello_ack(a, f);
		else if (f->header.type == DCLW_GOAWAY && current &&
			 f->header.arg == DCLW_REASON_VERSION)
			agent_lose(a, -EPROTO);
		else
			a->counters.stale++;
	} else if (a->state == AGENT_UP) {
		if (current)
			open_frame(a, f);
		else
			agent_violation(a, "frame of another epoch");
	}
}

/* --- the link's other callbacks --- */

static void on_connected(struct link *l)
{
	struct agent *a = of(l);

	a->counters.connects++;
	a->state = AGENT_GREETING;
	hello_begin(a);
	agent_kick(a);
	arm(a);
}

static void on_gone(struct link *l, _unused_ int error)
{
	struct agent *a = of(l);

	a->counters.desyncs += l->decoder->bad_headers + l->decoder->bad_seals;
	wire_decoder_init(l->decoder);
	reconnect(a, -ECONNRESET);
}

static void on_refused(struct link *l, _unused_ int error, uint64_t usec)
{
	struct agent *a = of(l);

	if (a->session > 0 && usec >= REFUSED_MAX)
		agent_lose(a, a->cause ? a->cause : -ECONNRESET);
}

static bool ping_fill(struct agent *a)
{
	struct dclw_header h = agent_header(a, DCLW_PING, 0, 0, a->ping_seq + 1);
	struct link_frame *f;

	if (!a->ping_due)
		return true;
	f = link_add(&a->link, &h, NULL);
	if (!f)
		return false;
	f->kind = FRAME_PING;
	return true;
}

/* What is to be sent, most urgent first; the order after a resync is §4.1 of the protocol. */
static void on_fill(struct link *l)
{
	struct agent *a = of(l);

	if (a->state == AGENT_GREETING)
		hello_fill(a);
	else if (agent_is_talking(a))
		(void)(request_fill(a) && stream_in_fill(a) && stream_reset_fill(a) &&
		       ping_fill(a) && stream_out_fill(a));
}

static void on_sent(struct link *l, const struct link_frame *f)
{
	struct agent *a = of(l);

	switch (f->kind) {
	case FRAME_HELLO:
		a->hello_due = false;
		return;
	case FRAME_PING:
		a->ping_due = false;
		a->ping_seq = f->header.offset;
		return;
	case FRAME_RESUME:
	case FRAME_WINDOW:
		return stream_in_sent(a, f);
	case FRAME_RESET:
		return stream_reset_sent(a, f->owner);
	case FRAME_REQUEST:
		return request_sent(a, f->owner, f->header.length);
	default:
		return stream_out_sent(f->owner, f);
	}
}

static void on_enter(struct link *l)
{
	agent_enter(of(l));
}

static void on_leave(struct link *l)
{
	agent_leave(of(l));
}

static const struct link_ops link_ops = {
	.enter = on_enter, .leave = on_leave, .connected = on_connected, .gone = on_gone,
	.refused = on_refused, .frame = on_frame, .fill = on_fill, .sent = on_sent,
};
