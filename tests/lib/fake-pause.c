/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Doubles of what pausing and metrics ask of the guest, libvirt and the disk, see fake-host.h. */
#include <string.h>

#include "core/disk.h"
#include "lib/fake-host.h"
#include "util-test.h"
#include "util/fileio.h"

#define IMAGE "LibvirtQemudSave and then the memory"

/* --- the guest --- */

static void agent_answer(struct fake_call *c, int error)
{
	c->fn.agent_done(c->userdata, error);
}

static int agent_ask(struct agent *a, enum fake_op op, const char *name, agent_done_fn fn, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_AGENT, op, name, userdata);

	c->agent = a;
	c->answer = agent_answer;
	c->fn.agent_done = fn;
	return 0;
}

int agent_fs_freeze(struct agent *a, agent_done_fn fn, void *userdata)
{
	return agent_ask(a, FAKE_FREEZE, "(freeze)", fn, userdata);
}

int agent_fs_thaw(struct agent *a, agent_done_fn fn, void *userdata)
{
	return agent_ask(a, FAKE_THAW, "(thaw)", fn, userdata);
}

int agent_set_time(struct agent *a, uint64_t time_nsec, agent_done_fn fn, void *userdata)
{
	cr_assert_neq(time_nsec, 0);
	return agent_ask(a, FAKE_TIME, "(time)", fn, userdata);
}

static void stats_answer(struct fake_call *c, int error)
{
	static const struct agent_stats stats = { .mem_total = 512u << 20, .mem_available = 400u << 20 };

	c->fn.agent_stats(c->userdata, error, error ? NULL : &stats);
}

int agent_get_stats(struct agent *a, agent_stats_fn fn, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_AGENT, FAKE_STATS, "(stats)", userdata);

	c->agent = a;
	c->answer = stats_answer;
	c->fn.agent_stats = fn;
	return 0;
}

/* --- libvirt --- */

static int domain_suspend(struct fake_call *c)
{
	struct fake_thing *t = fake_find(FAKE_DOMAIN, c->name);

	if (fake.libvirt_down || !t)
		return fake.libvirt_down ? -ENOTCONN : -ENOENT;
	t->running = false;
	return 0;
}

void virt_domain_suspend(struct virt *v _unused_, const char *name, virt_done_fn fn, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_VIRT, FAKE_DOMAIN_SUSPEND, name, userdata);

	c->apply = domain_suspend;
	c->answer = fake_answer_done;
	c->fn.done = fn;
}

static int domain_save(struct fake_call *c)
{
	struct fake_thing *t = fake_find(FAKE_DOMAIN, c->name);
	int r;

	if (fake.libvirt_down || !t)
		return fake.libvirt_down ? -ENOTCONN : -ENOENT;
	cr_assert(!t->running, "a guest is saved while it runs");
	r = file_write_atomic(c->text, IMAGE, strlen(IMAGE), 0660, false);
	if (r == 0)
		fake_qemu_dies(c->name, VIRT_STOP_SAVED);
	return r;
}

void virt_domain_save(struct virt *v _unused_, const char *name, const char *path, virt_done_fn fn, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_VIRT, FAKE_DOMAIN_SAVE, name, userdata);

	snprintf(c->text, sizeof(c->text), "%s", path);
	c->apply = domain_save;
	c->answer = fake_answer_done;
	c->fn.done = fn;
}

static int domain_restore(struct fake_call *c)
{
	struct fake_thing *t;

	if (fake.libvirt_down)
		return -ENOTCONN;
	cr_assert_eq(access(c->text, R_OK), 0, "%s", c->text);
	t = fake_add(FAKE_DOMAIN, c->name);
	t->pid = ++fake.last_pid;
	c->number = (uint64_t)t->pid;
	return 0;
}

static void restored(struct fake_call *c, int error)
{
	c->fn.create(c->userdata, error, error < 0 ? "scripted" : "", error < 0 ? 0 : (pid_t)c->number);
}

void virt_domain_restore(struct virt *v _unused_, const char *name, const char *path, const char *xml, virt_create_fn fn,
			 void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_VIRT, FAKE_DOMAIN_RESTORE, name, userdata);

	/* a clone is restored as one that has its own memory */
	cr_assert(!xml || (strstr(xml, "memory-backend-ram") && !strstr(xml, "-incoming")));

	snprintf(c->text, sizeof(c->text), "%s", path);
	c->apply = domain_restore;
	c->answer = restored;
	c->fn.create = fn;
}

/* A clone waits for its device state, which is there */
void virt_domain_fork(struct virt *v _unused_, const char *name, const char *xml, const char *state, virt_create_fn fn,
		      void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_VIRT, FAKE_DOMAIN_FORK, name, userdata);

	cr_assert(strstr(xml, name) && strstr(xml, "share=off") && strstr(xml, "<qemu:arg value='defer'/>"));
	snprintf(c->text, sizeof(c->text), "%s", state);
	c->apply = domain_restore;
	c->answer = restored;
	c->fn.create = fn;
}

