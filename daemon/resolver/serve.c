/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sockets of the resolver. A TCP connection carries one question at a time: the next is read when the answer is out, and
 * only from the loop, so that an answer never begins another question by itself.
 */
#include "resolver/serve.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "util/clock.h"
#include "util/log.h"

#define BATCH 64
#define TCP_IDLE_USEC (10 * USEC_PER_SEC)

struct port {
	struct list link;
	struct serve *serve;
	int fd;
	sd_event_source *io;
};

struct serve {
	sd_event *event;
	struct resolver *resolver;
	struct list ports, conns, packets;
	unsigned int n_conns, n_packets;
};

/* --- UDP --- */

struct packet {
	struct asker asker;
	struct list link;
	struct serve *serve;
	int fd;
	struct sockaddr_in from;
	struct in_pktinfo to;		/* what it was sent to: answers come from there */
};

static void packet_free(struct packet *p)
{
	list_unlink(&p->link);
	p->serve->n_packets--;
	free(p);
}

static void packet_reply(struct asker *a, const uint8_t *wire, size_t len)
{
	struct packet *p = container_of(a, struct packet, asker);
	struct iovec iov = { (void *)(uintptr_t)wire, len };
	union {
		char space[CMSG_SPACE(sizeof(struct in_pktinfo))];
		struct cmsghdr align;
	} control = { .space = "" };
	struct msghdr msg = {
		.msg_name = &p->from, .msg_namelen = sizeof(p->from), .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.space, .msg_controllen = sizeof(control.space),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	struct in_pktinfo info = { .ipi_spec_dst = p->to.ipi_spec_dst };

	c->cmsg_level = IPPROTO_IP;
	c->cmsg_type = IP_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(info));
	memcpy(CMSG_DATA(c), &info, sizeof(info));
	if (sendmsg(p->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_debug("An answer could not be sent: %m");
	packet_free(p);
}

static void packet_drop(struct asker *a)
{
	packet_free(container_of(a, struct packet, asker));
}

static ssize_t packet_read(int fd, struct packet *p, void *data, size_t size)
{
	struct iovec iov = { data, size };
	union {
		char space[CMSG_SPACE(sizeof(struct in_pktinfo))];
		struct cmsghdr align;
	} control;
	struct msghdr msg = {
		.msg_name = &p->from, .msg_namelen = sizeof(p->from), .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.space, .msg_controllen = sizeof(control.space),
	};
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT);

	if (n < 0)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
			memcpy(&p->to, CMSG_DATA(c), sizeof(p->to));
	/* A cut question is none */
	return msg.msg_flags & MSG_TRUNC || p->from.sin_family != AF_INET ? 0 : n;
}

static int on_packet(sd_event_source *s _unused_, int fd, uint32_t events _unused_, void *userdata)
{
	struct serve *serve = ((struct port *)userdata)->serve;
	uint8_t data[DNS_QUESTION_MAX];

	for (int i = 0; i < BATCH; i++) {
		struct packet *p, here = { .fd = fd, .serve = serve };
		ssize_t n = packet_read(fd, &here, data, sizeof(data));

		if (n < 0)
			break;
		p = n > 0 && serve->n_packets < UDP_WAITING_MAX ? malloc(sizeof(*p)) : NULL;
		if (!p)
			continue;
		*p = here;
		p->asker = (struct asker){ .max = DNS_UDP_MAX, .reply = packet_reply, .drop = packet_drop };
		list_append(&serve->packets, &p->link);
		serve->n_packets++;
		resolver_ask(serve->resolver, p->from.sin_addr, data, (size_t)n, &p->asker);
	}
	return 0;
}

/* --- TCP --- */

struct conn {
	struct asker asker;
	struct list link;
	struct serve *serve;
	int fd;
	struct in_addr from;
	sd_event_source *io, *timer;
	uint8_t in[2 + DNS_QUESTION_MAX];
	size_t n_in;
	struct buf out;
	size_t sent;
	bool asking, broken;
};

static void conn_free(struct conn *c)
{
	if (c->asking)
		resolver_forget(&c->asker);
	list_unlink(&c->link);
	c->serve->n_conns--;
	sd_event_source_disable_unref(c->io);
	sd_event_source_disable_unref(c->timer);
	fd_close(c->fd);
	buf_done(&c->out);
	free(c);
}

static void conn_watch(struct conn *c)
{
	uint32_t events = c->sent < c->out.len ? EPOLLOUT : c->asking ? 0 : EPOLLIN;

	sd_event_source_set_io_events(c->io, events);
	sd_event_source_set_time_relative(c->timer, TCP_IDLE_USEC);
	sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

/* May not free the connection: called from within resolver_ask() too. */
static void conn_reply(struct asker *a, const uint8_t *wire, size_t len)
{
	struct conn *c = container_of(a, struct conn, asker);
	const uint8_t head[2] = { (uint8_t)(len >> 8), (uint8_t)len };

	c->asking = false;
	if (buf_append(&c->out, head, 2) < 0 || buf_append(&c->out, wire, len) < 0)
		c->broken = true;
	conn_watch(c);
	if (c->broken)
		sd_event_source_set_time_relative(c->timer, 0);
}

static void conn_drop(struct asker *a)
{
	struct conn *c = container_of(a, struct conn, asker);

	c->asking = false;
	c->broken = true;
	conn_watch(c);
	sd_event_source_set_time_relative(c->timer, 0);
}

/* The first question in the buffer; true: go on reading */
static bool conn_question(struct conn *c)
{
	uint8_t question[DNS_QUESTION_MAX];
	size_t len;

	if (c->n_in < 2)
		return true;
	len = (size_t)c->in[0] << 8 | c->in[1];
	if (len > DNS_QUESTION_MAX)
		return false;
	if (c->n_in < 2 + len)
		return true;
	memcpy(question, c->in + 2, len);
	c->n_in -= 2 + len;
	memmove(c->in, c->in + 2 + len, c->n_in);
	c->asking = true;
	c->asker = (struct asker){ .max = DNS_TCP_MAX, .reply = conn_reply, .drop = conn_drop };
	resolver_ask(c->serve->resolver, c->from, question, len, &c->asker);
	return !c->broken;
}

static bool conn_write(struct conn *c)
{
	ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	c->sent += (size_t)n;
	if (c->sent == c->out.len) {
		c->sent = c->out.len = 0;
		return conn_question(c);	/* what came with the last one */
	}
	return true;
}

static bool conn_read(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->n_in, sizeof(c->in) - c->n_in, MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	c->n_in += (size_t)n;
	return conn_question(c);
}

static int on_conn(sd_event_source *s _unused_, int fd _unused_, uint32_t events, void *userdata)
{
	struct conn *c = userdata;
	bool good = !(events & (EPOLLERR | EPOLLHUP));

	if (good && events & EPOLLOUT)
		good = conn_write(c);
	else if (good && events & EPOLLIN)
		good = conn_read(c);
	if (good && !c->broken)
		conn_watch(c);
	else
		conn_free(c);
	return 0;
}

static int on_idle(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	conn_free(userdata);
	return 0;
}

static unsigned int conns_of(const struct serve *serve, struct in_addr from)
{
	const struct conn *c;
	unsigned int n = 0;

	list_foreach(&serve->conns, c, struct conn, link)
		n += c->from.s_addr == from.s_addr;
	return n;
}

static int conn_new(struct serve *serve, int fd, struct in_addr from)
{
	struct conn *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct conn){ .serve = serve, .fd = -EBADF, .from = from, .out.max = 2 + DNS_TCP_MAX };
	list_append(&serve->conns, &c->link);
	serve->n_conns++;
	r = sd_event_add_io(serve->event, &c->io, fd, EPOLLIN, on_conn, c);
	if (r >= 0)
		r = sd_event_add_time_relative(serve->event, &c->timer, CLOCK_MONOTONIC, TCP_IDLE_USEC, 0, on_idle, c);
	if (r < 0)
		conn_free(c);
	else
		c->fd = fd;
	return r;
}

static int on_accept(sd_event_source *s _unused_, int listener, uint32_t events _unused_, void *userdata)
{
	struct serve *serve = ((struct port *)userdata)->serve;
	struct sockaddr_in from = { 0 };
	socklen_t len = sizeof(from);
	int fd = accept4(listener, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return 0;
	if (from.sin_family != AF_INET || !resolver_knows(serve->resolver, from.sin_addr) || serve->n_conns >= TCP_MAX ||
	    conns_of(serve, from.sin_addr) >= TCP_PER_SANDBOX || conn_new(serve, fd, from.sin_addr) < 0)
		close(fd);
	return 0;
}

/* --- life --- */

static void port_free(struct port *p)
{
	list_unlink(&p->link);
	sd_event_source_disable_unref(p->io);
	fd_close(p->fd);
	free(p);
}

int serve_add(struct serve *s, int fd)
{
	int type = 0, on = 1, r;
	socklen_t len = sizeof(type);
	struct port *p;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return -errno;
	if (type == SOCK_DGRAM && setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) < 0)
		return -errno;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct port){ .serve = s, .fd = -EBADF };
	list_append(&s->ports, &p->link);
	r = sd_event_add_io(s->event, &p->io, fd, EPOLLIN, type == SOCK_DGRAM ? on_packet : on_accept, p);
	if (r < 0)
		port_free(p);
	else
		p->fd = fd;
	return r < 0 ? r : 0;
}

int serve_new(sd_event *event, struct resolver *r, struct serve **ret)
{
	struct serve *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->event = sd_event_ref(event);
	s->resolver = r;
	list_init(&s->ports);
	list_init(&s->conns);
	list_init(&s->packets);
	*ret = s;
	return 0;
}

struct serve *serve_free(struct serve *s)
{
	struct packet *packet;
	struct conn *c;
	struct port *p;

	if (!s)
		return NULL;
	list_foreach(&s->conns, c, struct conn, link) {
		c->asking = false;	/* the resolver is gone */
		conn_free(c);
	}
	list_foreach(&s->packets, packet, struct packet, link)
		packet_free(packet);
	list_foreach(&s->ports, p, struct port, link)
		port_free(p);
	sd_event_unref(s->event);
	free(s);
	return NULL;
}
