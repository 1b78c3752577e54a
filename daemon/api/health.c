/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GET /healthz: open to all, tells whether sandboxes can be created, by what, and from which templates. */
#include "api/api.h"
#include "config.h"
#include "core/memsnap.h"
#include "core/pool.h"

/* How many there are of what, for who watches the appliance */
static json_object *counters(const struct manager *m)
{
	uint64_t states[SANDBOX_STATE_MAX] = { 0 }, on_disk = 0, waiting = 0;
	json_object *o = json_object_new_object();
	const struct sandbox *sb;

	if (!o)
		return NULL;
	list_foreach((struct list *)(uintptr_t)&m->sandboxes, sb, struct sandbox, link) {
		if (sb->role != SANDBOX_FOR_USER)
			continue;
		states[sb->state]++;
		on_disk += sb->state == SANDBOX_PAUSED && sb->on_disk;
		waiting += sb->state == SANDBOX_CREATING && !sb->boot_slot;
	}
	for (size_t i = 0; i < SANDBOX_STATE_MAX; i++)
		json_put_int(o, sandbox_state_name((enum sandbox_state)i), (int64_t)states[i]);
	json_put_int(o, "paused_on_disk", (int64_t)on_disk);
	json_put_int(o, "boot_queue", (int64_t)waiting);
	return o;
}

/* How sandboxes were made since the start, and from what templates they can be forked */
static json_object *creates(const struct manager *m)
{
	json_object *o = json_object_new_object(), *list = json_object_new_array();
	const struct memsnap *ms;

	if (!o || !list) {
		json_object_put(o);
		json_object_put(list);
		return NULL;
	}
	for (size_t i = 0; i < CREATE_PATH_MAX; i++)
		json_put_int(o, create_path_name((enum create_path)i), (int64_t)m->creates.by_path[i]);
	json_put_int(o, "parked_now", pool_count(m, NULL, false));
	json_put_int(o, "prestarted_now", pool_count(m, NULL, true));
	json_put_int(o, "fell_back", (int64_t)m->creates.fell_back);
	list_foreach((struct list *)(uintptr_t)&m->memsnaps, ms, struct memsnap, link)
		if (ms->state == MEMSNAP_READY)
			json_object_array_add(list, json_object_new_string(ms->template->name));
	json_put(o, "forkable", list);
	return o;
}

void health_get(struct http_request *req, void *userdata)
{
	struct manager *m = userdata;
	json_object *o = json_object_new_object(), *list = json_object_new_array();
	struct template *t;
	const char *detail = NULL;
	enum fault fault = manager_blocked(m, &detail);
	bool ready = fault == FAULT_NONE || fault == FAULT_LIMIT_SANDBOXES;
	_cleanup_free_ char *text = ready ? NULL : api_fault_text(fault, detail);

	if (!o || !list) {
		json_object_put(o);
		json_object_put(list);
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	json_put_string(o, "status", ready ? "ok" : "unavailable");
	json_put_string(o, "message", text);
	json_put_string(o, "version", PACKAGE_VERSION);
	json_put_string(o, "accelerator", accel_name(&m->accel));
	json_put_string(o, "accelerator_reason", m->accel.reason[0] ? m->accel.reason : NULL);
	json_put_int(o, "sandboxes", m->n_live);
	json_put(o, "counters", counters(m));
	json_put(o, "creates", creates(m));
	list_foreach(&m->templates.templates, t, struct template, link)
		json_object_array_add(list, json_object_new_string(t->name));
	json_put(o, "templates", list);
	/* A probe wants a status; clients that retry 5xx do not come here */
	api_reply(req, ready ? 200 : 503, o);
}
