/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Paused sandboxes to disk and back, see hibernate.h. All callbacks carry a reference; those of steps that make
 * something are steps in the sense of manager.h too.
 */
#include "core/hibernate.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "core/disk.h"
#include "core/domain.h"
#include "core/egress.h"
#include "core/manager.h"
#include "core/pause.h"
#include "util/clock.h"
#include "util/log.h"

#define IMAGE_NAME "memory"
/* What libvirt writes over the header last: an image that begins otherwise is not complete */
#define IMAGE_MAGIC "LibvirtQemudSave"
#define RETRY_MIN_USEC (60 * USEC_PER_SEC)

static bool still(const struct sandbox *sb, enum sandbox_move mv)
{
	return !sb->destroying && !sb->manager->stopping && sb->moving == mv;
}

/* --- the image --- */

bool hibernate_image_ready(const struct sandbox *sb)
{
	_cleanup_free_ char *path = sandbox_path(sb, IMAGE_NAME);
	_cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	char magic[sizeof(IMAGE_MAGIC) - 1];

	return fd >= 0 && read(fd, magic, sizeof(magic)) == (ssize_t)sizeof(magic) &&
	       memcmp(magic, IMAGE_MAGIC, sizeof(magic)) == 0;
}

void hibernate_forget_image(struct sandbox *sb)
{
	_cleanup_free_ char *path = sandbox_path(sb, IMAGE_NAME);

	if (path && unlink(path) < 0 && errno != ENOENT)
		log_sandbox(LOG_WARNING, sb->id, NULL, -errno, "The memory image of %s cannot be removed: %m", sb->id);
}

/* The directory is not libvirt's to write in: it gets a file it may fill. */
static int image_prepare(struct sandbox *sb, const char *path)
{
	_cleanup_close_ int fd = -EBADF;

	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fchown(fd, (uid_t)-1, sb->manager->vm_gid) < 0 || fchmod(fd, 0660) < 0)
		return -errno;
	return 0;
}

/* --- what a sandbox on disk does not hold --- */

struct release {
	struct sandbox *sb;
	void (*fn)(struct sandbox *sb, const char *reason);
	char *reason;
};

static void release_done(struct release *rl)
{
	struct sandbox *sb = rl->sb;

	rl->fn(sb, rl->reason);
	free(rl->reason);
	free(rl);
	sandbox_unref(sb);
}

static void release_note(struct sandbox *sb, enum sandbox_held bit, int error, const char *what)
{
	if (error < 0)
		log_sandbox(LOG_WARNING, sb->id, NULL, error, "Releasing the %s of %s: %m", what, sb->id);
	else if (!sb->destroying)
		sb->held &= ~(unsigned int)bit;
}

static void release_rules_gone(void *userdata, int error, const char *message _unused_)
{
	struct release *rl = userdata;

	release_note(rl->sb, HELD_RULES, error, "rules");
	release_done(rl);
}

static void release_tap_gone(void *userdata, int error)
{
	struct release *rl = userdata;
	struct sandbox *sb = rl->sb;

	release_note(sb, HELD_TAP, error, "tap");
	if (error < 0 || sb->manager->stopping)
		release_done(rl);	/* its rules stay: an interface without rules is never left behind */
	else
		firewall_sandbox_remove(sb->manager->firewall, ident_short(sb->id), sb->tap, release_rules_gone, rl);
}

static void release_scope_gone(void *userdata, int error, const char *message _unused_)
{
	struct release *rl = userdata;

	release_note(rl->sb, HELD_SCOPE, error, "scope");
	if (rl->sb->manager->stopping)
		release_done(rl);
	else
		tap_remove_async(rl->sb->manager->workers, rl->sb->tap, release_tap_gone, rl);
}

static void release_domain_gone(void *userdata, int error, const char *message _unused_)
{
	struct release *rl = userdata;

	release_note(rl->sb, HELD_DOMAIN, error, "domain");
	if (error < 0 || rl->sb->manager->stopping)
		release_done(rl);	/* recovery goes on when libvirt is back */
	else
		bus_unit_stop(rl->sb->manager->bus, rl->sb->unit, release_scope_gone, rl);
}

/* Domain, scope, tap, rules, one after the other; fn from the loop. */
static void release_host(struct sandbox *sb, const char *reason, void (*fn)(struct sandbox *sb, const char *reason))
{
	struct release *rl = calloc(1, sizeof(*rl));

	if (!rl) {
		fn(sb, reason);
		return;
	}
	rl->sb = sandbox_ref(sb);
	rl->fn = fn;
	rl->reason = reason ? strdup(reason) : NULL;
	virt_domain_destroy(sb->manager->virt, sb->id, release_domain_gone, rl);
}

