/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Overlay disks, see disk.h. run functions are on workers: plain values only. */
#include "core/disk.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "loop/workers.h"
#include "util/fileio.h"
#include "util/ident.h"
#include "util/str.h"

struct disk_job {
	char *image, *cache_dir, *path;
	char *more[DISK_REMOVE_MAX - 1];	/* to be removed behind path */
	const char *format;
	gid_t gid;
	disk_done_fn fn;
	void *userdata;
	int error;
	const char *step;
};

static void disk_job_free(struct disk_job *j)
{
	free(j->image);
	free(j->cache_dir);
	free(j->path);
	for (size_t i = 0; i < ELEMENTSOF(j->more); i++)
		free(j->more[i]);
	free(j);
}

/* size: of the new disk; NULL = the image's. With a size nobody looks at the image: it may be in use. */
static int run_qemu_img(const char *image, const char *format, const char *target, const char *size)
{
	const char *argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-o", "cluster_size=65536", "-b",
			       image, target, size, NULL, NULL };
	char *env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LC_ALL=C", NULL };
	pid_t pid;
	int r, status;

	if (size)
		argv[13] = "-u";
	r = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, env);
	if (r != 0)
		return -r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* Where the kernel does not copy for us: another file system, or one that cannot */
static int copy_plain(int in, int out)
{
	char data[65536];
	ssize_t n;

	while ((n = read(in, data, sizeof(data))) > 0)
		for (ssize_t done = 0, w; done < n; done += w) {
			w = write(out, data + done, (size_t)(n - done));
			if (w < 0)
				return -errno;
		}
	return n < 0 ? -errno : 0;
}

static int copy_file(const char *from, const char *to, mode_t mode, gid_t gid)
{
	_cleanup_close_ int in = open(from, O_RDONLY | O_CLOEXEC), out = -EBADF;
	ssize_t n;

	if (in < 0)
		return -errno;
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out < 0)
		return -errno;
	while ((n = copy_file_range(in, NULL, out, NULL, 1 << 20, 0)) > 0)
		;
	if (n < 0 && errno != EXDEV && errno != EOPNOTSUPP && errno != EINVAL)
		return -errno;
	if (n < 0) {
		int r = copy_plain(in, out);

		if (r < 0)
			return r;
	}
	if (fchown(out, (uid_t)-1, gid) < 0 || fchmod(out, mode) < 0)
		return -errno;
	return 0;
}

/* The cached empty overlay of this very image; made when missing, by rename, so that two makers do no harm. */
static int cache_ensure(const struct disk_job *j, char **ret)
{
	_cleanup_free_ char *cached = NULL, *temporary = NULL;
	char random[13];
	struct stat st;
	int r;

	if (stat(j->image, &st) < 0)
		return -errno;
	cached = str_format("%s/%lx-%lx-%lx.qcow2", j->cache_dir, (unsigned long)st.st_ino, (unsigned long)st.st_size,
			    (unsigned long)st.st_mtime);
	if (!cached)
		return -ENOMEM;
	if (access(cached, R_OK) < 0) {
		ident_fill(random, sizeof(random) - 1);
		temporary = str_format("%s.%s", cached, random);
		if (!temporary)
			return -ENOMEM;
		r = dir_make(j->cache_dir, 0750);
		if (r == 0)
			r = run_qemu_img(j->image, j->format, temporary, NULL);
		if (r == 0 && rename(temporary, cached) < 0)
			r = -errno;
		if (r < 0) {
			unlink(temporary);
			return r;
		}
	}
	*ret = TAKE_PTR(cached);
	return 0;
}

static void disk_run(void *arg)
{
	_cleanup_free_ char *cached = NULL;
	struct disk_job *j = arg;

	j->step = "making the empty overlay with qemu-img";
	j->error = cache_ensure(j, &cached);
	if (j->error < 0)
		return;
	j->step = "copying the overlay";
	j->error = copy_file(cached, j->path, 0660, j->gid);
}

static void disk_done(void *arg, bool cancelled)
{
	struct disk_job *j = arg;

	j->fn(j->userdata, cancelled ? -ECANCELED : j->error, j->step ?: "waiting for a worker");
	disk_job_free(j);
}

