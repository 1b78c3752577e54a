/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/nftset.h"

#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>
#include <sys/socket.h>

#define TABLE "declaw"
#define CHUNK 400u		/* elements of one message: all of them are one attribute, 64 KiB at most */
#define ELEM_BYTES 144u		/* more than one takes, with a counter */
#define MESSAGE_BYTES 128u	/* more than what is around them takes */
#define ANSWER_BYTES 65536u
#define TRIES 16

struct nftset {
	struct mnl_socket *socket;
	uint32_t seq;
	int sndbuf;
	char *answer;
};

struct nftset *nftset_free(struct nftset *s)
{
	if (!s)
		return NULL;
	if (s->socket)
		mnl_socket_close(s->socket);
	free(s->answer);
	free(s);
	return NULL;
}

int nftset_new(struct nftset **ret)
{
	struct nftset *s = calloc(1, sizeof(*s));
	int r = -ENOMEM, on = 1;

	if (!s)
		return r;
	s->answer = malloc(ANSWER_BYTES);
	s->socket = s->answer ? mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC) : NULL;
	if (!s->socket || mnl_socket_bind(s->socket, 0, MNL_SOCKET_AUTOPID) < 0) {
		if (s->answer)
			r = -errno;
		nftset_free(s);
		return r;
	}
	/* an error comes without the message that it is about */
	mnl_socket_setsockopt(s->socket, NETLINK_CAP_ACK, &on, sizeof(on));
	*ret = s;
	return 0;
}

/* --- messages --- */

/* What is sent as one. Its size is known before: see room_for(). */
struct batch {
	char *buf;
	size_t len;
	struct nlmsghdr *last;
};

static struct nftnl_set *set_of(enum nft_set set)
{
	struct nftnl_set *s = nftnl_set_alloc();

	if (s && (nftnl_set_set_str(s, NFTNL_SET_TABLE, TABLE) < 0 || nftnl_set_set_str(s, NFTNL_SET_NAME, elem_set_name(set)) < 0)) {
		nftnl_set_free(s);
		return NULL;
	}
	return s;
}

static int set_count(struct nftnl_set_elem *n, const struct elem *e)
{
	struct nftnl_expr *count = nftnl_expr_alloc("counter");

	if (!count)
		return -ENOMEM;
	nftnl_expr_set_u64(count, NFTNL_EXPR_CTR_PACKETS, e->packets);
	nftnl_expr_set_u64(count, NFTNL_EXPR_CTR_BYTES, e->bytes);
	nftnl_set_elem_add_expr(n, count);
	return 0;
}

static int set_add(struct nftnl_set *s, const struct elem *e, bool lives)
{
	struct nftnl_set_elem *n = nftnl_set_elem_alloc();

	if (!n)
		return -ENOMEM;
	nftnl_set_elem_add(s, n);
	if (nftnl_set_elem_set(n, NFTNL_SET_ELEM_KEY, e->key, (uint32_t)elem_key_len(e->set)) < 0)
		return -ENOMEM;
	if (elem_value_len(e->set) > 0 && nftnl_set_elem_set(n, NFTNL_SET_ELEM_DATA, e->key + elem_key_len(e->set),
							     (uint32_t)elem_value_len(e->set)) < 0)
		return -ENOMEM;
	if (lives && e->seconds)
		nftnl_set_elem_set_u64(n, NFTNL_SET_ELEM_TIMEOUT, e->seconds * 1000ull);
	return lives && e->packets ? set_count(n, e) : 0;
}

/* n elements of one set */
static int put(struct nftset *s, struct batch *b, uint16_t type, const struct elem *v, size_t n, bool lives)
{
	struct nftnl_set *set = set_of(v->set);
	int r = set ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = set_add(set, &v[i], lives);
	if (r == 0) {
		b->last = nftnl_nlmsg_build_hdr(b->buf + b->len, type, NFPROTO_INET,
						type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0, ++s->seq);
		nftnl_set_elems_nlmsg_build_payload(b->last, set);
		b->len += MNL_ALIGN(b->last->nlmsg_len);
	}
	if (set)
		nftnl_set_free(set);
	return r;
}

