/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names and their addresses. A name is one allocation; the list is what the map cannot be walked by. */
#include <string.h>

#include "chan/pins.h"
#include "util/clock.h"
#include "util/list.h"
#include "util/map.h"

struct pinned {
	struct list link;
	size_t n;
	struct in_addr addrs[CHAN_ADDRS_MAX];
	uint64_t until[CHAN_ADDRS_MAX];
	char name[CHAN_NAME_MAX];
};

struct pins {
	struct map *names;
	struct list all;
	size_t n_addrs;
};

struct pins *pins_new(void)
{
	struct pins *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	list_init(&p->all);
	p->names = map_new();
	if (!p->names) {
		free(p);
		return NULL;
	}
	return p;
}

static void drop(struct pins *p, struct pinned *e)
{
	p->n_addrs -= e->n;
	map_remove(p->names, e->name);
	list_unlink(&e->link);
	free(e);
}

void pins_clear(struct pins *p)
{
	struct pinned *e;

	list_foreach(&p->all, e, struct pinned, link)
		drop(p, e);
}

struct pins *pins_free(struct pins *p)
{
	if (!p)
		return NULL;
	pins_clear(p);
	map_free(p->names);
	free(p);
	return NULL;
}

static void expire_entry(struct pins *p, struct pinned *e, uint64_t now)
{
	size_t kept = 0;

	for (size_t i = 0; i < e->n; i++)
		if (e->until[i] > now) {
			e->addrs[kept] = e->addrs[i];
			e->until[kept++] = e->until[i];
		}
	p->n_addrs -= e->n - kept;
	e->n = kept;
}

void pins_expire(struct pins *p, uint64_t now)
{
	struct pinned *e;

	list_foreach(&p->all, e, struct pinned, link) {
		expire_entry(p, e, now);
		if (e->n == 0)
			drop(p, e);
	}
}

static size_t find(const struct pinned *e, struct in_addr addr)
{
	size_t i = 0;

	while (i < e->n && e->addrs[i].s_addr != addr.s_addr)
		i++;
	return i;
}

static struct pinned *entry(struct pins *p, const char *name)
{
	struct pinned *e = map_get(p->names, name);

	if (e)
		return e;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	snprintf(e->name, sizeof(e->name), "%s", name);
	if (map_put(p->names, e->name, e) < 0) {
		free(e);
		return NULL;
	}
	list_append(&p->all, &e->link);
	return e;
}

static size_t count_new(const struct pinned *e, const struct in_addr *addrs, size_t n)
{
	size_t fresh = 0;

	for (size_t i = 0; i < n; i++)
		fresh += find(e, addrs[i]) == e->n;
	return fresh;
}

int pins_add(struct pins *p, const char *name, const struct in_addr *addrs, size_t n, uint64_t until, uint64_t now)
{
	struct pinned *e;
	size_t fresh;

	if (strlen(name) >= CHAN_NAME_MAX || n == 0 || n > CHAN_ADDRS_MAX)
		return -EINVAL;
	if (p->n_addrs + n > PINS_MAX)
		pins_expire(p, now);
	e = entry(p, name);
	if (!e)
		return -ENOMEM;
	expire_entry(p, e, now);
	fresh = count_new(e, addrs, n);
	if (e->n + fresh > CHAN_ADDRS_MAX || p->n_addrs + fresh > PINS_MAX) {
		if (e->n == 0)
			drop(p, e);
		return -ENOSPC;
	}
	for (size_t i = 0; i < n; i++) {
		size_t at = find(e, addrs[i]);

		if (at == e->n) {
			e->addrs[e->n] = addrs[i];
			e->until[e->n++] = 0;
			p->n_addrs++;
		}
		e->until[at] = MAX_OF(e->until[at], until);
	}
	return 0;
}

bool pins_has(const struct pins *p, const char *name, struct in_addr addr, uint64_t now)
{
	const struct pinned *e = map_get(p->names, name);
	size_t at = e ? find(e, addr) : 0;

	return e && at < e->n && e->until[at] > now;
}

uint64_t pins_until(const struct pins *p, struct in_addr addr)
{
	const struct pinned *e;
	uint64_t until = 0;

	list_foreach(&p->all, e, struct pinned, link) {
		size_t at = find(e, addr);

		if (at < e->n)
			until = MAX_OF(until, e->until[at]);
	}
	return until;
}

size_t pins_count(const struct pins *p)
{
	return p->n_addrs;
}

void pins_each(const struct pins *p, uint64_t now,
	       void (*fn)(void *userdata, const char *name, const struct in_addr *addrs, size_t n, uint32_t ttl),
	       void *userdata)
{
	const struct pinned *e;

	list_foreach(&p->all, e, struct pinned, link) {
		struct in_addr live[CHAN_ADDRS_MAX];
		uint64_t least = UINT64_MAX;
		size_t n = 0;

		for (size_t i = 0; i < e->n; i++)
			if (e->until[i] > now) {
				live[n++] = e->addrs[i];
				least = MIN_OF(least, e->until[i] - now);
			}
		if (n > 0)
			fn(userdata, e->name, live, n, (uint32_t)((least + USEC_PER_SEC - 1) / USEC_PER_SEC));
	}
}
