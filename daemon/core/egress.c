/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses, policies and rules of sandboxes, see egress.h. */
#include "core/egress.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pwd.h>
#include <resolv.h>
#include <string.h>

#include "agent/agent.h"
#include "core/egressctl.h"
#include "core/manager.h"
#include "net/conntrack.h"
#include "net/tap.h"
#include "policy/policy.h"
#include "util/log.h"

#define DRAWS 256	/* of 65533 addresses, with 4096 sandboxes at most: never needed */

static void address_text(uint32_t addr, char ret[16])
{
	struct in_addr in = { htonl(addr) };

	inet_ntop(AF_INET, &in, ret, 16);
}

static struct policy_net network_of(const struct manager *m)
{
	struct policy_net n = { 0 };

	/* settings.c has checked it */
	policy_net_parse(m->settings.network, &n);
	return n;
}

static bool address_taken(const struct manager *m, const char *address)
{
	struct sandbox *sb;

	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (str_eq(sb->address, address))
			return true;
	return false;
}

/* At random: an address that was just given back is not the next one, so that nothing of its last life meets it */
static int address_draw(struct sandbox *sb)
{
	const struct policy_net n = network_of(sb->manager);
	uint32_t size = ~(uint32_t)0 >> n.bits, r;
	char text[16];

	for (int i = 0; i < DRAWS; i++) {
		random_bytes(&r, sizeof(r));
		/* .0 is the network, .1 the gateway, the last one broadcast to some */
		r = 2 + r % (size - 2);
		address_text(n.addr + r, text);
		if (address_taken(sb->manager, text))
			continue;
		memcpy(sb->address, text, sizeof(text));
		return 0;
	}
	return -ENOSPC;
}

int egress_prepare(struct sandbox *sb)
{
	struct sandbox_options *o = &sb->options;
	_cleanup_free_ char *detail = NULL;
	int r = 0;

	/* What is nobody's yet reaches nothing */
	if (sb->role == SANDBOX_FOR_USER && !o->policy && policy_parse(o->network, o->inspection, &o->policy, &detail) < 0)
		log_sandbox(LOG_WARNING, sb->id, NULL, 0, "The policy of %s cannot be read, its network is closed: %s", sb->id,
			    detail ?: "no memory");
	if (!*sb->address)
		r = address_draw(sb);
	address_text(network_of(sb->manager).addr + 1, sb->gateway);
	return r;
}

void egress_rules(struct sandbox *sb, firewall_done_fn fn, void *userdata)
{
	struct manager *m = sb->manager;
	size_t n_pins;
	_cleanup_free_ struct firewall_pin *pins = egressctl_pins(sb, &n_pins);
	const struct firewall_sandbox spec = {
		.short_id = ident_short(sb->id),
		.tap = sb->tap,
		.mac = sb->mac,
		.address = sb->address,
		.policy = sb->options.policy,
		.pins = pins,
		.n_pins = n_pins,
	};
	int r;

	egressctl_policy(sb);
	if (!spec.policy || !*sb->address) {
		firewall_sandbox_close(m->firewall, spec.short_id, sb->tap, fn, userdata);
		return;
	}
	r = tap_network(sb->tap, sb->gateway, sb->address, sb->mac);
	if (r < 0)
		fn(userdata, r, "the sandbox's interface could not be given its addresses");
	else
		firewall_sandbox_set(m->firewall, &spec, fn, userdata);
}

void egress_identity(const struct sandbox *sb, char address[EGRESS_ADDRESS_MAX], struct agent_identity *ret)
{
	if (!*sb->address)
		return;
	snprintf(address, EGRESS_ADDRESS_MAX, "%s/32", sb->address);
	ret->address = address;
	ret->gateway = ret->dns = sb->gateway;
	ret->gateway_mac = TAP_MAC;
	ret->mac = sb->mac;
}

void egress_forget(struct sandbox *sb)
{
	struct in_addr in;

	if (inet_pton(AF_INET, sb->address, &in) == 1)
		conntrack_forget(sb->manager->workers, ntohl(in.s_addr), NULL);
}

/* Old connections that the new policy closes */
static void forget_closed(struct sandbox *sb)
{
	_cleanup_json_ json_object *text = policy_to_json(sb->options.policy);
	struct policy *keep = NULL;
	struct in_addr in;

	/* the worker needs one of its own */
	if (text && policy_from_json(text, &keep) == 0 && inet_pton(AF_INET, sb->address, &in) == 1)
		conntrack_forget(sb->manager->workers, ntohl(in.s_addr), keep);
	else
		policy_free(keep);
}

