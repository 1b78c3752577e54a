/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/tier.h"

#include <string.h>

#include "core/manager.h"
#include "util/clock.h"

const struct tier *tier_find(const struct settings *s, const char *name)
{
	for (size_t i = 0; name && i < s->n_tiers; i++)
		if (str_eq(s->tiers[i].name, name))
			return &s->tiers[i];
	return NULL;
}

uint64_t tier_runtime_max(const struct sandbox *sb)
{
	const struct tier *t = tier_find(&sb->manager->settings, sb->options.tier);

	return t ? t->runtime_max_usec : 0;
}

static uint64_t live_of(const struct manager *m, const char *owner)
{
	const struct sandbox *sb;
	uint64_t n = 0;

	list_foreach((struct list *)(uintptr_t)&m->sandboxes, sb, struct sandbox, link)
		n += sb->state != SANDBOX_KILLED && str_eq(sb->owner, owner);
	return n;
}

static struct tier_bucket *bucket_of(struct manager *m, const char *owner)
{
	struct tier_bucket *b;

	list_foreach(&m->buckets, b, struct tier_bucket, link)
		if (str_eq(b->owner, owner))
			return b;
	b = calloc(1, sizeof(*b) + strlen(owner) + 1);
	if (!b)
		return NULL;
	memcpy(b->owner, owner, strlen(owner) + 1);
	list_append(&m->buckets, &b->link);
	return b;
}

/* One second's worth may come at once; it leaks away in a second. */
static bool bucket_take(struct tier_leak *b, uint64_t per_second)
{
	uint64_t now = clock_monotonic(), cost = USEC_PER_SEC / per_second, gone = now - b->at_usec;

	b->used_usec -= MIN_OF(gone, b->used_usec);
	b->at_usec = now;
	if (b->used_usec + cost > USEC_PER_SEC)
		return false;
	b->used_usec += cost;
	return true;
}

static enum fault size_fault(const struct tier *t, const struct template *tpl)
{
	if (t->vcpus_max && tpl->vcpus > t->vcpus_max)
		return FAULT_TIER_VCPUS;
	if (t->memory_mb_max && tpl->memory_mb > t->memory_mb_max)
		return FAULT_TIER_MEMORY;
	if (t->storage_gib_max && tpl->disk_mb > t->storage_gib_max << 10)
		return FAULT_TIER_DISK;
	return FAULT_NONE;
}

enum fault tier_admit(struct manager *m, const char *owner, const struct sandbox_options *options, const char **ret_detail)
{
	const struct tier *t = tier_find(&m->settings, options->tier);
	struct tier_bucket *b;
	enum fault fault;

	*ret_detail = options->tier;
	if (!options->tier)
		return FAULT_NONE;
	if (!t)
		return FAULT_TIER_UNKNOWN;
	fault = size_fault(t, options->template);
	if (fault != FAULT_NONE)
		return fault;
	if (t->runtime_max_usec && options->timeout_sec > t->runtime_max_usec / USEC_PER_SEC)
		return FAULT_TIER_DURATION;
	if (t->sandboxes_max && live_of(m, owner) >= t->sandboxes_max)
		return FAULT_TIER_SANDBOXES;
	if (!t->creates_per_second)
		return FAULT_NONE;
	b = bucket_of(m, owner);
	if (!b)
		return FAULT_INTERNAL;
	return bucket_take(&b->creates, t->creates_per_second) ? FAULT_NONE : FAULT_TIER_RATE;
}

enum fault tier_request(struct manager *m, const char *owner, const char *tier)
{
	const struct tier *t = tier_find(&m->settings, tier);
	struct tier_bucket *b;

	if (!t || !t->requests_per_second)
		return FAULT_NONE;
	b = bucket_of(m, owner);
	if (!b)
		return FAULT_INTERNAL;
	return bucket_take(&b->requests, t->requests_per_second) ? FAULT_NONE : FAULT_REQUEST_RATE;
}

void tier_done(struct manager *m)
{
	struct tier_bucket *b;

	list_foreach(&m->buckets, b, struct tier_bucket, link) {
		list_unlink(&b->link);
		free(b);
	}
}
