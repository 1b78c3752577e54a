/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ending a sandbox: it is killed first and cleaned up after.
 *
 * The state becomes killed at once. Then the scope's processes get SIGKILL, and when it is empty the sandbox can no longer
 * act: no instruction of the guest runs, its tap has no other end, and the proxies were told. That is when who waits is
 * answered. What follows only tidies up: libvirt, which kills by looking every 200 ms whether the process is there, forgets
 * the domain, then the tap, the rules and the files go. Each part clears its bit in `held`. One that cannot be removed now
 * (libvirtd away) keeps its bit and is tried again by the sweep, and by recover.c when the connection is back. A daemon
 * that stops begins nothing more: its successor goes on from the record.
 *
 * The callbacks carry a reference; nothing here frees a sandbox.
 */
#include <string.h>

#include "core/bootqueue.h"
#include "core/console.h"
#include "core/disk.h"
#include "core/egress.h"
#include "core/egressctl.h"
#include "core/fork.h"
#include "core/idem.h"
#include "core/manager.h"
#include "core/pause.h"
#include "core/proc.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

static void destroy_second_half(struct sandbox *sb);

static void destroy_finish(struct sandbox *sb)
{
	sb->destroy_running = false;
	sandbox_save(sb);
	/* What is left is tried again by the sweep; who still waits is told that the guest may act */
	sandbox_wake(&sb->destroy_waiters, sb->held & (HELD_DOMAIN | HELD_SCOPE) ? FAULT_NO_LIBVIRT : FAULT_NONE, NULL);
	if (sb->held == 0)
		manager_sweep_later(sb->manager);
}

static void part_gone(struct sandbox *sb, enum sandbox_held bit, int error, const char *what, const char *message)
{
	if (error < 0)
		log_sandbox(LOG_WARNING, sb->id, NULL, error, "Removing the %s of %s: %s: %m", what, sb->id, message ?: "");
	else
		sb->held &= ~(unsigned int)bit;
}

/* --- second half: rules, tap, files --- */

static void files_gone(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	part_gone(sb, HELD_DIR, error, "files", message);
	destroy_finish(sb);
	sandbox_unref(sb);
}

/*
 * One rename takes the directory away; what is slow (freeing blocks, waiting for a journal) happens on a worker. Where sandboxes are on a file
 * system of their own the directory stays where it is until then. *ret is where it is to be removed.
 */
static int move_to_trash(struct sandbox *sb, char **ret)
{
	_cleanup_free_ char *trash = NULL, *dir = sandbox_path(sb, NULL);

	trash = str_format("%s/trash/%s", sb->manager->settings.state_dir, sb->id);
	if (!dir || !trash)
		return -ENOMEM;
	if (rename(dir, trash) < 0 && errno != ENOENT) {
		if (errno != EXDEV)
			return -errno;
		*ret = TAKE_PTR(dir);
		return 0;
	}
	*ret = TAKE_PTR(trash);
	return 0;
}

static void destroy_files(struct sandbox *sb)
{
	_cleanup_free_ char *run = sandbox_run_path(sb, NULL), *trash = NULL;
	/* libvirt keeps one for each domain it ever started */
	_cleanup_free_ char *log = str_format("%s/%s.log", sb->manager->settings.libvirt_log_dir, sb->id);
	int r = run && log ? move_to_trash(sb, &trash) : -ENOMEM;

	if (r == 0) {
		const char *const paths[] = { run, log, trash };

		sandbox_ref(sb);
		r = disk_remove_trees(sb->manager->workers, paths, ELEMENTSOF(paths), files_gone, sb);
		if (r < 0)
			sandbox_unref(sb);
	}
	if (r < 0) {
		part_gone(sb, HELD_DIR, r, "files", "");
		destroy_finish(sb);
	}
}

static void rules_gone(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	part_gone(sb, HELD_RULES, error, "rules", message);
	if (error == 0)
		egress_forget(sb);
	if (error < 0 || sb->manager->stopping)
		destroy_finish(sb);
	else
		destroy_second_half(sb);
	sandbox_unref(sb);
}

static void tap_gone(void *userdata, int error)
{
	struct sandbox *sb = userdata;

	part_gone(sb, HELD_TAP, error, "tap", "");
	if (error < 0 || sb->manager->stopping)
		destroy_finish(sb);	/* its rules stay: an interface without rules is never left behind */
	else
		destroy_second_half(sb);
	sandbox_unref(sb);
}