/* How many from v[i] on fit into one message */
static size_t chunk(const struct elems *v, size_t i)
{
	size_t n = 1;

	while (i + n < v->n && n < CHUNK && v->v[i + n].set == v->v[i].set)
		n++;
	return n;
}

static int put_all(struct nftset *s, struct batch *b, uint16_t type, const struct elems *v, bool lives)
{
	int r = 0;

	for (size_t i = 0, n; r == 0 && i < v->n; i += n) {
		n = chunk(v, i);
		r = put(s, b, type, v->v + i, n, lives);
	}
	return r;
}

static size_t room_for(const struct elems *v)
{
	return v->n * ELEM_BYTES + (v->n / CHUNK + NFT_SET_MAX) * MESSAGE_BYTES;
}

static int send_all(struct nftset *s, const void *data, size_t len)
{
	int want = (int)MAX_OF(len + 4096, (size_t)212992);

	/* netlink takes a transaction in one piece or not at all */
	if (want > s->sndbuf) {
		if (setsockopt(mnl_socket_get_fd(s->socket), SOL_SOCKET, SO_SNDBUFFORCE, &want, sizeof(want)) < 0)
			return -errno;
		s->sndbuf = want;
	}
	return mnl_socket_sendto(s->socket, data, len) < 0 ? -errno : 0;
}

/*
 * The first error, or the last message's acknowledgement: the kernel answers in the order of the messages. An error of
 * the whole is about the first one, and the only answer; one of the commit comes before the others. What was left of an
 * earlier transaction's answers is passed over.
 */
static int receive(struct nftset *s, uint32_t first, uint32_t last)
{
	int r = 0;

	for (;;) {
		ssize_t n = mnl_socket_recvfrom(s->socket, s->answer, ANSWER_BYTES);
		int len = (int)n;

		if (n < 0)
			return -errno;
		for (struct nlmsghdr *h = (struct nlmsghdr *)s->answer; mnl_nlmsg_ok(h, len); h = mnl_nlmsg_next(h, &len)) {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);

			if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_seq < first || h->nlmsg_seq > last + 1)
				continue;
			if (r == 0)
				r = e->error;
			if (h->nlmsg_seq == last || h->nlmsg_seq == first)
				return r;
		}
	}
}

/* Adding does not lengthen the life of what is there: it is taken out first, and for that it must be there */
static int renewed(const struct elems *gone, const struct elems *want, struct elems *ret)
{
	int r = elems_minus(gone, want, ret);

	for (size_t i = 0; r == 0 && i < want->n; i++)
		if (want->v[i].seconds)
			r = elems_add(ret, &want->v[i]);
	elems_sort(ret);
	return r;
}

static int put_gates(struct nftset *s, struct batch *b, const struct gate_change *gates, size_t n)
{
	char *end = b->buf + b->len;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = gate_put(&gates[i], &end, &s->seq, &b->last);
	b->len = (size_t)(end - b->buf);
	return r;
}

int nftset_run(struct nftset *s, const struct elems *gone, const struct elems *want, const struct gate_change *gates, size_t n_gates)
{
	_cleanup_elems_ struct elems first = { 0 };
	_cleanup_free_ char *buf = NULL;
	struct batch b = { 0 };
	uint32_t begin = ++s->seq, last;
	int r = renewed(gone, want, &first);

	if (r < 0 || first.n + want->n + n_gates == 0)
		return r;
	b.buf = buf = malloc(2 * room_for(&first) + room_for(want) + 2 * MESSAGE_BYTES + n_gates * GATE_BYTES);
	if (!buf)
		return -ENOMEM;
	b.len = MNL_ALIGN(nftnl_batch_begin(b.buf, begin)->nlmsg_len);
	r = put_gates(s, &b, gates, n_gates);
	if (r == 0)
		r = put_all(s, &b, NFT_MSG_NEWSETELEM, &first, false);
	if (r == 0)
		r = put_all(s, &b, NFT_MSG_DELSETELEM, &first, false);
	if (r == 0)
		r = put_all(s, &b, NFT_MSG_NEWSETELEM, want, true);
	last = s->seq++;
	if (r < 0)
		return r;
	b.last->nlmsg_flags |= NLM_F_ACK;
	b.len += MNL_ALIGN(nftnl_batch_end(b.buf + b.len, last + 1)->nlmsg_len);
	r = send_all(s, b.buf, b.len);
	return r < 0 ? r : receive(s, begin, last);
}

