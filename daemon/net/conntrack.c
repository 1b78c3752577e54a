/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listed, then deleted one by one: the kernel can delete by address in one go only since 6.11. It has listed by address
 * since 5.8; an older one lists everything, which is why each entry is looked at here again.
 *
 * The kernel walks through its whole table for a list, several milliseconds even of an empty one. So what is to be forgotten while a
 * list is under way is one list together, and it has a worker lane of its own: nobody waits for it.
 */
#include "net/conntrack.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdlib.h>
#include <time.h>

#include "loop/workers.h"
#include "policy/policy.h"
#include "util/log.h"
#include "util/macro.h"

#define FILTER_SOURCE 1u	/* the bit of CTA_IP_V4_SRC, net/netfilter/nf_internals.h of the kernel */

struct found {
	const struct conntrack_who *who;	/* by address */
	size_t n_who;
	struct nf_conntrack **v;
	size_t n, room;
};

static int by_address(const void *a, const void *b)
{
	uint32_t x = ((const struct conntrack_who *)a)->address, y = ((const struct conntrack_who *)b)->address;

	return x < y ? -1 : x > y;
}

static bool unwanted(const struct found *f, const struct nf_conntrack *ct)
{
	const struct conntrack_who key = { .address = ntohl(nfct_get_attr_u32(ct, ATTR_ORIG_IPV4_SRC)) };
	const struct conntrack_who *who = bsearch(&key, f->who, f->n_who, sizeof(key), by_address);

	if (!who)
		return false;
	if (!who->keep)
		return true;
	return !(nfct_get_attr_u32(ct, ATTR_STATUS) & IPS_DST_NAT) &&
	       !policy_forwards(who->keep, ntohl(nfct_get_attr_u32(ct, ATTR_ORIG_IPV4_DST)));
}

static int on_entry(const struct nlmsghdr *nlh, void *userdata)
{
	struct nf_conntrack *ct = nfct_new();
	struct found *f = userdata;

	if (!ct)
		return MNL_CB_ERROR;
	if (nfct_nlmsg_parse(nlh, ct) < 0 || !unwanted(f, ct)) {
		nfct_destroy(ct);
		return MNL_CB_OK;
	}
	if (f->n == f->room) {
		struct nf_conntrack **v = reallocarray(f->v, f->room * 2 + 16, sizeof(struct nf_conntrack *));

		if (!v) {
			nfct_destroy(ct);
			return MNL_CB_ERROR;
		}
		f->v = v;
		f->room = f->room * 2 + 16;
	}
	f->v[f->n++] = ct;
	return MNL_CB_OK;
}

static struct nlmsghdr *message(char *buf, uint16_t type, uint16_t flags, unsigned int seq)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg;

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	nlh->nlmsg_seq = seq;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = AF_INET;
	nfg->version = NFNETLINK_V0;
	return nlh;
}

/* Sends, and reads to the end of the answer. */
static int ask(struct mnl_socket *nl, const struct nlmsghdr *nlh, mnl_cb_t cb, void *userdata)
{
	char buf[16384];
	ssize_t n;
	int r;

	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		r = mnl_cb_run(buf, (size_t)n, nlh->nlmsg_seq, mnl_socket_get_portid(nl), cb, userdata);
	} while (r > MNL_CB_STOP);
	return r == MNL_CB_ERROR ? -(errno ?: EIO) : 0;
}

static int list(struct mnl_socket *nl, struct found *f)
{
	char buf[512];
	struct nlmsghdr *nlh = message(buf, IPCTNL_MSG_CT_GET, NLM_F_DUMP, 1);
	struct nlattr *outer, *inner;

	if (f->n_who != 1)
		return ask(nl, nlh, on_entry, f);
	outer = mnl_attr_nest_start(nlh, CTA_TUPLE_ORIG);
	inner = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);
	mnl_attr_put_u32(nlh, CTA_IP_V4_SRC, htonl(f->who->address));
	mnl_attr_nest_end(nlh, inner);
	mnl_attr_nest_end(nlh, outer);
	outer = mnl_attr_nest_start(nlh, CTA_FILTER);
	mnl_attr_put_u32(nlh, CTA_FILTER_ORIG_FLAGS, FILTER_SOURCE);
	mnl_attr_put_u32(nlh, CTA_FILTER_REPLY_FLAGS, 0);
	mnl_attr_nest_end(nlh, outer);
	return ask(nl, nlh, on_entry, f);
}

