/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intrusive doubly linked list. The head is a node of its own; an unlinked node points at itself,
 * so an object can unlink itself in its destructor whether it was linked or not.
 */
#ifndef DECLAW_LIST_H
#define DECLAW_LIST_H

#include <stdbool.h>

#include "util/macro.h"

struct list {
	struct list *next, *prev;
};

#define LIST_INIT(l) { &(l), &(l) }

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_insert_before(struct list *pos, struct list *n)
{
	n->prev = pos->prev;
	n->next = pos;
	pos->prev->next = n;
	pos->prev = n;
}
/* Add at the end, or at the front, of the list headed by `head`. */
#define list_append(head, n) list_insert_before((head), (n))
#define list_prepend(head, n) list_insert_before((head)->next, (n))

static inline void list_unlink(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

#define list_entry(n, type, member) container_of(n, type, member)
#define list_first(head, type, member) \
	(list_empty(head) ? (type *)NULL : list_entry((head)->next, type, member))
/* The body may unlink and free the current entry (and no other). */
#define list_foreach(head, it, type, member)						\
	for (struct list *_n_##it = (head)->next, *_s_##it = _n_##it->next;		\
	     _n_##it != (head) && ((it) = list_entry(_n_##it, type, member), 1);	\
	     _n_##it = _s_##it, _s_##it = _n_##it->next)

#endif