/* --- answers --- */

struct reading {
	enum nft_set set;
	nftset_fn fn;
	void *userdata;
	int r;
	uint64_t packets, bytes;
};

static void read_count(struct reading *rd, struct nftnl_set_elem *n)
{
	const struct nftnl_expr *e = nftnl_set_elem_get(n, NFTNL_SET_ELEM_EXPR, &(uint32_t){ 0 });

	if (!e)
		return;
	rd->packets += nftnl_expr_get_u64(e, NFTNL_EXPR_CTR_PACKETS);
	rd->bytes += nftnl_expr_get_u64(e, NFTNL_EXPR_CTR_BYTES);
}

static int on_elem(struct nftnl_set_elem *n, void *userdata)
{
	struct reading *rd = userdata;
	struct elem e = { .set = rd->set };
	uint32_t len = 0;
	const void *key = nftnl_set_elem_get(n, NFTNL_SET_ELEM_KEY, &len), *value;

	if (!key || len != elem_key_len(rd->set))
		return 0;
	memcpy(e.key, key, len);
	value = elem_value_len(rd->set) > 0 ? nftnl_set_elem_get(n, NFTNL_SET_ELEM_DATA, &len) : NULL;
	if (value && len == elem_value_len(rd->set))
		memcpy(e.key + elem_key_len(rd->set), value, len);
	if (nftnl_set_elem_is_set(n, NFTNL_SET_ELEM_EXPIRATION))
		e.seconds = (uint32_t)(nftnl_set_elem_get_u64(n, NFTNL_SET_ELEM_EXPIRATION) / 1000) + 1;
	if (nftnl_set_elem_is_set(n, NFTNL_SET_ELEM_EXPR))
		read_count(rd, n);
	if (rd->fn && rd->r == 0)
		rd->r = rd->fn(rd->userdata, &e);
	return 0;
}

static int on_message(const struct nlmsghdr *h, void *userdata)
{
	struct nftnl_set *set = nftnl_set_alloc();

	if (!set || nftnl_set_elems_nlmsg_parse(h, set) < 0) {
		if (set)
			nftnl_set_free(set);
		errno = set ? EBADMSG : ENOMEM;
		return MNL_CB_ERROR;
	}
	nftnl_set_elem_foreach(set, on_elem, userdata);
	nftnl_set_free(set);
	return MNL_CB_OK;
}

/* To the end of the answer: that of a list, or an acknowledgement */
static int exchange(struct nftset *s, const struct nlmsghdr *h, mnl_cb_t fn, void *userdata)
{
	int r;

	if (mnl_socket_sendto(s->socket, h, h->nlmsg_len) < 0)
		return -errno;
	do {
		ssize_t n = mnl_socket_recvfrom(s->socket, s->answer, ANSWER_BYTES);

		if (n < 0)
			return -errno;
		if (((struct nlmsghdr *)s->answer)->nlmsg_seq != s->seq) {
			r = MNL_CB_OK;
			continue;
		}
		r = mnl_cb_run(s->answer, (size_t)n, s->seq, mnl_socket_get_portid(s->socket), fn, userdata);
	} while (r > MNL_CB_STOP);
	return r == MNL_CB_ERROR ? -(errno ?: EIO) : 0;
}

