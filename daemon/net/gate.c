/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/gate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/in.h>
#include <string.h>

#include "util/macro.h"

#define CHAIN "in"

const uint32_t gate_marks[GATE_COUNTS] = { 0xdec10013, 0xdec10012, 0xdec10010, 0xdec10011 };

bool gate_same(const struct gate *a, const struct gate *b)
{
	return strcmp(a->tap, b->tap) == 0 && a->open == b->open && memcmp(a->mac, b->mac, sizeof(a->mac)) == 0 && a->addr == b->addr;
}

/* --- a rule; the first failure stays in r --- */

struct rule {
	struct nftnl_rule *nl;
	int r;
};

static struct nftnl_expr *expr(struct rule *u, const char *name)
{
	struct nftnl_expr *e = u->r == 0 ? nftnl_expr_alloc(name) : NULL;

	if (e)
		nftnl_rule_add_expr(u->nl, e);
	else
		u->r = -ENOMEM;
	return e;
}

static void load(struct rule *u, uint32_t base, uint32_t offset, uint32_t len)
{
	struct nftnl_expr *e = expr(u, "payload");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
}

static void mask(struct rule *u, const void *bits, uint32_t len)
{
	static const char zeroes[4];
	struct nftnl_expr *e = expr(u, "bitwise");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, len);
	if (nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, bits, len) < 0 || nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, zeroes, len) < 0)
		u->r = -ENOMEM;
}

static void compare(struct rule *u, uint32_t op, const void *with, uint32_t len)
{
	struct nftnl_expr *e = expr(u, "cmp");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, op);
	if (nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, with, len) < 0)
		u->r = -ENOMEM;
}

static void verdict(struct rule *u, uint32_t what)
{
	struct nftnl_expr *e = expr(u, "immediate");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, what);
}

static void let_by(struct rule *u)
{
	struct nftnl_expr *value = expr(u, "immediate"), *set = expr(u, "meta");

	if (!value || !set)
		return;
	nftnl_expr_set_u32(value, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
	nftnl_expr_set_u32(value, NFTNL_EXPR_IMM_DATA, GATE_MARK);
	nftnl_expr_set_u32(set, NFTNL_EXPR_META_KEY, NFT_META_MARK);
	nftnl_expr_set_u32(set, NFTNL_EXPR_META_SREG, NFT_REG_1);
	verdict(u, NF_ACCEPT);
}

static void drop(struct rule *u)
{
	expr(u, "counter");
	verdict(u, NF_DROP);
}

/* --- what it asks --- */

static void is_its_own(struct rule *u, const struct gate *g)
{
	const uint32_t addr = htonl(g->addr);
	uint8_t ether[8];

	/* the source, and behind it that it is IPv4 */
	memcpy(ether, g->mac, sizeof(g->mac));
	ether[6] = ETH_P_IP >> 8;
	ether[7] = ETH_P_IP & 255;
	load(u, NFT_PAYLOAD_LL_HEADER, ETH_ALEN, sizeof(ether));
	compare(u, NFT_CMP_EQ, ether, sizeof(ether));
	load(u, NFT_PAYLOAD_NETWORK_HEADER, 12, sizeof(addr));
	compare(u, NFT_CMP_EQ, &addr, sizeof(addr));
}

/* Neither options nor fragments */
static void is_plain(struct rule *u)
{
	static const uint8_t version_and_length = 0x45, offset[2] = { 0x3f, 0xff }, none[2];

	load(u, NFT_PAYLOAD_NETWORK_HEADER, 0, sizeof(version_and_length));
	compare(u, NFT_CMP_EQ, &version_and_length, sizeof(version_and_length));
	load(u, NFT_PAYLOAD_NETWORK_HEADER, 6, sizeof(offset));
	mask(u, offset, sizeof(offset));
	compare(u, NFT_CMP_EQ, none, sizeof(none));
}

/* Flags of TCP: SYN without ACK, FIN, RST. Does not ask for the protocol */
static void begins(struct rule *u, uint32_t op)
{
	static const uint8_t flags = 0x17, syn = 0x02;

	load(u, NFT_PAYLOAD_TRANSPORT_HEADER, 13, sizeof(flags));
	mask(u, &flags, sizeof(flags));
	compare(u, op, &syn, sizeof(syn));
}

static void is_tcp(struct rule *u)
{
	static const uint8_t tcp = IPPROTO_TCP;

	load(u, NFT_PAYLOAD_NETWORK_HEADER, 9, sizeof(tcp));
	compare(u, NFT_CMP_EQ, &tcp, sizeof(tcp));
}

static void is_protocol(struct rule *u, uint16_t protocol)
{
	struct nftnl_expr *e = expr(u, "meta");

	protocol = htons(protocol);
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, NFT_META_PROTOCOL);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
	compare(u, NFT_CMP_EQ, &protocol, sizeof(protocol));
}

