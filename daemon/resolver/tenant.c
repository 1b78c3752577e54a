/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cache entries, buckets and limits of one sandbox, see tenant.h and lookup.h. */
#include "resolver/tenant.h"

#include <ldns/packet.h>
#include <string.h>

#include "util/clock.h"

bool bucket_take(struct bucket *b, uint64_t now, uint64_t per_min, uint64_t burst)
{
	uint64_t full = burst * USEC_PER_SEC, passed = now - b->at_usec;

	/* per_min tokens in 60 s are per_min / 60 millionths of one in a microsecond */
	if (b->at_usec == 0 || passed > 60 * USEC_PER_SEC * burst)
		b->micro = full;
	else
		b->micro = MIN_OF(full, b->micro + passed * per_min / 60);
	b->at_usec = now;
	if (b->micro < USEC_PER_SEC)
		return false;
	b->micro -= USEC_PER_SEC;
	return true;
}

/* --- answers --- */

void asker_reply(struct asker *a, int rcode, const struct in_addr *addrs, size_t n, uint32_t ttl)
{
	uint8_t out[DNS_ANSWER_MAX];
	size_t len;

	if (query_answer(&a->q, rcode, addrs, n, ttl, out, MIN_OF(a->max, sizeof(out)), &len) == 0)
		a->reply(a, out, len);
	else
		a->drop(a);
}

void entry_answer_all(struct entry *e, int rcode)
{
	uint64_t now = clock_monotonic();
	uint32_t ttl = e->until_usec > now ? (uint32_t)((e->until_usec - now) / USEC_PER_SEC) : 0;
	struct asker *a;

	while ((a = list_first(&e->waiters, struct asker, link))) {
		list_unlink(&a->link);
		e->n_waiters--;
		asker_reply(a, rcode, e->addrs, rcode == 0 ? e->n_addrs : 0, ttl);
	}
}

/* --- entries --- */

void entry_used(struct entry *e)
{
	list_unlink(&e->link);
	list_append(&e->tenant->entries, &e->link);
}

static bool evict(struct tenant *t)
{
	struct entry *e;

	list_foreach(&t->entries, e, struct entry, link)
		if (e->state == ENTRY_READY) {
			entry_free(e);
			return true;
		}
	return false;
}

struct entry *entry_new(struct tenant *t, const char *name)
{
	struct entry *e;

	if (map_size(t->names) >= CACHE_MAX && !evict(t))
		return NULL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->tenant = t;
	list_init(&e->waiters);
	snprintf(e->name, sizeof(e->name), "%s", name);
	if (map_put(t->names, e->name, e) < 0) {
		free(e);
		return NULL;
	}
	list_append(&t->entries, &e->link);
	return e;
}

/* --- tenants --- */

struct tenant *tenant_new(struct resolver *r, struct chan_sandbox *sb)
{
	struct tenant *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->resolver = r;
	t->sb = sb;
	list_init(&t->entries);
	t->names = map_new();
	if (!t->names) {
		free(t);
		return NULL;
	}
	return t;
}

void tenant_flush(struct tenant *t)
{
	struct entry *e;

	while ((e = list_first(&t->entries, struct entry, link)))
		entry_free(e);
}

void tenant_free(struct tenant *t)
{
	if (!t)
		return;
	tenant_flush(t);
	map_free(t->names);
	free(t);
}

/* --- limits --- */

static size_t longest_label(const char *name)
{
	size_t longest = 0;

	while (*name) {
		size_t n = strcspn(name, ".");

		longest = MAX_OF(longest, n);
		name += n + (name[n] == '.');
	}
	return longest;
}

/* A name that stands in the policy as it is carries no message; what a guest makes up below a wildcard may. */
const char *tenant_limit(struct tenant *t, const char *name, const char *rule, bool known, uint64_t now)
{
	bool wild = str_starts(rule, "*.");

	if (wild && (strlen(name) > WILD_NAME_MAX || longest_label(name) > WILD_LABEL_MAX))
		return "name_length";
	if (wild && !known && !bucket_take(&t->fresh, now, NEW_NAMES_PER_MIN, NEW_NAMES_BURST))
		return "new_names";
	if (!bucket_take(&t->upstream, now, UPSTREAM_PER_SEC * 60, UPSTREAM_BURST))
		return "rate_limit";
	return NULL;
}
