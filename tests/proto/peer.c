/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The scripted guest. It answers nothing by itself, so it can lie in any way. */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "peer.h"

static void close_connection(struct peer *p)
{
	p->io = sd_event_source_disable_unref(p->io);
	p->fd = fd_close(p->fd);
}

void peer_done(struct peer *p)
{
	close_connection(p);
	p->listen_io = sd_event_source_disable_unref(p->listen_io);
	p->listen_fd = fd_close(p->listen_fd);
	for (unsigned int i = 0; i < p->n_frames; i++)
		free(p->frames[i].payload);
	free(p->decoder);
}

void peer_hang_up(struct rig *rig)
{
	close_connection(&rig->peer);
}

static void record(struct peer *p, const struct wire_frame *f)
{
	struct peer_frame *rec = &p->frames[p->n_frames];
	const uint8_t *data;
	size_t len;

	cr_assert(p->n_frames < PEER_FRAMES, "too many frames for the script");
	rec->header = f->header;
	rec->payload = malloc(f->header.length + 1);
	cr_assert(rec->payload);
	memcpy(rec->payload, f->payload, f->header.length);
	p->n_frames++;
	if (f->header.type == DCLW_HELLO) {
		p->hellos++;
		cr_assert(wire_find(f->payload, f->header.length, DCLW_TAG_EPOCH, &data, &len) ==
			  1);
		cr_assert_eq(wire_get_u64(data, len, &p->epoch), 0);
		cr_assert_eq((uint16_t)p->epoch, f->header.epoch);
	}
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct rig *rig = userdata;
	struct peer *p = &rig->peer;
	struct wire_frame f;
	size_t room;
	uint8_t *space;
	ssize_t n;

	(void)s;
	(void)revents;
	if (p->deaf) {
		sd_event_source_set_enabled(p->io, SD_EVENT_OFF);
		return 0;
	}
	space = wire_decoder_space(p->decoder, &room);
	n = recv(fd, space, room, MSG_DONTWAIT);
	if (n <= 0) {
		close_connection(p);
		p->closed = true;
		return 0;
	}
	wire_decoder_commit(p->decoder, (size_t)n);
	while (wire_decoder_next(p->decoder, &f))
		record(p, &f);
	cr_assert_eq(p->decoder->bad_headers + p->decoder->bad_seals, 0, "the host sent garbage");
	return 0;
}

static int on_accept(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct rig *rig = userdata;
	struct peer *p = &rig->peer;

	(void)s;
	(void)revents;
	close_connection(p);
	p->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert(p->fd >= 0);
	p->connections++;
	p->closed = false;
	wire_decoder_init(p->decoder);
	cr_assert(sd_event_add_io(rig->event, &p->io, p->fd, EPOLLIN, on_io, rig) >= 0);
	return 0;
}

static void listen_at(struct rig *rig)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct peer *p = &rig->peer;

	p->decoder = calloc(1, sizeof(*p->decoder));
	cr_assert(p->decoder);
	strncpy(sa.sun_path, rig->path, sizeof(sa.sun_path) - 1);
	p->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cr_assert(p->listen_fd >= 0);
	cr_assert_eq(bind(p->listen_fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(listen(p->listen_fd, 8), 0);
	cr_assert(sd_event_add_io(rig->event, &p->listen_io, p->listen_fd, EPOLLIN, on_accept,
				  rig) >= 0);
}

void rig_peer(struct rig *rig)
{
	listen_at(rig);
	if (!rig->agent)
		rig_session(rig, rig->path, 20000000, 0);
	cr_assert_eq(agent_start(rig->agent), 0);
	peer_expect(rig, DCLW_HELLO);
}

void rig_peer_up(struct rig *rig)
{
	rig_peer(rig);
	peer_ack(rig, 0x1122334455667788ull, NULL);
	RIG_WAIT(rig, rig->ups == 1);
}

void peer_send_full(struct rig *rig, struct dclw_header h, const void *payload)
{
	uint8_t buf[DCLW_FRAME_MAX];
	size_t n = wire_frame_put(buf, sizeof(buf), &h, payload), at = 0;

	cr_assert(n > 0);
	while (at < n) {
		ssize_t w = send(rig->peer.fd, buf + at, n - at, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (w < 0 && errno == EAGAIN) {
			rig_step(rig);
			continue;
		}
		if (w < 0)
			return;		/* the host has hung up on us already */
		at += (size_t)w;
	}
}

void peer_send(struct rig *rig, enum dclw_type type, uint32_t stream, uint64_t offset, uint32_t arg,
	       const void *payload, uint32_t len)
{
	struct dclw_header h = {
		.type = (uint8_t)type,
		.epoch = (uint16_t)rig->peer.epoch,
		.stream = stream,
		.length = len,
		.offset = offset,
		.arg = arg,
	};

	peer_send_full(rig, h, payload);
}

void peer_data(struct rig *rig, uint32_t stream, uint64_t offset, const void *payload, uint32_t len,
	       bool fin)
{
	struct dclw_header h = {
		.type = DCLW_DATA, .flags = fin ? DCLW_FIN : 0, .epoch = (uint16_t)rig->peer.epoch,
		.stream = stream, .length = len, .offset = offset,
	};

	peer_send_full(rig, h, payload);
}

void peer_window(struct rig *rig, uint32_t stream, uint64_t limit, uint64_t acked)
{
	uint8_t buf[8];

	le64_store(buf, acked);
	peer_send(rig, DCLW_WINDOW, stream, limit, 0, buf, sizeof(buf));
}

void peer_reply(struct rig *rig, uint64_t id, uint32_t error, const struct wire_writer *w)
{
	peer_send(rig, DCLW_REPLY, 0, id, error, w ? w->buf : NULL, w ? (uint32_t)w->len : 0);
}

void peer_ack(struct rig *rig, uint64_t agent_id, const struct wire_writer *extra)
{
	uint8_t buf[8192];
	struct wire_writer w;

	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u32(&w, DCLW_TAG_VERSION, 1);
	wire_put_u64(&w, DCLW_TAG_EPOCH, rig->peer.epoch);
	wire_put_u64(&w, DCLW_TAG_AGENT_ID, agent_id);
	wire_put_str(&w, DCLW_TAG_BOOT_ID, "01234567-89ab-cdef-0123-456789abcdef");
	wire_put_str(&w, DCLW_TAG_AGENT_VERSION, "script");
	if (extra)
		wire_put_raw(&w, extra->buf, extra->len);
	cr_assert_eq(w.error, 0);
	peer_send(rig, DCLW_HELLO_ACK, 0, 0, 0, buf, (uint32_t)w.len);
}

bool peer_saw(struct rig *rig, enum dclw_type type)
{
	struct peer *p = &rig->peer;

	for (unsigned int i = p->cursor; i < p->n_frames; i++)
		if (p->frames[i].header.type == type)
			return true;
	return false;
}

struct peer_frame *peer_expect(struct rig *rig, enum dclw_type type)
{
	struct peer *p = &rig->peer;

	RIG_WAIT(rig, peer_saw(rig, type));
	while (p->frames[p->cursor].header.type != type)
		p->cursor++;
	return &p->frames[p->cursor++];
}
