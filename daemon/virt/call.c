/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The public calls: each becomes one job on a worker and one callback on the loop.
 *
 * A call that cannot start (no connection, no memory for the job) is refused from a defer source, so that callers see
 * one behaviour only. A destroy withdraws the domain's calls that have not begun: otherwise a create that waits for a
 * free worker would run after the destroy that was meant to undo it.
 */
#include <string.h>

#include "util/str.h"
#include "virt/session.h"

struct call {
	struct list link;
	struct virt *virt;		/* NULL: virt_free() has answered already */
	struct session *session;
	struct job *job;
	struct work work;
	union {
		virt_done_fn done;
		virt_create_fn create;
		virt_list_fn list;
		virt_copied_fn copied;
		virt_settled_fn settled;
	} fn;
	void *userdata;
};

/* pid and list are the worker's, who may still be at it when error is -ECANCELED. */
static void call_answer(struct call *c, int error)
{
	struct work *w = &c->work;
	bool over = error != -ECANCELED;
	const char *message = over && w->message ? w->message : error < 0 ? strerror(-error) : "";

	switch (w->op) {
	case WORK_CREATE:
	case WORK_RESTORE:
	case WORK_FORK:
		c->fn.create(c->userdata, error, message, over ? w->pid : 0);
		break;
	case WORK_COPY:
	case WORK_COPY_FINISH:
		c->fn.copied(c->userdata, error, message, over ? w->usec : 0);
		break;
	case WORK_SETTLE:
		c->fn.settled(c->userdata, error, message, over && w->switched);
		break;
	case WORK_LIST:
		c->fn.list(c->userdata, error, over ? w->domains : NULL, over ? w->n_domains : 0);
		break;
	default:
		if (c->fn.done)
			c->fn.done(c->userdata, error, message);
		break;
	}
}

static void call_free(struct call *c)
{
	list_unlink(&c->link);
	session_unref(c->session);
	work_done(&c->work);
	free(c);
}

static void call_run(void *arg)
{
	struct call *c = arg;

	if (atomic_load(&c->session->lost)) {
		c->work.error = -ENOTCONN;
		return;
	}
	work_run(&c->work);
	/* A connection that breaks during a call gives all kinds of errors. */
	if (c->work.error == -EIO && atomic_load(&c->session->lost))
		c->work.error = -ENOTCONN;
}

static void call_done(void *arg, bool cancelled)
{
	struct call *c = arg;

	c->job = NULL;
	list_unlink(&c->link);
	if (c->virt)
		call_answer(c, cancelled ? -ECANCELED : c->work.error);
	call_free(c);
}

/* Answers what never became a job, one a turn: the callback may do anything, even free the virt object. */
static int on_refused(sd_event_source *s, void *userdata)
{
	struct virt *v = userdata;
	struct call *c;

	list_foreach(&v->calls, c, struct call, link)
		if (!c->job) {
			sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
			call_done(c, false);
			return 0;
		}
	return 0;
}

static void refuse(struct virt *v, struct call *c, int error)
{
	c->work.error = error;
	if (!v->refused && sd_event_add_defer(v->event, &v->refused, on_refused, v) < 0)
		return;
	sd_event_source_set_enabled(v->refused, SD_EVENT_ONESHOT);
}

/* A guest's whole memory goes somewhere: that may take minutes, and no number of these may keep others waiting. */
static bool is_bulk(const struct work *w)
{
	return w->op == WORK_COPY || w->op == WORK_SAVE;
}

static void submit(struct virt *v, struct call *c)
{
	bool control = c->work.op == WORK_DESTROY || c->work.op == WORK_LIST;
	enum work_lane lane = control ? WORK_LANE_VIRT_CTL : is_bulk(&c->work) ? WORK_LANE_VIRT_BULK : WORK_LANE_VIRT;
	uint64_t strand = c->work.op == WORK_LIST ? 0 : workers_strand(c->work.name);
	int r;

	if (!v->up) {
		refuse(v, c, -ENOTCONN);
		return;
	}
	c->session = session_ref(v->session);
	c->work.conn = c->session->conn[control ? SESSION_CONTROL : SESSION_WORK];
	c->work.pid_dir = c->session->pid_dir;
	r = workers_submit(v->workers, lane, c->work.op == WORK_DESTROY ? WORK_URGENT : WORK_NORMAL, strand, call_run,
			   call_done, c, &c->job);
	if (r < 0)
		refuse(v, c, r);
}

/* NULL: no memory, the caller answers at once. */
static struct call *call_new(struct virt *v, enum work_op op, const char *name, const char *text, const char *path,
			     void *userdata)
{
	struct call *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->virt = v;
	c->userdata = userdata;
	c->work.op = op;
	list_append(&v->calls, &c->link);
	if (name)
		snprintf(c->work.name, sizeof(c->work.name), "%s", name);
	c->work.text = text ? strdup(text) : NULL;
	c->work.path = path ? strdup(path) : NULL;
	if ((text && !c->work.text) || (path && !c->work.path)) {
		call_free(c);
		return NULL;
	}
	return c;
}

