/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Verdicts to disk and journal, see verdict.h. */
#include "core/verdict.h"

#include <arpa/inet.h>
#include <string.h>

#include "core/manager.h"
#include "egress/nflog.h"
#include "policy/policy.h"
#include "util/clock.h"
#include "util/log.h"

static void to_journal(const struct sandbox *sb, enum audit_source source, const struct chan_audit *e)
{
	char addr[INET_ADDRSTRLEN] = "", f[8][LOG_FIELD_MAX];
	const char *fields[8];
	int priority = e->verdict == CHAN_BLOCK ? LOG_INFO : LOG_DEBUG;

	if (!log_enabled(priority))
		return;
	if (e->addr.s_addr)
		inet_ntop(AF_INET, &e->addr, addr, sizeof(addr));
	snprintf(f[0], sizeof(f[0]), "DECLAW_VERDICT=%s", chan_verdict_name(e->verdict));
	snprintf(f[1], sizeof(f[1]), "DECLAW_PROTO=%s", chan_proto_name(e->proto));
	snprintf(f[2], sizeof(f[2]), "DECLAW_NAME=%s", e->name);
	snprintf(f[3], sizeof(f[3]), "DECLAW_ADDR=%s", addr);
	snprintf(f[4], sizeof(f[4]), "DECLAW_PORT=%u", e->port);
	snprintf(f[5], sizeof(f[5]), "DECLAW_RULE=%s", e->rule);
	snprintf(f[6], sizeof(f[6]), "DECLAW_SOURCE=%s", audit_source_name(source));
	snprintf(f[7], sizeof(f[7]), "DECLAW_DETAIL=%s", e->detail);
	for (size_t i = 0; i < ELEMENTSOF(fields); i++)
		fields[i] = f[i];
	log_fields(priority, sb->id, MSG_EGRESS_VERDICT, fields, ELEMENTSOF(fields),
		   "Egress of %s %s: %s %s%s%s:%u by %s", sb->id, e->verdict == CHAN_BLOCK ? "blocked" : "allowed",
		   chan_proto_name(e->proto), e->name, *e->name && *addr ? " " : "", addr, e->port, e->rule);
}

void verdict_add(struct sandbox *sb, enum audit_source source, const struct chan_audit *e)
{
	struct manager *m = sb->manager;

	if (m->audit)
		audit_add(m->audit, sb->id, clock_realtime(), source, e);
	to_journal(sb, source, e);
}

void verdict_lose(struct sandbox *sb, uint64_t n)
{
	if (sb->manager->audit)
		audit_lose(sb->manager->audit, sb->id, n);
}

void verdict_forget(struct sandbox *sb)
{
	if (sb->manager->audit)
		audit_remove(sb->manager->audit, sb->id);
}

/* --- packets --- */

static struct sandbox *by_address(const struct manager *m, struct in_addr addr)
{
	char text[INET_ADDRSTRLEN];
	struct sandbox *sb;

	inet_ntop(AF_INET, &addr, text, sizeof(text));
	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (sb->state != SANDBOX_KILLED && str_eq(sb->address, text))
			return sb;
	return NULL;
}

static const struct policy_net *net_with(const struct policy_net *v, size_t n, uint32_t addr)
{
	for (size_t i = 0; i < n; i++)
		if (policy_net_has(&v[i], addr))
			return &v[i];
	return NULL;
}

/* The rules know that they refused; which entry it was is found again here. */
static void rule_of(const struct sandbox *sb, const struct nflog_packet *p, bool allowed, char ret[CHAN_RULE_MAX])
{
	const struct policy *policy = sb->options.policy;
	uint32_t addr = ntohl(p->to.s_addr);
	const struct policy_net *n = NULL;
	char text[20];

	if (!allowed && !str_eq(p->prefix, "denied")) {
		snprintf(ret, CHAN_RULE_MAX, "%s", str_eq(p->prefix, "never") ? "hard_deny" : p->prefix);
	} else if (!policy || policy->closed) {
		snprintf(ret, CHAN_RULE_MAX, "%s", policy && policy->inspection ? "inspection_unavailable" : "closed");
	} else {
		n = allowed ? net_with(policy->allow_nets, policy->n_allow_nets, addr) :
		    net_with(policy->deny_nets, policy->n_deny_nets, addr);
		if (n)
			policy_net_format(n, text);
		snprintf(ret, CHAN_RULE_MAX, "%s", n ? text : "default");
	}
}

static void on_packet(void *userdata, const struct nflog_packet *p)
{
	struct sandbox *sb = by_address(userdata, p->from);
	bool allowed = str_eq(p->prefix, "allowed");
	struct chan_audit e = {
		.verdict = allowed ? CHAN_ALLOW : CHAN_BLOCK, .proto = p->proto, .addr = p->to, .port = p->port,
	};

	if (!sb)
		return;
	rule_of(sb, p, allowed, e.rule);
	if (p->proto == CHAN_PROTO_OTHER)
		snprintf(e.detail, sizeof(e.detail), "ip protocol %u", p->ip_proto);
	verdict_add(sb, AUDIT_KERNEL, &e);
}

/* --- life --- */

static bool keep(void *userdata, const char *id)
{
	return manager_find(userdata, id) != NULL;
}

void verdict_start(struct manager *m)
{
	_cleanup_free_ char *dir = str_format("%s/audit", m->settings.state_dir);
	int r = 0;

	if (m->audit)
		return;
	r = dir ? audit_open(dir, m->settings.audit_max, m->settings.audit_total, keep, m, &m->audit) : -ENOMEM;
	if (r < 0)
		log_error_errno(r, "Verdicts on egress cannot be kept: %m");
	r = nflog_new(m->event, on_packet, m, &m->nflog);
	if (r < 0)
		log_error_errno(r, "Verdicts of the network rules cannot be read: %m");
}

void verdict_stop(struct manager *m)
{
	m->nflog = nflog_free(m->nflog);
	m->audit = audit_close(m->audit);
}
