/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making a user's snapshot, see snapshot.h.
 *
 * At any time exactly one thing is under way for a take, and its callback goes on or ends it: a worker's job, the
 * creation of the hidden sandbox, a call on libvirt. The source is in SANDBOX_MOVE_COPYING until it has its vCPUs back;
 * what comes after that is no business of its any more.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "core/create.h"
#include "core/disk.h"
#include "core/domain.h"
#include "core/manager.h"
#include "core/memsnap.h"
#include "core/pause.h"
#include "core/procstore.h"
#include "core/snapshot.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

/* With less than this left the disk is full, whatever the step that failed says */
#define SPACE_MIN (16ull << 20)

struct snap_take {
	struct manager *manager;
	struct snapshot *s;
	struct sandbox *sb;		/* the source */
	struct sandbox *receiver;	/* NULL: not yet */
	snapshot_done_fn fn;		/* NULL: nobody waits any more */
	void *userdata;
	char *kept;			/* see virt_copy; NULL: no layer more than the source had */
	enum fault fault;		/* while the source is put in order after a failure */
	char detail[300];
};

static bool copying(const struct snap_take *tk)
{
	return !tk->sb->destroying && !tk->manager->stopping && tk->sb->moving == SANDBOX_MOVE_COPYING;
}

static void take_end(struct snap_take *tk, enum fault fault, const char *detail)
{
	struct snapshot *s = tk->s;

	s->take = NULL;
	if (tk->receiver) {
		sandbox_unwait(&tk->receiver->create_waiters, tk);
		sandbox_destroy(tk->receiver, SANDBOX_END_REQUEST, NULL, NULL);
		sandbox_unref(tk->receiver);
	}
	if (fault != FAULT_NONE) {
		log_sandbox(LOG_ERR, s->sandbox_id, NULL, 0, "No snapshot of %s: %s", s->sandbox_id, detail ?: "no detail");
		if (!tk->manager->stopping)
			snapshot_remove_files(tk->manager, s->id);
	}
	if (tk->fn)
		tk->fn(tk->userdata, fault, detail, fault == FAULT_NONE ? s : NULL);
	if (fault != FAULT_NONE)
		snapshot_free(s);
	sandbox_unref(tk->sb);
	free(tk->kept);
	free(tk);
}

/* --- failing --- */

static enum fault fault_of(const struct snap_take *tk, int error)
{
	_cleanup_free_ char *dir = snapshot_path(tk->manager, tk->s->id, NULL);
	struct statvfs v;

