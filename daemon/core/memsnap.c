/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory snapshots, see memsnap.h. */
#include "core/memsnap.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "core/create.h"
#include "core/disk.h"
#include "core/domain.h"
#include "core/manager.h"
#include "core/pool.h"
#include "core/snapshot.h"
#include "core/warm.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/fileio.h"
#include "util/log.h"

/* To be counted up when the domain's devices, their order or the memory's name change */
#define LAYOUT 2
#define READY "ready"
#define RETRY_USEC (60 * USEC_PER_SEC)
#define RETRY_MAX_USEC (3600 * USEC_PER_SEC)
#define DISTRUST_MAX 3
/* The guest is told by an interrupt that nobody is connected any more, and looks once a second besides */
#define QUIET_USEC (1500 * USEC_PER_MSEC)

/* The interpreters are read into the page cache; what is written then is on the disk */
static const char warm_script[] = "for p in python3 node; do command -v $p >/dev/null && $p --version; done; "
				  "command -v python3 >/dev/null && python3 -c 'import json, os, sys'; sync";

/* --- paths and keys --- */

char *memsnap_path(const struct manager *m, const char *key, const char *file)
{
	return str_format("%s/memory/%s%s%s", m->settings.state_dir, key, file ? "/" : "", file ?: "");
}

/* Not the device: its number is another one after each mount */
static char *file_id(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return NULL;
	return str_format("%lx-%lx-%lx.%lx", (unsigned long)st.st_ino, (unsigned long)st.st_size,
			  (unsigned long)st.st_mtim.tv_sec, (unsigned long)st.st_mtim.tv_nsec);
}

/* The processor, for a guest that sees the host's own */
static char *cpu_id(void)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 20);
	const char *model, *flags;

	if (file_read("/proc/cpuinfo", 1 << 20, &text) < 0 || !text.data)
		return NULL;
	model = strstr(text.data, "model name");
	flags = strstr(text.data, "flags");
	return str_format("%.*s|%.*s", model ? (int)strcspn(model, "\n") : 0, model ?: "", flags ? (int)strcspn(flags, "\n") : 0,
			  flags ?: "");
}

static int key_make(struct manager *m, const struct template *t, char ret[MEMSNAP_KEY_MAX])
{
	_cleanup_free_ char *kernel = file_id(m->templates.kernel), *initramfs = file_id(m->templates.initramfs);
	_cleanup_free_ char *image = file_id(t->rootfs), *emulator = file_id(m->settings.emulator), *cpu = NULL;
	_cleanup_free_ char *cmdline = domain_cmdline(m, 1), *text = NULL;	/* a measured frequency is never the same */
	struct virt_version version = { 0 };
	char digest[DIGEST_TEXT_MAX];

	if (!m->cpu_id)
		m->cpu_id = cpu_id();
	cpu = m->cpu_id ? strdup(m->cpu_id) : NULL;
	if (!kernel || !initramfs || !image || !emulator || !cpu || !cmdline)
		return -ENOENT;
	virt_get_version(m->virt, &version);
	if (!version.qemu)
		return -ENOTCONN;
	text = str_format("%d|%s|%s|%s|%s|%s|%s|%s|%s|%lu|%lu|%s|%llu|%llu", LAYOUT, t->name, t->rootfs, kernel, initramfs, image, emulator, cpu,
			  cmdline, version.qemu, version.libvirt, accel_name(&m->accel), (unsigned long long)t->vcpus,
			  (unsigned long long)t->memory_mb);
	if (!text)
		return -ENOMEM;
	digest_text(text, strlen(text), digest);
	snprintf(ret, MEMSNAP_KEY_MAX, "%.32s", digest);
	return 0;
}

int memsnap_platform(struct manager *m, char ret[MEMSNAP_KEY_MAX])
{
	_cleanup_free_ char *emulator = file_id(m->settings.emulator), *text = NULL;
	struct virt_version version = { 0 };
	char digest[DIGEST_TEXT_MAX];

	if (!m->cpu_id)
		m->cpu_id = cpu_id();
	virt_get_version(m->virt, &version);
	if (!m->cpu_id || !emulator)
		return -ENOENT;
	if (!version.qemu)
		return -ENOTCONN;
	text = str_format("%d|%s|%s|%lu|%lu|%s", LAYOUT, emulator, m->cpu_id, version.qemu, version.libvirt, accel_name(&m->accel));
	if (!text)
		return -ENOMEM;
	digest_text(text, strlen(text), digest);
	snprintf(ret, MEMSNAP_KEY_MAX, "%.32s", digest);
	return 0;
}

