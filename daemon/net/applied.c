/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/applied.h"

#include <string.h>

#include "net/nftset.h"
#include "util/clock.h"
#include "util/json.h"
#include "util/list.h"
#include "util/map.h"

struct has {
	struct list link;
	char id[16];
	uint32_t addr;		/* 0: closed */
	struct elems elems;	/* sorted, without pins */
	struct elems pins;	/* sorted; seconds: of the monotonic clock, when each ends */
};

struct applied {
	struct nftset *nft;
	struct map *by_id;
	struct list all;
	bool known;
};

static struct has *has_free(struct has *h)
{
	if (h) {
		elems_done(&h->elems);
		elems_done(&h->pins);
		free(h);
	}
	return NULL;
}

static struct has *has_new(const char *id)
{
	struct has *h = calloc(1, sizeof(*h));

	if (h)
		snprintf(h->id, sizeof(h->id), "%s", id);
	return h;
}

static uint32_t now_seconds(void)
{
	return (uint32_t)(clock_monotonic() / USEC_PER_SEC);
}

static void forget(struct applied *a, struct has *h)
{
	map_remove(a->by_id, h->id);
	list_unlink(&h->link);
	has_free(h);
}

void applied_forget(struct applied *a)
{
	struct has *h;

	while ((h = list_first(&a->all, struct has, link)))
		forget(a, h);
	a->known = false;
}

struct applied *applied_free(struct applied *a)
{
	if (!a)
		return NULL;
	if (a->by_id)
		applied_forget(a);
	map_free(a->by_id);
	nftset_free(a->nft);
	free(a);
	return NULL;
}