	if (tk->manager->stopping)
		return FAULT_BUSY;
	if (tk->sb->destroying && !tk->s->ready)
		return FAULT_ENDED_MEANWHILE;
	if (error == -ENOSPC || error == -EDQUOT)
		return FAULT_NO_SPACE;
	if (error == -ENOTCONN)
		return FAULT_NO_LIBVIRT;
	return dir && statvfs(dir, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize < SPACE_MIN ?
	       FAULT_NO_SPACE : FAULT_SNAPSHOT_FAILED;
}

static void settled_after(void *userdata, int error, const char *message _unused_, bool switched)
{
	struct snap_take *tk = userdata;
	struct sandbox *sb = tk->sb;

	if (copying(tk) && error == 0) {
		sb->layers += switched;
		pause_move_end(sb, FAULT_NONE, NULL);
	}
	/* Else nobody knows how the source is: recovery finds out when libvirt is back */
	take_end(tk, tk->fault, tk->detail);
}

static void fail(struct snap_take *tk, int error, const char *message)
{
	struct sandbox *sb = tk->sb;

	if (copying(tk))
		pause_move_end(sb, FAULT_NONE, NULL);
	take_end(tk, fault_of(tk, error), message && *message ? message : strerror(error < 0 ? -error : EIO));
}

/* From the first call on the source's domain on */
static void fail_settle(struct snap_take *tk, int error, const char *message)
{
	_cleanup_free_ char *overlay = copying(tk) && error != -ENOTCONN ? domain_layer(tk->sb, tk->sb->layers + 1) : NULL;

	tk->fault = fault_of(tk, error);
	snprintf(tk->detail, sizeof(tk->detail), "%s", message && *message ? message : "no detail");
	if (overlay)
		virt_domain_settle(tk->manager->virt, tk->sb->id, overlay, settled_after, tk);
	else
		take_end(tk, tk->fault, tk->detail);
}

/* --- export: the source is not needed any more --- */

static int publish(struct snap_take *tk)
{
	struct snapshot *s = tk->s;
	char name[DOMAIN_LAYER_MAX];

	/* What others stand on is written by nobody */
	for (unsigned int i = 0; i <= s->layers; i++) {
		_cleanup_free_ char *path = NULL;

		domain_layer_name(i, name);
		path = snapshot_path(s->manager, s->id, name);
		if (!path || chmod(path, 0440) < 0)
			return path ? -errno : -ENOMEM;
	}
	return snapshot_save(s);
}

static void synced(void *userdata, int error, const char *message)
{
	struct snap_take *tk = userdata;
	struct snapshot *s = tk->s;
	int r = error;

	if (r == 0)
		r = publish(tk);
	if (r < 0) {
		take_end(tk, fault_of(tk, r), error < 0 ? message : strerror(-r));
		return;
	}
	s->ready = true;
	log_sandbox(LOG_INFO, s->sandbox_id, NULL, 0, "Snapshot %s of %s is made, which stood for %llu ms", s->id, s->sandbox_id,
		    (unsigned long long)(s->pause_usec / USEC_PER_MSEC));
	take_end(tk, FAULT_NONE, NULL);
}

static void exported(void *userdata, int error, const char *message)
{
	struct snap_take *tk = userdata;
	_cleanup_free_ char *ram = snapshot_path(tk->manager, tk->s->id, MEMSNAP_RAM);
	int r = error < 0 ? error : ram ? 0 : -ENOMEM;

	if (r == 0 && tk->manager->stopping)
		r = -ECANCELED;
	if (r == 0)
		r = disk_sync(tk->manager->workers, ram, synced, tk);
	if (r < 0)
		take_end(tk, fault_of(tk, r), error < 0 ? message : strerror(-r));
}

static void export(struct snap_take *tk)
{
	_cleanup_free_ char *state = snapshot_path(tk->manager, tk->s->id, SNAPSHOT_STATE);

	if (!state || tk->manager->stopping)
		take_end(tk, fault_of(tk, -ENOMEM), "out of memory");
	else
		virt_domain_export(tk->manager->virt, tk->receiver->id, state, exported, tk);
}

/* --- copy: the source --- */

static char *kept_layer(const struct snapshot *s)
{
	char name[DOMAIN_LAYER_MAX];

	domain_layer_name(s->layers + 1, name);
	return snapshot_path(s->manager, s->id, name);
}

static void finished(void *userdata, int error, const char *message, uint64_t pause_usec)
{
	struct snap_take *tk = userdata;

	if (error < 0) {
		fail_settle(tk, error, message);
		return;
	}
	tk->s->pause_usec = pause_usec;
	if (copying(tk))
		pause_move_end(tk->sb, FAULT_NONE, NULL);
	export(tk);
}

/* The source stands, and its disk goes on in another layer: this is the instant. */
static void copied(void *userdata, int error, const char *message, uint64_t stopped_usec)
{
	struct snap_take *tk = userdata;
	struct sandbox *sb = tk->sb;
	_cleanup_free_ char *proc = snapshot_path(tk->manager, tk->s->id, SNAPSHOT_PROC), *monitor = domain_monitor(sb);
	struct virt_copy copy = { .receiver = tk->receiver->id, .kept = tk->kept, .monitor = monitor };
	int r;

	if (error < 0 || !copying(tk)) {
		fail_settle(tk, error < 0 ? error : -ECANCELED, message);
		return;
	}
	tk->s->created_usec = clock_realtime();
	r = proc && monitor ? procstore_copy(sb, proc) : -ENOMEM;
	sb->layers++;
	tk->s->layers += tk->kept != NULL;
	sandbox_save(sb);
	if (r < 0)
		fail_settle(tk, r, strerror(-r));
	else
		virt_domain_copy_finish(tk->manager->virt, sb->id, &copy, stopped_usec, finished, tk);
}

void snapshot_receiver_ready(struct sandbox *receiver)
{
	struct snapshot *s;
	struct snap_take *tk = NULL;
	_cleanup_free_ char *overlay = NULL, *monitor = NULL;
	struct virt_copy copy;

	list_foreach(&receiver->manager->snapshots, s, struct snapshot, link)
		if (s->take && s->take->receiver == receiver)
			tk = s->take;
	create_slot_release(receiver);
	if (!tk) {
		sandbox_destroy(receiver, SANDBOX_END_REQUEST, NULL, NULL);
		return;
	}
	sandbox_unwait(&receiver->create_waiters, tk);
	overlay = domain_layer(tk->sb, tk->sb->layers + 1);
	monitor = domain_monitor(tk->sb);
	copy = (struct virt_copy){ .receiver = receiver->id, .overlay = overlay, .kept = tk->kept, .monitor = monitor };
	if (!copying(tk) || !overlay || !monitor)
		fail(tk, -ECANCELED, "the sandbox has ended");
	else
		virt_domain_copy(tk->manager->virt, tk->sb->id, &copy, copied, tk);
}

/* Its creation has ended; when all is well it never says so, see above */
static void receiver_failed(void *userdata, enum fault fault, const char *detail)
{
	struct snap_take *tk = userdata;

	if (fault == FAULT_NONE)
		return;
	if (copying(tk))
		pause_move_end(tk->sb, FAULT_NONE, NULL);
	take_end(tk, fault == FAULT_START_FAILED ? fault_of(tk, -EIO) : fault, detail);
}

/* --- overlay, files --- */

static void layered(void *userdata, int error, const char *message)
{
	struct snap_take *tk = userdata;
	struct sandbox *sb = tk->sb, *receiver = NULL;
	char *image;
	int r = error;

	if (r == 0 && !copying(tk))
		r = -ECANCELED;
	image = r == 0 ? strdup(sb->image) : NULL;
	if (r == 0 && !image)
		r = -ENOMEM;
	if (r == 0)
		r = create_hidden(tk->manager, SANDBOX_FOR_COPY, sb->options.template, "", receiver_failed, tk, &receiver);
	if (r < 0) {
		free(image);
		fail(tk, r, error < 0 ? message : NULL);
		return;
	}
	tk->receiver = receiver;
	memcpy(receiver->from, tk->s->id, sizeof(receiver->from));
	free(receiver->image);
	receiver->image = image;
	receiver->vcpus = sb->vcpus;
	receiver->memory_mb = sb->memory_mb;
	receiver->disk_mb = sb->disk_mb;
}

/* For QEMU too. size: all of it now, as a file that cannot grow when it is written through a mapping is a signal that kills. */
static int make_file(const struct snapshot *s, const char *path, uint64_t size)
{
	_cleanup_close_ int fd = path ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600) : -EBADF;
	int r;

