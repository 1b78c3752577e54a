/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * String-keyed hash map: chained, power of two buckets, grown at one entry a bucket and never
 * shrunk.
 *
 * Some keys come from clients, so the hash is SipHash-2-4 under a random key of the map: nobody can
 * choose names that all fall into one chain.
 */
#include <string.h>

#include "util/ident.h"
#include "util/macro.h"
#include "util/map.h"

#define MAP_FIRST 16u

struct map_entry {
	struct map_entry *next;
	const char *key;
	void *value;
	uint64_t hash;
};

struct map {
	struct map_entry **buckets;
	size_t n_buckets, n;
	uint64_t k[2];
};

static inline uint64_t rotl(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static void sip_rounds(uint64_t v[4], unsigned n)
{
	while (n-- > 0) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotl(v[1], 13) ^ v[0];
		v[3] = rotl(v[3], 16) ^ v[2];
		v[0] = rotl(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotl(v[1], 17) ^ v[2];
		v[3] = rotl(v[3], 21) ^ v[0];
		v[2] = rotl(v[2], 32);
	}
}

static uint64_t map_hash(const struct map *m, const char *key)
{
	uint64_t v[4] = {
		m->k[0] ^ 0x736f6d6570736575ull,
		m->k[1] ^ 0x646f72616e646f6dull,
		m->k[0] ^ 0x6c7967656e657261ull,
		m->k[1] ^ 0x7465646279746573ull,
	};
	size_t len = strlen(key), left = len;
	uint64_t word;

	for (bool last = false; !last; key += 8, left -= MIN_OF(left, 8u)) {
		last = left < 8;
		word = last ? (uint64_t)len << 56 : 0;
		for (size_t i = 0; i < MIN_OF(left, 8u); i++)
			word |= (uint64_t)(unsigned char)key[i] << (8 * i);
		v[3] ^= word;
		sip_rounds(v, 2);
		v[0] ^= word;
	}
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct map *map_new(void)
{
	struct map *m = calloc(1, sizeof(*m));

	if (m)
		random_bytes(m->k, sizeof(m->k));
	return m;
}

struct map *map_free(struct map *m)
{
	struct map_entry *e, *next;

	if (!m)
		return NULL;
	for (size_t i = 0; i < m->n_buckets; i++)
		for (e = m->buckets[i]; e; e = next) {
			next = e->next;
			free(e);
		}
	free(m->buckets);
	free(m);
	return NULL;
}

/* The link that points at the entry, or the NULL link at the end of its chain. Needs buckets. */
static struct map_entry **map_find(const struct map *m, const char *key, uint64_t hash)
{
	struct map_entry **link = &m->buckets[hash & (m->n_buckets - 1)];

	while (*link && ((*link)->hash != hash || strcmp((*link)->key, key) != 0))
		link = &(*link)->next;
	return link;
}

static int map_grow(struct map *m)
{
	size_t n = m->n_buckets ? m->n_buckets * 2 : MAP_FIRST;
	struct map_entry **buckets = calloc(n, sizeof(struct map_entry *)), *e, *next;

	if (!buckets)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_buckets; i++)
		for (e = m->buckets[i]; e; e = next) {
			next = e->next;
			e->next = buckets[e->hash & (n - 1)];
			buckets[e->hash & (n - 1)] = e;
		}
	free(m->buckets);
	m->buckets = buckets;
	m->n_buckets = n;
	return 0;
}

int map_put(struct map *m, const char *key, void *value)
{
	struct map_entry *e, **link;
	uint64_t hash = map_hash(m, key);
	int r;

	if (m->n_buckets && *map_find(m, key, hash))
		return -EEXIST;
	if (m->n >= m->n_buckets) {
		r = map_grow(m);
		if (r < 0)
			return r;
	}
	e = malloc(sizeof(*e));
	if (!e)
		return -ENOMEM;
	link = map_find(m, key, hash);
	*e = (struct map_entry){ .key = key, .value = value, .hash = hash };
	*link = e;
	m->n++;
	return 0;
}

void *map_get(const struct map *m, const char *key)
{
	struct map_entry *e;

	if (m->n == 0)
		return NULL;
	e = *map_find(m, key, map_hash(m, key));
	return e ? e->value : NULL;
}

void *map_remove(struct map *m, const char *key)
{
	struct map_entry **link, *e;
	void *value;

	if (m->n == 0)
		return NULL;
	link = map_find(m, key, map_hash(m, key));
	e = *link;
	if (!e)
		return NULL;
	*link = e->next;
	value = e->value;
	free(e);
	m->n--;
	return value;
}

size_t map_size(const struct map *m)
{
	return m->n;
}
