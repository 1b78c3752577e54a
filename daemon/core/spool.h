/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The output of one process, in order, for readers that come late.
 *
 * A spool is a sequence of entries {id, stream, bytes}; ids start at 1 and grow by one over both streams. It begins in
 * memory and moves to a file when it outgrows SPOOL_MEMORY (at once when `durable`: such a file is found again after a
 * restart of the daemon, and its size per stream is the offset the stream resumes at). At most `cap` bytes stay on disk:
 * beyond that the oldest entries are given back to the file system, and a reader that wanted them is told of the gap.
 *
 * Loop thread only. Writes go to the page cache.
 */
#ifndef DECLAW_SPOOL_H
#define DECLAW_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum spool_stream { SPOOL_STDOUT = 1, SPOOL_STDERR = 2 };

#define SPOOL_ENTRY_MAX 65536u

struct spool;

/* A reader's place; zero-initialised = before the first entry. */
struct spool_cursor {
	uint64_t pos;		/* in the file */
	uint64_t id;		/* last entry read */
};

struct spool_entry {
	uint64_t id;
	enum spool_stream stream;
	size_t len;
	uint64_t lost;		/* entries dropped before this one that the reader never saw */
};

/* path: where the file goes when one is needed; copied. */
int spool_new(const char *path, uint64_t cap, bool durable, struct spool **ret);
/* An existing file; a half-written last entry is cut off. */
int spool_open(const char *path, uint64_t cap, struct spool **ret);
/*
 * A file at path that goes on where this spool is now, without what it holds: for another who follows the same streams
 * from here on. Whoever reads it from the start is told of the gap.
 */
int spool_write_continuation(const struct spool *s, const char *path);
/* Its file has no name any more, and whatever gets that name is not it. */
void spool_disown(struct spool *s);
struct spool *spool_free(struct spool *s, bool remove_file);
/* len <= SPOOL_ENTRY_MAX. On -ENOSPC and the like nothing was added. */
int spool_append(struct spool *s, enum spool_stream stream, const void *data, size_t len);
uint64_t spool_last_id(const struct spool *s);
/* Bytes ever appended to a stream, dropped ones included */
uint64_t spool_stream_size(const struct spool *s, enum spool_stream stream);
/* Bytes (with headers) between the cursor and the end */
uint64_t spool_lag(const struct spool *s, const struct spool_cursor *c);
bool spool_has_gap(const struct spool *s);
/* 1: *e and data (buf must hold SPOOL_ENTRY_MAX) are the next entry; 0: nothing more for now; negative errno. */
int spool_read(struct spool *s, struct spool_cursor *c, struct spool_entry *e, void *buf);
/* Place the cursor behind entry id (0 = start). Does not walk the whole spool. */
int spool_seek(struct spool *s, struct spool_cursor *c, uint64_t id);
/* One remembered place, kept with the spool over restarts; it only moves forward. At first it is the start. */
void spool_set_mark(struct spool *s, const struct spool_cursor *c);
void spool_get_mark(const struct spool *s, struct spool_cursor *ret);

#endif