/* More than 200 a second, and 400 at once */
static void is_too_much(struct rule *u)
{
	struct nftnl_expr *e = expr(u, "limit");

	if (!e)
		return;
	nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_RATE, 200);
	nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_UNIT, 1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_BURST, 400);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_FLAGS, NFT_LIMIT_F_INV);
}

/* What runs, and everything that could not be refused by the next two */
static void rule_running(struct rule *u, const struct gate *g)
{
	is_its_own(u, g);
	is_plain(u);
	begins(u, NFT_CMP_NEQ);
	let_by(u);
}

static void rule_too_much(struct rule *u, const struct gate *g)
{
	is_its_own(u, g);
	is_plain(u);
	is_tcp(u);
	begins(u, NFT_CMP_EQ);
	is_too_much(u);
	drop(u);
}

static void rule_others(struct rule *u, const struct gate *g)
{
	is_its_own(u, g);
	is_plain(u);
	let_by(u);
}

static void rule_malformed(struct rule *u, const struct gate *g)
{
	is_its_own(u, g);
	drop(u);
}

static void rule_ipv6(struct rule *u, const struct gate *g _unused_)
{
	is_protocol(u, ETH_P_IPV6);
	drop(u);
}

static void rule_unknown(struct rule *u, const struct gate *g _unused_)
{
	is_protocol(u, ETH_P_IP);
	drop(u);
}

/* What is behind the last one, ARP for example, is dropped uncounted. A closed one begins with the fifth. */
static void (*const rules[])(struct rule *u, const struct gate *g) = {
	rule_running, rule_too_much, rule_others, rule_malformed, rule_ipv6, rule_unknown,
};

/* --- messages --- */

static struct nlmsghdr *message(char *buf, uint16_t type, uint16_t flags, uint32_t *seq)
{
	return nftnl_nlmsg_build_hdr(buf, type, NFPROTO_NETDEV, flags, ++*seq);
}

static int put_table(const struct gate *g, uint16_t type, char **buf, uint32_t *seq, struct nlmsghdr **last)
{
	struct nftnl_table *t = nftnl_table_alloc();
	int r = t && nftnl_table_set_str(t, NFTNL_TABLE_NAME, g->tap) == 0 ? 0 : -ENOMEM;

	if (r == 0) {
		*last = message(*buf, type, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0, seq);
		nftnl_table_nlmsg_build_payload(*last, t);
		*buf += MNL_ALIGN((*last)->nlmsg_len);
	}
	if (t)
		nftnl_table_free(t);
	return r;
}

static int put_chain(const struct gate *g, char **buf, uint32_t *seq, struct nlmsghdr **last)
{
	struct nftnl_chain *c = nftnl_chain_alloc();
	int r = c ? 0 : -ENOMEM;

	if (r == 0 && (nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, g->tap) < 0 || nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, CHAIN) < 0 ||
		       nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, "filter") < 0 || nftnl_chain_set_str(c, NFTNL_CHAIN_DEV, g->tap) < 0))
		r = -ENOMEM;
	if (r == 0) {
		nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, NF_NETDEV_INGRESS);
		nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, 0);
		nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_DROP);
		*last = message(*buf, NFT_MSG_NEWCHAIN, NLM_F_CREATE, seq);
		nftnl_chain_nlmsg_build_payload(*last, c);
		*buf += MNL_ALIGN((*last)->nlmsg_len);
	}
	if (c)
		nftnl_chain_free(c);
	return r;
}

static int put_rule(const struct gate *g, size_t i, char **buf, uint32_t *seq, struct nlmsghdr **last)
{
	struct rule u = { .nl = nftnl_rule_alloc() };

	if (!u.nl || nftnl_rule_set_str(u.nl, NFTNL_RULE_TABLE, g->tap) < 0 || nftnl_rule_set_str(u.nl, NFTNL_RULE_CHAIN, CHAIN) < 0)
		u.r = -ENOMEM;
	if (u.r == 0)
		rules[i](&u, g);
	if (u.r == 0) {
		*last = message(*buf, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, seq);
		nftnl_rule_nlmsg_build_payload(*last, u.nl);
		*buf += MNL_ALIGN((*last)->nlmsg_len);
	}
	if (u.nl)
		nftnl_rule_free(u.nl);
	return u.r;
}

int gate_put(const struct gate_change *c, char **buf, uint32_t *seq, struct nlmsghdr **last)
{
	const struct gate *g = &c->gate;
	/* what is to be removed must be there */
	int r = put_table(g, NFT_MSG_NEWTABLE, buf, seq, last);

	if (r == 0)
		r = put_table(g, NFT_MSG_DELTABLE, buf, seq, last);
	if (r < 0 || !c->make)
		return r;
	r = put_table(g, NFT_MSG_NEWTABLE, buf, seq, last);
	if (r == 0)
		r = put_chain(g, buf, seq, last);
	for (size_t i = g->open ? 0 : 4; r == 0 && i < ELEMENTSOF(rules); i++)
		r = put_rule(g, i, buf, seq, last);
	return r;
}