static bool on_disk(const struct manager *m, const char *key)
{
	_cleanup_free_ char *path = memsnap_path(m, key, READY);

	return path && access(path, F_OK) == 0;
}

struct memsnap *memsnap_get(struct manager *m, const struct template *t)
{
	struct memsnap *ms;

	list_foreach(&m->memsnaps, ms, struct memsnap, link)
		if (ms->template == t)
			return ms;
	return NULL;
}

const struct memsnap *memsnap_ready(struct manager *m, const struct template *t)
{
	struct memsnap *ms = m->settings.fork ? memsnap_get(m, t) : NULL;
	char key[MEMSNAP_KEY_MAX];

	if (!ms || ms->state != MEMSNAP_READY || key_make(m, t, key) < 0)
		return NULL;
	if (str_eq(key, ms->key) && on_disk(m, key))
		return ms;
	log_info("The memory snapshot of template \"%s\" is of something else by now: it is made anew", t->name);
	ms->state = MEMSNAP_NONE;
	memsnap_kick(m);
	return NULL;
}

void memsnap_trust(struct manager *m, const char *key)
{
	struct memsnap *ms;

	list_foreach(&m->memsnaps, ms, struct memsnap, link)
		if (str_eq(ms->key, key))
			ms->distrust = 0;
}

void memsnap_distrust(struct manager *m, const char *key)
{
	struct memsnap *ms;

	list_foreach(&m->memsnaps, ms, struct memsnap, link)
		if (str_eq(ms->key, key) && ms->state == MEMSNAP_READY && ++ms->distrust >= DISTRUST_MAX) {
			log_error("Clones of template \"%s\" fail one after the other: its sandboxes boot until declawd restarts",
				  ms->template->name);
			ms->state = MEMSNAP_BROKEN;
		}
}

/* --- building --- */

static void build_over(struct memsnap *ms, enum memsnap_state state, const char *why)
{
	struct manager *m = ms->manager;
	struct sandbox *sb = ms->builder;

	ms->builder = NULL;
	ms->timer = sd_event_source_disable_unref(ms->timer);
	ms->state = state;
	if (state == MEMSNAP_READY) {
		ms->failures = 0;
		log_info("Template \"%s\" has its memory snapshot: it is forked from now on", ms->template->name);
	} else {
		uint64_t wait = MIN_OF(RETRY_USEC << MIN_OF(ms->failures, 6u), RETRY_MAX_USEC);

		ms->failures++;
		ms->not_before_usec = clock_monotonic() + wait;
		log_warning("No memory snapshot of template \"%s\", its sandboxes boot: %s", ms->template->name, why ?: "no detail");
	}
	if (sb) {
		sandbox_unwait(&sb->create_waiters, ms);
		sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
		sandbox_unref(sb);
	}
	memsnap_kick(m);
}

static void build_failed(struct memsnap *ms, const char *why)
{
	build_over(ms, MEMSNAP_NONE, why);
}

static bool building(const struct memsnap *ms)
{
	return ms->state == MEMSNAP_BUILDING && !ms->manager->stopping;
}

/* Each asynchronous step holds a reference of the builder: what it works for is not freed meanwhile */
struct build_step {
	struct memsnap *ms;
	struct sandbox *sb;
};

static struct memsnap *step_over(struct build_step *st)
{
	struct memsnap *ms = st->ms;
	struct sandbox *sb = st->sb;
	bool still = building(ms) && ms->builder == sb;

	free(st);
	if (!sandbox_step_end(sb))
		return NULL;
	return still ? ms : NULL;
}

static struct build_step *step_begin(struct memsnap *ms)
{
	struct build_step *st = calloc(1, sizeof(*st));

	if (st) {
		*st = (struct build_step){ ms, ms->builder };
		sandbox_step_begin(ms->builder);
	}
	return st;
}

