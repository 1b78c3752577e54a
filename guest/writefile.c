/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole small files, replaced by rename so that a reader never sees half of one.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "util/macro.h"
#include "writefile.h"

static int write_all(int fd, const char *text)
{
	size_t len = strlen(text);
	ssize_t n = write(fd, text, len);

	return n < 0 ? -errno : (size_t)n < len ? -EIO : 0;
}

int write_file(const char *path, const char *text, mode_t mode)
{
	char temp[256];
	_cleanup_close_ int fd = -EBADF;
	int r;

	snprintf(temp, sizeof(temp), "%.200s.declaw-new", path);
	unlink(temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text);
	if (r == 0 && (fchmod(fd, mode) < 0 || rename(temp, path) < 0))
		r = -errno;
	if (r < 0)
		unlink(temp);
	return r;
}

int write_setting(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : write_all(fd, text);
}
