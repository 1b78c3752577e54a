/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the wire and plain structs, by ldns. See query.h. */
#include "resolver/query.h"

#include <ctype.h>
#include <ldns/ldns.h>
#include <string.h>

#include "util/macro.h"
#include "util/str.h"

#define HEADER 12u

DEFINE_CLEANUP(ldns_pkt *, ldns_pkt_free)
#define _cleanup_pkt_ _cleanup_(cleanup_ldns_pkt_free)

/* Without the dot at the end, in lower case; false when it does not fit. */
static bool name_text(const ldns_rdf *dname, char ret[POLICY_NAME_MAX])
{
	_cleanup_free_ char *s = dname ? ldns_rdf2str(dname) : NULL;
	size_t n = s ? strlen(s) : 0;

	if (n > 1 && s[n - 1] == '.')
		n--;
	if (n == 0 || n >= POLICY_NAME_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		ret[i] = (char)tolower((unsigned char)s[i]);
	ret[n] = '\0';
	return true;
}

/* A dot or NUL inside a label comes out of ldns as an escape, and a backslash is in no host name. */
static void take_name(struct query *q, const ldns_rdf *owner)
{
	memcpy(q->owner, ldns_rdf_data(owner), ldns_rdf_size(owner));
	q->owner_len = ldns_rdf_size(owner);
	if (!name_text(owner, q->text)) {
		snprintf(q->text, sizeof(q->text), "(too long)");
		return;
	}
	if (policy_name_canon(q->text, strlen(q->text), q->name) < 0)
		q->name[0] = '\0';
}

static int judge(const ldns_pkt *p, struct query *q)
{
	const ldns_rr *rr;

	if (ldns_pkt_get_opcode(p) != LDNS_PACKET_QUERY)
		return LDNS_RCODE_NOTIMPL;
	if (ldns_pkt_qdcount(p) != 1 || ldns_pkt_ancount(p) || ldns_pkt_nscount(p))
		return LDNS_RCODE_FORMERR;
	rr = ldns_rr_list_rr(ldns_pkt_question(p), 0);
	if (!rr || !ldns_rr_owner(rr) || ldns_rdf_size(ldns_rr_owner(rr)) > sizeof(q->owner))
		return LDNS_RCODE_FORMERR;
	take_name(q, ldns_rr_owner(rr));
	q->type = (uint16_t)ldns_rr_get_type(rr);
	if (ldns_pkt_edns(p)) {
		q->edns = true;
		q->udp_size = ldns_pkt_edns_udp_size(p);
		if (ldns_pkt_edns_version(p) != 0)
			return LDNS_RCODE_SERVFAIL;
	}
	return ldns_rr_get_class(rr) == LDNS_RR_CLASS_IN ? 0 : LDNS_RCODE_REFUSED;
}

int query_parse(const uint8_t *wire, size_t len, struct query *ret)
{
	_cleanup_pkt_ ldns_pkt *p = NULL;

	memset(ret, 0, sizeof(*ret));
	/* Answers are not answered, or two servers would talk to each other for ever */
	if (len < HEADER || len > DNS_QUESTION_MAX || wire[2] & 0x80)
		return -EINVAL;
	ret->id = (uint16_t)(wire[0] << 8 | wire[1]);
	ret->recurse = wire[2] & 0x01;
	if (ldns_wire2pkt(&p, wire, len) != LDNS_STATUS_OK) {
		p = NULL;
		return LDNS_RCODE_FORMERR;
	}
	return judge(p, ret);
}

/* --- answers --- */

static ldns_rdf *owner_rdf(const struct query *q)
{
	return ldns_rdf_new_frm_data(LDNS_RDF_TYPE_DNAME, q->owner_len, q->owner);
}

static ldns_pkt *answer_new(const struct query *q, int rcode)
{
	ldns_pkt *p = ldns_pkt_new();
	ldns_rdf *owner;
	ldns_rr *rr;

	if (!p)
		return NULL;
	ldns_pkt_set_id(p, q->id);
	ldns_pkt_set_qr(p, true);
	ldns_pkt_set_rd(p, q->recurse);
	ldns_pkt_set_ra(p, true);
	ldns_pkt_set_rcode(p, (uint8_t)rcode);
	if (q->edns)
		ldns_pkt_set_edns_udp_size(p, DNS_UDP_MAX);
	if (q->owner_len == 0)
		return p;
	rr = ldns_rr_new();
	owner = owner_rdf(q);
	if (!rr || !owner) {
		ldns_rr_free(rr);
		ldns_rdf_deep_free(owner);
		ldns_pkt_free(p);
		return NULL;
	}
	ldns_rr_set_owner(rr, owner);
	ldns_rr_set_type(rr, (ldns_rr_type)q->type);
	ldns_rr_set_class(rr, LDNS_RR_CLASS_IN);
	ldns_rr_set_question(rr, true);
	if (!ldns_pkt_push_rr(p, LDNS_SECTION_QUESTION, rr)) {
		ldns_rr_free(rr);
		ldns_pkt_free(p);
		return NULL;
	}
	return p;
}

static int push_a(ldns_pkt *p, const struct query *q, struct in_addr addr, uint32_t ttl)
{
	ldns_rdf *data = ldns_rdf_new_frm_data(LDNS_RDF_TYPE_A, sizeof(addr), &addr), *owner = owner_rdf(q);
	ldns_rr *rr = ldns_rr_new();

	if (!data || !owner || !rr)
		goto fail;
	ldns_rr_set_type(rr, LDNS_RR_TYPE_A);
	ldns_rr_set_class(rr, LDNS_RR_CLASS_IN);
	ldns_rr_set_ttl(rr, ttl);
	ldns_rr_set_owner(rr, owner);
	owner = NULL;
	if (!ldns_rr_push_rdf(rr, data))
		goto fail;
	data = NULL;
	if (!ldns_pkt_push_rr(p, LDNS_SECTION_ANSWER, rr))
		goto fail;
	return 0;
fail:
	ldns_rdf_deep_free(data);
	ldns_rdf_deep_free(owner);
	ldns_rr_free(rr);
	return -ENOMEM;
}

static int to_wire(const ldns_pkt *p, uint8_t *out, size_t max, size_t *ret_len)
{
	uint8_t *wire = NULL;
	size_t len = 0;
	int r = 0;

	if (ldns_pkt2wire(&wire, p, &len) != LDNS_STATUS_OK)
		return -ENOMEM;
	if (len > max)
		r = -EMSGSIZE;
	else
		memcpy(out, wire, len);
	free(wire);
	*ret_len = len;
	return r;
}

static int send_cut(const struct query *q, uint8_t *out, size_t max, size_t *ret_len)
{
	_cleanup_pkt_ ldns_pkt *p = answer_new(q, 0);

	if (!p)
		return -ENOMEM;
	ldns_pkt_set_tc(p, true);
	return to_wire(p, out, max, ret_len);
}

int query_answer(const struct query *q, int rcode, const struct in_addr *addrs, size_t n, uint32_t ttl, uint8_t *out,
		 size_t max, size_t *ret_len)
{
	_cleanup_pkt_ ldns_pkt *p = answer_new(q, rcode);
	int r = p ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = push_a(p, q, addrs[i], ttl);
	if (r == 0)
		r = to_wire(p, out, max, ret_len);
	return r == -EMSGSIZE ? send_cut(q, out, max, ret_len) : r;
}

static int push_copy(ldns_pkt *p, const ldns_rr *rr, uint32_t ttl_max)
{
	ldns_rr *copy = ldns_rr_clone(rr);

	if (!copy)
		return -ENOMEM;
	ldns_rr_set_ttl(copy, MIN_OF(ldns_rr_ttl(copy), ttl_max));
	if (ldns_pkt_push_rr(p, LDNS_SECTION_ANSWER, copy))
		return 0;
	ldns_rr_free(copy);
	return -ENOMEM;
}

int query_relay(const struct query *q, const uint8_t *wire, size_t len, uint32_t ttl_max, uint8_t *out, size_t max,
		size_t *ret_len)
{
	_cleanup_pkt_ ldns_pkt *from = NULL, *p = NULL;
	int r = 0;

	if (ldns_wire2pkt(&from, wire, len) != LDNS_STATUS_OK) {
		from = NULL;
		return -EBADMSG;
	}
	p = answer_new(q, ldns_pkt_get_rcode(from));
	if (!p)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < ldns_rr_list_rr_count(ldns_pkt_answer(from)); i++) {
		const ldns_rr *rr = ldns_rr_list_rr(ldns_pkt_answer(from), i);

		if (ldns_rr_get_type(rr) == (ldns_rr_type)q->type || ldns_rr_get_type(rr) == LDNS_RR_TYPE_CNAME)
			r = push_copy(p, rr, ttl_max);
	}
	if (r == 0)
		r = to_wire(p, out, max, ret_len);
	return r == -EMSGSIZE ? send_cut(q, out, max, ret_len) : r;
}

