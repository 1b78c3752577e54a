/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the sandboxes have in the kernel, to whoever asks: the questions of net/applied.h.
 */
#include <string.h>

#include "net/has.h"
#include "util/json.h"

struct naming {
	char (*names)[16];
	size_t n, room;
};

static int name(void *userdata, const struct elem *e)
{
	struct naming *l = userdata;
	const char *id = has_id_of(e);

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
	return r < 0 ? r : json_put_int(o, "expires", MAX_OF((int64_t)e->seconds - has_now(), 0));
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
	struct gate_count at_gate[GATE_COUNTS];
	char tap[20];
	int r;

	snprintf(tap, sizeof(tap), RULESET_TAP_PREFIX "%s", h->id);
	r = nftset_gate_count(a->nft, tap, at_gate);
	if (r == 0)
		r = ruleset_counts(tap, &v);
	for (size_t i = 0; r == 0 && i < v.n; i++) {
		uint64_t packets, bytes;
		json_object *o;

		r = nftset_count(a->nft, &v.v[i], &packets, &bytes);
		if (r == 0 || r == -ENOENT)
			r = add_counted(a, h, ruleset_verdicts[i].mark, &packets, &bytes);
		if (r < 0)
			return r;
		for (size_t k = 0; k < GATE_COUNTS; k++) {
			packets += gate_marks[k] == ruleset_verdicts[i].mark ? at_gate[k].packets : 0;
			bytes += gate_marks[k] == ruleset_verdicts[i].mark ? at_gate[k].bytes : 0;
		}
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
	int r = applied_learn(a);
	struct has *h = r == 0 ? map_get(a->by_id, id) : NULL;

	if (!root || !rows || json_put(root, "nftables", rows) < 0)
		return -ENOMEM;
	if (r < 0 || !h)
		return r < 0 ? r : -ENOENT;
	r = has_pins_left(&h->pins, &pins);
	if (r == 0)
		r = rows_sets(rows, &h->elems);
	if (r == 0)
		r = rows_sets(rows, &pins);
	if (r == 0)
		r = rows_counts(a, rows, h);
	*ret = r == 0 ? strdup(json_text(root, NULL)) : NULL;
	return r < 0 ? r : *ret ? 0 : -ENOMEM;
}
