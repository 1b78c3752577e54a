/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FILE_WRITE: a stream into a temporary file beside its target, then one rename.
 *
 * The agent writes by itself, straight from the frame, until a write slept for longer than SLOW: the kernel makes
 * writers of much dirty memory wait, and from then on a forked helper behind a pipe does the waiting, which costs two more
 * copies. One that took long need not have slept: another machine may have had this one's processor. So the
 * writes after it are asked whether they did. Renaming is not followed by fsync: the disk lives as long as the sandbox.
 *
 *	WRITING  bytes come, agent writes.            -> PIPING after a slow write, -> done at the end
 *	PIPING   bytes go into the helper's pipe.     -> WAITING at the end or when the helper gave up
 *	WAITING  pipe closed, for the helper's exit.  -> done
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "child.h"
#include "file.h"
#include "filewrite.h"
#include "wire/tlv.h"

#define WRITE_WINDOW (1024u * 1024)
/* A write into the page cache takes microseconds; the kernel's shortest pause is 10 ms. */
#define SLOW_NS (10ull * 1000 * 1000)
/* The kernel lets a writer go on for 32 to 256 pages between two pauses. */
#define DOUBTS 64u
#define PIPE_SIZE (256 * 1024)

struct upload {
	struct list link;		/* agent.uploads */
	struct agent *agent;
	struct request *request;
	struct stream *stream;
	enum { UPLOAD_WRITING, UPLOAD_PIPING, UPLOAD_WAITING } state;
	int fd;				/* the temporary file */
	int pipe;
	struct source source;
	struct child child;
	int error;			/* negative, once something failed */
	uint64_t size;
	bool slow;
	unsigned int doubts;		/* writes still to be asked whether they slept */
	mode_t mode;
	struct owner owner;
	char path[PATH_MAX], temp[PATH_MAX];
};

static void upload_free(struct upload *u)
{
	loop_remove(&u->agent->loop, &u->source);
	child_unwatch(&u->child);
	fd_close(u->pipe);
	fd_close(u->fd);
	if (*u->temp)
		unlink(u->temp);
	list_unlink(&u->link);
	free(u);
}

/* Owner before mode: chown() clears the set-id bits. */
static int upload_publish(struct upload *u)
{
	if (u->owner.set && fchown(u->fd, u->owner.uid, u->owner.gid) < 0)
		return -errno;
	if (fchmod(u->fd, u->mode) < 0)
		return -errno;
	if (rename(u->temp, u->path) < 0)
		return -errno;
	*u->temp = 0;
	return 0;
}

static void upload_end(struct upload *u)
{
	struct stream *s = TAKE_PTR(u->stream);
	uint8_t buf[32];
	struct wire_writer w;

	if (u->error == 0)
		u->error = upload_publish(u);
	if (s && u->error < 0)
		stream_reset(s, -u->error);
	else if (s)
		stream_close(s);
	if (u->error < 0) {
		file_fail(u->request, u->error, u->path);
	} else {
		wire_writer_init(&w, buf, sizeof(buf));
		wire_put_u64(&w, DCLW_TAG_SIZE, u->size);
		request_done(u->request, &w);
	}
	upload_free(u);
}

/* The helper: pipe to file until the end; it sees SIGPIPE and limits on its own behalf only. */
static _Noreturn void helper(int from, int to)
{
	static char buf[128 * 1024];

	for (;;) {
		ssize_t n = read(from, buf, sizeof(buf));

		if (n == 0)
			_exit(0);
		if (n < 0 && errno != EINTR)
			_exit(errno & 0xff);
		for (ssize_t done = 0; done < n;) {
			ssize_t put = write(to, buf + done, (size_t)(n - done));

			if (put < 0 && errno != EINTR)
				_exit(errno & 0xff);
			done += put > 0 ? put : 0;
		}
	}
}

static void upload_run(void *owner);

static void upload_event(struct source *s, uint32_t events)
{
	struct upload *u = container_of(s, struct upload, source);

	if (events & EPOLLERR) {
		/* the helper gave up: its exit code says why */
		loop_remove(&u->agent->loop, &u->source);
		u->pipe = fd_close(u->pipe);
		u->state = UPLOAD_WAITING;
		return;
	}
	upload_run(u);
}

static void helper_exited(struct child *c, int status)
{
	struct upload *u = container_of(c, struct upload, child);

	if (u->error == 0 && WIFEXITED(status))
		u->error = -WEXITSTATUS(status);
	else if (u->error == 0)
		u->error = -EIO;
	/* gone before the end of its input without an error of its own */
	if (u->error == 0 && u->state != UPLOAD_WAITING)
		u->error = -EIO;
	u->state = UPLOAD_WAITING;
	if (!u->agent->frozen)
		upload_end(u);
}

static int upload_spill(struct upload *u)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	fcntl(fds[1], F_SETPIPE_SZ, PIPE_SIZE);
	pid = child_fork(u->agent);
	if (pid == 0) {
		close(fds[1]);
		helper(fds[0], u->fd);
	}
	close(fds[0]);
	u->pipe = fds[1];
	if (pid < 0)
		return -errno;
	child_watch(u->agent, &u->child, pid, helper_exited);
	if (fcntl(u->pipe, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	u->state = UPLOAD_PIPING;
	return loop_add(&u->agent->loop, &u->source, u->pipe, EPOLLOUT | EPOLLET, upload_event);
}

static void upload_at_end(struct upload *u)
{
	if (u->state == UPLOAD_WRITING) {
		upload_end(u);
		return;
	}
	loop_remove(&u->agent->loop, &u->source);
	u->pipe = fd_close(u->pipe);
	u->state = UPLOAD_WAITING;
}

/* How often this process has waited for something */
static long sleeps(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_SELF, &usage) < 0 ? 0 : usage.ru_nvcsw;
}

