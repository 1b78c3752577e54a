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

/* --- the disk --- */

int disk_sync(struct workers *workers _unused_, const char *path, disk_done_fn fn, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_WORKERS, FAKE_SYNC, path, userdata);

	c->answer = fake_answer_done;
	c->fn.done = fn;
	return 0;
}
