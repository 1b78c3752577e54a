/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/pinset.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdlib.h>

#include "util/macro.h"

#define TABLE "declaw"
#define BATCH_SIZE (3 * 65536u)

struct pinset {
	struct mnl_socket *socket;
	uint32_t seq;
	char *buf;
};

struct pinset *pinset_free(struct pinset *p)
{
	if (!p)
		return NULL;
	if (p->socket)
		mnl_socket_close(p->socket);
	free(p->buf);
	free(p);
	return NULL;
}

int pinset_new(struct pinset **ret)
{
	struct pinset *p = calloc(1, sizeof(*p));
	int r = -ENOMEM;

	if (!p)
		return r;
	p->buf = malloc(BATCH_SIZE);
	p->socket = p->buf ? mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC) : NULL;
	if (!p->socket || mnl_socket_bind(p->socket, 0, MNL_SOCKET_AUTOPID) < 0) {
		if (p->buf)
			r = -errno;
		pinset_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

static struct nftnl_set *elements(const char *set, const struct firewall_pin *pins, size_t n, bool timeouts)
{
	struct nftnl_set *s = nftnl_set_alloc();

	if (!s || nftnl_set_set_str(s, NFTNL_SET_TABLE, TABLE) < 0 || nftnl_set_set_str(s, NFTNL_SET_NAME, set) < 0)
		goto fail;
	for (size_t i = 0; i < n; i++) {
		struct nftnl_set_elem *e = nftnl_set_elem_alloc();
		uint32_t addr = htonl(pins[i].addr);

		if (!e)
			goto fail;
		nftnl_set_elem_add(s, e);
		if (nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, &addr, sizeof(addr)) < 0)
			goto fail;
		if (timeouts)
			nftnl_set_elem_set_u64(e, NFTNL_SET_ELEM_TIMEOUT, pins[i].seconds * 1000ull);
	}
	return s;
fail:
	if (s)
		nftnl_set_free(s);
	return NULL;
}

static int put(struct pinset *p, struct mnl_nlmsg_batch *b, uint16_t type, uint16_t flags, struct nftnl_set *s)
{
	struct nlmsghdr *h;

	if (!s)
		return -ENOMEM;
	h = nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(b), type, NFPROTO_INET, flags, ++p->seq);
	nftnl_set_elems_nlmsg_build_payload(h, s);
	nftnl_set_free(s);
	mnl_nlmsg_batch_next(b);
	return 0;
}

/* The first error, or the last message's acknowledgement: the kernel answers in the order of the messages */
static int receive(struct pinset *p)
{
	char buf[8192];
	int r = 0;

	for (;;) {
		ssize_t n = mnl_socket_recvfrom(p->socket, buf, sizeof(buf));
		int len = (int)n;

		if (n < 0)
			return -errno;
		for (struct nlmsghdr *h = (struct nlmsghdr *)buf; mnl_nlmsg_ok(h, len); h = mnl_nlmsg_next(h, &len)) {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);

			if (h->nlmsg_type != NLMSG_ERROR)
				continue;
			if (r == 0)
				r = e->error;
			if (h->nlmsg_seq == p->seq)
				return r;
		}
	}
}

int pinset_add(struct pinset *p, const char *set, const struct firewall_pin *pins, size_t n)
{
	struct mnl_nlmsg_batch *b;
	int r;

	if (n == 0 || n > PINSET_MAX)
		return -EINVAL;
	b = mnl_nlmsg_batch_start(p->buf, BATCH_SIZE);
	if (!b)
		return -ENOMEM;
	nftnl_batch_begin(mnl_nlmsg_batch_current(b), ++p->seq);
	mnl_nlmsg_batch_next(b);
	/* adding does not lengthen the life of what is there: it is taken out first, and for that it must be there */
	r = put(p, b, NFT_MSG_NEWSETELEM, NLM_F_CREATE, elements(set, pins, n, false));
	if (r == 0)
		r = put(p, b, NFT_MSG_DELSETELEM, 0, elements(set, pins, n, false));
	if (r == 0)
		r = put(p, b, NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_ACK, elements(set, pins, n, true));
	if (r == 0) {
		nftnl_batch_end(mnl_nlmsg_batch_current(b), p->seq + 1);
		mnl_nlmsg_batch_next(b);
		if (mnl_socket_sendto(p->socket, mnl_nlmsg_batch_head(b), mnl_nlmsg_batch_size(b)) < 0)
			r = -errno;
	}
	mnl_nlmsg_batch_stop(b);
	if (r == 0)
		r = receive(p);
	p->seq++;
	return r;
}
