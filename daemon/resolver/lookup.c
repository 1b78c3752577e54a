/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One question, from the guest's packet to its answer. See lookup.h. */
#include "resolver/lookup.h"

#include <arpa/inet.h>
#include <ldns/packet.h>
#include <ldns/rr.h>
#include <string.h>

#include "resolver/own.h"
#include "resolver/tenant.h"
#include "util/clock.h"
#include "util/log.h"

#define TTL_MIN 5u		/* of the cache: an owner who flips answers is asked this often */
#define TTL_MAX 3600u
#define TTL_NEGATIVE 15u
#define FETCHES_MAX 4u		/* for the pieces of one chain of CNAMEs */
#define OPENED_MAX 32u
#define ONCE_USEC (2 * USEC_PER_SEC)

/* A question to an upstream server; outlives what it was asked for. */
struct fetch {
	struct resolver *resolver;
	struct entry *entry;		/* NULL: nobody wants it any more */
	struct asker *relay;		/* or that one, of a type that is not cached */
	unsigned int n;
	uint32_t ttl;
	char name[POLICY_NAME_MAX];
};

struct resolver {
	sd_event *event;
	struct chan_client *client;
	struct upstream *upstream;
	char *servers;			/* not declawd's */
	void (*ready)(void *userdata);	/* NULL: has been called */
	void *userdata;
	struct policy_net opened[OPENED_MAX];
	size_t n_opened;
};

/* --- audit --- */

static void audit(struct tenant *t, enum chan_verdict verdict, const char *name, const char *rule, struct in_addr addr,
		  const char *detail)
{
	struct chan_audit a = { .verdict = verdict, .proto = CHAN_PROTO_DNS, .addr = addr };

	chan_text(a.name, sizeof(a.name), name);
	chan_text(a.rule, sizeof(a.rule), rule);
	chan_text(a.detail, sizeof(a.detail), detail);
	chan_client_audit(t->resolver->client, t->sb, &a);
}

static const struct in_addr nowhere;

static void audit_denied(struct tenant *t, const struct query *q, const char *rule, uint64_t now)
{
	bool same = str_eq(t->denied, q->text) && t->denied_type != q->type && now - t->denied_usec < ONCE_USEC;

	t->denied_usec = now;
	t->denied_type = q->type;
	snprintf(t->denied, sizeof(t->denied), "%s", q->text);
	if (!same)
		audit(t, CHAN_BLOCK, q->text, rule, nowhere,
		      str_eq(rule, "wildcard_apex") ? "*.x does not allow x itself: list both" : "");
}

/* Floods are one entry a second. rule is static. */
static void audit_limited(struct tenant *t, const struct query *q, const char *rule, uint64_t now)
{
	if (str_eq(rule, t->limited) && now - t->limited_usec < USEC_PER_SEC)
		return;
	t->limited = rule;
	t->limited_usec = now;
	audit(t, CHAN_BLOCK, q->text, rule, nowhere, "");
}

/* --- an entry's way: fetching, pinning, ready --- */

void entry_free(struct entry *e)
{
	struct tenant *t = e->tenant;

	if (e->fetch)
		e->fetch->entry = NULL;
	chan_client_unpin(t->resolver->client, e);
	map_remove(t->names, e->name);
	list_unlink(&e->link);
	e->until_usec = 0;
	entry_answer_all(e, LDNS_RCODE_SERVFAIL);
	free(e);
}

static void entry_ready(struct entry *e)
{
	e->state = ENTRY_READY;
	entry_answer_all(e, e->rcode);
}

static void on_pinned(void *userdata, int error)
{
	struct entry *e = userdata;

	if (error < 0)
		entry_free(e);
	else
		entry_ready(e);
}

static uint32_t seconds_left(const struct entry *e)
{
	uint64_t now = clock_monotonic();

	return e->until_usec > now ? (uint32_t)((e->until_usec - now) / USEC_PER_SEC) : 0;
}

static void pin(struct entry *e)
{
	struct tenant *t = e->tenant;

	if (e->n_addrs == 0 || !policy_name_checked(t->sb->policy)) {
		entry_ready(e);
		return;
	}
	e->state = ENTRY_PINNING;
	if (chan_client_pin(t->resolver->client, t->sb, e->name, e->addrs, e->n_addrs, seconds_left(e), on_pinned, e) < 0)
		entry_free(e);
}

static bool addr_good(const struct resolver *r, struct in_addr in)
{
	uint32_t addr = ntohl(in.s_addr);
	enum policy_addr class = policy_addr_class(addr);

	for (size_t i = 0; class == POLICY_ADDR_PRIVATE && i < r->n_opened; i++)
		if (policy_net_has(&r->opened[i], addr))
			class = POLICY_ADDR_PUBLIC;
	return class == POLICY_ADDR_PUBLIC && !own_address(in);
}

