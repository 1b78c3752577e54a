/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pure: what the daemon wants of nftables -> libnftables JSON, one document a transaction.
 *
 * nft/README.md has the names, nft/declaw-base.nft the same base for people to read. Golden files:
 * tests/golden/ruleset-*.json. All functions return malloc'ed text; -EINVAL for a name that is not [a-z0-9] (sandboxes)
 * or no interface name.
 */
#ifndef DECLAW_RULESET_H
#define DECLAW_RULESET_H

/* Tables, map and base chains with their rules; sandboxes' chains and elements stay. Any number of times. */
int ruleset_base(char **ret);
/* Chain sbx_<short_id> that counts and drops, reached from its tap. Any number of times. */
int ruleset_close(const char *short_id, const char *tap, char **ret);
/* Takes both away, whether they exist or not. */
int ruleset_remove(const char *short_id, const char *tap, char **ret);
int ruleset_list(char **ret);
int ruleset_teardown(char **ret);

#define RULESET_CHAIN_PREFIX "sbx_"

#endif
