/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pure: what the daemon wants of nftables -> a text for libnftables (the base), or elements of the base's sets (a sandbox).
 *
 * nft/README.md has the names, nft/declaw-base.nft is the base. Golden files: tests/golden/ruleset-*.nft. -EINVAL for what is
 * not [a-z0-9] (sandboxes), no MAC, no address, and a tap that is not the sandbox's: nothing else gets to the kernel.
 */
#ifndef DECLAW_RULESET_H
#define DECLAW_RULESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "net/elements.h"

struct policy;

#define RULESET_TAP_PREFIX "dcl"
#define RULESET_ID_MAX 12u		/* of a short id: the interface's name has 15 */
#define RULESET_PIECES_MAX 16384u	/* that a policy's ranges are cut into */
#define RULESET_PINS_MAX 4096u		/* of one sandbox */
#define RULESET_MADE_MAX 32
#define RULESET_COUNT_LIFE 604800u	/* seconds: as `counts` says in the base */

/* A connection's mark: the number of the policy by which it was judged, and how */
#define RULESET_EPOCH(n) ((n) & ~3u)
#define RULESET_FORWARDED 1u
#define RULESET_PROXIED 2u
#define RULESET_WORKERS 3u		/* one of the proxy's own */

/* The administrator's part of the base */
struct firewall_config {
	const char *network;		/* the sandboxes' own range */
	char *const *opened;		/* private ranges that are open, NULL-terminated or NULL */
	bool drop;			/* refused packets get no answer */
	uid_t proxy_uid;		/* who may not dial private addresses; (uid_t)-1 = nobody has it */
	uid_t resolver_uid;		/* who speaks to upstream and nobody else; the same */
	uint32_t epoch;			/* of this base; the same */
	char *const *upstream;		/* addresses of DNS servers, NULL-terminated or NULL */
};

/* An address given out by the resolver, reachable through the proxy for so long */
struct firewall_pin {
	uint32_t addr;			/* host order */
	uint32_t seconds;
};

struct firewall_sandbox {
	const char *short_id, *tap, *mac, *address;
	const struct policy *policy;
	uint32_t epoch;			/* of the policy; another each time it is set. The lowest two bits are not looked at */
	const struct firewall_pin *pins;	/* that stay over a change of policy */
	size_t n_pins;
};

/* What becomes of a packet: its mark, and whose count of what it is */
struct ruleset_verdict {
	uint32_t mark;
	const char *name;
};

extern const struct ruleset_verdict ruleset_verdicts[];	/* ends with mark 0 */

/* Tables, sets and chains with their rules; elements stay. Any number of times. malloc'ed. */
int ruleset_base(const struct firewall_config *config, char **ret);
/* A name for what the base declares: sets, maps, chains and hooks. Another declaration is another name, other rules are not. */
void ruleset_made(char ret[static RULESET_MADE_MAX]);
/* All that a sandbox with that policy has in the kernel, sorted. -E2BIG: too many ranges. -ENOSPC: too many pins */
int ruleset_sandbox(const struct firewall_sandbox *sb, struct elems *ret);
/* All that a closed one has: it is known, and gets nowhere */
int ruleset_close(const char *short_id, const char *tap, struct elems *ret);
int ruleset_pins(uint32_t addr, const struct firewall_pin *pins, size_t n, struct elems *ret);
/* What the kernel made for it meanwhile */
int ruleset_counts(const char *tap, struct elems *ret);
/* The verdict that elements of a set count by themselves; 0: none */
uint32_t ruleset_counted(enum nft_set set);
bool ruleset_id_ok(const char *short_id);
int ruleset_teardown(char **ret);

#endif