static void remove_run(void *arg)
{
	struct disk_job *j = arg;

	j->step = "removing files";
	j->error = dir_remove_tree(j->path);
	for (size_t i = 0; i < ELEMENTSOF(j->more) && j->more[i] && j->error == 0; i++)
		j->error = dir_remove_tree(j->more[i]);
}

static void sync_run(void *arg)
{
	struct disk_job *j = arg;
	_cleanup_close_ int fd = open(j->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	j->step = "syncing a file";
	j->error = fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int disk_submit(struct workers *workers, struct disk_job *j, work_run_fn run)
{
	int r = workers_submit(workers, WORK_LANE_FILE, WORK_NORMAL, workers_strand(j->path), run, disk_done, j, NULL);

	if (r < 0)
		disk_job_free(j);
	return r;
}

/* The size of a qcow2 disk stands in its header, big-endian */
static int disk_size(const char *path, uint64_t *ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint8_t head[32];

	if (fd < 0)
		return -errno;
	if (pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head) || memcmp(head, "QFI\xfb", 4) != 0)
		return -EBADMSG;
	*ret = 0;
	for (size_t i = 24; i < 32; i++)
		*ret = *ret << 8 | head[i];
	return 0;
}

static void layer_run(void *arg)
{
	struct disk_job *j = arg;
	const char *name = strrchr(j->image, '/');
	char size[24];
	uint64_t bytes = 0;

	j->step = "making an overlay with qemu-img";
	j->error = disk_size(j->image, &bytes);
	if (j->error < 0)
		return;
	if (unlink(j->path) < 0 && errno != ENOENT) {
		j->error = -errno;
		return;
	}
	snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	/* By its name alone: the layers are linked into other directories, always together */
	j->error = run_qemu_img(name ? name + 1 : j->image, "qcow2", j->path, size);
	if (j->error == 0 && (chown(j->path, (uid_t)-1, j->gid) < 0 || chmod(j->path, 0660) < 0))
		j->error = -errno;
}

static int disk_make(struct workers *workers, const char *image, const char *format, const char *cache_dir, const char *path,
		     gid_t gid, work_run_fn run, disk_done_fn fn, void *userdata)
{
	struct disk_job *j = calloc(1, sizeof(*j));

	if (!j)
		return -ENOMEM;
	j->image = strdup(image);
	j->cache_dir = cache_dir ? strdup(cache_dir) : NULL;
	j->path = strdup(path);
	j->format = format;
	j->gid = gid;
	j->fn = fn;
	j->userdata = userdata;
	if (!j->image || (cache_dir && !j->cache_dir) || !j->path) {
		disk_job_free(j);
		return -ENOMEM;
	}
	return disk_submit(workers, j, run);
}

int disk_create(struct workers *workers, const char *image, const char *format, const char *cache_dir, const char *path, gid_t gid,
		disk_done_fn fn, void *userdata)
{
	return disk_make(workers, image, format, cache_dir, path, gid, disk_run, fn, userdata);
}

int disk_layer(struct workers *workers, const char *lower, const char *path, gid_t gid, disk_done_fn fn, void *userdata)
{
	return disk_make(workers, lower, "qcow2", NULL, path, gid, layer_run, fn, userdata);
}

static int disk_path_job(struct workers *workers, const char *const *paths, size_t n, work_run_fn run, disk_done_fn fn,
			 void *userdata)
{
	struct disk_job *j = calloc(1, sizeof(*j));
	bool ok;

	if (!j)
		return -ENOMEM;
	j->fn = fn;
	j->userdata = userdata;
	j->path = strdup(paths[0]);
	ok = j->path;
	for (size_t i = 1; i < n && ok; i++) {
		j->more[i - 1] = strdup(paths[i]);
		ok = j->more[i - 1];
	}
	if (!ok) {
		disk_job_free(j);
		return -ENOMEM;
	}
	return disk_submit(workers, j, run);
}

int disk_remove_trees(struct workers *workers, const char *const *paths, size_t n, disk_done_fn fn, void *userdata)
{
	return disk_path_job(workers, paths, n, remove_run, fn, userdata);
}

int disk_remove_tree(struct workers *workers, const char *path, disk_done_fn fn, void *userdata)
{
	return disk_path_job(workers, &path, 1, remove_run, fn, userdata);
}

int disk_sync(struct workers *workers, const char *path, disk_done_fn fn, void *userdata)
{
	return disk_path_job(workers, &path, 1, sync_run, fn, userdata);
}
