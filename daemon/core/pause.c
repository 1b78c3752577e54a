/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pausing and resuming, see pause.h. Calls on libvirt carry a reference; those on the agent die with it. */
#include "core/pause.h"

#include <fcntl.h>

#include "core/admission.h"
#include "core/hibernate.h"
#include "core/manager.h"
#include "core/pool.h"
#include "core/proc.h"
#include "util/clock.h"
#include "util/log.h"

/* A guest that writes a lot needs a while to freeze; a stuck one is paused as it is. */
#define FREEZE_MAX (10 * USEC_PER_SEC)
/* How soon a pause at the deadline is tried again */
#define RETRY_USEC (5 * USEC_PER_SEC)

void pause_move_begin(struct sandbox *sb, enum sandbox_move mv)
{
	sb->moving = mv;
	sb->asked = false;
	sb->move_timer = sd_event_source_disable_unref(sb->move_timer);
	sandbox_save(sb);
}

void pause_move_end(struct sandbox *sb, enum fault fault, const char *detail)
{
	sb->moving = SANDBOX_MOVE_NONE;
	sb->moved_usec = clock_realtime();
	sb->move_timer = sd_event_source_disable_unref(sb->move_timer);
	/* A sandbox at rest must be found again after a power cut when it is paused: its memory may be on disk */
	store_save(sb, sb->state == SANDBOX_PAUSED);
	sandbox_wake(&sb->move_waiters, fault, detail);
}

int sandbox_move_wait(struct sandbox *sb, sandbox_done_fn fn, void *userdata)
{
	return fn ? sandbox_wait(&sb->move_waiters, fn, userdata) : 0;
}

void pause_move_forget(struct sandbox *sb)
{
	if (sb->moving == SANDBOX_MOVE_NONE)
		return;
	sb->moving = SANDBOX_MOVE_NONE;
	sandbox_save(sb);
}

void pause_abandon(struct sandbox *sb)
{
	sb->moving = SANDBOX_MOVE_NONE;
	sb->move_timer = sd_event_source_disable_unref(sb->move_timer);
	sb->paused_fd = fd_close(sb->paused_fd);
	sandbox_wake(&sb->move_waiters, FAULT_ENDED_MEANWHILE, NULL);
}

/* Whether a callback of that move still has something to say */
static bool still(const struct sandbox *sb, enum sandbox_move mv)
{
	return !sb->destroying && !sb->manager->stopping && sb->moving == mv;
}

/* --- how the domain is --- */

struct check {
	struct sandbox *sb;
	uint64_t began_usec;
};

static void listed(void *userdata, int error, const struct virt_domain *v, size_t n)
{
	struct check *c = userdata;

	for (size_t i = 0; error == 0 && i < n; i++)
		if (str_eq(v[i].name, c->sb->id) && !c->sb->manager->stopping)
			pause_reconcile(c->sb, v[i].paused, c->began_usec);
	sandbox_unref(c->sb);
	free(c);
}

/* Looks whether the vCPUs run, and brings the state in line with that. */
static void check(struct sandbox *sb)
{
	struct check *c = calloc(1, sizeof(*c));

	if (!c)
		return;
	*c = (struct check){ .sb = sandbox_ref(sb), .began_usec = clock_realtime() };
	virt_list(sb->manager->virt, listed, c);
}

/* --- pause --- */

static void thawed(void *userdata, int error)
{
	struct sandbox *sb = userdata;

	if (error)
		log_sandbox(LOG_WARNING, sb->id, NULL, error < 0 ? error : -error, "Thawing the file systems of %s: %m", sb->id);
}

static void pause_undo(struct sandbox *sb, int error, const char *message)
{
	log_sandbox(LOG_ERR, sb->id, NULL, error, "Sandbox %s cannot be paused: %s: %m", sb->id, message);
	if (sb->agent)
		agent_fs_thaw(sb->agent, thawed, sb);
	pause_move_end(sb, error == -ENOTCONN ? FAULT_NO_LIBVIRT : FAULT_PAUSE_FAILED, message);
	if (sb->deadline_usec)
		sandbox_arm_deadline_in(sb, RETRY_USEC);
	check(sb);	/* it may have been stopped nevertheless */
}