	if (fd < 0)
		return path ? -errno : -ENOMEM;
	if (fchown(fd, (uid_t)-1, s->manager->vm_gid) < 0 || fchmod(fd, 0660) < 0)
		return -errno;
	if (size == 0)
		return 0;
	do
		r = posix_fallocate(fd, 0, (off_t)size);
	while (r == EINTR);
	return -r;
}

static int make_files(const struct snapshot *s, const struct sandbox *sb, const char *kept)
{
	_cleanup_free_ char *ram = snapshot_path(s->manager, s->id, MEMSNAP_RAM);
	_cleanup_free_ char *dir = snapshot_path(s->manager, s->id, NULL), *from = sandbox_path(sb, NULL);
	int r = dir && from ? dir_make(dir, 0710) : -ENOMEM;

	if (r == 0 && chown(dir, (uid_t)-1, s->manager->vm_gid) < 0)
		r = -errno;
	if (r == 0)
		r = snapshot_link_layers(from, dir, s->layers);
	if (r == 0 && kept)
		r = make_file(s, kept, 0);
	return r == 0 ? make_file(s, ram, s->memory_mb << 20) : r;
}

static struct snapshot *describe(struct sandbox *sb)
{
	struct snapshot *s;
	char id[SNAPSHOT_ID_MAX];

