/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reader of the rules' log group, see nflog.h. */
#include "egress/nflog.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <libnetfilter_log/libnetfilter_log.h>
#include <netinet/ip.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "util/log.h"

#define COPY_BYTES 96u
#define BATCH 64

struct nflog {
	struct nflog_handle *handle;
	struct nflog_g_handle *group;
	sd_event_source *io;
	nflog_fn fn;
	void *userdata;
	uint64_t overruns;
};

int nflog_packet_parse(const void *data, size_t len, struct nflog_packet *ret)
{
	struct iphdr ip;
	size_t head;
	uint16_t port;

	if (len < sizeof(ip))
		return -EINVAL;
	memcpy(&ip, data, sizeof(ip));
	head = ip.ihl * 4u;
	if (ip.version != 4 || head < sizeof(ip))
		return -EINVAL;
	ret->from.s_addr = ip.saddr;
	ret->to.s_addr = ip.daddr;
	ret->ip_proto = ip.protocol;
	ret->port = 0;
	ret->proto = ip.protocol == IPPROTO_TCP ? CHAN_PROTO_TCP : ip.protocol == IPPROTO_UDP ? CHAN_PROTO_UDP :
		     ip.protocol == IPPROTO_ICMP ? CHAN_PROTO_ICMP : CHAN_PROTO_OTHER;
	/* Ports stand in the same place in both, and in the first fragment only */
	if ((ip.protocol == IPPROTO_TCP || ip.protocol == IPPROTO_UDP) && !(ntohs(ip.frag_off) & 0x1fff) && len >= head + 4) {
		memcpy(&port, (const char *)data + head + 2, sizeof(port));
		ret->port = ntohs(port);
	}
	return 0;
}

static int on_packet(struct nflog_g_handle *g _unused_, struct nfgenmsg *msg _unused_, struct nflog_data *d, void *userdata)
{
	struct nflog_packet p = { .prefix = nflog_get_prefix(d) ?: "" };
	struct nflog *n = userdata;
	char *payload;
	int len = nflog_get_payload(d, &payload);

	if (len > 0 && nflog_packet_parse(payload, (size_t)len, &p) == 0)
		n->fn(n->userdata, &p);
	return 0;
}

static int on_io(sd_event_source *s _unused_, int fd, uint32_t events _unused_, void *userdata)
{
	struct nflog *n = userdata;
	char buffer[16384];

	for (int i = 0; i < BATCH; i++) {
		ssize_t got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

		if (got < 0 && errno == ENOBUFS && n->overruns++ == 0)
			log_warning("Packets come faster than their verdicts can be noted; some are not");
		if (got <= 0)
			break;
		nflog_handle_packet(n->handle, buffer, (int)got);
	}
	return 0;
}

int nflog_new(sd_event *event, nflog_fn fn, void *userdata, struct nflog **ret)
{
	struct nflog *n = calloc(1, sizeof(*n));
	int r = 0;

	if (!n)
		return -ENOMEM;
	n->fn = fn;
	n->userdata = userdata;
	n->handle = nflog_open();
	if (n->handle)
		n->group = nflog_bind_group(n->handle, NFLOG_GROUP);
	if (!n->group || nflog_set_mode(n->group, NFULNL_COPY_PACKET, COPY_BYTES) < 0 ||
	    nflog_set_timeout(n->group, 10) < 0 || nflog_callback_register(n->group, on_packet, n) < 0)
		r = errno ? -errno : -EIO;
	if (r == 0)
		r = sd_event_add_io(event, &n->io, nflog_fd(n->handle), EPOLLIN, on_io, n);
	if (r < 0) {
		nflog_free(n);
		return r;
	}
	fcntl(nflog_fd(n->handle), F_SETFD, FD_CLOEXEC);
	*ret = n;
	return 0;
}

struct nflog *nflog_free(struct nflog *n)
{
	if (!n)
		return NULL;
	sd_event_source_disable_unref(n->io);
	if (n->group)
		nflog_unbind_group(n->group);
	if (n->handle)
		nflog_close(n->handle);
	free(n);
	return NULL;
}
