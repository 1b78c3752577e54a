/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nftables as text. One text is one transaction: all of it or nothing.
 *
 * Closed is the default in three layers, none of which depends on a sandbox's own rules: see nft/declaw-base.nft, which
 * is built in. A sandbox's chain is flushed and filled again in the same transaction, so that a change of policy never
 * leaves a gap, and it judges every packet, so that a change holds for old connections too. nftables 1.0.6 has no
 * "destroy": removal adds first what it deletes, which succeeds whether it was there or not.
 *
 * What a sandbox's chain costs does not depend on other sandboxes: the dispatch is a map, ranges are interval sets.
 */
#include <stdarg.h>
#include <string.h>

#include "net/nft-base.h"
#include "net/ruleset.h"
#include "policy/policy.h"
#include "util/str.h"

#define SHORT_MAX 16
#define IFNAME_MAX 15
#define FORWARD "meta mark set 0xdec10001 accept"
#define PROXY "meta mark set 0xdec10002 accept"

/* Collects lines; the first failure stays in r, and nothing is added after it. */
struct text {
	char *s;
	size_t len;
	int r;
};

static void say(struct text *t, const char *format, ...) _printf_(2, 3);
static void say(struct text *t, const char *format, ...)
{
	_cleanup_free_ char *line = NULL;
	size_t len;
	va_list ap;
	char *s;

	if (t->r < 0)
		return;
	va_start(ap, format);
	if (vasprintf(&line, format, ap) < 0)
		line = NULL;
	va_end(ap);
	len = line ? strlen(line) : 0;
	s = line ? realloc(t->s, t->len + len + 1) : NULL;
	if (!s) {
		t->r = -ENOMEM;
		return;
	}
	memcpy(s + t->len, line, len + 1);
	t->s = s;
	t->len += len;
}

static int text_take(struct text *t, char **ret)
{
	if (t->r < 0) {
		free(t->s);
		return t->r;
	}
	*ret = t->s;
	return 0;
}

static bool name_ok(const char *s, size_t max)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789");

	return n > 0 && n <= max && !s[n];
}

static bool mac_ok(const char *s)
{
	return s && strlen(s) == 17 && strspn(s, "0123456789abcdef:") == 17;
}

static bool range_ok(const char *s)
{
	struct policy_net n;

	return s && policy_net_parse(s, &n) == 0;
}

static bool names_ok(const char *short_id, const char *tap)
{
	return name_ok(short_id, SHORT_MAX) && (!tap || name_ok(tap, IFNAME_MAX));
}

/* Both read what guests write: whoever takes one over gets no farther than its guests may */
static void rules_workers(struct text *t, const struct firewall_config *config)
{
	unsigned int proxy = config->proxy_uid, resolver = config->resolver_uid;

	say(t, "flush set inet declaw upstream\n");
	for (size_t i = 0; config->upstream && config->upstream[i]; i++) {
		if (!range_ok(config->upstream[i]))
			t->r = t->r < 0 ? t->r : -EINVAL;
		say(t, "add element inet declaw upstream { %s }\n", config->upstream[i]);
	}
	if (config->proxy_uid != (uid_t)-1) {
		say(t, "add rule inet declaw workers_out meta skuid %u meta nfproto ipv6 goto refuse\n", proxy);
		say(t, "add rule inet declaw workers_out meta skuid %u jump guard\n", proxy);
	}
	if (config->resolver_uid != (uid_t)-1) {
		say(t, "add rule inet declaw workers_out meta skuid %u ip daddr @upstream meta l4proto { tcp, udp } th dport 53 accept\n",
		    resolver);
		say(t, "add rule inet declaw workers_out meta skuid %u goto refuse\n", resolver);
	}
}

int ruleset_base(const struct firewall_config *config, char **ret)
{
	struct text t = { 0 };

	if (!range_ok(config->network))
		return -EINVAL;
	say(&t, "%s", nft_base);
	say(&t, "flush set inet declaw opened\nflush set inet declaw network\n");
	say(&t, "add element inet declaw network { %s }\n", config->network);
	for (size_t i = 0; config->opened && config->opened[i]; i++) {
		if (!range_ok(config->opened[i]))
			t.r = t.r < 0 ? t.r : -EINVAL;
		say(&t, "add element inet declaw opened { %s }\n", config->opened[i]);
	}
	if (config->drop)
		say(&t, "flush chain inet declaw refuse\nadd rule inet declaw refuse counter drop\n");
	rules_workers(&t, config);
	return text_take(&t, ret);
}

static void rule(struct text *t, const char *id, const char *what)
{
	say(t, "add rule inet declaw sbx_%s %s\n", id, what);
}

