/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network policy of a sandbox: what its egress may reach. Pure: no I/O, no clock, any thread.
 *
 * Parsed from the contract's `network` object (allow_out, deny_out: names, `*.` wildcards, addresses, ranges, the
 * everything tokens). Shared by declawd, which makes rules of it, and by the resolver and the proxy, which ask it about
 * names. What it means:
 *
 *  - Allow beats deny; the order of entries means nothing.
 *  - Everything is allowed unless allow_out has an entry or deny_out has an everything token.
 *  - `*.x` matches every name below x, at any depth, and not x itself.
 *  - A policy with names that matter is *name-checked*: TCP reaches an address only when our resolver gave it out for an
 *    allowed name and the stream names it (TLS server name, HTTP Host). Other UDP is closed then. Ranges need no name.
 *  - IPv6 is closed, whatever the policy says. So is what policy_addr_class() does not call public, unless an
 *    administrator opened it; metadata and link-local addresses and the host itself stay closed even then.
 *
 * Names are canonical everywhere behind policy_name_canon(): lower-case A-labels without a final dot.
 */
#ifndef DECLAW_POLICY_H
#define DECLAW_POLICY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/json.h"

#define POLICY_NAME_MAX 254	/* bytes with the final NUL */

struct policy_net {
	uint32_t addr;		/* host order, bits behind the prefix are 0 */
	uint8_t bits;
};

struct policy_name {
	bool wildcard;
	char *text;		/* the entry in canonical form */
	const char *name;	/* in text: what follows "*.", or all of it */
};

struct policy {
	bool closed;		/* nothing goes out, whatever is listed */
	bool inspection;	/* closed because it needs traffic inspected */
	bool deny_default;
	bool public_traffic;	/* allow_public_traffic: ports of the sandbox may be reached without its token */
	char *mask_host;	/* mask_request_host; NULL = without */
	struct policy_net *allow_nets, *deny_nets;
	size_t n_allow_nets, n_deny_nets;
	struct policy_name *allow_names, *deny_names;
	size_t n_allow_names, n_deny_names;
};

/*
 * network NULL = everything public is allowed. inspection: the security policy asks for what this version cannot do;
 * egress is closed. -EINVAL: *ret_detail (malloc'ed, may be NULL) names the entry and says what is wrong with it.
 */
int policy_parse(json_object *network, bool inspection, struct policy **ret, char **ret_detail);
struct policy *policy_free(struct policy *p);
DEFINE_CLEANUP(struct policy *, policy_free)

/* The form the workers get and golden files show; policy_from_json() takes only this one. */
json_object *policy_to_json(const struct policy *p);
int policy_from_json(json_object *o, struct policy **ret);

/* TCP goes through the proxy */
bool policy_name_checked(const struct policy *p);
/* "closed", "names", "addresses" (ranges only, or everything but some) or "open" */
const char *policy_mode(const struct policy *p);

/*
 * May a canonical name be resolved and spoken to? *ret_rule: the entry that decided, or "default", "closed",
 * "inspection_unavailable", "wildcard_apex" (it is x, and only *.x is allowed); owned by the policy or static.
 */
bool policy_allows_name(const struct policy *p, const char *name, const char **ret_rule);

/* Does what goes to that address leave without the proxy? Where nobody goes is not asked here. */
bool policy_forwards(const struct policy *p, uint32_t addr);

/*
 * Bytes as they come from the network or a user -> canonical name in ret[POLICY_NAME_MAX]. -EINVAL: no host name (an
 * address, an empty or long label, other characters than letters, digits and hyphens after IDNA).
 * A leading underscore in a label (service names) is let through.
 */
int policy_name_canon(const char *name, size_t len, char *ret);

enum policy_addr {
	POLICY_ADDR_PUBLIC,
	POLICY_ADDR_PRIVATE,	/* an administrator may open it */
	POLICY_ADDR_NEVER,	/* this host, loopback, link-local and metadata, multicast, reserved */
};
enum policy_addr policy_addr_class(uint32_t addr);	/* host order */
/* "a.b.c.d" or "a.b.c.d/n"; strict: no other spelling of numbers. -EINVAL otherwise. */
int policy_net_parse(const char *s, struct policy_net *ret);
void policy_net_format(const struct policy_net *n, char ret[20]);
bool policy_net_has(const struct policy_net *n, uint32_t addr);

/* The two lists behind policy_addr_class(), for rules */
extern const char *const policy_private_nets[], *const policy_never_nets[];	/* end with NULL */

#endif
