/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control channel between declawd and its egress workers (declaw-resolver, declaw-proxy): what is said.
 *
 * One JSON object a line, "t" names its kind. A worker connects and says hello; declawd sends config, one policy per
 * sandbox, the pins that still hold (to the proxy), then synced, and after that whatever changes:
 *
 *	worker  -> declawd	hello {role, version, instance}	instances of a role do the same work side by side
 *	declawd -> worker	config {upstream, opened}	name servers (none: the host's own), private ranges that are open
 *	declawd -> worker	policy {id, addr, gen, policy}	new or changed; addr is the sandbox's, gen the policy's number
 *	declawd -> worker	gone {id}			the sandbox has no network any more
 *	declawd -> worker	synced {}			all of the above was said once
 *	resolver -> declawd	pin {seq, id, gen, name, addrs, ttl}
 *	declawd -> proxy	pin {seq: 0, ...}		these addresses are that name's for ttl seconds
 *	declawd -> resolver	pinned {seq, ok}		the kernel and the proxy know; answer the guest
 *	worker  -> declawd	audit {id, verdict, proto, name, addr, port, rule, detail}
 *	worker  -> declawd	lost {id, n}			verdicts that were too many to be reported
 *
 * Pure. Names are canonical (lower-case A-labels, no dot at the end), addresses IPv4 text. Unknown members are ignored,
 * an unknown kind is -EPROTO: both ends come from one package.
 */
#ifndef DECLAW_CHAN_MSG_H
#define DECLAW_CHAN_MSG_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/ident.h"
#include "util/json.h"

#define CHAN_VERSION 2
#define CHAN_INSTANCES_MAX 32
#define CHAN_NAME_MAX 254	/* 253 and NUL */
#define CHAN_ADDRS_MAX 64u
#define CHAN_RULE_MAX 64
#define CHAN_DETAIL_MAX 112

enum chan_type {
	CHAN_HELLO, CHAN_CONFIG, CHAN_POLICY, CHAN_GONE, CHAN_SYNCED, CHAN_PIN, CHAN_PINNED, CHAN_AUDIT, CHAN_LOST,
	CHAN_TYPE_MAX
};
enum chan_role { CHAN_ROLE_PROXY, CHAN_ROLE_RESOLVER, CHAN_ROLE_MAX };
enum chan_verdict { CHAN_ALLOW, CHAN_BLOCK, CHAN_VERDICT_MAX };
enum chan_proto {
	CHAN_PROTO_DNS, CHAN_PROTO_TLS, CHAN_PROTO_HTTP, CHAN_PROTO_TCP, CHAN_PROTO_UDP, CHAN_PROTO_ICMP,
	CHAN_PROTO_OTHER, CHAN_PROTO_MAX
};

struct chan_pin {
	uint64_t seq, gen;
	char id[SANDBOX_ID_MAX];
	char name[CHAN_NAME_MAX];
	struct in_addr addrs[CHAN_ADDRS_MAX];
	size_t n_addrs;
	uint32_t ttl;
};

struct chan_audit {
	char id[SANDBOX_ID_MAX];
	enum chan_verdict verdict;
	enum chan_proto proto;
	char name[CHAN_NAME_MAX];	/* "" = none; printable ASCII, whatever the guest sent */
	struct in_addr addr;		/* 0.0.0.0 = none */
	uint16_t port;			/* 0 = none */
	char rule[CHAN_RULE_MAX];	/* which entry, or a word such as rate_limit */
	char detail[CHAN_DETAIL_MAX];
};

struct chan_msg {
	enum chan_type type;
	union {
		struct { enum chan_role role; int64_t version, instance; } hello;
		struct { json_object *upstream, *opened; } config;	/* arrays of strings, borrowed */
		struct { char id[SANDBOX_ID_MAX]; struct in_addr addr; uint64_t gen; json_object *policy; } policy; /* borrowed */
		struct { char id[SANDBOX_ID_MAX]; } gone;
		struct chan_pin pin;
		struct { uint64_t seq; bool ok; } pinned;
		struct chan_audit audit;
		struct { char id[SANDBOX_ID_MAX]; uint64_t n; } lost;
	} u;
};

const char *chan_role_name(enum chan_role r);
const char *chan_verdict_name(enum chan_verdict v);
const char *chan_proto_name(enum chan_proto p);
/* -EINVAL for no such name */
int chan_verdict_from_name(const char *s);
int chan_proto_from_name(const char *s);

/* -EPROTO when it is none of the above. Objects in *ret are borrowed from o. */
int chan_msg_parse(json_object *o, struct chan_msg *ret);
/* NULL on no memory. Takes a reference to objects in m. */
json_object *chan_msg_json(const struct chan_msg *m);
/* Fills a name or detail that may come from a guest: printable ASCII, cut where it does not fit. */
void chan_text(char *ret, size_t size, const char *text);

#endif
