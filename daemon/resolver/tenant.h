/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One sandbox in the resolver: its cache, its limits, its part of the audit. Shared by lookup.c and tenant.c only. */
#ifndef DECLAW_RESOLVER_TENANT_H
#define DECLAW_RESOLVER_TENANT_H

#include "chan/client.h"
#include "resolver/lookup.h"
#include "resolver/upstream.h"
#include "util/map.h"

#define CACHE_MAX 1024u			/* names */
#define WAITERS_MAX 64u			/* of one name */
#define QUESTIONS_PER_SEC 200u
#define QUESTIONS_BURST 400u
#define UPSTREAM_PER_SEC 20u
#define UPSTREAM_BURST 100u
#define NEW_NAMES_PER_MIN 60u		/* below a wildcard */
#define NEW_NAMES_BURST 120u
#define WILD_NAME_MAX 128u		/* length of a name below a wildcard, and of its labels */
#define WILD_LABEL_MAX 48u

struct bucket {
	uint64_t micro;			/* tokens in millionths */
	uint64_t at_usec;
};

/* per_min tokens a minute, burst at most; a zeroed bucket is full */
bool bucket_take(struct bucket *b, uint64_t now, uint64_t per_min, uint64_t burst);

enum entry_state { ENTRY_FETCHING, ENTRY_PINNING, ENTRY_READY };

struct entry {
	struct list link;		/* tenant: least recently used first */
	struct tenant *tenant;
	enum entry_state state;
	struct fetch *fetch;
	struct list waiters;		/* struct asker */
	unsigned int n_waiters;
	int rcode;
	struct in_addr addrs[DNS_ADDRS_MAX];
	size_t n_addrs;
	uint64_t until_usec;
	char name[POLICY_NAME_MAX];
};

struct tenant {
	struct resolver *resolver;
	struct chan_sandbox *sb;
	struct map *names;
	struct list entries;
	struct bucket questions, upstream, fresh;
	/* The last denied name: a lookup asks for A and AAAA, and is one verdict */
	char denied[POLICY_NAME_MAX];
	uint16_t denied_type;
	uint64_t denied_usec, limited_usec;
	const char *limited;		/* the limit that was told last */
};

struct tenant *tenant_new(struct resolver *r, struct chan_sandbox *sb);
/* NULL: no memory, or everything cached is in use. The oldest makes room. */
struct entry *entry_new(struct tenant *t, const char *name);
/* Who waits gets SERVFAIL. */
void entry_free(struct entry *e);
void entry_used(struct entry *e);
void entry_answer_all(struct entry *e, int rcode);
/* Its policy is another one: nothing of what was cached is true any more. */
void tenant_flush(struct tenant *t);
void tenant_free(struct tenant *t);
/* Whether that name may be asked for at all; else the limit's name. */
const char *tenant_limit(struct tenant *t, const char *name, const char *rule, bool known, uint64_t now);

void asker_reply(struct asker *a, int rcode, const struct in_addr *addrs, size_t n, uint32_t ttl);

#endif