static void chain_again(struct text *t, const char *id)
{
	say(t, "add chain inet declaw sbx_%s\nflush chain inet declaw sbx_%s\n", id, id);
}

static void dispatch(struct text *t, const char *id, const char *tap)
{
	say(t, "add element inet declaw sandboxes { %s : jump sbx_%s }\n", tap, id);
	say(t, "add element inet declaw answers { %s : jump in_%s }\n", tap, id);
}

static void answers_again(struct text *t, const char *id)
{
	say(t, "add chain inet declaw in_%s\nflush chain inet declaw in_%s\n", id, id);
}

int ruleset_close(const char *short_id, const char *tap, char **ret)
{
	struct text t = { 0 };

	if (!names_ok(short_id, tap))
		return -EINVAL;
	chain_again(&t, short_id);
	rule(&t, short_id, "counter drop");
	answers_again(&t, short_id);
	say(&t, "add rule inet declaw in_%s counter drop\n", short_id);
	dispatch(&t, short_id, tap);
	return text_take(&t, ret);
}

/* A set in its new contents */
static void nets(struct text *t, const char *id, const char *set, const struct policy_net *v, size_t n)
{
	char range[20];

	say(t, "add set inet declaw %s_%s { type ipv4_addr; flags interval; auto-merge; }\n", set, id);
	say(t, "flush set inet declaw %s_%s\n", set, id);
	for (size_t i = 0; i < n; i++) {
		policy_net_format(&v[i], range);
		say(t, "add element inet declaw %s_%s { %s }\n", set, id, range);
	}
}

static void pins(struct text *t, const char *id, const struct firewall_pin *v, size_t n)
{
	char addr[20];

	for (size_t i = 0; i < n; i++) {
		policy_net_format(&(struct policy_net){ .addr = v[i].addr, .bits = 32 }, addr);
		/* adding does not lengthen the life of what is there: it is taken out first */
		say(t, "add element inet declaw pin_%s { %s }\ndelete element inet declaw pin_%s { %s }\n", id, addr, id, addr);
		say(t, "add element inet declaw pin_%s { %s timeout %us }\n", id, addr, v[i].seconds);
	}
}

/* Who it is: everything else from this interface does not exist */
static void rules_spoof(struct text *t, const struct firewall_sandbox *sb)
{
	rule(t, sb->short_id, "meta nfproto != ipv4 counter drop");
	say(t, "add rule inet declaw sbx_%s ether saddr != %s counter drop\n", sb->short_id, sb->mac);
	say(t, "add rule inet declaw sbx_%s ip saddr != %s counter drop\n", sb->short_id, sb->address);
	/* options could route around, fragments hide their ports; nothing that a sandbox needs has either */
	rule(t, sb->short_id, "ip hdrlength > 5 counter drop");
	rule(t, sb->short_id, "ip frag-off & 0x3fff != 0 counter drop");
	rule(t, sb->short_id, "meta l4proto != { tcp, udp, icmp } counter drop");
}

/* Where the last of three kinds of policy sends what no range decides */
static void rules_rest(struct text *t, const struct firewall_sandbox *sb)
{
	const char *id = sb->short_id;

	if (policy_name_checked(sb->policy)) {
		say(t, "add rule inet declaw sbx_%s tcp flags & (fin | syn | rst | ack) == syn ip daddr @pin_%s counter " PROXY "\n",
		    id, id);
		/* a running flow outlives its pin; without a flow these reach nobody */
		rule(t, id, "tcp flags & (syn | ack) != syn counter " PROXY);
	} else if (!sb->policy->deny_default) {
		rule(t, id, "counter " FORWARD);
	}
	rule(t, id, "counter goto denied");
}

static void rules_policy(struct text *t, const struct firewall_sandbox *sb)
{
	const char *id = sb->short_id;

	rule(t, id, "tcp flags & (fin | syn | rst | ack) == syn update @syn_rate { ip saddr limit rate over 200/second burst 400 packets } counter drop");
	rule(t, id, "meta l4proto { tcp, udp } th dport 53 update @dns_rate { ip saddr limit rate over 200/second burst 400 packets } counter drop");
	/* the resolver says no by itself, with a reason; silence would only cost the guest time */
	rule(t, id, "udp dport 53 counter accept");
	rule(t, id, "tcp dport 53 fib daddr type local counter accept");
	if (sb->policy->closed) {
		rule(t, id, "counter goto denied");
		return;
	}
	rule(t, id, "jump guard");
	say(t, "add rule inet declaw sbx_%s ip daddr @allow_%s counter " FORWARD "\n", id, id);
	if (!sb->policy->deny_default)
		say(t, "add rule inet declaw sbx_%s ip daddr @deny_%s counter goto denied\n", id, id);
	rules_rest(t, sb);
}