/* An answer that points inside is the oldest trick against those who check names only. */
static void take_addrs(struct entry *e, const struct answer *a)
{
	struct tenant *t = e->tenant;

	e->n_addrs = 0;
	for (size_t i = 0; i < a->n_addrs; i++)
		if (addr_good(t->resolver, a->addrs[i]))
			e->addrs[e->n_addrs++] = a->addrs[i];
		else
			audit(t, CHAN_BLOCK, e->name, "rebind", a->addrs[i], "the answer is not a public address, or this host's");
}

/* Listing a name allows what its owner makes of it, except names that are denied themselves. */
static const char *denied_target(const struct tenant *t, const struct answer *a, const char **ret_target)
{
	const char *rule;

	for (size_t i = 0; !t->sb->policy->deny_default && i < a->n_chain; i++)
		if (!policy_allows_name(t->sb->policy, a->chain[i], &rule)) {
			*ret_target = a->chain[i];
			return rule;
		}
	return NULL;
}

static void ask_upstream(struct fetch *f, uint16_t type);

static bool go_on(struct fetch *f, const struct answer *a)
{
	const char *target;

	if (denied_target(f->entry->tenant, a, &target) || a->rcode != 0 || a->n_addrs > 0 || a->n_chain == 0 || f->n >= FETCHES_MAX)
		return false;
	snprintf(f->name, sizeof(f->name), "%s", a->chain[a->n_chain - 1]);
	ask_upstream(f, LDNS_RR_TYPE_A);
	return true;
}

static void take_answer(struct entry *e, const struct answer *a, uint32_t ttl)
{
	uint64_t now = clock_monotonic();
	const char *rule, *allowed = "", *target = NULL;

	policy_allows_name(e->tenant->sb->policy, e->name, &allowed);
	take_addrs(e, a);
	e->rcode = a->rcode == LDNS_RCODE_NXDOMAIN ? LDNS_RCODE_NXDOMAIN : 0;
	rule = denied_target(e->tenant, a, &target);
	if (rule) {
		e->n_addrs = 0;
		e->rcode = LDNS_RCODE_NXDOMAIN;
		audit(e->tenant, CHAN_BLOCK, e->name, rule, nowhere, target);
	} else if (e->n_addrs > 0) {
		audit(e->tenant, CHAN_ALLOW, e->name, allowed, e->addrs[0], "");
	}
	ttl = e->n_addrs ? MIN_OF(MAX_OF(ttl, TTL_MIN), TTL_MAX) : TTL_NEGATIVE;
	e->until_usec = now + ttl * USEC_PER_SEC;
	pin(e);
}

static void fetched_relay(struct fetch *f, const uint8_t *wire, size_t len)
{
	struct asker *a = f->relay;
	uint8_t *out = malloc(a->max);
	size_t n;

	a->relay = NULL;
	if (wire && out && query_relay(&a->q, wire, len, TTL_MAX, out, a->max, &n) == 0)
		a->reply(a, out, n);
	else
		asker_reply(a, LDNS_RCODE_SERVFAIL, NULL, 0, 0);
	free(out);
}

static void on_fetched(void *userdata, const uint8_t *wire, size_t len)
{
	struct fetch *f = userdata;
	struct entry *e = f->entry;
	struct answer a;
	int r;

	if (f->relay)
		fetched_relay(f, wire, len);
	if (e) {
		r = wire ? answer_parse(wire, len, f->name, &a) : -EIO;
		if (r == 0)
			f->ttl = MIN_OF(f->ttl, a.ttl);
		if (r == 0 && (a.rcode == 0 || a.rcode == LDNS_RCODE_NXDOMAIN) && go_on(f, &a))
			return;
		e->fetch = NULL;
		if (r == 0 && (a.rcode == 0 || a.rcode == LDNS_RCODE_NXDOMAIN))
			take_answer(e, &a, f->ttl);
		else
			entry_free(e);
	}
	free(f);
}

static void ask_upstream(struct fetch *f, uint16_t type)
{
	f->n++;
	upstream_ask(f->resolver->upstream, f->name, type, on_fetched, f);
}

static struct fetch *fetch_new(struct resolver *r, const char *name)
{
	struct fetch *f = r->upstream ? calloc(1, sizeof(*f)) : NULL;

	if (!f)
		return NULL;
	f->resolver = r;
	f->ttl = TTL_MAX;
	snprintf(f->name, sizeof(f->name), "%s", name);
	return f;
}

