/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A sandbox put back to one of its snapshots, see snapshot.h.
 *
 *	end	processes and the agent's channel, in the API's eyes; the record says from now on that it is restored
 *	remove	the domain, then its scope, then its disk and memory image; tap, rules and directories stay
 *	create	from the boot queue, as any sandbox that is made of a snapshot (create.c)
 *
 * There is no way back once the domain is gone. A restore that fails then ends the sandbox; its snapshots stay.
 */
#include <string.h>
#include <unistd.h>

#include "core/bootqueue.h"
#include "core/create.h"
#include "core/domain.h"
#include "core/hibernate.h"
#include "core/manager.h"
#include "core/pause.h"
#include "core/proc.h"
#include "core/snapshot.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

/* Layers that the snapshot has too come back by another name of the same files */
static int remove_disk(const struct sandbox *sb)
{
	for (unsigned int i = 0; i <= SNAPSHOT_LAYERS_MAX; i++) {
		_cleanup_free_ char *path = domain_layer(sb, i);

		if (!path)
			return -ENOMEM;
		if (unlink(path) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

static void begin_anew(struct sandbox *sb)
{
	const struct snapshot *s = snapshot_find(sb->manager, sb->from);
	_cleanup_free_ char *proc = sandbox_path(sb, SNAPSHOT_PROC);
	int r = proc ? 0 : -ENOMEM;

	hibernate_forget_image(sb);
	if (!s) {
		create_fail(sb, FAULT_SNAPSHOT_UNKNOWN, "its snapshot was removed meanwhile");
		return;
	}
	if (r == 0)
		r = remove_disk(sb);
	if (r == 0)
		r = dir_remove_tree(proc);
	if (r == 0)
		r = snapshot_describe(sb, s);
	if (r < 0)
		create_fail(sb, FAULT_INTERNAL, strerror(-r));
	else
		boot_queue_add(sb);
}

static void scope_gone(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb))
		return;
	if (error < 0) {
		create_fail(sb, FAULT_START_FAILED, message);
		return;
	}
	sb->held &= ~(unsigned int)HELD_SCOPE;
	sb->stopped = false;
	begin_anew(sb);
}

static void domain_gone(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb))
		return;
	if (error < 0) {
		create_fail(sb, error == -ENOTCONN ? FAULT_NO_LIBVIRT : FAULT_START_FAILED, message);
		return;
	}
	sb->held &= ~(unsigned int)HELD_DOMAIN;
	sandbox_step_begin(sb);
	bus_unit_stop(sb->manager->bus, sb->unit, scope_gone, sb);
}

static void remove_domain(struct sandbox *sb)
{
	sandbox_step_begin(sb);
	virt_domain_destroy(sb->manager->virt, sb->id, domain_gone, sb);
}

/* What the guest was is over: nobody waits for it any longer. */
static void end_guest(struct sandbox *sb)
{
	struct agent *a = TAKE_PTR(sb->agent);	/* that it is lost is no news to anybody */

	proc_fail_all(sb, FAULT_AGENT_LOST);
	agent_abort(a, -ECANCELED);
	proc_abandon_all(sb);
	agent_free(a);
	sb->agent_up = sb->ident_asked = sb->adopted = false;
	sb->agent_id = 0;
	sb->paused_fd = fd_close(sb->paused_fd);
	sb->move_timer = sd_event_source_disable_unref(sb->move_timer);
	sb->end_timer = sd_event_source_disable_unref(sb->end_timer);
	sb->oom_usec = 0;
}

enum fault snapshot_restore(struct sandbox *sb, const struct snapshot *s, sandbox_done_fn fn, void *userdata)
{
	const char *detail;
	enum fault fault = manager_blocked(sb->manager, &detail);

	if ((sb->state != SANDBOX_RUNNING && sb->state != SANDBOX_PAUSED) || sb->moving != SANDBOX_MOVE_NONE || sb->destroying)
		return FAULT_SANDBOX_STATE;
	if (fault != FAULT_NONE && fault != FAULT_LIMIT_SANDBOXES)
		return fault;
	if (!sb->options.template)
		return FAULT_TEMPLATE_UNKNOWN;
	if (!snapshot_fits(s))
		return FAULT_SNAPSHOT_STALE;
	if (boot_queue_full(sb->manager))
		return FAULT_QUEUE_FULL;
	if (sandbox_wait(&sb->create_waiters, fn, userdata) < 0)
		return FAULT_INTERNAL;
	log_sandbox(LOG_INFO, sb->id, NULL, 0, "Sandbox %s goes back to its snapshot %s", sb->id, s->id);
	end_guest(sb);
	sandbox_set_state(sb, SANDBOX_CREATING);
	sb->restoring = true;
	sb->made = sb->path;
	memcpy(sb->from, s->id, sizeof(sb->from));
	sb->on_disk = sb->fetched = false;
	sb->paused_usec = sb->deadline_usec = 0;
	sandbox_arm_deadline(sb);
	store_save(sb, true);
	remove_domain(sb);
	return FAULT_NONE;
}

bool snapshot_wanted(const struct snapshot *s)
{
	const struct sandbox *sb;

	list_foreach(&s->manager->sandboxes, sb, struct sandbox, link)
		if (sb->restoring && !sb->destroying && str_eq(sb->from, s->id))
			return true;
	return false;
}

void snapshot_restored(struct sandbox *sb)
{
	sb->restoring = false;
	sb->path = sb->made;
}

void snapshot_restore_again(struct sandbox *sb)
{
	remove_domain(sb);
}
