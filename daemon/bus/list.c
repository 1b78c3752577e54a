/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loaded units by glob: one call, its rows as an array of fixed-size names. */
#include <string.h>

#include "bus/internal.h"

static int read_row(sd_bus_message *m, struct bus_unit *u)
{
	const char *name, *active;
	uint32_t job;
	int r;

	r = sd_bus_message_read(m, "(ssssssouso)", &name, NULL, NULL, &active, NULL, NULL, NULL, &job, NULL, NULL);
	if (r <= 0)
		return r;
	/* A name longer than any of ours must not be mistaken for one. */
	if (strlen(name) >= sizeof(u->name))
		name = "";
	memcpy(u->name, name, strlen(name) + 1);
	u->job = job != 0;
	snprintf(u->active, sizeof(u->active), "%s", active);
	return 1;
}

static int read_rows(sd_bus_message *m, struct bus_unit **v, size_t *n)
{
	size_t size = 0;
	int r;

	r = sd_bus_message_enter_container(m, 'a', "(ssssssouso)");
	while (r >= 0) {
		if (*n == size) {
			struct bus_unit *bigger = reallocarray(*v, size + 64, sizeof(**v));

			if (!bigger)
				return -ENOMEM;
			*v = bigger;
			size += 64;
		}
		r = read_row(m, &(*v)[*n]);
		if (r == 0)
			return 0;
		if (r > 0 && (*v)[*n].name[0])
			(*n)++;
	}
	return -EIO;
}

static int on_rows(sd_bus_message *m, void *userdata, sd_bus_error *ret_error _unused_)
{
	_cleanup_free_ struct bus_unit *v = NULL;
	struct op *o = userdata;
	size_t n = 0;
	int r;

	o->slot = sd_bus_slot_unref(o->slot);
	if (sd_bus_message_is_method_error(m, NULL))
		r = -EIO;
	else
		r = read_rows(m, &v, &n);
	if (r < 0) {
		op_finish(o, r, NULL);
		return 0;
	}
	list_unlink(&o->link);
	o->fn.list(o->userdata, 0, v, n);
	op_free(o);
	return 0;
}

int list_send(struct op *o)
{
	return sd_bus_call_method_async(o->bus->bus, &o->slot, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
					"ListUnitsByPatterns", on_rows, o, "asas", 0, 1, o->unit);
}