	ident_snapshot(id);
	s = snapshot_new(sb->manager, id);
	if (!s)
		return NULL;
	memcpy(s->sandbox_id, sb->id, sizeof(s->sandbox_id));
	memcpy(s->frozen, sb->snapshot, sizeof(s->frozen));
	s->owner = strdup(sb->owner);
	s->name = strdup(sb->options.name);
	s->template_id = strdup(sb->template_id);
	s->image = strdup(sb->image);
	s->layers = sb->layers;
	s->vcpus = sb->vcpus;
	s->memory_mb = sb->memory_mb;
	s->disk_mb = sb->disk_mb;
	s->created_usec = clock_realtime();
	if (!s->owner || !s->name || !s->template_id || !s->image || memsnap_platform(sb->manager, s->platform) < 0)
		return snapshot_free(s);
	return s;
}

static uint64_t count_of(const struct manager *m, const char *owner)
{
	const struct snapshot *s;
	uint64_t n = 0;

	list_foreach((struct list *)(uintptr_t)&m->snapshots, s, struct snapshot, link)
		n += str_eq(s->owner, owner);
	return n;
}

enum fault snapshot_take(struct sandbox *sb, snapshot_done_fn fn, void *userdata, const char **ret_detail)
{
	struct manager *m = sb->manager;
	_cleanup_free_ char *lower = domain_disk(sb), *overlay = domain_layer(sb, sb->layers + 1);
	struct snap_take *tk;
	struct snapshot *s;
	enum fault fault;
	const bool kvm = accel_is_kvm(&m->accel);
	int r;

	*ret_detail = sandbox_state_name(sb->state);
	if (sb->state != SANDBOX_RUNNING || sb->moving != SANDBOX_MOVE_NONE || sb->destroying || !sb->agent)
		return FAULT_SANDBOX_STATE;
	fault = manager_blocked(m, ret_detail);
	if (fault != FAULT_NONE && fault != FAULT_LIMIT_SANDBOXES)
		return fault;
	if (count_of(m, sb->owner) >= m->settings.snapshots_max)
		return FAULT_SNAPSHOT_LIMIT;
	*ret_detail = "its disk consists of as many layers as one may have; put what you need into a new one";
	if (sb->layers >= SNAPSHOT_LAYERS_MAX - 1)
		return FAULT_SNAPSHOT_FAILED;
	tk = calloc(1, sizeof(*tk));
	s = tk && lower && overlay ? describe(sb) : NULL;
	if (!s) {
		free(tk);
		*ret_detail = "out of memory";
		return FAULT_INTERNAL;
	}
	*tk = (struct snap_take){ .manager = m, .s = s, .sb = sandbox_ref(sb), .fn = fn, .userdata = userdata };
	s->take = tk;
	list_prepend(&m->snapshots, &s->link);
	tk->kept = kvm ? NULL : kept_layer(s);
	r = kvm || tk->kept ? make_files(s, sb, tk->kept) : -ENOMEM;
	if (r == 0)
		r = disk_layer(m->workers, lower, overlay, m->vm_gid, layered, tk);
	if (r < 0) {
		tk->fn = NULL;
		fault = fault_of(tk, r);
		*ret_detail = strerror(-r);
		take_end(tk, fault, *ret_detail);
		return fault;
	}
	pause_move_begin(sb, SANDBOX_MOVE_COPYING);
	return FAULT_NONE;
}

void snapshot_forget(struct manager *m, const void *userdata)
{
	struct snapshot *s;

	list_foreach(&m->snapshots, s, struct snapshot, link)
		if (s->take && s->take->userdata == userdata)
			s->take->fn = NULL;
}

/* --- after a daemon or a connection that ended in the middle --- */

static void settled(void *userdata, int error, const char *message, bool switched)
{
	struct sandbox *sb = userdata;

	sb->asked = false;
	if (!sb->destroying && !sb->manager->stopping && sb->moving == SANDBOX_MOVE_COPYING) {
		if (error < 0) {
			log_sandbox(LOG_WARNING, sb->id, NULL, error, "What a snapshot has left of %s: %s: %m", sb->id, message);
			if (error != -ENOTCONN)
				manager_recover_later(sb->manager);
		} else {
			sb->layers += switched;
			sb->settled = true;
			sandbox_save(sb);
			recover_run(sb->manager);
		}
	}
	sandbox_unref(sb);
}

void snapshot_settle(struct sandbox *sb)
{
	_cleanup_free_ char *overlay = domain_layer(sb, sb->layers + 1);

	if (sb->asked || !overlay)
		return;
	sb->asked = true;
	virt_domain_settle(sb->manager->virt, sb->id, overlay, settled, sandbox_ref(sb));
}