/* --- a question --- */

static void wait_for(struct entry *e, struct asker *a)
{
	if (e->n_waiters >= WAITERS_MAX) {
		asker_reply(a, LDNS_RCODE_SERVFAIL, NULL, 0, 0);
		return;
	}
	list_append(&e->waiters, &a->link);
	e->n_waiters++;
}

static void begin(struct tenant *t, struct entry *e, struct asker *a)
{
	struct fetch *f;

	if (!e)
		e = entry_new(t, a->q.name);
	f = e ? fetch_new(t->resolver, e->name) : NULL;
	if (!f) {
		if (e)
			entry_free(e);
		asker_reply(a, LDNS_RCODE_SERVFAIL, NULL, 0, 0);
		return;
	}
	e->state = ENTRY_FETCHING;
	e->fetch = f;
	f->entry = e;
	wait_for(e, a);
	ask_upstream(f, LDNS_RR_TYPE_A);
}

static void ask_a(struct tenant *t, const char *rule, struct asker *a, uint64_t now)
{
	struct entry *e = map_get(t->names, a->q.name);
	const char *limit;

	if (e && e->state != ENTRY_READY) {
		wait_for(e, a);
		return;
	}
	if (e && e->until_usec > now) {
		entry_used(e);
		asker_reply(a, e->rcode, e->addrs, e->n_addrs, seconds_left(e));
		return;
	}
	limit = tenant_limit(t, a->q.name, rule, e, now);
	if (limit) {
		audit_limited(t, &a->q, limit, now);
		asker_reply(a, LDNS_RCODE_REFUSED, NULL, 0, 0);
		return;
	}
	begin(t, e, a);
}

/* Only where everything is open anyway, so that nothing hangs on it */
static void ask_other(struct tenant *t, struct asker *a, uint64_t now)
{
	struct fetch *f;

	if (!bucket_take(&t->upstream, now, UPSTREAM_PER_SEC * 60, UPSTREAM_BURST)) {
		audit_limited(t, &a->q, "rate_limit", now);
		asker_reply(a, LDNS_RCODE_REFUSED, NULL, 0, 0);
		return;
	}
	f = fetch_new(t->resolver, a->q.name);
	if (!f) {
		asker_reply(a, LDNS_RCODE_SERVFAIL, NULL, 0, 0);
		return;
	}
	f->relay = a;
	a->relay = f;
	ask_upstream(f, a->q.type);
}

enum kind { KIND_ADDRESS, KIND_EMPTY, KIND_OTHER, KIND_NEVER };

static enum kind kind_of(uint16_t type)
{
	switch (type) {
	case LDNS_RR_TYPE_A:
		return KIND_ADDRESS;
	case LDNS_RR_TYPE_AAAA:		/* IPv6 is closed */
	case LDNS_RR_TYPE_SVCB:		/* keys for hiding the name, and hints for QUIC */
	case LDNS_RR_TYPE_HTTPS:
		return KIND_EMPTY;
	case LDNS_RR_TYPE_TXT:
	case LDNS_RR_TYPE_MX:
	case LDNS_RR_TYPE_SRV:
	case LDNS_RR_TYPE_NS:
	case LDNS_RR_TYPE_SOA:
	case LDNS_RR_TYPE_CAA:
	case LDNS_RR_TYPE_PTR:
	case LDNS_RR_TYPE_CNAME:
		return KIND_OTHER;
	default:
		return KIND_NEVER;
	}
}

static void judge(struct tenant *t, struct asker *a, uint64_t now)
{
	const struct policy *policy = t->sb->policy;
	const char *rule = "name";
	enum kind kind = kind_of(a->q.type);

	if (!*a->q.name || !policy_allows_name(policy, a->q.name, &rule)) {
		audit_denied(t, &a->q, rule, now);
		asker_reply(a, LDNS_RCODE_NXDOMAIN, NULL, 0, 0);
	} else if (kind == KIND_ADDRESS) {
		ask_a(t, rule, a, now);
	} else if (kind == KIND_EMPTY) {
		asker_reply(a, 0, NULL, 0, 0);
	} else if (kind == KIND_OTHER && !policy_name_checked(policy) && !policy->deny_default) {
		ask_other(t, a, now);
	} else {
		audit_denied(t, &a->q, "record_type", now);
		asker_reply(a, LDNS_RCODE_REFUSED, NULL, 0, 0);
	}
}