static int ask(struct nftset *s, struct nftnl_set *set, uint16_t flags, struct reading *rd)
{
	char buf[1024];
	struct nlmsghdr *h = nftnl_nlmsg_build_hdr(buf, NFT_MSG_GETSETELEM, NFPROTO_INET, flags, ++s->seq);
	int r;

	nftnl_set_elems_nlmsg_build_payload(h, set);
	r = exchange(s, h, on_message, rd);
	return r < 0 ? r : rd->r;
}

static int keep(void *userdata, const struct elem *e)
{
	return elems_add(userdata, e);
}

/* A change in between makes a list worth nothing: once more */
static int dump_all(struct nftset *s, enum nft_set set, struct elems *ret)
{
	struct nftnl_set *n = set_of(set);
	int r = n ? -EINTR : -ENOMEM;

	for (int i = 0; r == -EINTR && i < TRIES; i++) {
		struct reading rd = { .set = set, .fn = keep, .userdata = ret };

		ret->n = 0;
		r = ask(s, n, NLM_F_DUMP, &rd);
	}
	if (n)
		nftnl_set_free(n);
	return r;
}

int nftset_dump(struct nftset *s, enum nft_set set, nftset_fn fn, void *userdata)
{
	_cleanup_elems_ struct elems v = { 0 };
	int r = dump_all(s, set, &v);

	for (size_t i = 0; r == 0 && i < v.n; i++)
		r = fn(userdata, &v.v[i]);
	return r;
}

int nftset_count(struct nftset *s, const struct elem *e, uint64_t *ret_packets, uint64_t *ret_bytes)
{
	struct reading rd = { .set = e->set };
	struct nftnl_set *n = set_of(e->set);
	int r = n ? set_add(n, e, false) : -ENOMEM;

	if (r == 0)
		r = ask(s, n, NLM_F_ACK, &rd);
	if (n)
		nftnl_set_free(n);
	*ret_packets = rd.packets;
	*ret_bytes = rd.bytes;
	return r;
}

/* --- gates --- */

struct counting {
	struct gate_count v[GATE_COUNTS];
	size_t n;
};

static int on_gate_expr(struct nftnl_expr *e, void *userdata)
{
	struct counting *c = userdata;

	if (strcmp(nftnl_expr_get_str(e, NFTNL_EXPR_NAME), "counter") == 0 && c->n < GATE_COUNTS)
		c->v[c->n++] = (struct gate_count){ nftnl_expr_get_u64(e, NFTNL_EXPR_CTR_PACKETS), nftnl_expr_get_u64(e, NFTNL_EXPR_CTR_BYTES) };
	return 0;
}

static int on_rule(const struct nlmsghdr *h, void *userdata)
{
	struct nftnl_rule *u = nftnl_rule_alloc();

	if (!u || nftnl_rule_nlmsg_parse(h, u) < 0) {
		if (u)
			nftnl_rule_free(u);
		errno = u ? EBADMSG : ENOMEM;
		return MNL_CB_ERROR;
	}
	nftnl_expr_foreach(u, on_gate_expr, userdata);
	nftnl_rule_free(u);
	return MNL_CB_OK;
}

int nftset_gate_count(struct nftset *s, const char *tap, struct gate_count ret[GATE_COUNTS])
{
	struct nftnl_rule *u = nftnl_rule_alloc();
	int r = u && nftnl_rule_set_str(u, NFTNL_RULE_TABLE, tap) == 0 ? -EINTR : -ENOMEM;
	char buf[1024];

	memset(ret, 0, GATE_COUNTS * sizeof(*ret));
	for (int i = 0; r == -EINTR && i < TRIES; i++) {
		struct nlmsghdr *h = nftnl_nlmsg_build_hdr(buf, NFT_MSG_GETRULE, NFPROTO_NETDEV, NLM_F_DUMP, ++s->seq);
		struct counting c = { .n = 0 };

		nftnl_rule_nlmsg_build_payload(h, u);
		r = exchange(s, h, on_rule, &c);
		/* a closed one's are the last */
		memcpy(ret + GATE_COUNTS - c.n, c.v, c.n * sizeof(*ret));
	}
	if (u)
		nftnl_rule_free(u);
	return r == -ENOENT ? 0 : r;
}