static void finish(struct memsnap *ms)
{
	_cleanup_free_ char *ready = memsnap_path(ms->manager, ms->key, READY);
	_cleanup_free_ char *disk = memsnap_path(ms->manager, ms->key, MEMSNAP_DISK);
	_cleanup_free_ char *text = str_format("template %s\n", ms->template->name);
	int r = ready && disk && text ? 0 : -ENOMEM;

	if (r == 0 && chmod(disk, 0440) < 0)
		r = -errno;
	if (r == 0)
		r = file_write_atomic(ready, text, strlen(text), 0600, true);
	if (r < 0)
		build_failed(ms, strerror(-r));
	else
		build_over(ms, MEMSNAP_READY, NULL);
}

static void synced(void *userdata, int error, const char *message)
{
	struct memsnap *ms = step_over(userdata);

	if (!ms)
		return;
	if (error < 0)
		build_failed(ms, message);
	else
		finish(ms);
}

static void exported(void *userdata, int error, const char *message)
{
	struct memsnap *ms = step_over(userdata);
	_cleanup_free_ char *ram = ms ? memsnap_path(ms->manager, ms->key, MEMSNAP_RAM) : NULL;
	struct build_step *st;

	if (!ms)
		return;
	st = error < 0 || !ram ? NULL : step_begin(ms);
	if (!st) {
		build_failed(ms, error < 0 ? message : "out of memory");
	} else if (disk_sync(ms->manager->workers, ram, synced, st) < 0) {
		step_over(st);
		build_failed(ms, "out of memory");
	}
}

static void suspended(void *userdata, int error, const char *message)
{
	struct memsnap *ms = step_over(userdata);
	_cleanup_free_ char *state = ms ? memsnap_path(ms->manager, ms->key, MEMSNAP_STATE) : NULL;
	struct build_step *st;

	if (!ms)
		return;
	st = error < 0 || !state ? NULL : step_begin(ms);
	if (!st)
		build_failed(ms, error < 0 ? message : "out of memory");
	else
		virt_domain_export(ms->manager->virt, ms->builder->id, state, exported, st);
}

static int on_quiet(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct memsnap *ms = userdata;
	struct build_step *st;

	ms->timer = sd_event_source_disable_unref(ms->timer);
	st = step_begin(ms);
	if (!st)
		build_failed(ms, "out of memory");
	else
		virt_domain_suspend(ms->manager->virt, ms->builder->id, suspended, st);
	return 0;
}

static struct memsnap *of_builder(struct sandbox *sb)
{
	struct memsnap *ms;

	list_foreach(&sb->manager->memsnaps, ms, struct memsnap, link)
		if (ms->builder == sb)
			return ms;
	return NULL;
}

static void warmed(struct sandbox *sb, bool ok)
{
	struct memsnap *ms = of_builder(sb);

	if (!ms)
		return;
	if (!ok) {
		build_failed(ms, "no command runs in it");
		return;
	}
	/* A clone would inherit the connection, half-way */
	agent_detach(sb->agent);
	sb->agent_up = false;
	if (sd_event_add_time_relative(ms->manager->event, &ms->timer, CLOCK_MONOTONIC, QUIET_USEC, 0, on_quiet, ms) < 0)
		build_failed(ms, "out of memory");
}

void memsnap_booted(struct sandbox *sb)
{
	create_slot_release(sb);
	warm_run(sb, warm_script, 1, warmed);
}

/* The hidden sandbox's creation has ended; without a fault it never says so, see memsnap_booted() */
static void build_created(void *userdata, enum fault fault, const char *detail)
{
	if (fault != FAULT_NONE)
		build_failed(userdata, detail ?: "it does not boot");
}

static int make_files(struct manager *m, const struct memsnap *ms)
{
	_cleanup_free_ char *dir = memsnap_path(m, ms->key, NULL), *ram = memsnap_path(m, ms->key, MEMSNAP_RAM);
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (!dir || !ram)
		return -ENOMEM;
	r = dir_make(dir, 0710);
	if (r == 0 && chown(dir, (uid_t)-1, m->vm_gid) < 0)
		r = -errno;
	if (r < 0)
		return r;
	fd = open(ram, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fchown(fd, (uid_t)-1, m->vm_gid) < 0 || fchmod(fd, 0660) < 0 ||
	    ftruncate(fd, (off_t)(ms->template->memory_mb << 20)) < 0)
		return -errno;
	return 0;
}

