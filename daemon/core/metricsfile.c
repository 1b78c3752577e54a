/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/metricsfile.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>

#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

/* Of the largest ring that can be configured, and more */
#define FILE_SIZE_MAX (16u << 20)
/* A clock that was set back a little is no reason to forget */
#define AHEAD_MAX (60 * USEC_PER_SEC)

static char *metricsfile_path(const struct sandbox *sb)
{
	return sandbox_path(sb, "metrics");
}

static bool sample_valid(const struct metrics_sample *s)
{
	return s->at_usec > 0 && s->at_usec < clock_realtime() + AHEAD_MAX && s->cpu_percent >= 0 && s->cpu_percent <= 100 &&
	       s->memory_mb >= 0 && isfinite(s->memory_mb) && s->disk_mb >= 0 && isfinite(s->disk_mb);
}

static int by_time(const void *a, const void *b)
{
	const struct metrics_sample *x = a, *y = b;

	return x->at_usec < y->at_usec ? -1 : x->at_usec > y->at_usec;
}

size_t metricsfile_load(const struct sandbox *sb, struct metrics_sample *ring, size_t size)
{
	_cleanup_free_ char *path = metricsfile_path(sb);
	_cleanup_free_ struct metrics_sample *all = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT(FILE_SIZE_MAX);
	size_t n = 0, kept;

	if (!path || size == 0 || file_read(path, FILE_SIZE_MAX, &text) < 0 || text.len < sizeof(*all))
		return 0;
	all = malloc(text.len);
	if (!all)
		return 0;
	for (size_t at = 0; at + sizeof(*all) <= text.len; at += sizeof(*all)) {
		memcpy(&all[n], text.data + at, sizeof(*all));
		n += sample_valid(&all[n]);
	}
	qsort(all, n, sizeof(*all), by_time);
	kept = n < size ? n : size;
	memcpy(ring, all + (n - kept), kept * sizeof(*all));
	file_write_atomic(path, ring, kept * sizeof(*all), 0600, false);
	return kept;
}

void metricsfile_put(const struct sandbox *sb, size_t slot, const struct metrics_sample *s)
{
	_cleanup_free_ char *path = metricsfile_path(sb);
	_cleanup_close_ int fd = path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -EBADF;

	if (fd < 0 || pwrite(fd, s, sizeof(*s), (off_t)(slot * sizeof(*s))) != (ssize_t)sizeof(*s))
		log_debug("A sample of %s is not on disk", sb->id);
}