/* --- another policy --- */

struct patch {
	struct sandbox *sb;
	struct egress_change old;
	sandbox_done_fn fn;
	void *userdata;
};

static void change_put(struct sandbox *sb, struct egress_change *change)
{
	struct egress_change old = { sb->options.network, sb->options.policy };

	sb->options.network = change->network;
	sb->options.policy = change->policy;
	*change = old;
}

static void change_drop(struct egress_change *change)
{
	cleanup_jsonp(&change->network);
	change->policy = policy_free(change->policy);
}

static void patch_done(void *userdata, int error, const char *message)
{
	struct patch *p = userdata;
	struct sandbox *sb = p->sb;

	sb->egress_changing = false;
	/* nft changes all or nothing: after an error the rules are the old ones, and so is the record */
	if (error < 0) {
		change_put(sb, &p->old);
		sandbox_save(sb);
		egressctl_policy(sb);
	}
	if (error == 0 && sb->held & HELD_RULES)
		forget_closed(sb);
	if (error == 0)
		log_sandbox(LOG_INFO, sb->id, NULL, 0, "The network policy of %s is another one now (%s)", sb->id,
			    policy_mode(sb->options.policy));
	p->fn(p->userdata, error < 0 ? FAULT_NO_FIREWALL : FAULT_NONE, message);
	change_drop(&p->old);
	sandbox_unref(sb);
	free(p);
}

enum fault egress_change(struct sandbox *sb, struct egress_change *change, sandbox_done_fn fn, void *userdata)
{
	struct patch *p;

	if (sb->egress_changing)
		return FAULT_BUSY;
	p = malloc(sizeof(*p));
	if (!p)
		return FAULT_INTERNAL;
	sb->egress_changing = true;
	change_put(sb, change);
	*p = (struct patch){ .sb = sandbox_ref(sb), .old = *change, .fn = fn, .userdata = userdata };
	*change = (struct egress_change){ NULL, NULL };
	/* before the rules: after a crash in between the start sets what the record says */
	sandbox_save(sb);
	if (sb->held & HELD_RULES)
		egress_rules(sb, patch_done, p);
	else
		patch_done(p, 0, "");	/* on disk: the rules are made when it comes back */
	return FAULT_NONE;
}

/* --- base --- */

/* `system`, as it is now: resolver and rules must mean the same servers */
static int upstream_fix(struct manager *m)
{
	_cleanup_strv_ char **found = NULL;
	struct __res_state state = { 0 };
	char text[INET_ADDRSTRLEN];
	int r = 0;

	if (!settings_list_is(m->settings.upstream_dns, "system"))
		return 0;
	if (res_ninit(&state) < 0)
		return -EIO;
	for (int i = 0; r == 0 && i < state.nscount; i++)
		if (state.nsaddr_list[i].sin_family == AF_INET &&
		    inet_ntop(AF_INET, &state.nsaddr_list[i].sin_addr, text, sizeof(text)))
			r = strv_push(&found, text);
	res_nclose(&state);
	if (r < 0 || !found)
		return r < 0 ? r : -ENOENT;
	strv_free(m->settings.upstream_dns);
	m->settings.upstream_dns = TAKE_PTR(found);
	return 0;
}

static uid_t uid_of(const char *user)
{
	const struct passwd *pw = getpwnam(user);

	return pw ? pw->pw_uid : (uid_t)-1;
}

void egress_setup(struct manager *m, firewall_done_fn fn, void *userdata)
{
	int e = upstream_fix(m);
	const struct firewall_config config = {
		.network = m->settings.network,
		.opened = settings_list_is(m->settings.allow_private, "none") ? NULL : m->settings.allow_private,
		.drop = m->settings.blocked == BLOCKED_DROP,
		.proxy_uid = uid_of(m->settings.proxy_user),
		.resolver_uid = uid_of(m->settings.resolver_user),
		.upstream = e == 0 ? m->settings.upstream_dns : NULL,
	};
	int r = tap_forwarding();

	if (e < 0)
		log_error_errno(e, "No name server with an IPv4 address is in resolv.conf, sandboxes resolve nothing: %m");
	if (r < 0)
		log_error_errno(r, "Forwarding of IPv4 cannot be turned on, no sandbox reaches anything: %m");
	firewall_setup(m->firewall, &config, fn, userdata);
}
