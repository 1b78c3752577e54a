/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A sandbox's network: its address, its policy, and the rules that hold it.
 *
 * The address is drawn when the sandbox is made and kept in its record. Rules are set before the guest's first
 * instruction and replaced in one transaction when the policy changes. Loop thread only.
 */
#ifndef DECLAW_EGRESS_H
#define DECLAW_EGRESS_H

#include "core/sandbox.h"
#include "net/firewall.h"
#include "policy/policy.h"

struct agent_identity;

/* A policy as received, and parsed */
struct egress_change {
	json_object *network;
	struct policy *policy;
};

/* Parses the policy of a record that was read, and draws an address when there is none. -ENOSPC: none is left. */
int egress_prepare(struct sandbox *sb);
/* The tap's addresses, then the rules of the policy (closed when the policy cannot be read). fn as in firewall.h. */
void egress_rules(struct sandbox *sb, firewall_done_fn fn, void *userdata);
#define EGRESS_ADDRESS_MAX 24
/* address, gateway, MACs and resolver of the guest; strings live as long as the sandbox and the buffer */
void egress_identity(const struct sandbox *sb, char address[EGRESS_ADDRESS_MAX], struct agent_identity *ret);
/* Another policy, in force when fn is called (maybe before this returns); what is in change is taken on FAULT_NONE. */
enum fault egress_change(struct sandbox *sb, struct egress_change *change, sandbox_done_fn fn, void *userdata);
/* The kernel forgets its connections: it has ended, and rules and interface are gone. */
void egress_forget(struct sandbox *sb);
/* The base rules from the configuration. */
void egress_setup(struct manager *m, firewall_done_fn fn, void *userdata);

#endif