static int domain_export(struct fake_call *c)
{
	struct fake_thing *d = fake_find(FAKE_DOMAIN, c->name);

	if (fake.libvirt_down || !d)
		return fake.libvirt_down ? -ENOTCONN : -ENOENT;
	cr_assert_not(d->running, "the state of a guest that runs");
	d->exported = true;
	return file_write_atomic(c->text, "state", 5, 0600, false);
}

void virt_domain_export(struct virt *v _unused_, const char *name, const char *state, virt_done_fn fn, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_VIRT, FAKE_DOMAIN_EXPORT, name, userdata);

	snprintf(c->text, sizeof(c->text), "%s", state);
	c->apply = domain_export;
	c->answer = fake_answer_done;
	c->fn.done = fn;
}

/* --- copies --- */

static int copy_check(const struct fake_call *c, struct fake_thing **ret)
{
	const struct fake_thing *to = fake_find(FAKE_DOMAIN, c->other);

	*ret = fake_find(FAKE_DOMAIN, c->name);
	if (fake.libvirt_down)
		return -ENOTCONN;
	if (!*ret || !to)
		return -ENOENT;
	cr_assert_not(to->running, "what is copied into must not run");
	return 0;
}

static int domain_copy(struct fake_call *c)
{
	struct fake_thing *d;
	int r = copy_check(c, &d);

	if (r < 0)
		return r;
	cr_assert(d->running);
	cr_assert_eq(access(c->text, R_OK), 0, "%s", c->text);
	d->running = false;
	d->stands = true;
	snprintf(d->overlay, sizeof(d->overlay), "%s", c->text);
	return 0;
}

static int domain_copy_finish(struct fake_call *c)
{
	struct fake_thing *d;
	int r = copy_check(c, &d);

	if (r < 0)
		return r;
	cr_assert(d->stands);
	d->stands = false;
	d->running = true;
	return 0;
}

/* As in copy.c: an error leaves the source running */
static void copy_answer(struct fake_call *c, int error)
{
	struct fake_thing *d = fake_find(FAKE_DOMAIN, c->name);

	if (error < 0 && error != -ECANCELED && error != -ENOTCONN && d && d->stands) {
		d->stands = false;
		d->running = true;
	}
	c->fn.copied(c->userdata, error, error < 0 ? "scripted" : "", error < 0 ? 0 : 1500);
}

static struct fake_call *copy_call(enum fake_op op, const char *name, const struct virt_copy *copy, virt_copied_fn fn,
				   void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_VIRT, op, name, userdata);

	snprintf(c->text, sizeof(c->text), "%s", copy->overlay ?: "");
	snprintf(c->other, sizeof(c->other), "%s", copy->receiver);
	c->answer = copy_answer;
	c->fn.copied = fn;
	return c;
}

void virt_domain_copy(struct virt *v _unused_, const char *name, const struct virt_copy *copy, virt_copied_fn fn,
		      void *userdata)
{
	cr_assert(!copy->kept || access(copy->kept, W_OK) == 0, "what is kept of the disk has a place");
	copy_call(FAKE_COPY, name, copy, fn, userdata)->apply = domain_copy;
}

void virt_domain_copy_finish(struct virt *v _unused_, const char *name, const struct virt_copy *copy, uint64_t usec,
			     virt_copied_fn fn, void *userdata)
{
	cr_assert_eq(usec, 1500, "what copy has told");
	copy_call(FAKE_COPY_FINISH, name, copy, fn, userdata)->apply = domain_copy_finish;
}

static int domain_settle(struct fake_call *c)
{
	struct fake_thing *d = fake_find(FAKE_DOMAIN, c->name);

	if (fake.libvirt_down || !d)
		return fake.libvirt_down ? -ENOTCONN : -ENOENT;
	d->stands = false;
	d->running = true;
	c->number = str_eq(d->overlay, c->text);
	return 0;
}

static void settle_answer(struct fake_call *c, int error)
{
	c->fn.settled(c->userdata, error, error < 0 ? "scripted" : "", error == 0 && c->number);
}

void virt_domain_settle(struct virt *v _unused_, const char *name, const char *overlay, virt_settled_fn fn, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_VIRT, FAKE_SETTLE, name, userdata);

	snprintf(c->text, sizeof(c->text), "%s", overlay);
	c->apply = domain_settle;
	c->answer = settle_answer;
	c->fn.settled = fn;
}

/* --- the disk --- */

static int layer_make(struct fake_call *c)
{
	return file_write_atomic(c->text, "layer", 5, 0660, false);
}

int disk_layer(struct workers *workers _unused_, const char *lower, const char *path, gid_t gid _unused_, disk_done_fn fn,
	       void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_WORKERS, FAKE_LAYER, path, userdata);

	cr_assert_eq(access(lower, R_OK), 0, "%s", lower);
	snprintf(c->text, sizeof(c->text), "%s", path);
	c->apply = layer_make;
	c->answer = fake_answer_done;
	c->fn.done = fn;
	return 0;
}

int disk_sync(struct workers *workers _unused_, const char *path, disk_done_fn fn, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_WORKERS, FAKE_SYNC, path, userdata);

	c->answer = fake_answer_done;
	c->fn.done = fn;
	return 0;
}
