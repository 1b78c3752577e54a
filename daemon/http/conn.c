/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections: counting, and noticing that a peer has left.
 *
 * MHD takes a suspended connection out of its epoll set, so nobody would see its end. From the first suspension on the
 * descriptor is therefore watched for EPOLLRDHUP, edge-triggered: one epoll_ctl() for the life of the connection, no
 * wakeups for ordinary traffic. An edge may come between two requests; it is remembered in `left`.
 *
 * A connection over a limit is still accepted (up to a slack): its first request is answered 503 and it is closed.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "http/internal.h"

/* IPv4 (also mapped) by address, IPv6 by its /64, which is what one host has. Unix sockets are all the same. */
static void address_key(const struct sockaddr *address, uint8_t ret[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	memset(ret, 0, 16);
	if (address && address->sa_family == AF_INET) {
		memcpy(ret, mapped, sizeof(mapped));
		memcpy(ret + 12, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
	} else if (address && address->sa_family == AF_INET6) {
		const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;

		memcpy(ret, v6, IN6_IS_ADDR_V4MAPPED(v6) ? 16 : 8);
	}
}

static bool over_limit(const struct http_server *s, const uint8_t address[16])
{
	unsigned int same = 0;
	struct http_conn *c;

	if (s->n_conns >= s->config.connections_max)
		return true;
	list_foreach(&s->conns, c, struct http_conn, link)
		same += memcmp(c->address, address, 16) == 0;
	return same >= s->config.connections_per_address_max;
}

/* A peer whose machine vanished answers no probe: about two minutes, whatever the request is doing. */
static void set_keepalive(int fd)
{
	const int on = 1, idle = 60, interval = 20, count = 3;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static struct http_conn *conn_new(struct http_listener *l, struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	const union MHD_ConnectionInfo *peer = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	struct http_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->listener = l;
	c->mhd = mhd;
	c->fd = fd->connect_fd;
	address_key(peer ? peer->client_addr : NULL, c->address);
	c->over_limit = over_limit(l->server, c->address);
	set_keepalive(c->fd);
	list_append(&l->server->conns, &c->link);
	l->server->n_conns++;
	return c;
}

static void conn_free(struct http_conn *c)
{
	sd_event_source_disable_unref(c->hup_watch);
	c->listener->server->n_conns--;
	list_unlink(&c->link);
	free(c);
}

void conn_notify(void *userdata, struct MHD_Connection *mhd, void **socket_context,
		 enum MHD_ConnectionNotificationCode code)
{
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		*socket_context = conn_new(userdata, mhd);
	} else if (*socket_context) {
		conn_free(*socket_context);
		*socket_context = NULL;
	}
}

struct http_conn *conn_of(struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static int on_hup(sd_event_source *source _unused_, int fd _unused_, uint32_t revents _unused_, void *userdata)
{
	struct http_conn *c = userdata;
	struct http_request *req = c->req;

	c->left = true;
	/* An answer that is complete may still be on its way to a peer that only closed its sending side. */
	if (req && req->phase >= HTTP_PHASE_BODY && !req->user_done)
		request_gone(req);
	return 0;
}

void conn_watch(struct http_conn *c)
{
	if (!c->hup_watch &&
	    sd_event_add_io(c->listener->server->event, &c->hup_watch, c->fd, EPOLLRDHUP | EPOLLET, on_hup, c) < 0)
		c->hup_watch = NULL;
}

void conn_unwatch(struct http_conn *c)
{
	c->hup_watch = sd_event_source_disable_unref(c->hup_watch);
}

void conn_set_timeout(struct http_conn *c, unsigned int sec)
{
	bool changed = sec != c->listener->server->config.idle_timeout_sec;

	if (c->timeout_changed == changed)
		return;
	MHD_set_connection_option(c->mhd, MHD_CONNECTION_OPTION_TIMEOUT, sec);
	c->timeout_changed = changed;
}

void conn_cut(struct http_conn *c)
{
	shutdown(c->fd, SHUT_RDWR);
}
