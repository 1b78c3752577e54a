/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FILE_WATCH: inotify onto a stream of entries.
 *
 * One inotify descriptor per watch; for a recursive one a table maps its descriptors to paths. Events are
 * read only while the stream has room for what a full buffer may become, so a reader that stalls makes the
 * kernel's queue overflow, which is told as OVERFLOW. A directory that appears is watched, and what was
 * put into it before that is told as created.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"

#define WATCH_WINDOW (256u * 1024)
#define WATCHES_MAX 8192u
#define DEPTH_MAX 64u
#define EVENTS (IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | \
		IN_DELETE_SELF | IN_MOVE_SELF | IN_EXCL_UNLINK)
/* One event becomes at most one entry with a path. */
#define ENTRY_MAX (PATH_MAX + 64)
#define READ_MAX (8u * (sizeof(struct inotify_event) + NAME_MAX + 1))

struct node {
	struct list link;
	int wd;
	char *path;
};

struct watch {
	struct job job;
	struct agent *agent;
	struct source source;
	struct stream *stream;
	int fd, root_wd;
	bool recursive;
	bool overflow_due;		/* something could not be told or watched */
	unsigned int nnodes;
	struct list nodes[64];		/* by descriptor */
	char path[PATH_MAX];
};

static void watch_free(struct watch *w)
{
	loop_remove(&w->agent->loop, &w->source);
	fd_close(w->fd);
	list_unlink(&w->job.link);
	for (size_t i = 0; i < ELEMENTSOF(w->nodes); i++) {
		struct node *n;

		while ((n = list_first(&w->nodes[i], struct node, link))) {
			list_unlink(&n->link);
			free(n->path);
			free(n);
		}
	}
	free(w);
}

static struct node *watch_find(struct watch *w, int wd)
{
	struct node *n;

	list_foreach(&w->nodes[(unsigned int)wd % ELEMENTSOF(w->nodes)], n, struct node, link) {
		if (n->wd == wd)
			return n;
	}
	return NULL;
}

static void watch_put(struct watch *w, const char *path, enum dclw_change change, bool dir)
{
	uint8_t buf[ENTRY_MAX];
	struct wire_writer wr;
	size_t mark;

	wire_writer_init(&wr, buf, sizeof(buf));
	mark = wire_nest_begin(&wr, DCLW_TAG_ENTRY);
	wire_put_str(&wr, DCLW_TAG_PATH, path);
	wire_put_u32(&wr, DCLW_TAG_CHANGE, change);
	wire_put_u32(&wr, DCLW_TAG_TYPE, dir ? DCLW_FT_DIR : DCLW_FT_FILE);
	wire_nest_end(&wr, mark);
	if (wr.error || stream_room_len(w->stream) < wr.len)
		w->overflow_due = true;
	else
		stream_put(w->stream, buf, wr.len);
}

static int node_add(struct watch *w, const char *path)
{
	int wd = inotify_add_watch(w->fd, path, EVENTS | IN_ONLYDIR | IN_DONT_FOLLOW);
	struct node *n;

	if (wd < 0)
		return -errno;
	n = watch_find(w, wd);
	if (n) {
		/* the same directory under a new name */
		char *moved = strdup(path);

		if (!moved)
			return -ENOMEM;
		free(n->path);
		n->path = moved;
		return wd;
	}
	if (w->nnodes >= WATCHES_MAX || !(n = calloc(1, sizeof(*n))) || !(n->path = strdup(path))) {
		free(n);
		inotify_rm_watch(w->fd, wd);
		return -ENOSPC;
	}
	n->wd = wd;
	w->nnodes++;
	list_append(&w->nodes[(unsigned int)wd % ELEMENTSOF(w->nodes)], &n->link);
	return wd;
}

/* Watches the directories below path; announce: what is found there is new. path is a buffer to work in. */
static void watch_tree(struct watch *w, char path[static PATH_MAX], unsigned int depth, bool announce)
{
	size_t len = strlen(path);
	struct dirent *de;
	DIR *dir = depth > 0 ? opendir(path) : NULL;

	if (!dir)
		return;
	while ((de = readdir(dir))) {
		struct stat st;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (len + 1 + strlen(de->d_name) >= PATH_MAX)
			continue;
		snprintf(path + len, PATH_MAX - len, "%s%s", path[len - 1] == '/' ? "" : "/", de->d_name);
		if (lstat(path, &st) == 0) {
			if (announce)
				watch_put(w, path, DCLW_CHANGE_CREATE, S_ISDIR(st.st_mode));
			if (S_ISDIR(st.st_mode) && node_add(w, path) < 0)
				w->overflow_due = true;
			else if (S_ISDIR(st.st_mode))
				watch_tree(w, path, depth - 1, announce);
		}
		path[len] = 0;
	}
	closedir(dir);
}

static enum dclw_change change_of(uint32_t mask)
{
	if (mask & (IN_CREATE | IN_MOVED_TO))
		return DCLW_CHANGE_CREATE;
	if (mask & (IN_DELETE | IN_MOVED_FROM))
		return DCLW_CHANGE_DELETE;
	return DCLW_CHANGE_MODIFY;
}

