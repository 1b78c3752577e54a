/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File operations that are one or a few calls: FILE_STAT, FILE_MKDIR, FILE_RENAME, and shared helpers.
 * Nothing here opens a file, so no FIFO and no device can block the agent.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"
#include "user.h"

void file_fail(struct request *r, int error, const char *path)
{
	request_fail(r, -error, "%.200s: %s", path, strerror(-error));
}

int file_stat(const char *path, struct stat *ret)
{
	if (stat(path, ret) == 0)
		return 0;
	if (errno != ENOENT || lstat(path, ret) < 0)
		return -errno;
	return 0;
}

static uint32_t file_type(const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		return DCLW_FT_DIR;
	return S_ISREG(st->st_mode) || S_ISLNK(st->st_mode) ? DCLW_FT_FILE : DCLW_FT_OTHER;
}

void file_put_info(struct wire_writer *w, const char *path, const struct stat *st)
{
	uint64_t mtime = st->st_mtim.tv_sec > 0 ?
			 (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec : 0;

	wire_put_str(w, DCLW_TAG_PATH, path);
	wire_put_u32(w, DCLW_TAG_TYPE, file_type(st));
	wire_put_u64(w, DCLW_TAG_SIZE, S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_size);
	wire_put_u32(w, DCLW_TAG_MODE, st->st_mode);
	wire_put_u64(w, DCLW_TAG_MTIME, mtime);
	wire_put_u32(w, DCLW_TAG_UID, st->st_uid);
	wire_put_u32(w, DCLW_TAG_GID, st->st_gid);
}

void file_reply_info(struct request *r, const char *path)
{
	uint8_t buf[FILE_RECORD_MAX];
	struct wire_writer w;
	struct stat st;
	int error = file_stat(path, &st);

	if (error < 0) {
		file_fail(r, error, path);
		return;
	}
	wire_writer_init(&w, buf, sizeof(buf));
	file_put_info(&w, path, &st);
	request_done(r, &w);
}

void op_file_stat(struct request *r, const struct args *g)
{
	file_reply_info(r, g->path);
}

int file_owner(struct request *r, const struct args *g, struct owner *ret)
{
	struct user u;
	int error;

	*ret = (struct owner) { 0 };
	if (!args_have(g, DCLW_TAG_USER) || !*g->user)
		return 0;
	error = user_lookup(g->user, &u);
	if (geteuid() != 0)
		return 0;
	if (error < 0) {
		/* ESRCH: ENOENT is the path's */
		request_fail(r, ESRCH, "no user %.64s", g->user);
		return error;
	}
	*ret = (struct owner) { .set = true, .uid = u.uid, .gid = u.gid };
	return 0;
}

static int make_one(const char *path, mode_t mode, const struct owner *o, bool *ret_created)
{
	struct stat st;

	if (mkdir(path, mode) == 0) {
		*ret_created = true;
		return o->set && lchown(path, o->uid, o->gid) < 0 ? -errno : 0;
	}
	*ret_created = false;
	if (errno != EEXIST)
		return -errno;
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -EEXIST;
}

int file_mkdirs(const char *path, mode_t mode, const struct owner *o, bool *ret_created)
{
	char buf[PATH_MAX];
	bool created = false;
	int r;

	snprintf(buf, sizeof(buf), "%s", path);
	/* Mostly all of it exists but the last, or all of it. */
	r = make_one(buf, mode, o, &created);
	for (char *slash = buf + 1; r == -ENOENT && (slash = strchr(slash, '/')); slash++) {
		int above;

		*slash = 0;
		above = make_one(buf, 0755, o, &created);
		*slash = '/';
		if (above < 0)
			return above == -EEXIST ? -ENOTDIR : above;
	}
	if (r == -ENOENT)
		r = make_one(buf, mode, o, &created);
	if (ret_created)
		*ret_created = created;
	return r;
}

int file_mkparents(const char *path, const struct owner *o)
{
	char buf[PATH_MAX], *slash;
	int r;

	snprintf(buf, sizeof(buf), "%s", path);
	slash = strrchr(buf, '/');
	if (!slash || slash == buf)
		return 0;
	*slash = 0;
	r = file_mkdirs(buf, 0755, o, NULL);
	return r == -EEXIST ? -ENOTDIR : r;
}

void op_file_mkdir(struct request *r, const struct args *g)
{
	uint8_t buf[64];
	struct wire_writer w;
	struct owner o;
	bool created;
	int error;

	if (file_owner(r, g, &o) < 0)
		return;
	error = file_mkdirs(g->path, args_have(g, DCLW_TAG_MODE) && g->mode ? g->mode & 07777 : 0755, &o, &created);
	if (error < 0) {
		file_fail(r, error, g->path);
		return;
	}
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u32(&w, DCLW_TAG_CREATED, created);
	request_done(r, &w);
}

void op_file_rename(struct request *r, const struct args *g)
{
	struct stat st;
	struct owner o;
	int error = 0;

	if (file_owner(r, g, &o) < 0)
		return;
	/* Before parents are made for a name that is not there. */
	if (lstat(g->path, &st) < 0)
		error = -errno;
	if (error == 0)
		error = file_mkparents(g->path2, &o);
	if (error == 0 && rename(g->path, g->path2) < 0)
		error = -errno;
	if (error < 0)
		request_fail(r, -error, "%.150s to %.150s: %s", g->path, g->path2, strerror(-error));
	else
		file_reply_info(r, g->path2);
}