static int delete_one(struct mnl_socket *nl, const struct nf_conntrack *ct, unsigned int seq)
{
	struct nf_conntrack *key = nfct_new();
	char buf[1024];
	struct nlmsghdr *nlh = message(buf, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, seq);
	int r = -ENOMEM;

	if (key) {
		nfct_copy(key, ct, NFCT_CP_ORIG);
		r = nfct_nlmsg_build(nlh, key) < 0 ? -EINVAL : ask(nl, nlh, NULL, NULL);
		nfct_destroy(key);
	}
	return r == -ENOENT ? 0 : r;	/* it ended by itself meanwhile */
}

int conntrack_forget_now(struct conntrack_who *who, size_t n)
{
	struct found f = { .who = who, .n_who = n };
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	int r;

	if (!nl)
		return -errno;
	qsort(who, n, sizeof(*who), by_address);
	r = mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ? -errno : list(nl, &f);
	for (size_t i = 0; i < f.n; i++) {
		if (r == 0)
			r = delete_one(nl, f.v[i], (unsigned int)i + 2);
		nfct_destroy(f.v[i]);
	}
	free(f.v);
	mnl_socket_close(nl);
	return r < 0 ? r : (int)f.n;
}

/* --- on a worker --- */

struct forgetting {
	struct workers *workers;
	struct conntrack_who *v;
	size_t n, room;
	int result;
};

/* What waits for the list that is under way. Loop thread */
static struct forgetting waiting;
static bool under_way;

static void forgetting_clear(struct forgetting *f)
{
	for (size_t i = 0; i < f->n; i++)
		policy_free(f->v[i].keep);
	free(f->v);
	*f = (struct forgetting){ 0 };
}

static void forget_run(void *arg)
{
	struct forgetting *f = arg;

	f->result = conntrack_forget_now(f->v, f->n);
}

static void begin(void);

static void forget_done(void *arg, bool cancelled)
{
	struct forgetting *f = arg;

	if (!cancelled && f->result < 0)
		log_full(LOG_WARNING, NULL, NULL, f->result, __FILE__, __LINE__,
			 "Connections of a sandbox stay in the kernel's table: %m");
	forgetting_clear(f);
	free(f);
	under_way = false;
	if (cancelled)
		forgetting_clear(&waiting);
	if (waiting.n > 0)
		begin();
}

static void begin(void)
{
	struct forgetting *f = malloc(sizeof(*f));

	if (f) {
		*f = waiting;
		under_way = workers_submit(f->workers, WORK_LANE_CONNTRACK, WORK_NORMAL, 0, forget_run, forget_done, f, NULL) == 0;
	}
	if (under_way) {
		waiting = (struct forgetting){ 0 };
		return;
	}
	log_warning("No memory to forget a sandbox's connections");
	forgetting_clear(&waiting);
	free(f);
}

/* Twice the same: the later one knows what may stay, and an ended sandbox's has nothing that may */
static bool wait_for(uint32_t address, struct policy *keep)
{
	for (size_t i = 0; i < waiting.n; i++) {
		if (waiting.v[i].address != address)
			continue;
		policy_free(waiting.v[i].keep);
		waiting.v[i].keep = keep;
		return true;
	}
	if (waiting.n == waiting.room) {
		struct conntrack_who *v = reallocarray(waiting.v, waiting.room * 2 + 8, sizeof(*v));

		if (!v)
			return false;
		waiting.v = v;
		waiting.room = waiting.room * 2 + 8;
	}
	waiting.v[waiting.n++] = (struct conntrack_who){ address, keep };
	return true;
}

void conntrack_forget(struct workers *workers, uint32_t address, struct policy *keep)
{
	if (!wait_for(address, keep)) {
		log_warning("No memory to forget a sandbox's connections");
		policy_free(keep);
		return;
	}
	waiting.workers = workers;
	if (!under_way)
		begin();
}