static void destroy_second_half(struct sandbox *sb)
{
	if (sb->held & (HELD_DOMAIN | HELD_SCOPE) || sb->manager->stopping) {
		destroy_finish(sb);
		return;
	}
	/* The tap first: with it gone no packet can come in while the rules go */
	if (sb->held & HELD_TAP) {
		sandbox_ref(sb);
		tap_remove_async(sb->manager->workers, sb->tap, tap_gone, sb);
		return;
	}
	if (sb->held & HELD_RULES) {
		sandbox_ref(sb);
		firewall_sandbox_remove(sb->manager->firewall, ident_short(sb->id), sb->tap, rules_gone, sb);
		return;
	}
	if (sb->held & HELD_DIR)
		destroy_files(sb);
	else
		destroy_finish(sb);
}

/* --- first half: scope, domain, timer --- */

static void first_half_join(struct sandbox *sb)
{
	if (--sb->destroy_pending == 0)
		destroy_second_half(sb);
	sandbox_unref(sb);
}

static void domain_gone(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	part_gone(sb, HELD_DOMAIN, error, "domain", message);
	first_half_join(sb);
}

static void timer_gone(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	part_gone(sb, HELD_TIMER, error, "timer", message);
	first_half_join(sb);
}

/* Also when the scope could not be ended: then libvirt ends the guest */
static void destroy_domain(struct sandbox *sb)
{
	if (sb->held & HELD_DOMAIN && !sb->manager->stopping) {
		sb->destroy_pending++;
		virt_domain_destroy(sb->manager->virt, sb->id, domain_gone, sandbox_ref(sb));
	}
}

static void scope_gone(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	part_gone(sb, HELD_SCOPE, error, "scope", message);
	if (error == 0) {
		/* Its memory is free, also for who waits for it */
		sb->scope_empty = true;
		boot_queue_wake(sb->manager);
		sandbox_wake(&sb->destroy_waiters, FAULT_NONE, NULL);
	}
	destroy_domain(sb);
	first_half_join(sb);
}

static void scope_killed(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (error < 0 || sb->manager->stopping) {
		scope_gone(sb, error ?: -ECANCELED, message);
		return;
	}
	bus_unit_stop(sb->manager->bus, sb->unit, scope_gone, sb);
}

void sandbox_destroy_resume(struct sandbox *sb)
{
	struct manager *m = sb->manager;

	if (sb->step_pending || sb->destroy_running || m->stopping)
		return;
	sb->destroying = sb->destroy_running = true;
	sandbox_ref(sb);
	sb->destroy_pending++;		/* until all have been asked */
	if (sb->held & HELD_SCOPE) {
		sb->destroy_pending++;
		bus_unit_kill(m->bus, sb->unit, scope_killed, sandbox_ref(sb));
	} else {
		destroy_domain(sb);
	}
	if (sb->held & HELD_TIMER) {
		_cleanup_free_ char *timer = str_format(TIMER_FORMAT, sb->id);

		if (timer) {
			sb->destroy_pending++;
			bus_timer_clear(m->bus, timer, timer_gone, sandbox_ref(sb));
		}
	}
	first_half_join(sb);
}

void sandbox_destroy(struct sandbox *sb, enum sandbox_end end, sandbox_done_fn fn, void *userdata)
{
	/* Running sandboxes outlive the daemon */
	if (sb->manager->stopping) {
		if (fn)
			fn(userdata, FAULT_BUSY, NULL);
		return;
	}
	if (fn && sandbox_wait(&sb->destroy_waiters, fn, userdata) < 0) {
		fn(userdata, FAULT_INTERNAL, NULL);
		return;
	}
	if (sb->destroying) {
		if (!sb->destroy_running && !sb->step_pending)
			sandbox_destroy_resume(sb);
		return;
	}
	sb->destroying = true;
	sb->end = end;
	sb->end_timer = sd_event_source_disable_unref(sb->end_timer);
	sb->deadline_timer = sd_event_source_disable_unref(sb->deadline_timer);
	if (sb->state == SANDBOX_CREATING)
		idem_remove(sb);
	sandbox_set_state(sb, SANDBOX_KILLED);
	if (sb->role == SANDBOX_FOR_USER)
		sb->manager->n_live--;
	fork_disarm(sb);
	egressctl_gone(sb);
	create_slot_release(sb);
	sandbox_save(sb);
	log_sandbox(LOG_INFO, sb->id, MSG_SANDBOX_KILLED, 0, "Sandbox %s is killed (%s)", sb->id, sandbox_end_name(end));
	sb->console = console_free(sb->console);
	proc_fail_all(sb, FAULT_ENDED_MEANWHILE);
	agent_abort(sb->agent, -ECANCELED);
	proc_drop_all(sb);
	sb->agent = agent_free(sb->agent);
	sb->agent_up = false;
	sandbox_wake(&sb->create_waiters, FAULT_ENDED_MEANWHILE, NULL);
	pause_abandon(sb);
	sandbox_destroy_resume(sb);
}
