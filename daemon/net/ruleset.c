/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The base is text, one transaction: all of it or nothing. A sandbox is elements (and its gate, see net/gate.h), and nothing
 * else in the kernel depends on how many of them there are: not what a change costs (a rule or a set would have all of the
 * table's walked through), not what a packet costs (each is looked up in hashes by its interface and addresses).
 *
 * Closed is the default, see nft/declaw-base.nft: without an element nothing goes anywhere.
 *
 * Ranges are hashed as well, for which they are cut at 8, 16, 24 and 32 bits: a /20 is sixteen elements of allow24. A range is
 * thus at most 128 of them, and four lookups find any.
 */
#include <stdarg.h>
#include <string.h>

#include "net/nft-base.h"
#include "net/ruleset.h"
#include "policy/policy.h"
#include "util/fnv.h"
#include "util/str.h"

#define RULESET_MARK_FORWARDED 0xdec10001u
#define RULESET_MARK_PROXIED 0xdec10002u
#define RULESET_MARK_ANSWERED 0xdec10020u

/* What nft/declaw-base.nft does with a packet, as it says it by marks */
const struct ruleset_verdict ruleset_verdicts[] = {
	{ RULESET_MARK_FORWARDED, "forwarded" },
	{ RULESET_MARK_PROXIED, "proxied" },
	{ 0xdec10003, "resolver" },
	{ 0xdec10010, "ipv6" },
	{ 0xdec10011, "unknown" },
	{ 0xdec10012, "malformed" },
	{ 0xdec10013, "syn_rate" },
	{ 0xdec10014, "dns_rate" },
	{ 0xdec10015, "never" },
	{ 0xdec10016, "private" },
	{ 0xdec10017, "denied" },
	{ RULESET_MARK_ANSWERED, "answered" },
	{ 0xdec10021, "silenced" },
	{ 0, NULL },
};

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

bool ruleset_id_ok(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789");

	return n > 0 && n <= RULESET_ID_MAX && !s[n];
}

static bool names_ok(const char *short_id, const char *tap)
{
	return ruleset_id_ok(short_id) && str_starts(tap, RULESET_TAP_PREFIX) &&
	       str_eq(tap + strlen(RULESET_TAP_PREFIX), short_id);
}

static bool mac_read(const char *s, uint8_t ret[6])
{
	if (!s || strlen(s) != 17)
		return false;
	for (int i = 0; i < 6; i++)
		if (hex_decode((char[]){ s[3 * i], s[3 * i + 1], '\0' }, &ret[i], 1) < 0 || (i < 5 && s[3 * i + 2] != ':'))
			return false;
	return true;
}

static bool range_ok(const char *s)
{
	struct policy_net n;

	return s && policy_net_parse(s, &n) == 0;
}

/* Both read what guests write: whoever takes one over gets no farther than its guests may */
static void rules_workers(struct text *t, const struct firewall_config *config)
{
	unsigned int proxy = config->proxy_uid, resolver = config->resolver_uid;
	uint32_t mark = RULESET_EPOCH(config->epoch) | RULESET_WORKERS;

	say(t, "flush set inet declaw upstream\n");
	for (size_t i = 0; config->upstream && config->upstream[i]; i++) {
		if (!range_ok(config->upstream[i]))
			t->r = t->r < 0 ? t->r : -EINVAL;
		say(t, "add element inet declaw upstream { %s }\n", config->upstream[i]);
	}
	if (config->proxy_uid != (uid_t)-1) {
		/* a connection goes nowhere else than where it was begun to */
		say(t, "add rule inet declaw workers_out ct mark 0x%08x accept\n", mark);
		say(t, "add rule inet declaw workers_out meta skuid %u meta nfproto ipv6 goto refuse\n", proxy);
		say(t, "add rule inet declaw workers_out meta skuid %u jump guard\n", proxy);
		say(t, "add rule inet declaw workers_out meta skuid %u ct mark set 0x%08x\n", proxy, mark);
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

/* The first block of the file, without its comments */
void ruleset_made(char ret[static RULESET_MADE_MAX])
{
	uint64_t h = FNV_BEGIN;
	const char *line = nft_base, *end;

	for (; *line && !str_starts(line, "}"); line = end + (*end != 0)) {
		end = line + strcspn(line, "\n");
		if (line[strspn(line, "\t ")] != '#')
			h = fnv(h, line, (size_t)(end - line));
	}
	snprintf(ret, RULESET_MADE_MAX, "made_%016llx", (unsigned long long)h);
}

/* --- one sandbox --- */

static int put(struct elems *v, enum nft_set set, const struct elem_fields *f)
{
	struct elem e;

	elem_fill(&e, set, f);
	return elems_add(v, &e);
}

/* first: allow8 or deny8 */
static int put_nets(struct elems *v, enum nft_set first, struct elem_fields f, const struct policy_net *nets, size_t n)
{
	size_t pieces = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		unsigned int step = nets[i].bits ? (nets[i].bits - 1u) / 8 : 0, bits = 8 * (step + 1);
		uint32_t parts = (uint32_t)1 << (bits - nets[i].bits);

		pieces += parts;
		if (pieces > RULESET_PIECES_MAX)
			return -E2BIG;
		for (uint32_t k = 0; r == 0 && k < parts; k++) {
			f.other = nets[i].addr + (k << (32 - bits));
			r = put(v, first + step, &f);
		}
	}
	return r;
}

static int put_ranges(struct elems *v, const struct elem_fields *f, const struct policy *p)
{
	int r = 0;

	if (p->n_allow_nets > 0)
		r = put(v, NFT_HAS_ALLOW, f);
	if (r == 0)
		r = put_nets(v, NFT_ALLOW8, *f, p->allow_nets, p->n_allow_nets);
	/* where everything else is denied they are as well */
	if (r < 0 || p->deny_default || p->n_deny_nets == 0)
		return r;
	r = put(v, NFT_HAS_DENY, f);
	return r < 0 ? r : put_nets(v, NFT_DENY8, *f, p->deny_nets, p->n_deny_nets);
}

static int put_mark(struct elems *v, enum nft_set set, struct elem_fields f, uint32_t mark)
{
	f.mark = mark;
	return put(v, set, &f);
}

static int put_policy(struct elems *v, const struct elem_fields *f, const struct policy *p, uint32_t epoch)
{
	bool names = policy_name_checked(p), forwards = p->n_allow_nets > 0 || (!names && !p->deny_default);
	int r;

	if (p->closed)
		return 0;
	r = put_ranges(v, f, p);
	if (r == 0 && names)
		r = put(v, NFT_NAMED, f);
	else if (r == 0 && !p->deny_default)
		r = put(v, NFT_OPEN, f);
	if (r == 0)
		r = put_mark(v, NFT_EPOCHS, *f, RULESET_EPOCH(epoch));
	if (r == 0 && forwards)
		r = put_mark(v, NFT_SENDS, *f, RULESET_EPOCH(epoch) | RULESET_FORWARDED);
	if (r == 0 && forwards)
		r = put_mark(v, NFT_HEARS, *f, RULESET_EPOCH(epoch) | RULESET_FORWARDED);
	if (r == 0 && names)
		r = put_mark(v, NFT_PROXIES, *f, RULESET_EPOCH(epoch) | RULESET_PROXIED);
	return r;
}

int ruleset_pins(uint32_t addr, const struct firewall_pin *pins, size_t n, struct elems *ret)
{
	struct elem e;
	int r = n > RULESET_PINS_MAX ? -ENOSPC : 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		elem_fill(&e, NFT_PINS, &(struct elem_fields){ .addr = addr, .other = pins[i].addr });
		e.seconds = MAX_OF(pins[i].seconds, 1u);
		r = elems_add(ret, &e);
	}
	return r;
}

int ruleset_sandbox(const struct firewall_sandbox *sb, struct elems *ret)
{
	struct elem_fields f = { .tap = sb->tap };
	struct policy_net address;
	int r;

	if (!names_ok(sb->short_id, sb->tap) || !mac_read(sb->mac, f.mac) || policy_net_parse(sb->address, &address) < 0 ||
	    address.bits != 32)
		return -EINVAL;
	f.addr = address.addr;
	r = put(ret, NFT_TAPS, &f);
	if (r == 0)
		r = put(ret, NFT_MEMBERS, &f);
	if (r == 0)
		r = put_policy(ret, &f, sb->policy, sb->epoch);
	if (r == 0)
		r = ruleset_pins(f.addr, sb->pins, sb->n_pins, ret);
	elems_sort(ret);
	return r;
}

int ruleset_close(const char *short_id, const char *tap, struct elems *ret)
{
	if (!names_ok(short_id, tap))
		return -EINVAL;
	return put(ret, NFT_TAPS, &(struct elem_fields){ .tap = tap });
}

int ruleset_counts(const char *tap, struct elems *ret)
{
	int r = 0;

	for (const struct ruleset_verdict *v = ruleset_verdicts; r == 0 && v->mark; v++)
		r = put(ret, NFT_COUNTS, &(struct elem_fields){ .tap = tap, .mark = v->mark });
	return r;
}

uint32_t ruleset_counted(enum nft_set set)
{
	switch (set) {
	case NFT_SENDS:
		return RULESET_MARK_FORWARDED;
	case NFT_HEARS:
		return RULESET_MARK_ANSWERED;
	case NFT_PROXIES:
		return RULESET_MARK_PROXIED;
	default:
		return 0;
	}
}

int ruleset_teardown(char **ret)
{
	*ret = strdup("add table inet declaw\ndelete table inet declaw\nadd table arp declaw\ndelete table arp declaw\n");
	return *ret ? 0 : -ENOMEM;
}
