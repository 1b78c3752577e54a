/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DNS messages, all of them read and written by ldns: a guest's question, what an upstream server answered, and the
 * answer that is made of it anew. Nothing an upstream server sent is passed on as bytes. Pure.
 */
#ifndef DECLAW_RESOLVER_QUERY_H
#define DECLAW_RESOLVER_QUERY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "policy/policy.h"

#define DNS_UDP_MAX 1232u	/* what goes in one packet on every path; more is asked again over TCP */
#define DNS_TCP_MAX 65535u
#define DNS_ANSWER_MAX 2048u	/* DNS_ADDRS_MAX addresses of the longest name */
#define DNS_QUESTION_MAX 1024u	/* a question that is longer is none */
#define DNS_ADDRS_MAX 64u
#define DNS_CHAIN_MAX 16u	/* CNAMEs one after the other */

struct query {
	uint16_t id, type;
	bool recurse, edns;
	uint16_t udp_size;		/* what the guest takes */
	uint8_t owner[255];		/* the name as it was spelt, in wire form */
	size_t owner_len;
	char text[POLICY_NAME_MAX];	/* for people; "" when there is none */
	char name[POLICY_NAME_MAX];	/* canonical; "": it is no host name */
};

/*
 * 0: a question to judge. A positive number: the rcode to answer, *ret is good for query_answer(). -EINVAL: to be
 * dropped, an answer would be one to noise.
 */
int query_parse(const uint8_t *wire, size_t len, struct query *ret);
/* Addresses only with rcode 0. Cut (TC) when it would be longer than max. out has room for max bytes. -ENOMEM. */
int query_answer(const struct query *q, int rcode, const struct in_addr *addrs, size_t n, uint32_t ttl, uint8_t *out,
		 size_t max, size_t *ret_len);
/* The records of the asked type (and CNAMEs) in what upstream sent */
int query_relay(const struct query *q, const uint8_t *wire, size_t len, uint32_t ttl_max, uint8_t *out, size_t max,
		size_t *ret_len);

struct answer {
	int rcode;
	struct in_addr addrs[DNS_ADDRS_MAX];
	size_t n_addrs;
	uint32_t ttl;			/* the least of what was followed */
	char chain[DNS_CHAIN_MAX][POLICY_NAME_MAX];	/* where CNAMEs led, in order */
	size_t n_chain;
};

/*
 * Follows name through the answer's CNAMEs and collects the addresses at the end. When it ends in a name without
 * addresses, that is the last of the chain, and the caller asks for it. -ELOOP, -EBADMSG.
 */
int answer_parse(const uint8_t *wire, size_t len, const char *name, struct answer *ret);

#endif
