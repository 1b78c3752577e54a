/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the file operations share: looking, describing, and making parents for a user.
 */
#ifndef DCLW_FILE_H
#define DCLW_FILE_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "ops.h"
#include "wire/tlv.h"

#define FILE_RECORD_MAX (PATH_MAX + 256)

/* Who gets what is made; without USER, or when the agent is not root, nothing is given away. */
struct owner {
	bool set;
	uid_t uid;
	gid_t gid;
};

/* stat() that reports a dangling symlink itself. 0 or -errno. */
int file_stat(const char *path, struct stat *ret);
void file_put_info(struct wire_writer *w, const char *path, const struct stat *st);
void file_reply_info(struct request *r, const char *path);
/* Answers the request itself on failure. */
int file_owner(struct request *r, const struct args *g, struct owner *ret);
/* Makes path and what is missing above it; existing ones are left alone. ret_created may be NULL. */
int file_mkdirs(const char *path, mode_t mode, const struct owner *o, bool *ret_created);
/* The same for what is above path. */
int file_mkparents(const char *path, const struct owner *o);
/* The sentence of a failed operation. */
void file_fail(struct request *r, int error, const char *path);

/* One job: an operation that lives on after its reply because it holds a stream. */
struct job {
	struct list link;
	void (*stop)(struct job *j);	/* frees */
};

#endif
