/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/applied.h"

#include <net/if.h>
#include <string.h>

#include "net/has.h"

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
	struct {
		uint32_t epoch;
		struct has *has;
	} *by_epoch;		/* the same, once all are known */
	size_t n_epochs;
	bool sorted;
};

const char *has_id_of(const struct elem *e)
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
	const char *id = has_id_of(e);
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
	const char *id = has_id_of(e);
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

static struct has *whose_addr(const struct learning *l, uint32_t addr)
{
	struct has key = { .addr = addr }, *k = &key, **at;

	at = l->n ? bsearch(&k, l->by_addr, l->n, sizeof(*at), by_addr) : NULL;
	return at ? *at : NULL;
}

static int by_epoch(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Marks say only which policy it is; `epochs` was read before them */
static struct has *whose_mark(struct learning *l, uint32_t mark)
{
	const uint32_t epoch = RULESET_EPOCH(mark);
	typeof(l->by_epoch) at;

	if (!l->sorted && l->n_epochs)
		qsort(l->by_epoch, l->n_epochs, sizeof(*l->by_epoch), by_epoch);
	l->sorted = true;
	at = l->n_epochs ? bsearch(&epoch, l->by_epoch, l->n_epochs, sizeof(*at), by_epoch) : NULL;
	return at ? at->has : NULL;
}

static int learn_other(void *userdata, const struct elem *e)
{
	struct learning *l = userdata;
	struct elem_fields f;
	struct has *h;

	elem_read(e, &f);
	h = f.addr ? whose_addr(l, f.addr) : whose_mark(l, f.mark);
	if (!h)
		return 0;
	if (e->set == NFT_EPOCHS && l->n_epochs < l->n) {
		l->by_epoch[l->n_epochs].epoch = f.mark;
		l->by_epoch[l->n_epochs++].has = h;
	}
	if (e->set == NFT_PINS) {
		struct elem pin = *e;

		pin.seconds += has_now();
		return elems_add(&h->pins, &pin);
	}
	return elems_add(&h->elems, e);
}

static int learn_addrs(struct learning *l)
{
	struct has *h;

	l->by_addr = calloc(map_size(l->a->by_id) + 1, sizeof(struct has *));
	l->by_epoch = calloc(map_size(l->a->by_id) + 1, sizeof(*l->by_epoch));
	if (!l->by_addr || !l->by_epoch)
		return -ENOMEM;
	list_foreach(&l->a->all, h, struct has, link)
		if (h->addr)
			l->by_addr[l->n++] = h;
	qsort(l->by_addr, l->n, sizeof(struct has *), by_addr);
	return 0;
}

int applied_learn(struct applied *a)
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
	free(l.by_epoch);
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

/* Of a transaction */
struct plan {
	struct elems gone, want;
	struct gate_change *gates;	/* one a step at most */
	size_t n_gates;
};

int has_pins_left(const struct elems *pins, struct elems *ret)
{
	uint32_t now = has_now();
	int r = 0;

	for (size_t i = 0; r == 0 && i < pins->n; i++)
		if (pins->v[i].seconds >= now)
			r = elems_add(ret, &pins->v[i]);
	return r;
}

/* v: elements with their lives; until: the same with their ends */
static int split(const struct elems *v, struct elems *forever, struct elems *until)
{
	uint32_t now = has_now();
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

static void tap_of(char ret[IFNAMSIZ], const char *id)
{
	snprintf(ret, IFNAMSIZ, RULESET_TAP_PREFIX "%.*s", (int)RULESET_ID_MAX, id);
}

/* Nor is what the old gate has counted */
static int keep_gate_counts(struct applied *a, const char *tap, struct elems *want)
{
	struct gate_count counts[GATE_COUNTS];
	int r = nftset_gate_count(a->nft, tap, counts);

	for (size_t i = 0; r == 0 && i < GATE_COUNTS; i++)
		if (counts[i].packets > 0)
			r = put_count(a, tap, gate_marks[i], counts[i].packets, counts[i].bytes, want);
	return r;
}

/* Where there is no interface there is nothing to guard, and without a gate nothing of it gets anywhere */
static int plan_gate(struct applied *a, struct step *s, struct plan *p)
{
	struct has *new = s->new;

	tap_of(new->gate.tap, new->id);
	new->at = if_nametoindex(new->gate.tap);
	if (!new->at || (s->old && s->old->at == new->at && gate_same(&s->old->gate, &new->gate)))
		return 0;
	p->gates[p->n_gates++] = (struct gate_change){ new->gate, true };
	return keep_gate_counts(a, new->gate.tap, &p->want);
}

static int plan_set(struct applied *a, struct step *s, struct plan *p)
{
	struct elems *gone = &p->gone, *want = &p->want;
	int r = 0;

	s->new = has_new(s->change->id);
	if (!s->new)
		return -ENOMEM;
	for (size_t i = 0; i < s->change->want.n; i++) {
		struct elem_fields f;

		elem_read(&s->change->want.v[i], &f);
		if (s->change->want.v[i].set != NFT_MEMBERS)
			continue;
		s->new->addr = s->new->gate.addr = f.addr;
		memcpy(s->new->gate.mac, f.mac, sizeof(f.mac));
		s->new->gate.open = true;
	}
	r = plan_gate(a, s, p);
	if (r < 0)
		return r;
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
	s->new->gate = s->old->gate;
	s->new->at = s->old->at;
	r = ruleset_pins(s->old->addr, s->change->pins, s->change->n_pins, &v);
	elems_sort(&v);
	if (r == 0)
		r = elems_add_all(&s->new->elems, &s->old->elems);
	if (r == 0)
		r = has_pins_left(&s->old->pins, &left);
	if (r == 0)
		r = split(&v, NULL, &until);
	if (r == 0)
		r = elems_merge(&left, &until, &s->new->pins);
	if (r < 0)
		return r;
	return s->new->pins.n > RULESET_PINS_MAX ? -ENOSPC : elems_add_all(want, &v);
}

static int plan_remove(struct step *s, struct plan *p)
{
	struct gate_change *gate = &p->gates[p->n_gates++];
	struct elems *gone = &p->gone;
	char *tap = gate->gate.tap;
	int r;

	tap_of(tap, s->change->id);
	r = ruleset_counts(tap, gone);
	/* its interface, whether it is known or not */
	if (r == 0)
		r = ruleset_close(s->change->id, tap, gone);
	if (r == 0 && s->old)
		r = elems_add_all(gone, &s->old->elems);
	return r < 0 || !s->old ? r : elems_add_all(gone, &s->old->pins);
}

static int plan(struct applied *a, struct step *s, struct plan *p)
{
	int r;

	s->old = map_get(a->by_id, s->change->id);
	if (s->change->kind == CHANGE_REMOVE)
		return plan_remove(s, p);
	r = s->change->kind == CHANGE_PIN ? plan_pin(s, &p->want) : plan_set(a, s, p);
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
	s->old->gate = s->new->gate;
	s->old->at = s->new->at;
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
	_cleanup_free_ struct gate_change *gates = calloc(n + 1, sizeof(*gates));
	struct plan p = { .gates = gates };
	int r = steps && gates ? applied_learn(a) : -ENOMEM;
	size_t planned = 0;

	while (r == 0 && planned < n) {
		steps[planned].change = &v[planned];
		r = plan(a, &steps[planned++], &p);
	}
	elems_sort(&p.gone);
	elems_sort(&p.want);
	if (r == 0)
		r = nftset_run(a->nft, &p.gone, &p.want, p.gates, p.n_gates);
	elems_done(&p.gone);
	elems_done(&p.want);
	for (size_t i = 0; i < planned; i++) {
		if (r == 0)
			step_done(a, &steps[i]);
		else
			step_undo(a, &steps[i]);
	}
	return r;
}
