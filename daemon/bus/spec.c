/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The public operations, and the unit properties of scopes and timers.
 *
 * Both are collected when inactive or failed: a scope vanishes with its last process and a timer when it has elapsed,
 * and UnitRemoved tells of it. A timer counts from its own activation (OnActiveSec), in monotonic time: what is left is
 * computed when it is sent, because one that replaces another waits for that one's end first.
 */
#include <string.h>

#include "bus/internal.h"
#include "util/clock.h"

#define TIMER_ACCURACY_USEC 10000ull
/* A killed QEMU needs no time to say goodbye; the default of 90 s would hold up a shutdown. */
#define SCOPE_STOP_USEC 5000000ull

static int append_u64(sd_bus_message *m, const char *property, uint64_t value)
{
	return value ? sd_bus_message_append(m, "(sv)", property, "t", value) : 0;
}

static int append_scope(const struct unit_spec *s, sd_bus_message *m)
{
	/* Ordered before the daemon: when the machine goes down it is stopped first, and has time to save paused guests */
	int r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)",
				      "Slice", "s", s->slice,
				      "Before", "as", 1, "declawd.service",
				      "PIDs", "au", 1, (uint32_t)s->pid,
				      "TimeoutStopUSec", "t", SCOPE_STOP_USEC);

	if (r >= 0)
		r = append_u64(m, "MemoryMax", s->memory_max);
	if (r >= 0)
		r = append_u64(m, "TasksMax", s->tasks_max);
	if (r >= 0)
		r = append_u64(m, "CPUQuotaPerSecUSec", s->cpu_quota_usec);
	if (r >= 0)
		r = append_u64(m, "CPUWeight", s->cpu_weight);
	return r;
}

static int append_timer(const struct unit_spec *s, sd_bus_message *m)
{
	uint64_t now = clock_monotonic(), left = s->due_usec > now ? s->due_usec - now : 1;

	return sd_bus_message_append(m, "(sv)(sv)(sv)",
				     "TimersMonotonic", "a(st)", 1, "OnActiveSec", left,
				     "AccuracyUSec", "t", TIMER_ACCURACY_USEC,
				     "RemainAfterElapse", "b", 0);
}

int spec_append(const struct op *o, sd_bus_message *m)
{
	const struct unit_spec *s = &o->spec;
	int r;

	r = sd_bus_message_open_container(m, 'a', "(sv)");
	if (r >= 0)
		r = sd_bus_message_append(m, "(sv)(sv)",
					  "Description", "s", s->description,
					  "CollectMode", "s", "inactive-or-failed");
	if (r >= 0)
		r = o->kind == OP_SCOPE ? append_scope(s, m) : append_timer(s, m);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

void spec_done(struct unit_spec *s)
{
	free(s->description);
	free(s->slice);
}

static void out_of_memory(bus_done_fn fn, void *userdata)
{
	if (fn)
		fn(userdata, -ENOMEM, strerror(ENOMEM));
}

void bus_scope_start(struct bus *b, const struct bus_scope_spec *spec, bus_done_fn fn, void *userdata)
{
	struct op *o = op_new(b, OP_SCOPE, spec->unit, userdata);

	if (o) {
		o->fn.done = fn;
		o->spec = (struct unit_spec) {
			.description = strdup(spec->description), .slice = strdup(spec->slice), .pid = spec->pid,
			.memory_max = spec->memory_max, .tasks_max = spec->tasks_max,
			.cpu_quota_usec = spec->cpu_quota_usec, .cpu_weight = spec->cpu_weight,
		};
	}
	if (!o || !o->spec.description || !o->spec.slice) {
		op_free(o);
		out_of_memory(fn, userdata);
		return;
	}
	op_submit(o);
}

void bus_timer_set(struct bus *b, const struct bus_timer_spec *spec, bus_done_fn fn, void *userdata)
{
	struct op *o = op_new(b, OP_TIMER, spec->unit, userdata);

	if (o) {
		o->fn.done = fn;
		o->spec = (struct unit_spec) {
			.description = strdup(spec->description), .due_usec = clock_monotonic() + spec->after_usec,
		};
	}
	if (!o || !o->spec.description) {
		op_free(o);
		out_of_memory(fn, userdata);
		return;
	}
	op_submit(o);
}

static void simple(struct bus *b, enum op_kind kind, const char *unit, bus_done_fn fn, void *userdata)
{
	struct op *o = op_new(b, kind, unit, userdata);

	if (!o) {
		out_of_memory(fn, userdata);
		return;
	}
	o->fn.done = fn;
	op_submit(o);
}

void bus_scope_weight(struct bus *b, const char *unit, uint64_t weight, bus_done_fn fn, void *userdata)
{
	struct op *o = op_new(b, OP_WEIGHT, unit, userdata);

	if (!o) {
		out_of_memory(fn, userdata);
		return;
	}
	o->fn.done = fn;
	o->spec.cpu_weight = weight;
	op_submit(o);
}

void bus_unit_kill(struct bus *b, const char *unit, bus_done_fn fn, void *userdata)
{
	simple(b, OP_KILL, unit, fn, userdata);
}

void bus_unit_stop(struct bus *b, const char *unit, bus_done_fn fn, void *userdata)
{
	simple(b, OP_STOP, unit, fn, userdata);
}

void bus_timer_clear(struct bus *b, const char *unit, bus_done_fn fn, void *userdata)
{
	simple(b, OP_STOP, unit, fn, userdata);
}

void bus_units_list(struct bus *b, const char *glob, bus_list_fn fn, void *userdata)
{
	struct op *o = op_new(b, OP_LIST, glob, userdata);

	if (!o) {
		fn(userdata, -ENOMEM, NULL, 0);
		return;
	}
	o->fn.list = fn;
	op_submit(o);
}
