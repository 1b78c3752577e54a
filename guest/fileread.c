/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FILE_READ: a regular file onto a stream. The file is read into the stream's ring whenever the host has
 * taken some of it, so a download holds one ring and no more. The size in the reply is that of the moment;
 * what is sent is what read() gives until its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"

#define READ_WINDOW (256u * 1024)
/* Read into at least this much room: not a system call for every frame acknowledged. */
#define READ_MIN (16u * 1024)

struct reading {
	struct job job;
	int fd;
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

static void reading_run(void *owner)
{
	struct reading *rd = owner;
	struct iovec iov[2];
	ssize_t n;
	int pieces;

	while (stream_has_room(rd->stream, READ_MIN)) {
		pieces = stream_room(rd->stream, iov);
		n = readv(rd->fd, iov, pieces);
		if (n > 0) {
			stream_produced(rd->stream, (size_t)n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			stream_reset(rd->stream, errno);
		else
			stream_finish(rd->stream);
		reading_free(rd);
		return;
	}
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
	if (offset > INT64_MAX || (offset > 0 && lseek(fd, (off_t)offset, SEEK_SET) < 0))
		return -EINVAL;
	return TAKE_FD(fd);
}

void op_file_read(struct request *r, const struct args *g)
{
	static const struct stream_ops ops = { .kick = reading_run, .gone = reading_gone };
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
	error = rd ? stream_open(r->agent, g->stream, STREAM_OUT, READ_WINDOW, &ops, rd, &rd->stream) : -ENOMEM;
	if (error < 0) {
		free(rd);
		request_fail(r, -error, "stream %u: %s", g->stream, strerror(-error));
		return;
	}
	rd->fd = TAKE_FD(fd);
	rd->job.stop = reading_stop;
	list_append(&r->agent->jobs, &rd->job.link);
	wire_writer_init(&w, buf, sizeof(buf));
	file_put_info(&w, g->path, &st);
	request_done(r, &w);
	reading_run(rd);
}