/* false: what was watched is gone. */
static bool watch_event(struct watch *w, const struct inotify_event *ev)
{
	char path[PATH_MAX];
	struct node *n;
	bool dir = ev->mask & IN_ISDIR;

	if (ev->mask & IN_Q_OVERFLOW) {
		w->overflow_due = true;
		return true;
	}
	n = watch_find(w, ev->wd);
	if (!n)
		return true;
	if (ev->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) {
		bool root = ev->wd == w->root_wd;

		if (root && (ev->mask & (IN_DELETE_SELF | IN_MOVE_SELF)))
			watch_put(w, w->path, DCLW_CHANGE_DELETE, true);
		if (ev->mask & IN_IGNORED) {
			list_unlink(&n->link);
			free(n->path);
			free(n);
			w->nnodes--;
		}
		return !root;
	}
	if (ev->len == 0) {
		watch_put(w, n->path, change_of(ev->mask), dir);
		return true;
	}
	if (snprintf(path, sizeof(path), "%s%s%.*s", n->path, n->path[1] ? "/" : "", (int)ev->len, ev->name) >=
	    (int)sizeof(path))
		return true;
	watch_put(w, path, change_of(ev->mask), dir);
	if (w->recursive && dir && (ev->mask & (IN_CREATE | IN_MOVED_TO))) {
		if (node_add(w, path) < 0)
			w->overflow_due = true;
		else
			watch_tree(w, path, DEPTH_MAX, true);
	}
	return true;
}

static void watch_finish(struct watch *w)
{
	stream_finish(w->stream);
	watch_free(w);
}

static void watch_run(void *owner)
{
	struct watch *w = owner;
	_Alignas(struct inotify_event) char buf[READ_MAX];

	/* room for every event of one read, and for one OVERFLOW */
	while (stream_has_room(w->stream, 16 * ENTRY_MAX)) {
		ssize_t n;

		if (w->overflow_due) {
			w->overflow_due = false;
			watch_put(w, w->path, DCLW_CHANGE_OVERFLOW, true);
		}
		n = read(w->fd, buf, sizeof(buf));
		if (n <= 0)
			return;
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *ev = (const void *)p;

			if (!watch_event(w, ev)) {
				watch_finish(w);
				return;
			}
			p += sizeof(*ev) + ev->len;
		}
	}
}

static void watch_readable(struct source *s, _unused_ uint32_t events)
{
	watch_run(container_of(s, struct watch, source));
}

static void watch_gone(void *owner, _unused_ int error)
{
	watch_free(owner);
}

static void watch_stop(struct job *j)
{
	struct watch *w = container_of(j, struct watch, job);

	stream_drop(w->stream);
	watch_free(w);
}

/* A file may be watched too: then without IN_ONLYDIR and never recursively. */
static int watch_root(struct watch *w, bool recursive)
{
	char path[PATH_MAX];
	struct node *n;
	struct stat st;

	if (stat(w->path, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode)) {
		char *real = realpath(w->path, NULL);

		if (!real)
			return -errno;
		snprintf(w->path, sizeof(w->path), "%s", real);
		free(real);
		w->root_wd = node_add(w, w->path);
		w->recursive = recursive;
		snprintf(path, sizeof(path), "%s", w->path);
		if (w->root_wd >= 0 && recursive)
			watch_tree(w, path, DEPTH_MAX, false);
		return w->root_wd < 0 ? w->root_wd : 0;
	}
	w->root_wd = inotify_add_watch(w->fd, w->path, EVENTS);
	n = w->root_wd < 0 ? NULL : calloc(1, sizeof(*n));
	if (!n || !(n->path = strdup(w->path))) {
		free(n);
		return w->root_wd < 0 ? -errno : -ENOMEM;
	}
	n->wd = w->root_wd;
	list_append(&w->nodes[(unsigned int)n->wd % ELEMENTSOF(w->nodes)], &n->link);
	return 0;
}

static int watch_open(struct watch *w, const struct args *g)
{
	static const struct stream_ops ops = { .kick = watch_run, .gone = watch_gone };
	int r;

	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->fd < 0)
		return -errno;
	r = watch_root(w, g->recursive != 0);
	if (r == 0)
		r = stream_open(w->agent, g->stream, STREAM_OUT, WATCH_WINDOW, &ops, w, &w->stream);
	if (r == 0)
		r = loop_add(&w->agent->loop, &w->source, w->fd, EPOLLIN | EPOLLET, watch_readable);
	if (r < 0 && w->stream)
		stream_drop(w->stream);
	return r;
}

void op_file_watch(struct request *r, const struct args *g)
{
	struct watch *w = calloc(1, sizeof(*w));
	int error;

	if (!w) {
		request_fail(r, ENOMEM, "no memory");
		return;
	}
	list_init(&w->job.link);
	w->job.stop = watch_stop;
	w->agent = r->agent;
	w->source.fd = w->fd = w->root_wd = -1;
	for (size_t i = 0; i < ELEMENTSOF(w->nodes); i++)
		list_init(&w->nodes[i]);
	snprintf(w->path, sizeof(w->path), "%s", g->path);
	error = watch_open(w, g);
	if (error < 0) {
		file_fail(r, error, g->path);
		watch_free(w);
		return;
	}
	list_append(&r->agent->jobs, &w->job.link);
	request_done(r, NULL);
}