static void build(void *userdata, int error, const char *message)
{
	struct memsnap *ms = userdata;
	struct manager *m = ms->manager;
	int r = error;

	if (!building(ms))
		return;
	if (r == 0)
		r = make_files(m, ms);
	if (r == 0)
		r = create_hidden(m, SANDBOX_FOR_SNAPSHOT, ms->template, ms->key, build_created, ms, &ms->builder);
	if (r < 0)
		build_failed(ms, error < 0 ? message : strerror(-r));
}

/* From nothing: what an earlier try has left is in the way */
static void build_begin(struct memsnap *ms)
{
	struct manager *m = ms->manager;
	_cleanup_free_ char *dir = memsnap_path(m, ms->key, NULL);

	ms->state = MEMSNAP_BUILDING;
	if (!dir || disk_remove_tree(m->workers, dir, build, ms) < 0)
		build_failed(ms, "out of memory");
}

/* --- what there is, and what is of no use --- */

static bool used(struct manager *m, const char *key)
{
	struct memsnap *ms;
	struct sandbox *sb;

	list_foreach(&m->memsnaps, ms, struct memsnap, link)
		if (str_eq(ms->key, key))
			return true;
	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (str_eq(sb->snapshot, key) && (sb->state != SANDBOX_KILLED || sb->held))
			return true;
	return snapshot_uses(m, key);
}

static void stray_gone(void *userdata _unused_, int error, const char *message)
{
	if (error < 0)
		log_full(LOG_WARNING, NULL, NULL, error, __FILE__, __LINE__, "An old memory snapshot: %s: %m", message);
}

static void remove_unused(struct manager *m)
{
	_cleanup_free_ char *dir = str_format("%s/memory", m->settings.state_dir);
	DIR *d = dir ? opendir(dir) : NULL;
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		_cleanup_free_ char *path = NULL;

		if (e->d_name[0] == '.' || used(m, e->d_name))
			continue;
		path = memsnap_path(m, e->d_name, NULL);
		if (path)
			disk_remove_tree(m->workers, path, stray_gone, NULL);
	}
	if (d)
		closedir(d);
}

static bool key_again(struct memsnap *ms)
{
	char key[MEMSNAP_KEY_MAX];

	if (key_make(ms->manager, ms->template, key) < 0)
		return false;
	if (!str_eq(key, ms->key)) {
		memcpy(ms->key, key, sizeof(key));
		ms->failures = ms->distrust = 0;
	}
	return true;
}

void memsnap_kick(struct manager *m)
{
	struct memsnap *ms;

	if (!m->settings.fork || !m->ready || m->stopping || m->closing || !virt_is_connected(m->virt))
		return;
	list_foreach(&m->memsnaps, ms, struct memsnap, link)
		if (ms->state == MEMSNAP_BUILDING)
			return;
	list_foreach(&m->memsnaps, ms, struct memsnap, link) {
		if (ms->state != MEMSNAP_NONE || clock_monotonic() < ms->not_before_usec || !key_again(ms))
			continue;
		if (!on_disk(m, ms->key)) {
			build_begin(ms);
			return;
		}
		ms->state = MEMSNAP_READY;
	}
	remove_unused(m);
	pool_kick(m);
}

int memsnap_start(struct manager *m)
{
	struct template *t;

	if (!list_empty(&m->memsnaps))
		return 0;
	list_foreach(&m->templates.templates, t, struct template, link) {
		struct memsnap *ms = calloc(1, sizeof(*ms));

		if (!ms)
			return -ENOMEM;
		ms->manager = m;
		ms->template = t;
		list_append(&m->memsnaps, &ms->link);
	}
	memsnap_kick(m);
	return 0;
}

void memsnap_stop(struct manager *m)
{
	struct memsnap *ms;

	list_foreach(&m->memsnaps, ms, struct memsnap, link) {
		list_unlink(&ms->link);
		sd_event_source_disable_unref(ms->timer);
		sandbox_unref(ms->builder);
		free(ms);
	}
	free(m->cpu_id);
	m->cpu_id = NULL;
}
