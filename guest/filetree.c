/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FILE_LIST and FILE_REMOVE: walks of unknown length, so each runs in a forked helper. The lister writes
 * entries into a pipe that a pump moves to the stream; the remover's exit code is the errno.
 *
 * Both walk by directory descriptors and never follow a symlink, so a tree that is changed under their
 * feet cannot lead them out of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "child.h"
#include "file.h"
#include "pump.h"

#define DEPTH_MAX 64u
/* Each level holds two descriptors of the helper. */
#define REMOVE_DEPTH_MAX 400u
#define LIST_WINDOW DCLW_WINDOW_INITIAL

/* --- the lister --- */

struct lister {
	int out;
	size_t len;
	uint8_t buf[4 * FILE_RECORD_MAX];
	char path[PATH_MAX];
};

static void lister_flush(struct lister *l)
{
	size_t done = 0;

	while (done < l->len) {
		ssize_t n = write(l->out, l->buf + done, l->len - done);

		if (n < 0 && errno != EINTR)
			_exit(0);	/* nobody wants it any more */
		done += n > 0 ? (size_t)n : 0;
	}
	l->len = 0;
}

static void lister_put(struct lister *l, int dir, const char *name)
{
	struct wire_writer w;
	struct stat st;
	size_t mark;

	if (fstatat(dir, name, &st, 0) < 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;		/* gone meanwhile */
	if (sizeof(l->buf) - l->len < FILE_RECORD_MAX)
		lister_flush(l);
	wire_writer_init(&w, l->buf + l->len, sizeof(l->buf) - l->len);
	mark = wire_nest_begin(&w, DCLW_TAG_ENTRY);
	file_put_info(&w, l->path, &st);
	wire_nest_end(&w, mark);
	if (!w.error)
		l->len += w.len;
}

static int is_entry(const struct dirent *de)
{
	return strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0;
}

static void list_dir(struct lister *l, int dir, unsigned int depth)
{
	struct dirent **names;
	size_t len = strlen(l->path);
	int n = scandirat(dir, ".", &names, is_entry, alphasort);

	for (int i = 0; i < n; i++) {
		const char *name = names[i]->d_name;
		int sub;

		if (len + 1 + strlen(name) < sizeof(l->path)) {
			snprintf(l->path + len, sizeof(l->path) - len, "/%s", name);
			lister_put(l, dir, name);
			sub = depth > 1 ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
			if (sub >= 0) {
				list_dir(l, sub, depth - 1);
				close(sub);
			}
			l->path[len] = 0;
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

static _Noreturn void lister_main(int dir, int out, const char *path, unsigned int depth)
{
	static struct lister l;
	size_t len;

	l.out = out;
	snprintf(l.path, sizeof(l.path), "%s", path);
	len = strlen(l.path);
	while (len > 1 && l.path[len - 1] == '/')
		l.path[--len] = 0;
	if (len == 1)
		*l.path = 0;	/* entries of the root are "/x" */
	list_dir(&l, dir, depth);
	lister_flush(&l);
	_exit(0);
}

struct listing {
	struct job job;
	struct outpump pump;
};

static void listing_free(struct listing *ls)
{
	list_unlink(&ls->job.link);
	free(ls);
}

static void listing_ended(struct outpump *p)
{
	listing_free(container_of(p, struct listing, pump));
}

static void listing_stop(struct job *j)
{
	struct listing *ls = container_of(j, struct listing, job);

	outpump_stop(&ls->pump, 0);
	listing_free(ls);
}

/* Takes fd, the pipe's end to read. */
static int listing_start(struct agent *a, int fd, uint32_t id)
{
	struct listing *ls = calloc(1, sizeof(*ls));
	int r;

	if (!ls) {
		close(fd);
		return -ENOMEM;
	}
	list_init(&ls->job.link);
	r = outpump_start(&ls->pump, a, fd, LIST_WINDOW, id);
	if (r < 0) {
		free(ls);
		return r;
	}
	ls->pump.ended = listing_ended;
	ls->job.stop = listing_stop;
	list_append(&a->jobs, &ls->job.link);
	return 0;
}

void op_file_list(struct request *r, const struct args *g)
{
	unsigned int depth = args_have(g, DCLW_TAG_DEPTH) ? g->depth : 1;
	_cleanup_close_ int dir = open(g->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
	int fds[2], error = 0;
	pid_t pid;

	if (dir < 0) {
		file_fail(r, -errno, g->path);
		return;
	}
	if (depth < 1 || depth > DEPTH_MAX) {
		request_fail(r, EINVAL, "depth must be 1 to %u", DEPTH_MAX);
		return;
	}
	if (pipe2(fds, O_CLOEXEC) < 0) {
		request_fail(r, errno, "pipe: %s", strerror(errno));
		return;
	}
	if (fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0)
		error = listing_start(r->agent, fds[0], g->stream);
	if (error == 0) {
		/* the stream first: once it is refused no helper need be stopped */
		pid = child_fork(r->agent);
		if (pid == 0) {
			close(fds[0]);
			lister_main(dir, fds[1], g->path, depth);
		}
	}
	close(fds[1]);	/* without a helper the listing ends here, empty */
	if (error < 0)
		request_fail(r, -error, "stream %u: %s", g->stream, strerror(-error));
	else
		request_done(r, NULL);
}

/* --- the remover --- */

static int remove_at(int dir, const char *name, unsigned int depth);

static int remove_contents(int dir, unsigned int depth)
{
	DIR *d = fdopendir(dup(dir));
	struct dirent *de;
	int r = 0;

	if (!d)
		return -errno;
	while (r == 0 && (de = readdir(d))) {
		if (is_entry(de))
			r = remove_at(dir, de->d_name, depth);
	}
	closedir(d);
	return r;
}

static int remove_at(int dir, const char *name, unsigned int depth)
{
	int sub, r;

	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return -errno;
	if (depth >= REMOVE_DEPTH_MAX)
		return -ENAMETOOLONG;
	sub = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (sub < 0)
		return -errno;
	r = remove_contents(sub, depth + 1);
	close(sub);
	if (r < 0)
		return r;
	return unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

struct removal {
	struct child child;
	struct request *request;
	char path[PATH_MAX];
};

static void removal_exited(struct child *c, int status)
{
	struct removal *rm = container_of(c, struct removal, child);
	int error = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;

	if (error)
		file_fail(rm->request, -error, rm->path);
	else
		request_done(rm->request, NULL);
	free(rm);
}

static bool names_nothing_removable(const char *path)
{
	const char *last = strrchr(path, '/');

	return path[strspn(path, "/.")] == 0 || strcmp(last, "/.") == 0 || strcmp(last, "/..") == 0;
}

void op_file_remove(struct request *r, const struct args *g)
{
	struct removal *rm;
	pid_t pid;

	if (names_nothing_removable(g->path)) {
		file_fail(r, -EBUSY, g->path);
		return;
	}
	/* Anything but a directory is one call. */
	if (unlink(g->path) == 0 || errno == ENOENT) {
		request_done(r, NULL);
		return;
	}
	if (errno != EISDIR && errno != EPERM) {
		file_fail(r, -errno, g->path);
		return;
	}
	rm = calloc(1, sizeof(*rm));
	if (!rm) {
		request_fail(r, ENOMEM, "no memory");
		return;
	}
	rm->request = r;
	snprintf(rm->path, sizeof(rm->path), "%s", g->path);
	pid = child_fork(r->agent);
	if (pid == 0)
		_exit(-remove_at(AT_FDCWD, rm->path, 0) & 0xff);
	if (pid < 0) {
		request_fail(r, errno, "fork: %s", strerror(errno));
		free(rm);
		return;
	}
	child_watch(r->agent, &rm->child, pid, removal_exited);
}
