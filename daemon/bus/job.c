/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The steps of an operation: call, wait for the job, next step or answer.
 *
 *   scope, timer:  START -> job -> done
 *                  START -> "unit exists" -> scope: RESET, timer: STOP -> START once more; again: -EEXIST
 *   stop:          STOP -> job -> done; not loaded: done
 *   kill:          KILL -> done
 *   weight:        WEIGHT -> done
 *   list:          LIST -> answered with the rows
 *
 * The cure for "unit exists" differs: an old timer is to be replaced; a scope of that name is either alive (the
 * caller adopts it) or failed and merely not collected, which ResetFailedUnit ends. JobRemoved usually follows the
 * reply that names the job's path, but nothing promises it: one for our unit that comes earlier is kept.
 */
#include <signal.h>
#include <string.h>

#include "bus/internal.h"

static const struct {
	const char *name;
	int error;
} error_names[] = {
	{ "org.freedesktop.systemd1.UnitExists", -EEXIST },
	{ "org.freedesktop.systemd1.NoSuchUnit", -ENOENT },
	{ SD_BUS_ERROR_ACCESS_DENIED, -EACCES },
	{ SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, -EACCES },
	{ SD_BUS_ERROR_DISCONNECTED, -ENOTCONN },
	/* No answer in time, or the connection ended first: whether it took effect is unknown. */
	{ SD_BUS_ERROR_NO_REPLY, -ENOTCONN },
	{ SD_BUS_ERROR_TIMEOUT, -ENOTCONN },
	{ SD_BUS_ERROR_NAME_HAS_NO_OWNER, -ENOTCONN },
	{ SD_BUS_ERROR_SERVICE_UNKNOWN, -ENOTCONN },
	{ "System.Error.ECONNRESET", -ENOTCONN },
};

static int error_map(const sd_bus_error *e)
{
	for (size_t i = 0; i < ELEMENTSOF(error_names); i++)
		if (sd_bus_error_has_name(e, error_names[i].name))
			return error_names[i].error;
	return -EIO;
}

static const char *const step_method[] = {
	[STEP_START] = "StartTransientUnit",
	[STEP_RESET] = "ResetFailedUnit",
	[STEP_STOP] = "StopUnit",
	[STEP_KILL] = "KillUnit",
	[STEP_WEIGHT] = "SetUnitProperties",
};

static int append_arguments(struct op *o, sd_bus_message *m)
{
	int r;

	switch (o->step) {
	case STEP_START:
		r = sd_bus_message_append(m, "ss", o->unit, "fail");
		if (r >= 0)
			r = spec_append(o, m);
		return r < 0 ? r : sd_bus_message_append(m, "a(sa(sv))", 0);
	case STEP_STOP:
		return sd_bus_message_append(m, "ss", o->unit, "replace");
	case STEP_KILL:
		return sd_bus_message_append(m, "ssi", o->unit, "all", SIGKILL);
	case STEP_WEIGHT:
		return sd_bus_message_append(m, "sba(sv)", o->unit, true, 1, "CPUWeight", "t", o->spec.cpu_weight);
	default:
		return sd_bus_message_append(m, "s", o->unit);
	}
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *ret_error);

static int step_send(struct op *o, enum op_step step)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	o->step = step;
	o->slot = sd_bus_slot_unref(o->slot);
	r = sd_bus_message_new_method_call(o->bus->bus, &m, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
					   step_method[step]);
	if (r >= 0)
		r = append_arguments(o, m);
	if (r >= 0)
		r = sd_bus_call_async(o->bus->bus, &o->slot, m, on_reply, o, 0);
	return r < 0 ? r : 0;
}

static void step_next(struct op *o, enum op_step step)
{
	int r = step_send(o, step);

	if (r < 0)
		op_finish(o, r == -ENOMEM ? r : -EIO, NULL);
}

void job_begin(struct op *o)
{
	static const enum op_step first[] = {
		[OP_SCOPE] = STEP_START,
		[OP_TIMER] = STEP_START,
		[OP_STOP] = STEP_STOP,
		[OP_KILL] = STEP_KILL,
		[OP_WEIGHT] = STEP_WEIGHT,
		[OP_LIST] = STEP_LIST,
	};
	int r;

	o->step = first[o->kind];
	r = o->kind == OP_LIST ? list_send(o) : step_send(o, o->step);
	if (r < 0)
		op_refuse(o, r == -ENOMEM ? r : -EIO);
}

static void forget_job(struct op *o)
{
	free(TAKE_PTR(o->job));
	free(TAKE_PTR(o->early_job));
	free(TAKE_PTR(o->early_result));
}

static void job_over(struct op *o, const char *result)
{
	_cleanup_free_ char *message = NULL;
	bool ok = str_eq(result, "done");

	if (ok && o->step == STEP_STOP && o->kind == OP_TIMER) {
		forget_job(o);
		step_next(o, STEP_START);
		return;
	}
	if (!ok)
		message = str_format("the job of systemd for %s ended with: %s", o->unit, result);
	op_finish(o, ok ? 0 : -EIO, message);
}

void job_removed(struct bus *b, const char *job, const char *unit, const char *result)
{
	struct op *o;

	list_foreach(&b->ops_list, o, struct op, link) {
		if (o->kind == OP_KILL || o->kind == OP_LIST || !str_eq(o->unit, unit))
			continue;
		if (o->job && str_eq(o->job, job)) {
			job_over(o, result);
			return;
		}
		if (!o->job && (o->step == STEP_START || o->step == STEP_STOP)) {
			forget_job(o);
			o->early_job = strdup(job);
			o->early_result = strdup(result);
			return;
		}
	}
}

static void on_job_path(struct op *o, sd_bus_message *m)
{
	const char *path;

	if (sd_bus_message_read(m, "o", &path) < 0 || !(o->job = strdup(path))) {
		op_finish(o, -EIO, "unexpected reply of systemd");
		return;
	}
	if (str_eq(o->job, o->early_job) && o->early_result) {
		_cleanup_free_ char *result = TAKE_PTR(o->early_result);

		job_over(o, result);
	}
}

static void on_error(struct op *o, const sd_bus_error *e)
{
	int error = error_map(e);
	bool gone = error == -ENOENT && (o->step == STEP_STOP || o->step == STEP_KILL || o->step == STEP_RESET);

	if (o->step == STEP_START && error == -EEXIST && !o->retried) {
		o->retried = true;
		step_next(o, o->kind == OP_TIMER ? STEP_STOP : STEP_RESET);
	} else if (gone && (o->kind == OP_SCOPE || o->kind == OP_TIMER)) {
		step_next(o, STEP_START);
	} else {
		op_finish(o, gone ? 0 : error, gone ? NULL : e->message);
	}
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *ret_error _unused_)
{
	struct op *o = userdata;

	o->slot = sd_bus_slot_unref(o->slot);
	if (sd_bus_message_is_method_error(m, NULL))
		on_error(o, sd_bus_message_get_error(m));
	else if (o->step == STEP_RESET)
		step_next(o, STEP_START);
	else if (o->step == STEP_KILL || o->step == STEP_WEIGHT)
		op_finish(o, 0, NULL);
	else
		on_job_path(o, m);
	return 0;
}
