/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The queue of operations: one at a time for each unit, an answer for every one.
 *
 * What cannot begin (no bus, no memory for a message) is answered from a defer source, so that callers see one
 * behaviour only. An operation leaves the list before its callback runs, and nothing of it or of the bus is used
 * after that callback except to free it.
 */
#include <string.h>

#include "bus/internal.h"

struct op *op_new(struct bus *b, enum op_kind kind, const char *unit, void *userdata)
{
	struct op *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	*o = (struct op) { .bus = b, .kind = kind, .userdata = userdata };
	list_init(&o->link);
	o->unit = strdup(unit);
	return o->unit ? o : op_free(o);
}

struct op *op_free(struct op *o)
{
	if (!o)
		return NULL;
	list_unlink(&o->link);
	sd_bus_slot_unref(o->slot);
	spec_done(&o->spec);
	free(o->unit);
	free(o->job);
	free(o->early_job);
	free(o->early_result);
	free(o);
	return NULL;
}

static bool op_queues(const struct op *o)
{
	return o->kind != OP_KILL && o->kind != OP_LIST && !o->refused;
}

/* The oldest operation on that unit, when it has not begun. */
static struct op *op_due(struct bus *b, const char *unit)
{
	struct op *o;

	list_foreach(&b->ops_list, o, struct op, link)
		if (op_queues(o) && str_eq(o->unit, unit))
			return o->step == STEP_QUEUED ? o : NULL;
	return NULL;
}

static void op_answer(struct op *o, int error, const char *message)
{
	if (!message)
		message = error < 0 ? strerror(-error) : "";
	if (o->kind == OP_LIST)
		o->fn.list(o->userdata, error, NULL, 0);
	else if (o->fn.done)
		o->fn.done(o->userdata, error, message);
}

void op_finish(struct op *o, int error, const char *message)
{
	struct op *next;

	list_unlink(&o->link);
	next = op_due(o->bus, o->unit);
	if (next)
		job_begin(next);
	op_answer(o, error, message);
	op_free(o);
}

static int on_refused(sd_event_source *s, void *userdata)
{
	struct bus *b = userdata;
	struct op *o;

	/* One a turn: its callback may submit more, or free the bus. */
	list_foreach(&b->ops_list, o, struct op, link)
		if (o->refused) {
			sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
			op_finish(o, o->error, NULL);
			return 0;
		}
	return 0;
}

void op_refuse(struct op *o, int error)
{
	struct bus *b = o->bus;

	o->refused = true;
	o->error = error;
	if (!b->refused && sd_event_add_defer(b->event, &b->refused, on_refused, b) < 0)
		return;
	sd_event_source_set_enabled(b->refused, SD_EVENT_ONESHOT);
}

void op_submit(struct op *o)
{
	struct bus *b = o->bus;

	list_append(&b->ops_list, &o->link);
	if (!b->up)
		op_refuse(o, -ENOTCONN);
	else if (!op_queues(o) || op_due(b, o->unit) == o)
		job_begin(o);
}

void op_fail_all(struct bus *b, int error)
{
	struct list gone = LIST_INIT(gone);
	struct op *o;

	/* Taken apart first: none may begin because an older one ends, and what a callback submits is not failed. */
	while ((o = list_first(&b->ops_list, struct op, link))) {
		list_unlink(&o->link);
		list_append(&gone, &o->link);
		o->slot = sd_bus_slot_unref(o->slot);
	}
	while ((o = list_first(&gone, struct op, link))) {
		list_unlink(&o->link);
		op_answer(o, error, NULL);
		op_free(o);
	}
}
