/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FILE_READ: a regular file onto a stream. Bytes are read from the file straight into the frame that carries
 * them, and read again if they have to be replayed, so a download holds no memory. The size in the reply is
 * that of the moment; what is sent is what read() gives until its end. A file that changes while it is being
 * read gives a mixture, as to any reader.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"

struct reading {
	struct job job;
	int fd;
	uint64_t start;			/* the stream's first byte in the file */
	struct stream *stream;
};

static void reading_free(struct reading *rd)
{
	list_unlink(&rd->job.link);
	fd_close(rd->fd);
	free(rd);
}

static void reading_stop(struct job *j)
{
	struct reading *rd = container_of(j, struct reading, job);

	stream_drop(rd->stream);
	reading_free(rd);
}

/* Until its end or a full buffer: files of /proc give less than asked for in the middle, too. */
static ssize_t reading_fetch(void *owner, uint64_t offset, uint8_t *buf, size_t len)
{
	struct reading *rd = owner;
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(rd->fd, buf + got, len - got, (off_t)(rd->start + offset + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

static void reading_kick(_unused_ void *owner)
{
	/* a source has no ring that could have room */
}

static void reading_gone(void *owner, _unused_ int error)
{
	reading_free(owner);
}

/* O_NONBLOCK: opening a FIFO or a device must not wait for anybody; they are refused right after. */
static int open_regular(const char *path, uint64_t offset, struct stat *ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	if (fstat(fd, ret) < 0)
		return -errno;
	if (S_ISDIR(ret->st_mode))
		return -EISDIR;
	if (!S_ISREG(ret->st_mode))
		return -EINVAL;
	if (offset > INT64_MAX / 2)
		return -EINVAL;
	return TAKE_FD(fd);
}

void op_file_read(struct request *r, const struct args *g)
{
	static const struct stream_ops ops = { .kick = reading_kick, .gone = reading_gone, .fetch = reading_fetch };
	_cleanup_close_ int fd = -EBADF;
	uint8_t buf[FILE_RECORD_MAX];
	struct wire_writer w;
	struct owner owner;
	struct reading *rd;
	struct stat st;
	int error;

	if (file_owner(r, g, &owner) < 0)
		return;
	fd = open_regular(g->path, g->offset, &st);
	if (fd < 0) {
		file_fail(r, fd, g->path);
		return;
	}
	rd = calloc(1, sizeof(*rd));
	error = rd ? stream_open_source(r->agent, g->stream, &ops, rd, &rd->stream) : -ENOMEM;
	if (error < 0) {
		free(rd);
		request_fail(r, -error, "stream %u: %s", g->stream, strerror(-error));
		return;
	}
	rd->fd = TAKE_FD(fd);
	rd->start = g->offset;
	rd->job.stop = reading_stop;
	list_append(&r->agent->jobs, &rd->job.link);
	wire_writer_init(&w, buf, sizeof(buf));
	file_put_info(&w, g->path, &st);
	request_done(r, &w);
}