/* --- save --- */

static void saved_released(struct sandbox *sb, const char *reason _unused_)
{
	if (!still(sb, SANDBOX_MOVE_SAVING))
		return;
	log_sandbox(LOG_INFO, sb->id, NULL, 0, "The memory of sandbox %s is on disk", sb->id);
	pause_move_end(sb, FAULT_NONE, NULL);
}

static void save_failed(struct sandbox *sb, const char *message)
{
	log_sandbox(LOG_ERR, sb->id, NULL, 0, "The memory of %s cannot be written to disk: %s", sb->id, message);
	hibernate_forget_image(sb);
	pause_move_end(sb, FAULT_NONE, NULL);
	hibernate_schedule(sb);
}

static void image_synced(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (still(sb, SANDBOX_MOVE_SAVING)) {
		if (error < 0)
			log_sandbox(LOG_WARNING, sb->id, NULL, error, "%s of %s: %m", message, sb->id);
		sb->paused_fd = fd_close(sb->paused_fd);
		sb->on_disk = true;
		sandbox_save(sb);
		release_host(sb, NULL, saved_released);
	}
	sandbox_unref(sb);
}

static void save_sync(struct sandbox *sb)
{
	_cleanup_free_ char *path = sandbox_path(sb, IMAGE_NAME);

	sandbox_ref(sb);
	if (!path || disk_sync(sb->manager->workers, path, image_synced, sb) < 0)
		image_synced(sb, -ENOMEM, "syncing the memory image");
}

struct look {
	struct sandbox *sb;
	char message[200];
};

/* After an error: the domain is still there, or it was saved nevertheless, or it has died. */
static void save_looked(void *userdata, int error, const struct virt_domain *v, size_t n)
{
	struct look *l = userdata;
	struct sandbox *sb = l->sb;
	bool there = error < 0;

	for (size_t i = 0; i < n; i++)
		there |= str_eq(v[i].name, sb->id);
	if (still(sb, SANDBOX_MOVE_SAVING)) {
		if (there)
			save_failed(sb, l->message);
		else if (hibernate_image_ready(sb))
			save_sync(sb);
		else
			sandbox_destroy(sb, SANDBOX_END_CRASH, NULL, NULL);
	}
	sandbox_unref(sb);
	free(l);
}

static void saved(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;
	struct look *l;

	/* Without libvirt nobody knows: recovery finds out when it is back */
	if (still(sb, SANDBOX_MOVE_SAVING) && error != -ENOTCONN) {
		l = error < 0 ? calloc(1, sizeof(*l)) : NULL;
		if (l) {
			l->sb = sandbox_ref(sb);
			snprintf(l->message, sizeof(l->message), "%s", message);
			virt_list(sb->manager->virt, save_looked, l);
		} else if (error < 0) {
			save_failed(sb, message);
		} else {
			save_sync(sb);
		}
	}
	sandbox_unref(sb);
}

void hibernate_save(struct sandbox *sb)
{
	_cleanup_free_ char *path = sandbox_path(sb, IMAGE_NAME);
	bool again = sb->moving == SANDBOX_MOVE_SAVING;
	int r;

	if (sb->destroying || sb->state != SANDBOX_PAUSED || sb->on_disk || (sb->moving != SANDBOX_MOVE_NONE && !again))
		return;
	sb->saved_usec = clock_realtime();
	pause_move_begin(sb, SANDBOX_MOVE_SAVING);
	r = path ? again ? 0 : image_prepare(sb, path) : -ENOMEM;
	if (r < 0) {
		save_failed(sb, strerror(-r));
		return;
	}
	sandbox_ref(sb);
	virt_domain_save(sb->manager->virt, sb->id, path, saved, sb);
}

static int on_schedule(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct sandbox *sb = userdata;

	sb->move_timer = sd_event_source_disable_unref(sb->move_timer);
	if (virt_is_connected(sb->manager->virt))
		hibernate_save(sb);
	else
		hibernate_schedule(sb);
	return 0;
}

