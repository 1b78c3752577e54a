/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/elements.h"

#include <arpa/inet.h>
#include <string.h>

/*
 * Of each set: the fields of its keys. t: interface, m: MAC, a: address, o: the other address, k: mark; behind a
 * colon: of its values.
 */
static const struct {
	const char *name, *fields;
} sets[NFT_SET_MAX] = {
	[NFT_TAPS] = { "taps", "t" },
	[NFT_MEMBERS] = { "members", "tma" },
	[NFT_OPEN] = { "open", "a" },
	[NFT_NAMED] = { "named", "a" },
	[NFT_HAS_ALLOW] = { "has_allow", "a" },
	[NFT_HAS_DENY] = { "has_deny", "a" },
	[NFT_ALLOW8] = { "allow8", "ao" },
	[NFT_ALLOW16] = { "allow16", "ao" },
	[NFT_ALLOW24] = { "allow24", "ao" },
	[NFT_ALLOW32] = { "allow32", "ao" },
	[NFT_DENY8] = { "deny8", "ao" },
	[NFT_DENY16] = { "deny16", "ao" },
	[NFT_DENY24] = { "deny24", "ao" },
	[NFT_DENY32] = { "deny32", "ao" },
	[NFT_EPOCHS] = { "epochs", "a:k" },
	[NFT_SENDS] = { "sends", "k" },
	[NFT_HEARS] = { "hears", "k" },
	[NFT_PROXIES] = { "proxies", "k" },
	[NFT_PINS] = { "pins", "ao" },
	[NFT_COUNTS] = { "counts", "tk" },
};

static size_t field_len(char field)
{
	switch (field) {
	case 't':
		return ELEM_IFNAME;
	case 'm':
		return 8;
	case ':':
		return 0;
	default:
		return 4;
	}
}

const char *elem_set_name(enum nft_set set)
{
	return sets[set].name;
}

size_t elem_key_len(enum nft_set set)
{
	size_t len = 0;

	for (const char *p = sets[set].fields; *p && *p != ':'; p++)
		len += field_len(*p);
	return len;
}

size_t elem_value_len(enum nft_set set)
{
	const char *p = strchr(sets[set].fields, ':');
	size_t len = 0;

	while (p && *++p)
		len += field_len(*p);
	return len;
}

static void put_addr(uint8_t *at, uint32_t addr)
{
	addr = htonl(addr);
	memcpy(at, &addr, sizeof(addr));
}

void elem_fill(struct elem *e, enum nft_set set, const struct elem_fields *f)
{
	uint8_t *at = e->key;

	*e = (struct elem){ .set = set };
	for (const char *p = sets[set].fields; *p; at += field_len(*p++)) {
		if (*p == 't')
			memcpy(at, f->tap, strnlen(f->tap, ELEM_IFNAME - 1));
		else if (*p == 'm')
			memcpy(at, f->mac, sizeof(f->mac));
		else if (*p == 'k')
			memcpy(at, &f->mark, sizeof(f->mark));
		else if (*p != ':')
			put_addr(at, *p == 'a' ? f->addr : f->other);
	}
}

void elem_read(const struct elem *e, struct elem_fields *ret)
{
	const uint8_t *at = e->key;
	uint32_t n;

	*ret = (struct elem_fields){ .tap = "" };
	for (const char *p = sets[e->set].fields; *p; at += field_len(*p++)) {
		memcpy(&n, at, sizeof(n));
		if (*p == 't')
			ret->tap = (const char *)at;
		else if (*p == 'm')
			memcpy(ret->mac, at, sizeof(ret->mac));
		else if (*p == 'k')
			ret->mark = n;
		else if (*p != ':')
			*(*p == 'a' ? &ret->addr : &ret->other) = ntohl(n);
	}
}

bool elem_same(const struct elem *a, const struct elem *b)
{
	return a->set == b->set && memcmp(a->key, b->key, sizeof(a->key)) == 0;
}