int applied_new(struct applied **ret)
{
	struct applied *a = calloc(1, sizeof(*a));
	int r = -ENOMEM;

	if (!a)
		return r;
	list_init(&a->all);
	a->by_id = map_new();
	if (a->by_id)
		r = nftset_new(&a->nft);
	if (r < 0) {
		applied_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

static int remember(struct applied *a, struct has *h)
{
	int r = map_put(a->by_id, h->id, h);

	if (r == 0)
		list_append(&a->all, &h->link);
	return r;
}

/* --- what the kernel has --- */

struct learning {
	struct applied *a;
	struct has **by_addr;	/* sorted */
	size_t n;
};

/* The short id in an interface's name; NULL when it is none of ours */
static const char *id_of(const struct elem *e)
{
	struct elem_fields f;

	elem_read(e, &f);
	if (!str_starts(f.tap, RULESET_TAP_PREFIX) || !ruleset_id_ok(f.tap + strlen(RULESET_TAP_PREFIX)))
		return NULL;
	return f.tap + strlen(RULESET_TAP_PREFIX);
}

static int learn_tap(void *userdata, const struct elem *e)
{
	struct learning *l = userdata;
	const char *id = id_of(e);
	struct has *h = id ? has_new(id) : NULL;
	int r;

	if (!id)
		return 0;
	r = h ? elems_add(&h->elems, e) : -ENOMEM;
	if (r == 0)
		r = remember(l->a, h);
	if (r < 0)
		has_free(h);
	return r;
}

static int learn_member(void *userdata, const struct elem *e)
{
	struct learning *l = userdata;
	const char *id = id_of(e);
	struct has *h = id ? map_get(l->a->by_id, id) : NULL;
	struct elem_fields f;

	if (!h)
		return 0;
	elem_read(e, &f);
	h->addr = f.addr;
	return elems_add(&h->elems, e);
}

static int by_addr(const void *a, const void *b)
{
	uint32_t x = (*(struct has *const *)a)->addr, y = (*(struct has *const *)b)->addr;

	return x < y ? -1 : x > y;
}

static int learn_other(void *userdata, const struct elem *e)
{
	struct learning *l = userdata;
	struct elem_fields f;
	struct has key = { 0 }, *k = &key, **at;

	elem_read(e, &f);
	key.addr = f.addr;
	at = l->n ? bsearch(&k, l->by_addr, l->n, sizeof(*at), by_addr) : NULL;
	if (!at)
		return 0;
	if (e->set == NFT_PINS) {
		struct elem pin = *e;

		pin.seconds += now_seconds();
		return elems_add(&(*at)->pins, &pin);
	}
	return elems_add(&(*at)->elems, e);
}

static int learn_addrs(struct learning *l)
{
	struct has *h;

	l->by_addr = calloc(map_size(l->a->by_id) + 1, sizeof(struct has *));
	if (!l->by_addr)
		return -ENOMEM;
	list_foreach(&l->a->all, h, struct has, link)
		if (h->addr)
			l->by_addr[l->n++] = h;
	qsort(l->by_addr, l->n, sizeof(struct has *), by_addr);
	return 0;
}

/* Without a base nothing is known, and every change says so itself */
static int learn(struct applied *a)
{
	struct learning l = { .a = a };
	struct has *h;
	int r;

	if (a->known)
		return 0;
	r = nftset_dump(a->nft, NFT_TAPS, learn_tap, &l);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = nftset_dump(a->nft, NFT_MEMBERS, learn_member, &l);
	if (r == 0)
		r = learn_addrs(&l);
	for (enum nft_set set = NFT_OPEN; r == 0 && set <= NFT_PINS; set++)
		r = nftset_dump(a->nft, set, learn_other, &l);
	free(l.by_addr);
	if (r < 0) {
		applied_forget(a);
		return r;
	}
	list_foreach(&a->all, h, struct has, link) {
		elems_sort(&h->elems);
		elems_sort(&h->pins);
	}
	a->known = true;
	return 0;
}

/* --- a change --- */

/* What the change makes of one sandbox */
struct step {
	const struct change *change;
	struct has *old, *new;	/* NULL: there was none, there is none afterwards */
	bool fresh;		/* new is in the map, old was not */
};

/* What has not ended, behind ret */
static int pins_left(const struct elems *pins, struct elems *ret)
{
	uint32_t now = now_seconds();
	int r = 0;

	for (size_t i = 0; r == 0 && i < pins->n; i++)
		if (pins->v[i].seconds >= now)
			r = elems_add(ret, &pins->v[i]);
	return r;
}

/* v: elements with their lives; until: the same with their ends */
static int split(const struct elems *v, struct elems *forever, struct elems *until)
{
	uint32_t now = now_seconds();
	int r = 0;

	for (size_t i = 0; r == 0 && i < v->n; i++) {
		struct elem e = v->v[i];

		if (e.seconds) {
			e.seconds += now + 1;
			r = elems_add(until, &e);
		} else if (forever) {
			r = elems_add(forever, &e);
		}
	}
	return r;
}

static int put_count(struct applied *a, const char *tap, uint32_t mark, uint64_t packets, uint64_t bytes, struct elems *want)
{
	uint64_t before, bytes_before;
	struct elem e;

	elem_fill(&e, NFT_COUNTS, &(struct elem_fields){ .tap = tap, .mark = mark });
	if (nftset_count(a->nft, &e, &before, &bytes_before) < 0)
		before = bytes_before = 0;
	e.seconds = RULESET_COUNT_LIFE;
	e.packets = packets + before;
	e.bytes = bytes + bytes_before;
	return elems_add(want, &e);
}

/* What the elements of the old policy have counted is not lost with them; a packet between this and the change may be. */
static int keep_counts(struct applied *a, const struct has *old, struct elems *want)
{
	uint64_t packets, bytes;
	char tap[20];
	int r = 0;

	snprintf(tap, sizeof(tap), RULESET_TAP_PREFIX "%s", old->id);
	for (size_t i = 0; r == 0 && i < old->elems.n; i++) {
		uint32_t mark = ruleset_counted(old->elems.v[i].set);

		if (mark && nftset_count(a->nft, &old->elems.v[i], &packets, &bytes) == 0 && packets > 0)
			r = put_count(a, tap, mark, packets, bytes, want);
	}
	return r;
}

static int plan_set(struct applied *a, struct step *s, struct elems *gone, struct elems *want)
{
	int r = 0;

	s->new = has_new(s->change->id);
	if (!s->new)
		return -ENOMEM;
	for (size_t i = 0; i < s->change->want.n; i++) {
		struct elem_fields f;

		elem_read(&s->change->want.v[i], &f);
		if (s->change->want.v[i].set == NFT_MEMBERS)
			s->new->addr = f.addr;
	}
	if (s->old)
		r = elems_minus(&s->old->elems, &s->change->want, gone);
	if (r == 0 && s->old)
		r = elems_minus(&s->old->pins, &s->change->want, gone);
	if (r == 0 && s->old)
		r = keep_counts(a, s->old, want);
	if (r == 0)
		r = elems_add_all(want, &s->change->want);
	return r < 0 ? r : split(&s->change->want, &s->new->elems, &s->new->pins);
}

static int plan_pin(struct step *s, struct elems *want)
{
	_cleanup_elems_ struct elems v = { 0 }, left = { 0 }, until = { 0 };
	int r;

	if (!s->old || !s->old->addr)
		return -ENOENT;
	s->new = has_new(s->change->id);
	if (!s->new)
		return -ENOMEM;
	s->new->addr = s->old->addr;
	r = ruleset_pins(s->old->addr, s->change->pins, s->change->n_pins, &v);
	elems_sort(&v);
	if (r == 0)
		r = elems_add_all(&s->new->elems, &s->old->elems);
	if (r == 0)
		r = pins_left(&s->old->pins, &left);
	if (r == 0)
		r = split(&v, NULL, &until);
	if (r == 0)
		r = elems_merge(&left, &until, &s->new->pins);
	if (r < 0)
		return r;
	return s->new->pins.n > RULESET_PINS_MAX ? -ENOSPC : elems_add_all(want, &v);
}

static int plan_remove(struct step *s, struct elems *gone)
{
	char tap[20];
	int r;

	snprintf(tap, sizeof(tap), RULESET_TAP_PREFIX "%s", s->change->id);
	r = ruleset_counts(tap, gone);
	/* its interface, whether it is known or not */
	if (r == 0)
		r = ruleset_close(s->change->id, tap, gone);
	if (r == 0 && s->old)
		r = elems_add_all(gone, &s->old->elems);
	return r < 0 || !s->old ? r : elems_add_all(gone, &s->old->pins);
}

static int plan(struct applied *a, struct step *s, struct elems *gone, struct elems *want)
{
	int r;

	s->old = map_get(a->by_id, s->change->id);
	if (s->change->kind == CHANGE_REMOVE)
		return plan_remove(s, gone);
	r = s->change->kind == CHANGE_PIN ? plan_pin(s, want) : plan_set(a, s, gone, want);
	/* all that can fail is done before the kernel is told */
	if (r == 0 && !s->old) {
		r = remember(a, s->new);
		s->fresh = r == 0;
	}
	return r;
}

static void step_done(struct applied *a, struct step *s)
{
	struct has old;

	if (!s->old)
		return;
	if (!s->new) {
		forget(a, s->old);
		return;
	}
	/* in its place: the map's key is in it */
	old = *s->old;
	s->old->addr = s->new->addr;
	s->old->elems = s->new->elems;
	s->old->pins = s->new->pins;
	s->new->elems = old.elems;
	s->new->pins = old.pins;
	has_free(s->new);
}

static void step_undo(struct applied *a, struct step *s)
{
	if (s->fresh)
		forget(a, s->new);
	else
		has_free(s->new);
}

int applied_run(struct applied *a, const struct change *v, size_t n)
{
	_cleanup_free_ struct step *steps = calloc(n + 1, sizeof(*steps));
	_cleanup_elems_ struct elems gone = { 0 }, want = { 0 };
	int r = steps ? learn(a) : -ENOMEM;
	size_t planned = 0;

	while (r == 0 && planned < n) {
		steps[planned].change = &v[planned];
		r = plan(a, &steps[planned++], &gone, &want);
	}
	elems_sort(&gone);
	elems_sort(&want);
	if (r == 0)
		r = nftset_run(a->nft, &gone, &want);
	for (size_t i = 0; i < planned; i++) {
		if (r == 0)
			step_done(a, &steps[i]);
		else
			step_undo(a, &steps[i]);
	}
	return r;
}

/* --- questions --- */

struct naming {
	char (*names)[16];
	size_t n, room;
};

static int name(void *userdata, const struct elem *e)
{
	struct naming *l = userdata;
	const char *id = id_of(e);

	if (!id)
		return 0;
	if (l->n == l->room) {
		void *grown = reallocarray(l->names, l->room * 2 + 64, sizeof(*l->names));

		if (!grown)
			return -ENOMEM;
		l->names = grown;
		l->room = l->room * 2 + 64;
	}
	snprintf(l->names[l->n++], sizeof(*l->names), "%s", id);
	return 0;
}

int applied_list(struct applied *a, char (**ret)[16], size_t *ret_n)
{
	struct naming l = { 0 };
	int r = nftset_dump(a->nft, NFT_TAPS, name, &l);

	if (r < 0 && r != -ENOENT) {
		free(l.names);
		return r;
	}
	*ret = l.names;
	*ret_n = l.n;
	return 0;
}

static int row_elem(json_object *list, const struct elem *e)
{
	_cleanup_buf_ struct buf text = BUF_INIT(256);
	json_object *o;
	int r = elem_text(e, &text);

	if (r < 0)
		return r;
	if (!e->seconds)
		return json_object_array_add(list, json_object_new_string(text.data)) < 0 ? -ENOMEM : 0;
	o = json_object_new_object();
	if (!o || json_object_array_add(list, o) < 0) {
		json_object_put(o);
		return -ENOMEM;
	}
	r = json_put_string(o, "elem", text.data);
	return r < 0 ? r : json_put_int(o, "expires", MAX_OF((int64_t)e->seconds - now_seconds(), 0));
}

static json_object *row(json_object *rows, const char *key, const char *value)
{
	json_object *o = json_object_new_object();

	if (!o || json_object_array_add(rows, o) < 0) {
		json_object_put(o);
		return NULL;
	}
	return json_put_string(o, key, value) < 0 ? NULL : o;
}

/* A row for each set: v is sorted */
static int rows_sets(json_object *rows, const struct elems *v)
{
	json_object *list = NULL, *o;
	int r = 0;

	for (size_t i = 0; r == 0 && i < v->n; i++) {
		if (i == 0 || v->v[i].set != v->v[i - 1].set) {
			o = row(rows, "set", elem_set_name(v->v[i].set));
			list = json_object_new_array();
			if (!o || !list || json_put(o, "elem", list) < 0)
				return -ENOMEM;
		}
		r = row_elem(list, &v->v[i]);
	}
	return r;
}

/* What elements of its own count of a verdict, on top of *packets and *bytes */
static int add_counted(struct applied *a, const struct has *h, uint32_t mark, uint64_t *packets, uint64_t *bytes)
{
	uint64_t p, b;
	int r = 0;

	for (size_t i = 0; r == 0 && i < h->elems.n; i++) {
		if (ruleset_counted(h->elems.v[i].set) != mark)
			continue;
		r = nftset_count(a->nft, &h->elems.v[i], &p, &b);
		*packets += p;
		*bytes += b;
	}
	return r == -ENOENT ? 0 : r;
}

static int rows_counts(struct applied *a, json_object *rows, const struct has *h)
{
	_cleanup_elems_ struct elems v = { 0 };
	char tap[20];
	int r;

	snprintf(tap, sizeof(tap), RULESET_TAP_PREFIX "%s", h->id);
	r = ruleset_counts(tap, &v);
	for (size_t i = 0; r == 0 && i < v.n; i++) {
		uint64_t packets, bytes;
		json_object *o;

		r = nftset_count(a->nft, &v.v[i], &packets, &bytes);
		if (r == 0 || r == -ENOENT)
			r = add_counted(a, h, ruleset_verdicts[i].mark, &packets, &bytes);
		if (r < 0)
			return r;
		o = row(rows, "counter", ruleset_verdicts[i].name);
		r = o ? json_put_int(o, "packets", (int64_t)packets) : -ENOMEM;
		if (r == 0)
			r = json_put_int(o, "bytes", (int64_t)bytes);
	}
	return r;
}

int applied_show(struct applied *a, const char *id, char **ret)
{
	_cleanup_json_ json_object *root = json_object_new_object();
	_cleanup_elems_ struct elems pins = { 0 };
	json_object *rows = json_object_new_array();
	int r = learn(a);
	struct has *h = r == 0 ? map_get(a->by_id, id) : NULL;

	if (!root || !rows || json_put(root, "nftables", rows) < 0)
		return -ENOMEM;
	if (r < 0 || !h)
		return r < 0 ? r : -ENOENT;
	r = pins_left(&h->pins, &pins);
	if (r == 0)
		r = rows_sets(rows, &h->elems);
	if (r == 0)
		r = rows_sets(rows, &pins);
	if (r == 0)
		r = rows_counts(a, rows, h);
	*ret = r == 0 ? strdup(json_text(root, NULL)) : NULL;
	return r < 0 ? r : *ret ? 0 : -ENOMEM;
}
