/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a guest's question and as an upstream server's answer. A question that is taken has a name that is
 * canonical for good, and every answer made for it is one that ldns reads, with our id, within the bytes allowed.
 */
#include <ldns/ldns.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz-main.h"
#include "resolver/query.h"
#include "util/str.h"

#define MUST(x) ((x) ? (void)0 : abort())

static void check_wire(const struct query *q, const uint8_t *wire, size_t len, size_t max)
{
	ldns_pkt *p = NULL;

	MUST(len <= max && ldns_wire2pkt(&p, wire, len) == LDNS_STATUS_OK);
	MUST(ldns_pkt_id(p) == q->id && ldns_pkt_qr(p));
	ldns_pkt_free(p);
}

static void check_answers(const struct query *q, const uint8_t *data, size_t size)
{
	static const size_t sizes[] = { 512, DNS_UDP_MAX, DNS_ANSWER_MAX };
	struct in_addr addrs[DNS_ADDRS_MAX];
	uint8_t out[DNS_ANSWER_MAX];
	size_t len;

	memset(addrs, 7, sizeof(addrs));
	for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
		MUST(query_answer(q, 0, addrs, DNS_ADDRS_MAX, 60, out, sizes[i], &len) == 0);
		check_wire(q, out, len, sizes[i]);
		MUST(query_answer(q, LDNS_RCODE_NXDOMAIN, NULL, 0, 0, out, sizes[i], &len) == 0);
		check_wire(q, out, len, sizes[i]);
		if (query_relay(q, data, size, 3600, out, sizes[i], &len) == 0)
			check_wire(q, out, len, sizes[i]);
	}
}

static void check_question(const uint8_t *data, size_t size)
{
	char again[POLICY_NAME_MAX];
	struct query q;
	int r = query_parse(data, size, &q);

	MUST(r >= 0 || r == -EINVAL);
	if (r < 0)
		return;
	if (*q.name)
		MUST(policy_name_canon(q.name, strlen(q.name), again) == 0 && str_eq(again, q.name));
	check_answers(&q, data, size);
}

static void check_answer(const uint8_t *data, size_t size)
{
	struct answer a;
	int r = answer_parse(data, size, "a.test", &a);

	MUST(r == 0 || r == -EBADMSG || r == -ELOOP);
	if (r == 0)
		MUST(a.n_addrs <= DNS_ADDRS_MAX && a.n_chain < DNS_CHAIN_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1u << 16)
		return 0;
	check_question(data, size);
	check_answer(data, size);
	return 0;
}