static int make_room(struct elems *v, size_t more)
{
	size_t room = MAX_OF(v->room, (size_t)8);
	struct elem *grown;

	if (v->n + more <= v->room)
		return 0;
	while (room < v->n + more)
		room *= 2;
	grown = reallocarray(v->v, room, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	v->v = grown;
	v->room = room;
	return 0;
}

int elems_add(struct elems *v, const struct elem *e)
{
	int r = make_room(v, 1);

	if (r == 0)
		v->v[v->n++] = *e;
	return r;
}

int elems_add_all(struct elems *v, const struct elems *more)
{
	int r = make_room(v, more->n);

	if (r < 0 || more->n == 0)
		return r;
	memcpy(v->v + v->n, more->v, more->n * sizeof(*more->v));
	v->n += more->n;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct elem *x = a, *y = b;

	if (x->set != y->set)
		return x->set < y->set ? -1 : 1;
	return memcmp(x->key, y->key, sizeof(x->key));
}

void elems_sort(struct elems *v)
{
	size_t n = 0;

	if (v->n > 1)
		qsort(v->v, v->n, sizeof(*v->v), compare);
	for (size_t i = 0; i < v->n; i++) {
		if (n > 0 && elem_same(&v->v[n - 1], &v->v[i]))
			v->v[n - 1].seconds = MAX_OF(v->v[n - 1].seconds, v->v[i].seconds);
		else
			v->v[n++] = v->v[i];
	}
	v->n = n;
}

int elems_minus(const struct elems *a, const struct elems *b, struct elems *ret)
{
	size_t k = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < a->n; i++) {
		while (k < b->n && compare(&b->v[k], &a->v[i]) < 0)
			k++;
		if (k == b->n || !elem_same(&b->v[k], &a->v[i]))
			r = elems_add(ret, &a->v[i]);
	}
	return r;
}

int elems_merge(const struct elems *a, const struct elems *b, struct elems *ret)
{
	size_t i = 0, k = 0;
	int r = make_room(ret, a->n + b->n);

	while (r == 0 && (i < a->n || k < b->n)) {
		int order = i == a->n ? 1 : k == b->n ? -1 : compare(&a->v[i], &b->v[k]);

		ret->v[ret->n++] = order < 0 ? a->v[i] : b->v[k];
		i += order <= 0;
		k += order >= 0;
	}
	return r;
}

void elems_done(struct elems *v)
{
	free(v->v);
	*v = (struct elems){ 0 };
}

static int field_text(char field, const uint8_t *at, struct buf *ret)
{
	char text[INET_ADDRSTRLEN];
	uint32_t mark;

	switch (field) {
	case 't':
		return buf_puts(ret, (const char *)at);
	case 'm':
		return buf_printf(ret, "%02x:%02x:%02x:%02x:%02x:%02x", at[0], at[1], at[2], at[3], at[4], at[5]);
	case ':':
		return buf_puts(ret, " : ");
	case 'k':
		memcpy(&mark, at, sizeof(mark));
		return buf_printf(ret, "0x%08x", mark);
	default:
		return buf_puts(ret, inet_ntop(AF_INET, at, text, sizeof(text)) ?: "?");
	}
}

int elem_text(const struct elem *e, struct buf *ret)
{
	const uint8_t *at = e->key;
	int r = 0;

	for (const char *p = sets[e->set].fields; r == 0 && *p; at += field_len(*p++)) {
		if (at != e->key && *p != ':' && p[-1] != ':')
			r = buf_puts(ret, " . ");
		if (r == 0)
			r = field_text(*p, at, ret);
	}
	return r;
}

int elems_text(const struct elems *v, struct buf *ret)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < v->n; i++) {
		r = buf_printf(ret, "add element inet declaw %s { ", sets[v->v[i].set].name);
		if (r == 0)
			r = elem_text(&v->v[i], ret);
		if (r == 0 && v->v[i].seconds)
			r = buf_printf(ret, " timeout %us", v->v[i].seconds);
		if (r == 0)
			r = buf_puts(ret, " }\n");
	}
	return r;
}