static void pause_done(struct sandbox *sb)
{
	int fd = agent_fd(sb->agent);

	/* Found paused at start, it has the one from the fd store */
	if (fd >= 0) {
		fd_close(sb->paused_fd);
		sb->paused_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	}
	agent_detach(sb->agent);
	sb->agent_up = false;
	proc_hold_timeouts(sb);
	sandbox_set_state(sb, SANDBOX_PAUSED);
	sb->paused_usec = clock_realtime();
	sb->fetched = false;
	sb->deadline_usec = 0;
	sandbox_arm_deadline(sb);
	log_sandbox(LOG_INFO, sb->id, MSG_SANDBOX_PAUSED, 0, "Sandbox %s is paused", sb->id);
	pause_move_end(sb, FAULT_NONE, NULL);
	hibernate_schedule(sb);
}

static void suspended(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (still(sb, SANDBOX_MOVE_PAUSING)) {
		if (error < 0)
			pause_undo(sb, error, message);
		else
			pause_done(sb);
	}
	sandbox_unref(sb);
}

static void pause_suspend(struct sandbox *sb)
{
	if (sb->asked)
		return;
	sb->asked = true;
	sb->move_timer = sd_event_source_disable_unref(sb->move_timer);
	sandbox_ref(sb);
	virt_domain_suspend(sb->manager->virt, sb->id, suspended, sb);
}

static void frozen(void *userdata, int error)
{
	struct sandbox *sb = userdata;

	if (!still(sb, SANDBOX_MOVE_PAUSING))
		return;
	if (error)
		log_sandbox(LOG_NOTICE, sb->id, NULL, error < 0 ? error : -error,
			    "The file systems of %s cannot be frozen, it is paused without: %m", sb->id);
	pause_suspend(sb);
}

static int on_freeze_limit(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct sandbox *sb = userdata;

	log_sandbox(LOG_NOTICE, sb->id, NULL, 0, "The file systems of %s do not freeze, it is paused without", sb->id);
	pause_suspend(sb);
	return 0;
}

enum fault sandbox_pause(struct sandbox *sb, sandbox_done_fn fn, void *userdata)
{
	int r;

	if (sb->state != SANDBOX_RUNNING || sb->moving != SANDBOX_MOVE_NONE || sb->destroying)
		return FAULT_SANDBOX_STATE;
	if (sandbox_move_wait(sb, fn, userdata) < 0)
		return FAULT_INTERNAL;
	pause_move_begin(sb, SANDBOX_MOVE_PAUSING);
	r = sd_event_add_time_relative(sb->manager->event, &sb->move_timer, CLOCK_MONOTONIC, FREEZE_MAX, 0,
				       on_freeze_limit, sb);
	if (r >= 0)
		r = agent_fs_freeze(sb->agent, frozen, sb);
	if (r < 0)
		pause_suspend(sb);
	return FAULT_NONE;
}

/* --- resume --- */

static void resume_done(struct sandbox *sb)
{
	uint64_t now = clock_realtime();

	sandbox_set_state(sb, SANDBOX_RUNNING);
	proc_release_timeouts(sb, now - MIN_OF(now, sb->paused_usec));
	log_sandbox(LOG_INFO, sb->id, MSG_SANDBOX_RESUMED, 0, "Sandbox %s goes on after %llu s", sb->id,
		    (unsigned long long)((now - MIN_OF(now, sb->paused_usec)) / USEC_PER_SEC));
	sb->paused_usec = 0;
	sb->fetched = false;
	sandbox_begin_window(sb, now);
	sandbox_arm_deadline(sb);
	pause_move_end(sb, FAULT_NONE, NULL);
}

static void resume_thawed(void *userdata, int error)
{
	struct sandbox *sb = userdata;

	thawed(userdata, error);
	if (!still(sb, SANDBOX_MOVE_RESUMING))
		return;
	if (error)
		sandbox_destroy(sb, SANDBOX_END_CRASH, NULL, NULL);
	else
		resume_done(sb);
}