void hibernate_schedule(struct sandbox *sb)
{
	uint64_t after = sb->manager->settings.paused_to_disk_usec, paused = clock_realtime() - sb->paused_usec, left;

	if (sb->destroying || sb->state != SANDBOX_PAUSED || sb->on_disk || sb->moving != SANDBOX_MOVE_NONE || !after)
		return;
	/* Long overdue: it was tried before, or the daemon was down */
	left = paused < after ? after - paused : MIN_OF(after, RETRY_MIN_USEC);
	sb->move_timer = sd_event_source_disable_unref(sb->move_timer);
	if (sd_event_add_time_relative(sb->manager->event, &sb->move_timer, CLOCK_MONOTONIC, left, 0, on_schedule, sb) < 0)
		log_sandbox(LOG_WARNING, sb->id, NULL, 0, "No timer to move %s to disk", sb->id);
}

bool hibernate_next(struct manager *m, uint64_t since_usec)
{
	struct sandbox *sb, *longest = NULL;

	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (sb->state == SANDBOX_PAUSED && !sb->on_disk && !sb->destroying && sb->saved_usec < since_usec &&
		    sb->moving == SANDBOX_MOVE_NONE && (!longest || sb->paused_usec < longest->paused_usec))
			longest = sb;
	if (longest)
		hibernate_save(longest);
	return longest != NULL;
}

/* --- restore --- */

static void restore_released(struct sandbox *sb, const char *reason)
{
	if (still(sb, SANDBOX_MOVE_RESUMING))
		pause_move_end(sb, FAULT_RESUME_FAILED, reason);
}

static void restore_failed(struct sandbox *sb, int error, const char *message)
{
	log_sandbox(LOG_ERR, sb->id, NULL, error, "Sandbox %s cannot be restored from disk: %s: %m", sb->id, message);
	release_host(sb, message, restore_released);
}

static void restored_scope(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb) || !still(sb, SANDBOX_MOVE_RESUMING))
		return;
	if (error < 0 && error != -EEXIST) {
		restore_failed(sb, error, message);
		return;
	}
	sb->on_disk = false;
	store_save(sb, true);
	hibernate_forget_image(sb);
	pause_run(sb);
}

static void restored(void *userdata, int error, const char *message, pid_t pid)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb) || !still(sb, SANDBOX_MOVE_RESUMING))
		return;
	if (error < 0) {
		restore_failed(sb, error, message);
		return;
	}
	sb->pid = pid;
	sb->held |= HELD_SCOPE;
	sandbox_step_begin(sb);
	sandbox_scope_start(sb, restored_scope);
}

static void restore_closed(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;
	_cleanup_free_ char *path = sandbox_path(sb, IMAGE_NAME), *xml = NULL;

	if (!sandbox_step_end(sb) || !still(sb, SANDBOX_MOVE_RESUMING))
		return;
	/* A clone is none any more: all of its memory is in the image */
	if (*sb->snapshot || *sb->from || sb->layers)
		xml = domain_xml(sb, DOM_MEMORY_RESTORED);
	if (error < 0 || !path || ((*sb->snapshot || *sb->from || sb->layers) && !xml)) {
		restore_failed(sb, error ?: -ENOMEM, message);
		return;
	}
	sb->held |= HELD_DOMAIN;
	sandbox_save(sb);
	sandbox_step_begin(sb);
	virt_domain_restore(sb->manager->virt, sb->id, path, xml, restored, sb);
}

void hibernate_restore(struct sandbox *sb)
{
	int r;

	sb->held |= HELD_TAP | HELD_RULES;
	sandbox_save(sb);
	r = sandbox_make_dirs(sb);
	if (r == 0)
		r = tap_create(sb->tap, sb->manager->vm_gid);
	if (r < 0) {
		restore_failed(sb, r, "making the tap and its directories");
		return;
	}
	sandbox_step_begin(sb);
	egress_rules(sb, restore_closed, sb);
}

/* --- recovery --- */

static void adopt_released(struct sandbox *sb, const char *reason _unused_)
{
	sb->releasing = false;
	if (still(sb, SANDBOX_MOVE_SAVING))
		pause_move_end(sb, FAULT_NONE, NULL);
}

bool hibernate_adopt(struct sandbox *sb)
{
	if (sb->state != SANDBOX_PAUSED || !hibernate_image_ready(sb))
		return false;
	if (sb->releasing)
		return true;
	/* What a save or a restore had left to do or to undo: nothing is held on the host but files */
	sb->on_disk = true;
	sb->paused_fd = fd_close(sb->paused_fd);
	pause_move_end(sb, FAULT_NONE, NULL);
	if (sb->held & ~(unsigned int)HELD_DIR) {
		/* Until it is through nobody resumes: what that makes would be taken for what is released, and forgotten */
		sb->releasing = true;
		sb->moving = SANDBOX_MOVE_SAVING;
		release_host(sb, NULL, adopt_released);
	}
	return true;
}
