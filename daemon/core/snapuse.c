/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sandboxes made of a user's snapshot, see snapshot.h. */
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "core/domain.h"
#include "core/manager.h"
#include "core/memsnap.h"
#include "core/proc.h"
#include "core/procstore.h"
#include "core/snapshot.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

bool snapshot_fits(const struct snapshot *s)
{
	char platform[MEMSNAP_KEY_MAX];

	return memsnap_platform(s->manager, platform) == 0 && str_eq(platform, s->platform);
}

enum fault snapshot_admit(struct manager *m, struct sandbox_options *options, const char **ret_detail)
{
	const struct snapshot *s = snapshot_find(m, options->snapshot_id);
	char *name;

	*ret_detail = NULL;
	if (!s)
		return FAULT_SNAPSHOT_UNKNOWN;
	*ret_detail = s->name;
	options->template = template_find(&m->templates, s->template_id);
	if (!options->template)
		return FAULT_TEMPLATE_UNKNOWN;
	name = strdup(s->name);
	if (!name)
		return FAULT_INTERNAL;
	free(options->name);
	options->name = name;
	return snapshot_fits(s) ? FAULT_NONE : FAULT_SNAPSHOT_STALE;
}

int snapshot_describe(struct sandbox *sb, const struct snapshot *s)
{
	char *image = strdup(s->image);

	if (!image)
		return -ENOMEM;
	free(sb->image);
	sb->image = image;
	memcpy(sb->from, s->id, sizeof(sb->from));
	memcpy(sb->snapshot, s->frozen, sizeof(sb->snapshot));
	sb->from_usec = s->created_usec;
	sb->layers = s->layers + 1;
	sb->vcpus = s->vcpus;
	sb->memory_mb = s->memory_mb;
	sb->disk_mb = s->disk_mb;
	return 0;
}

int snapshot_assign(struct sandbox *sb)
{
	const struct snapshot *s = snapshot_find(sb->manager, sb->options.snapshot_id);

	return s ? snapshot_describe(sb, s) : -ENOENT;
}

static int link_file(const char *from, const char *to, const char *name)
{
	_cleanup_free_ char *old = str_format("%s/%s", from, name), *new = str_format("%s/%s", to, name);

	if (!old || !new)
		return -ENOMEM;
	if (unlink(new) < 0 && errno != ENOENT)
		return -errno;
	return link(old, new) < 0 ? -errno : 0;
}

/* Records are replaced, spools are written into: each sandbox needs its own. */
static int copy_file(const char *from, const char *to, const char *name)
{
	_cleanup_free_ char *old = str_format("%s/%s", from, name), *new = str_format("%s/%s", to, name);
	_cleanup_buf_ struct buf data = BUF_INIT(1 << 20);
	int r = old && new ? file_read(old, 1 << 20, &data) : -ENOMEM;

	return r < 0 ? r : file_write_atomic(new, data.data ?: "", data.len, 0600, false);
}

static int copy_processes(const char *from, const struct sandbox *sb)
{
	_cleanup_free_ char *to = sandbox_path(sb, SNAPSHOT_PROC);
	int r = to ? procstore_dir(sb) : -ENOMEM;
	DIR *d = r == 0 ? opendir(from) : NULL;
	const struct dirent *e;

	if (r == 0 && !d)
		return -errno;
	while (r == 0 && (e = readdir(d)))
		if (e->d_name[0] != '.')
			r = copy_file(from, to, e->d_name);
	if (d)
		closedir(d);
	return r;
}

int snapshot_adopt_files(struct sandbox *sb)
{
	struct manager *m = sb->manager;
	const struct snapshot *s = snapshot_find(m, sb->from);
	_cleanup_free_ char *from = snapshot_path(m, sb->from, NULL), *proc = snapshot_path(m, sb->from, SNAPSHOT_PROC);
	_cleanup_free_ char *to = sandbox_path(sb, NULL);
	int r = from && proc && to ? 0 : -ENOMEM;

	if (!s)
		return -ENOENT;
	if (r == 0)
		r = snapshot_link_layers(from, to, s->layers);
	if (r == 0)
		r = link_file(from, to, MEMSNAP_RAM);
	if (r == 0)
		r = link_file(from, to, SNAPSHOT_STATE);
	if (r == 0)
		r = copy_processes(proc, sb);
	return r;
}

/* QEMU has them open: the disk space is the snapshot's alone */
static void forget_memory(const struct sandbox *sb)
{
	_cleanup_free_ char *ram = sandbox_path(sb, MEMSNAP_RAM), *state = sandbox_path(sb, SNAPSHOT_STATE);

	if (ram)
		unlink(ram);
	if (state)
		unlink(state);
}

int snapshot_adopt_processes(struct sandbox *sb)
{
	uint64_t now = clock_realtime();
	int r = sandbox_make_agent(sb);

	forget_memory(sb);
	if (r < 0)
		return r;
	proc_recover(sb);
	/* No command's time ran while it was in a file */
	proc_release_timeouts(sb, now - MIN_OF(now, sb->from_usec));
	proc_resume_streams(sb);
	return 0;
}