/*
 * What comes back on connections that were forwarded: a policy that no longer allows one silences its far end as well, which
 * could go on talking to a guest that only listens.
 */
static void rules_answers(struct text *t, const struct firewall_sandbox *sb)
{
	const struct policy *p = sb->policy;
	const char *id = sb->short_id;

	answers_again(t, id);
	if (!p->closed)
		say(t, "add rule inet declaw in_%s ip saddr @allow_%s counter accept\n", id, id);
	if (!p->closed && !p->deny_default && !policy_name_checked(p)) {
		say(t, "add rule inet declaw in_%s ip saddr @deny_%s counter drop\n", id, id);
		say(t, "add rule inet declaw in_%s counter accept\n", id);
	} else {
		say(t, "add rule inet declaw in_%s counter drop\n", id);
	}
}

int ruleset_sandbox(const struct firewall_sandbox *sb, char **ret)
{
	const struct policy *p = sb->policy;
	struct text t = { 0 };

	if (!names_ok(sb->short_id, sb->tap) || !mac_ok(sb->mac) || !range_ok(sb->address))
		return -EINVAL;
	chain_again(&t, sb->short_id);
	nets(&t, sb->short_id, "allow", p->allow_nets, p->n_allow_nets);
	nets(&t, sb->short_id, "deny", p->deny_nets, p->n_deny_nets);
	say(&t, "add set inet declaw pin_%s { type ipv4_addr; flags timeout; size 4096; }\n", sb->short_id);
	say(&t, "flush set inet declaw pin_%s\n", sb->short_id);
	pins(&t, sb->short_id, sb->pins, sb->n_pins);
	rules_spoof(&t, sb);
	rules_policy(&t, sb);
	rules_answers(&t, sb);
	dispatch(&t, sb->short_id, sb->tap);
	return text_take(&t, ret);
}

int ruleset_pin_set(const char *short_id, char **ret)
{
	if (!names_ok(short_id, NULL))
		return -EINVAL;
	*ret = str_format("pin_%s", short_id);
	return *ret ? 0 : -ENOMEM;
}

int ruleset_remove(const char *short_id, const char *tap, char **ret)
{
	static const char *const sets[] = { "allow", "deny" };
	struct text t = { 0 };
	const char *id = short_id;

	if (!names_ok(short_id, tap))
		return -EINVAL;
	say(&t, "add chain inet declaw sbx_%s\nadd chain inet declaw in_%s\n", id, id);
	dispatch(&t, id, tap);
	say(&t, "delete element inet declaw sandboxes { %s : jump sbx_%s }\n", tap, id);
	say(&t, "delete element inet declaw answers { %s : jump in_%s }\n", tap, id);
	say(&t, "flush chain inet declaw sbx_%s\ndelete chain inet declaw sbx_%s\n", id, id);
	say(&t, "flush chain inet declaw in_%s\ndelete chain inet declaw in_%s\n", id, id);
	for (size_t i = 0; i < ELEMENTSOF(sets); i++) {
		say(&t, "add set inet declaw %s_%s { type ipv4_addr; flags interval; auto-merge; }\n", sets[i], id);
		say(&t, "delete set inet declaw %s_%s\n", sets[i], id);
	}
	say(&t, "add set inet declaw pin_%s { type ipv4_addr; flags timeout; size 4096; }\ndelete set inet declaw pin_%s\n", id, id);
	return text_take(&t, ret);
}

int ruleset_list(char **ret)
{
	/* Without a table: a missing one would be an error, and all chains of a family are no more work. */
	*ret = strdup("list chains inet\n");
	return *ret ? 0 : -ENOMEM;
}

int ruleset_show(const char *short_id, char **ret)
{
	struct text t = { 0 };

	if (!names_ok(short_id, NULL))
		return -EINVAL;
	say(&t, "list chain inet declaw sbx_%s\nlist chain inet declaw in_%s\n", short_id, short_id);
	say(&t, "list set inet declaw allow_%s\n", short_id);
	say(&t, "list set inet declaw deny_%s\nlist set inet declaw pin_%s\n", short_id, short_id);
	return text_take(&t, ret);
}

int ruleset_teardown(char **ret)
{
	*ret = strdup("add table inet declaw\ndelete table inet declaw\nadd table arp declaw\ndelete table arp declaw\n");
	return *ret ? 0 : -ENOMEM;
}
