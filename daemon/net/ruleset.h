/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pure: what the daemon wants of nftables -> one text for libnftables, one transaction.
 *
 * nft/README.md has the names, nft/declaw-base.nft is the base. Golden files: tests/golden/ruleset-*.nft. All functions
 * return malloc'ed text; -EINVAL for what is not [a-z0-9] (sandboxes), no interface name, no MAC, no address: nothing
 * else gets into the text, so that it cannot be made to say something else.
 */
#ifndef DECLAW_RULESET_H
#define DECLAW_RULESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct policy;

/* The administrator's part of the base */
struct firewall_config {
	const char *network;		/* the sandboxes' own range */
	char *const *opened;		/* private ranges that are open, NULL-terminated or NULL */
	bool drop;			/* refused packets get no answer */
	uid_t proxy_uid;		/* who may not dial private addresses; (uid_t)-1 = nobody has it */
	uid_t resolver_uid;		/* who speaks to upstream and nobody else; the same */
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
	const struct firewall_pin *pins;	/* that stay over a change of policy */
	size_t n_pins;
};

/* Tables, map and base chains with their rules; sandboxes' chains and elements stay. Any number of times. */
int ruleset_base(const struct firewall_config *config, char **ret);
/* Chain sbx_<short_id> that counts and drops, reached from its tap. Any number of times. */
int ruleset_close(const char *short_id, const char *tap, char **ret);
/* The same chain with what the policy says, its sets included. Any number of times. */
int ruleset_sandbox(const struct firewall_sandbox *sb, char **ret);
/* The name of its set of pins */
int ruleset_pin_set(const char *short_id, char **ret);
/* Takes both away, whether they exist or not. */
int ruleset_remove(const char *short_id, const char *tap, char **ret);
/* The two that are answered with JSON */
int ruleset_list(char **ret);
int ruleset_show(const char *short_id, char **ret);
int ruleset_teardown(char **ret);

#define RULESET_CHAIN_PREFIX "sbx_"

#endif