/* --- what upstream said --- */

static bool owned_by(const ldns_rr *rr, ldns_rr_type type, const char *name)
{
	char text[POLICY_NAME_MAX];

	return ldns_rr_get_type(rr) == type && ldns_rr_get_class(rr) == LDNS_RR_CLASS_IN && ldns_rr_rd_count(rr) == 1 &&
	       name_text(ldns_rr_owner(rr), text) && str_eq(text, name);
}

/* Where name leads; false: nowhere. */
static bool follow(const ldns_rr_list *list, const char *name, struct answer *a)
{
	for (size_t i = 0; i < ldns_rr_list_rr_count(list); i++) {
		const ldns_rr *rr = ldns_rr_list_rr(list, i);

		if (!owned_by(rr, LDNS_RR_TYPE_CNAME, name) || !name_text(ldns_rr_rdf(rr, 0), a->chain[a->n_chain]))
			continue;
		a->ttl = MIN_OF(a->ttl, ldns_rr_ttl(rr));
		a->n_chain++;
		return true;
	}
	return false;
}

static void collect(const ldns_rr_list *list, const char *name, struct answer *a)
{
	for (size_t i = 0; i < ldns_rr_list_rr_count(list) && a->n_addrs < DNS_ADDRS_MAX; i++) {
		const ldns_rr *rr = ldns_rr_list_rr(list, i);

		if (!owned_by(rr, LDNS_RR_TYPE_A, name) || ldns_rdf_size(ldns_rr_rdf(rr, 0)) != sizeof(struct in_addr))
			continue;
		memcpy(&a->addrs[a->n_addrs++], ldns_rdf_data(ldns_rr_rdf(rr, 0)), sizeof(struct in_addr));
		a->ttl = MIN_OF(a->ttl, ldns_rr_ttl(rr));
	}
}

int answer_parse(const uint8_t *wire, size_t len, const char *name, struct answer *ret)
{
	_cleanup_pkt_ ldns_pkt *p = NULL;
	const char *at = name;

	memset(ret, 0, sizeof(*ret));
	ret->ttl = UINT32_MAX;
	if (ldns_wire2pkt(&p, wire, len) != LDNS_STATUS_OK) {
		p = NULL;
		return -EBADMSG;
	}
	if (!ldns_pkt_qr(p))
		return -EBADMSG;
	ret->rcode = ldns_pkt_get_rcode(p);
	while (ret->n_chain < DNS_CHAIN_MAX && follow(ldns_pkt_answer(p), at, ret))
		at = ret->chain[ret->n_chain - 1];
	if (ret->n_chain == DNS_CHAIN_MAX)
		return -ELOOP;
	collect(ldns_pkt_answer(p), at, ret);
	if (ret->ttl == UINT32_MAX)
		ret->ttl = 0;
	return 0;
}
