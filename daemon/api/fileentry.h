/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest tells about files: how an entry looks in an answer, and the stream of entries of a list or a watch.
 */
#ifndef DECLAW_FILEENTRY_H
#define DECLAW_FILEENTRY_H

#include "api/api.h"

#define FILEENTRY_JSON_MAX (16u * LIMIT_PATH + 512u)	/* path and name with every byte escaped */

/* {"name","path","type","size"} appended to b; path NULL: the entry's own */
int fileentry_json(struct buf *b, const char *path, const struct agent_file_info *info);
/* "path":"..." escaped, appended */
int fileentry_path(struct buf *b, const char *key, const char *path);

/*
 * Entries as they arrive, one at a time and with credit for no more than what was taken. Embedded in its owner.
 */
struct fileentry_reader {
	struct agent_stream *stream;
	struct buf pending;	/* bounded by the stream's window */
	size_t at;		/* taken so far */
	bool ended;
	int error;
	void (*more)(void *userdata);	/* entries, or the end; from the loop */
	void *userdata;
};

/* Opens the stream; the caller names it in a request. */
int fileentry_open(struct fileentry_reader *fr, struct agent *a, void (*more)(void *userdata), void *userdata);
void fileentry_done(struct fileentry_reader *fr);
/* 1: the next entry, its path in path_buf; 0: none yet, or (ended) none any more; negative: it makes no sense. */
int fileentry_next(struct fileentry_reader *fr, struct agent_file_info *ret, char *path_buf, size_t path_size);

#endif