static void simple_call(struct virt *v, enum work_op op, const char *name, const char *text, const char *path,
			virt_done_fn fn, void *userdata)
{
	struct call *c = call_new(v, op, name, text, path, userdata);

	if (!c) {
		if (fn)
			fn(userdata, -ENOMEM, strerror(ENOMEM));
		return;
	}
	c->fn.done = fn;
	submit(v, c);
}

static void create_call(struct virt *v, enum work_op op, const char *name, const char *text, const char *path,
			virt_create_fn fn, void *userdata)
{
	struct call *c = call_new(v, op, name, text, path, userdata);

	if (!c) {
		fn(userdata, -ENOMEM, strerror(ENOMEM), 0);
		return;
	}
	c->fn.create = fn;
	submit(v, c);
}

void virt_domain_create(struct virt *v, const char *name, const char *xml, virt_create_fn fn, void *userdata)
{
	create_call(v, WORK_CREATE, name, xml, NULL, fn, userdata);
}

void virt_domain_fork(struct virt *v, const char *name, const char *xml, const char *state, virt_create_fn fn,
		      void *userdata)
{
	create_call(v, WORK_FORK, name, xml, state, fn, userdata);
}

void virt_domain_export(struct virt *v, const char *name, const char *state, virt_done_fn fn, void *userdata)
{
	simple_call(v, WORK_EXPORT, name, NULL, state, fn, userdata);
}

static void copy_call(struct virt *v, enum work_op op, const char *name, const struct virt_copy *copy, uint64_t usec,
		      virt_copied_fn fn, void *userdata)
{
	struct call *c = call_new(v, op, name, copy->receiver, copy->overlay, userdata);

	if (c && copy->kept && !(c->work.kept = strdup(copy->kept))) {
		call_free(c);
		c = NULL;
	}
	if (!c) {
		fn(userdata, -ENOMEM, strerror(ENOMEM), 0);
		return;
	}
	c->work.monitor = strdup(copy->monitor);	/* without it: slower */
	c->work.usec = usec;
	c->fn.copied = fn;
	submit(v, c);
}

void virt_domain_copy(struct virt *v, const char *name, const struct virt_copy *copy, virt_copied_fn fn, void *userdata)
{
	copy_call(v, WORK_COPY, name, copy, 0, fn, userdata);
}

void virt_domain_copy_finish(struct virt *v, const char *name, const struct virt_copy *copy, uint64_t usec,
			     virt_copied_fn fn, void *userdata)
{
	copy_call(v, WORK_COPY_FINISH, name, copy, usec, fn, userdata);
}

void virt_domain_settle(struct virt *v, const char *name, const char *overlay, virt_settled_fn fn, void *userdata)
{
	struct call *c = call_new(v, WORK_SETTLE, name, NULL, overlay, userdata);

	if (!c) {
		fn(userdata, -ENOMEM, strerror(ENOMEM), false);
		return;
	}
	c->fn.settled = fn;
	submit(v, c);
}

void virt_domain_restore(struct virt *v, const char *name, const char *path, const char *xml, virt_create_fn fn,
			 void *userdata)
{
	create_call(v, WORK_RESTORE, name, xml, path, fn, userdata);
}

void virt_domain_resume(struct virt *v, const char *name, virt_done_fn fn, void *userdata)
{
	simple_call(v, WORK_RESUME, name, NULL, NULL, fn, userdata);
}

void virt_domain_suspend(struct virt *v, const char *name, virt_done_fn fn, void *userdata)
{
	simple_call(v, WORK_SUSPEND, name, NULL, NULL, fn, userdata);
}

void virt_domain_save(struct virt *v, const char *name, const char *path, virt_done_fn fn, void *userdata)
{
	simple_call(v, WORK_SAVE, name, path, NULL, fn, userdata);
}

void virt_domain_destroy(struct virt *v, const char *name, virt_done_fn fn, void *userdata)
{
	struct call *c;

	list_foreach(&v->calls, c, struct call, link)
		if (c->job && c->work.op != WORK_DESTROY && str_eq(c->work.name, name))
			workers_cancel(v->workers, c->job);
	simple_call(v, WORK_DESTROY, name, NULL, NULL, fn, userdata);
}

void virt_list(struct virt *v, virt_list_fn fn, void *userdata)
{
	struct call *c = call_new(v, WORK_LIST, NULL, NULL, NULL, userdata);

	if (!c) {
		fn(userdata, -ENOMEM, NULL, 0);
		return;
	}
	c->fn.list = fn;
	submit(v, c);
}

/* The virt object goes away: every callback is owed its one call. Running jobs end on their own. */
void calls_cancel(struct virt *v)
{
	struct call *c;

	while ((c = list_first(&v->calls, struct call, link))) {
		list_unlink(&c->link);
		c->virt = NULL;
		if (c->job)
			workers_cancel(v->workers, c->job);
		call_answer(c, -ECANCELED);
		if (!c->job)
			call_free(c);
	}
}
