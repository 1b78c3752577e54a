/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the rules say about packets: nftables' `log prefix ... group N`, read through libnetfilter_log. The rules limit
 * the rate; a reader that is too slow loses packets, which is counted.
 */
#ifndef DECLAW_EGRESS_NFLOG_H
#define DECLAW_EGRESS_NFLOG_H

#include <netinet/in.h>
#include <systemd/sd-event.h>

#include "chan/msg.h"

#define NFLOG_GROUP 3564	/* nft/declaw-base.nft */

struct nflog;

struct nflog_packet {
	const char *prefix;
	struct in_addr from, to;
	enum chan_proto proto;
	uint16_t port;		/* of the destination; 0 = none */
	uint8_t ip_proto;
};

typedef void (*nflog_fn)(void *userdata, const struct nflog_packet *p);
int nflog_new(sd_event *event, nflog_fn fn, void *userdata, struct nflog **ret);
struct nflog *nflog_free(struct nflog *n);
/* An IPv4 packet, of which only the beginning may be there. -EINVAL: it is none. Pure. */
int nflog_packet_parse(const void *data, size_t len, struct nflog_packet *ret);

#endif