void resolver_ask(struct resolver *r, struct in_addr from, const uint8_t *wire, size_t len, struct asker *a)
{
	struct chan_sandbox *sb = chan_client_find(r->client, from);
	struct tenant *t = sb ? sb->userdata : NULL;
	uint64_t now = clock_monotonic();
	int outcome;

	list_init(&a->link);
	a->relay = NULL;
	if (t && !bucket_take(&t->questions, now, QUESTIONS_PER_SEC * 60, QUESTIONS_BURST)) {
		a->q.text[0] = '\0';
		audit_limited(t, &a->q, "rate_limit", now);
		a->drop(a);
		return;
	}
	outcome = query_parse(wire, len, &a->q);
	if (outcome < 0) {
		a->drop(a);
		return;
	}
	if (a->max != DNS_TCP_MAX)
		a->max = MIN_OF(a->max, a->q.edns ? MAX_OF(a->q.udp_size, 512u) : 512u);
	if (outcome > 0)
		asker_reply(a, outcome, NULL, 0, 0);
	else if (!t)
		asker_reply(a, LDNS_RCODE_SERVFAIL, NULL, 0, 0);	/* nobody, or declawd is not there */
	else
		judge(t, a, now);
}

void resolver_forget(struct asker *a)
{
	list_unlink(&a->link);
	if (a->relay)
		a->relay->relay = NULL;
	a->relay = NULL;
}

bool resolver_knows(struct resolver *r, struct in_addr from)
{
	return chan_client_find(r->client, from) != NULL;
}

/* --- what declawd says --- */

static void on_config(void *userdata, json_object *upstream, json_object *opened)
{
	_cleanup_buf_ struct buf servers = BUF_INIT(4096);
	struct resolver *r = userdata;
	int e;

	r->n_opened = 0;
	for (size_t i = 0; i < json_object_array_length(opened) && r->n_opened < OPENED_MAX; i++)
		if (policy_net_parse(json_object_get_string(json_object_array_get_idx(opened, i)), &r->opened[r->n_opened]) == 0)
			r->n_opened++;
	for (size_t i = 0; i < json_object_array_length(upstream); i++)
		buf_printf(&servers, "%s%s", i ? "," : "", json_object_get_string(json_object_array_get_idx(upstream, i)));
	r->upstream = upstream_free(r->upstream);
	e = upstream_new(r->event, r->servers ?: servers.data, &r->upstream);
	if (e < 0)
		log_error_errno(e, "No name server can be asked (%s): %m", r->servers ?: servers.data ?: "those of the host");
}

static void on_policy(void *userdata, struct chan_sandbox *sb, bool fresh)
{
	if (fresh)
		sb->userdata = tenant_new(userdata, sb);
	else if (sb->userdata)
		tenant_flush(sb->userdata);
}

static void on_gone(void *userdata _unused_, struct chan_sandbox *sb)
{
	tenant_free(sb->userdata);
	sb->userdata = NULL;
}

static void pin_again(void *userdata _unused_, struct chan_sandbox *sb)
{
	struct tenant *t = sb->userdata;
	uint64_t now = clock_monotonic();
	struct entry *e;

	if (!t)
		return;
	list_foreach(&t->entries, e, struct entry, link)
		if (e->state == ENTRY_READY && e->until_usec > now)
			pin(e);
}

/* A daemon that came back has forgotten what was given out; kernel and proxy may have, too. */
static void on_synced(void *userdata)
{
	struct resolver *r = userdata;

	log_info("In touch with declawd");
	chan_client_each(r->client, pin_again, r);
	if (r->ready)
		r->ready(r->userdata);
	r->ready = NULL;
}

int resolver_new(sd_event *event, const char *control_path, const char *servers, void (*ready)(void *userdata),
		 void *userdata, struct resolver **ret)
{
	static const struct chan_client_ops ops = {
		.config = on_config, .policy = on_policy, .gone = on_gone, .synced = on_synced,
	};
	struct resolver *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	r->event = sd_event_ref(event);
	r->ready = ready;
	r->userdata = userdata;
	r->servers = servers ? strdup(servers) : NULL;
	e = servers && !r->servers ? -ENOMEM : 0;
	if (e == 0)
		e = upstream_new(event, r->servers, &r->upstream);
	if (e == 0)
		e = chan_client_new(event, control_path, CHAN_ROLE_RESOLVER, &ops, r, &r->client);
	if (e < 0) {
		resolver_free(r);
		return e;
	}
	*ret = r;
	return 0;
}

struct resolver *resolver_free(struct resolver *r)
{
	if (!r)
		return NULL;
	if (r->client)
		chan_client_free(r->client);
	upstream_free(r->upstream);
	free(r->servers);
	sd_event_unref(r->event);
	free(r);
	return NULL;
}
