/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole small files and directory trees.
 *
 * Writing goes to `.tmp-xxxxxxxxxx` in the same directory and is renamed over the target, so a
 * reader and a crash see the old file or the new one. Whoever enumerates such a directory skips
 * names that begin with a dot.
 *
 * Removal walks by file descriptors only: a symlink is removed and never followed, and a directory
 * of another file system (something got mounted there) stops it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "util/fileio.h"
#include "util/ident.h"

#define TMP_PREFIX ".tmp-"
#define TREE_DEPTH_MAX 64u /* one descriptor a level */

static inline void cleanup_closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}
#define _cleanup_closedir_ _cleanup_(cleanup_closedirp)

static int fd_read_all(int fd, struct buf *b)
{
	char chunk[16384];
	ssize_t n;
	int r;

	for (;;) {
		n = read(fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		r = buf_append(b, chunk, (size_t)n);
		if (r < 0)
			return r == -ENOBUFS ? -EFBIG : r;
		if (n == 0)
			return 0;
	}
}

int file_read(const char *path, size_t max, struct buf *ret)
{
	_cleanup_buf_ struct buf b = BUF_INIT(max);
	_cleanup_close_ int fd = -EBADF;
	int r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	r = fd_read_all(fd, &b);
	if (r < 0)
		return r;
	*ret = b;
	b.data = NULL;
	return 0;
}

static int fd_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;
	ssize_t n;

	while (len > 0) {
		n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The directory a path is in; *ret_name points into path. */
static int open_parent(const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = NULL;
	int fd;

	*ret_name = slash ? slash + 1 : path;
	if (!**ret_name)
		return -EISDIR;
	if (!slash)
		dir = strdup(".");
	else
		dir = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* fchmod() because the mode asked for is the mode wanted, whatever the umask. */
static int fill_tmp(int fd, const void *data, size_t len, mode_t mode, bool sync)
{
	int r = fd_write_all(fd, data, len);

	if (r < 0)
		return r;
	if (fchmod(fd, mode) < 0)
		return -errno;
	if (sync && fsync(fd) < 0)
		return -errno;
	return 0;
}

int file_write_atomic(const char *path, const void *data, size_t len, mode_t mode, bool sync)
{
	char tmp[sizeof(TMP_PREFIX) + IDENT_SHORT] = TMP_PREFIX;
	_cleanup_close_ int dir = -EBADF, fd = -EBADF;
	const char *name;
	int r;

	dir = open_parent(path, &name);
	if (dir < 0)
		return dir;
	ident_fill(tmp + sizeof(TMP_PREFIX) - 1, IDENT_SHORT);
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = fill_tmp(fd, data, len, mode, sync);
	if (r == 0 && renameat(dir, tmp, dir, name) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(dir, tmp, 0);
		return r;
	}
	return sync && fsync(dir) < 0 ? -errno : 0;
}

static int remove_at(int parent, const char *name, dev_t dev, unsigned depth);

static int remove_entries(DIR *d, dev_t dev, unsigned depth)
{
	struct dirent *de;
	int r;

	for (;;) {
		errno = 0;
		de = readdir(d);
		if (!de)
			return -errno;
		if (str_eq(de->d_name, ".") || str_eq(de->d_name, ".."))
			continue;
		r = remove_at(dirfd(d), de->d_name, dev, depth);
		if (r < 0)
			return r;
	}
}

/* Empties the directory; consumes fd. */
static int remove_contents(int fd, dev_t dev, unsigned depth)
{
	_cleanup_closedir_ DIR *d = NULL;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (st.st_dev != dev)
		r = -EXDEV;
	else if (depth == 0)
		r = -ELOOP;
	else
		r = 0;
	if (r == 0) {
		d = fdopendir(fd);
		if (d)
			return remove_entries(d, dev, depth - 1);
		r = -errno;
	}
	fd_close(fd);
	return r;
}

/* unlink first: all that is not a directory goes with one call that follows nothing. */
static int remove_at(int parent, const char *name, dev_t dev, unsigned depth)
{
	int fd, r;

	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOTDIR ? -EPERM : -errno;
	r = remove_contents(fd, dev, depth);
	if (r < 0)
		return r;
	if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

int dir_remove_tree(const char *path)
{
	_cleanup_close_ int parent = -EBADF;
	const char *name;
	struct stat st;

	parent = open_parent(path, &name);
	if (parent == -ENOENT)
		return 0;
	if (parent < 0)
		return parent;
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	return remove_at(parent, name, st.st_dev, TREE_DEPTH_MAX);
}

int dir_make(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return chmod(path, mode) < 0 ? -errno : 0; /* exactly mode, whatever the umask */
	if (errno != EEXIST)
		return -errno;
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}