static void resume_clock_set(void *userdata, int error)
{
	struct sandbox *sb = userdata;

	if (!still(sb, SANDBOX_MOVE_RESUMING))
		return;
	if (error)
		log_sandbox(LOG_WARNING, sb->id, NULL, error < 0 ? error : -error, "The clock of %s cannot be set: %m", sb->id);
	if (agent_fs_thaw(sb->agent, resume_thawed, sb) < 0)
		sandbox_destroy(sb, SANDBOX_END_CRASH, NULL, NULL);
}

void pause_agent_up(struct sandbox *sb)
{
	/* Again after a resync: the request that was sent is repeated by the agent object */
	if (sb->asked)
		return;
	sb->asked = true;
	if (agent_set_time(sb->agent, clock_realtime() * NSEC_PER_USEC, resume_clock_set, sb) < 0)
		sandbox_destroy(sb, SANDBOX_END_CRASH, NULL, NULL);
}

static void resume_greet(struct sandbox *sb)
{
	int r;

	sb->asked = false;
	r = sandbox_attach_agent(sb, TAKE_FD(sb->paused_fd));
	if (r < 0) {
		log_sandbox(LOG_ERR, sb->id, NULL, r, "The agent of %s cannot be reached: %m", sb->id);
		sandbox_destroy(sb, SANDBOX_END_CRASH, NULL, NULL);
	}
}

static void resumed(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (still(sb, SANDBOX_MOVE_RESUMING)) {
		if (error < 0) {
			log_sandbox(LOG_ERR, sb->id, NULL, error, "Sandbox %s cannot be resumed: %s: %m", sb->id, message);
			pause_move_end(sb, error == -ENOTCONN ? FAULT_NO_LIBVIRT : FAULT_RESUME_FAILED, message);
			hibernate_schedule(sb);
			check(sb);	/* it may run nevertheless */
		} else {
			resume_greet(sb);
		}
	}
	sandbox_unref(sb);
}

void pause_run(struct sandbox *sb)
{
	sandbox_ref(sb);
	virt_domain_resume(sb->manager->virt, sb->id, resumed, sb);
}

enum fault sandbox_resume(struct sandbox *sb, sandbox_done_fn fn, void *userdata)
{
	if (sb->state != SANDBOX_PAUSED || sb->moving != SANDBOX_MOVE_NONE || sb->destroying)
		return FAULT_SANDBOX_STATE;
	if (sb->manager->closing)
		return FAULT_BUSY;
	if (!virt_is_connected(sb->manager->virt))
		return FAULT_NO_LIBVIRT;
	if (sb->on_disk && admission_memory(sb->manager, sb) != ADMISSION_NOW) {
		pool_yield(sb->manager);
		hibernate_next(sb->manager, clock_realtime() - HIBERNATE_RETRY_USEC);
		return FAULT_NO_MEMORY;
	}
	if (sandbox_move_wait(sb, fn, userdata) < 0)
		return FAULT_INTERNAL;
	pause_move_begin(sb, SANDBOX_MOVE_RESUMING);
	if (sb->on_disk)
		hibernate_restore(sb);
	else
		pause_run(sb);
	return FAULT_NONE;
}

/* --- what others did --- */

void pause_reconcile(struct sandbox *sb, bool vcpus_stopped, uint64_t seen_usec)
{
	if (sb->destroying || sb->moving != SANDBOX_MOVE_NONE || sb->on_disk || seen_usec < sb->moved_usec)
		return;
	if (sb->state == SANDBOX_RUNNING && vcpus_stopped) {
		log_sandbox(LOG_NOTICE, sb->id, NULL, 0, "The vCPUs of %s are stopped: it counts as paused", sb->id);
		pause_done(sb);
	} else if (sb->state == SANDBOX_PAUSED && !vcpus_stopped) {
		log_sandbox(LOG_NOTICE, sb->id, NULL, 0, "The vCPUs of %s run: it counts as resumed", sb->id);
		pause_move_begin(sb, SANDBOX_MOVE_RESUMING);
		resume_greet(sb);
	}
}

void pause_domain_event(struct sandbox *sb, enum virt_event ev)
{
	bool stops = ev == VIRT_EVENT_PAUSED;

	if (sb->moving != SANDBOX_MOVE_NONE || sb->state != (stops ? SANDBOX_RUNNING : SANDBOX_PAUSED))
		return;
	/* It may be an old one, of a move of ours: what counts is how the domain is now */
	check(sb);
}