/* Bytes written or -errno. */
static ssize_t upload_writev(struct upload *u, const struct iovec *iov, int n)
{
	bool asked = u->doubts > 0;
	long slept = asked ? sleeps() : 0;
	uint64_t before = agent_now();
	ssize_t put = writev(u->state == UPLOAD_PIPING ? u->pipe : u->fd, iov, n);

	if (put < 0)
		return -errno;
	u->size += (uint64_t)put;
	if (asked)
		u->doubts--;
	if (agent_now() - before > SLOW_NS) {
		u->slow = u->slow || (asked && sleeps() > slept);
		u->doubts = DOUBTS;
	}
	return put;
}

/* Past the ring; an error is left to upload_move() to find again. */
static size_t upload_take(void *owner, const uint8_t *data, size_t len)
{
	struct upload *u = owner;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
	ssize_t put;

	if (u->state == UPLOAD_WAITING || u->agent->frozen)
		return 0;
	put = upload_writev(u, &iov, 1);
	return put > 0 ? (size_t)put : 0;
}

/* >0 bytes moved, 0 later, <0 over. */
static ssize_t upload_move(struct upload *u)
{
	struct iovec iov[2];
	int n = stream_peek(u->stream, iov);
	ssize_t put;

	if (n == 0)
		return 0;
	put = upload_writev(u, iov, n);
	if (put < 0)
		return put == -EAGAIN ? 0 : put == -EINTR ? 1 : put;
	stream_consumed(u->stream, (size_t)put);
	return 1;
}

static void upload_run(void *owner)
{
	struct upload *u = owner;
	ssize_t r = 1;

	while (r > 0 && u->state != UPLOAD_WAITING && !u->agent->frozen) {
		r = upload_move(u);
		if (r >= 0 && u->state == UPLOAD_WRITING && u->slow && !stream_at_end(u->stream))
			r = upload_spill(u) < 0 ? -EAGAIN : r;
	}
	if (u->state == UPLOAD_PIPING && r == -EPIPE)
		return;		/* EPOLLERR follows, then the exit code */
	if (r < 0) {
		u->error = (int)r;
		upload_end(u);
	} else if (u->state != UPLOAD_WAITING && !u->agent->frozen && stream_at_end(u->stream)) {
		upload_at_end(u);
	}
}

/* The helper, if any, finds its pipe closed, ends, and is reaped unwatched. */
static void upload_gone(void *owner, _unused_ int error)
{
	struct upload *u = owner;

	u->stream = NULL;
	u->error = -ECANCELED;
	upload_end(u);
}

void uploads_thawed(struct agent *a)
{
	struct upload *u;

	list_foreach(&a->uploads, u, struct upload, link) {
		if (u->state != UPLOAD_WAITING)
			upload_run(u);
		else if (list_empty(&u->child.link))
			upload_end(u);
	}
}

void uploads_free(struct agent *a)
{
	struct upload *u;

	while ((u = list_first(&a->uploads, struct upload, link))) {
		if (u->stream)
			stream_drop(u->stream);
		upload_free(u);
	}
}

/* Where the bytes will go in the end: through symlinks, as for any program that opens the name. */
static int resolve_target(struct upload *u, const struct args *g)
{
	struct stat st;
	char *real;

	snprintf(u->path, sizeof(u->path), "%s", g->path);
	u->mode = args_have(g, DCLW_TAG_MODE) && g->mode ? g->mode & 07777 : 0644;
	if (g->path[strlen(g->path) - 1] == '/')
		return -EISDIR;
	if (stat(g->path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	u->mode = st.st_mode & 07777;
	real = realpath(g->path, NULL);
	if (!real)
		return -errno;
	snprintf(u->path, sizeof(u->path), "%s", real);
	free(real);
	return 0;
}

static int open_temp(struct upload *u)
{
	int dir = (int)(strrchr(u->path, '/') - u->path);
	uint64_t tag;

	for (int tries = 0; tries < 8; tries++) {
		if (getrandom(&tag, sizeof(tag), 0) != sizeof(tag))
			return -EIO;
		if (snprintf(u->temp, sizeof(u->temp), "%.*s/.declaw-%016llx", dir, u->path,
			     (unsigned long long)tag) >= (int)sizeof(u->temp))
			break;
		u->fd = open(u->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (u->fd >= 0)
			return 0;
		if (errno != EEXIST) {
			*u->temp = 0;
			return -errno;
		}
	}
	*u->temp = 0;
	return -ENAMETOOLONG;
}

static int upload_open(struct upload *u, const struct args *g)
{
	static const struct stream_ops ops = { .kick = upload_run, .gone = upload_gone, .take = upload_take };
	int r = resolve_target(u, g);

	if (r == 0)
		r = file_mkparents(u->path, &u->owner);
	if (r == 0)
		r = open_temp(u);
	if (r == 0)
		r = stream_open(u->agent, g->stream, STREAM_IN, WRITE_WINDOW, &ops, u, &u->stream);
	return r;
}

void op_file_write(struct request *r, const struct args *g)
{
	struct upload *u;
	struct owner o;
	int error;

	if (file_owner(r, g, &o) < 0)
		return;
	u = calloc(1, sizeof(*u));
	if (!u) {
		request_fail(r, ENOMEM, "no memory");
		return;
	}
	list_init(&u->link);
	list_init(&u->child.link);
	u->source.fd = u->fd = u->pipe = -1;
	u->agent = r->agent;
	u->request = r;
	u->owner = o;
	error = upload_open(u, g);
	if (error < 0) {
		file_fail(r, error, g->path);
		upload_free(u);
		return;
	}
	list_append(&r->agent->uploads, &u->link);
}
