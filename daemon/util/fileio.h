/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole small files: bounded reads, atomic writes, recursive removal by descriptors. */
#ifndef DECLAW_FILEIO_H
#define DECLAW_FILEIO_H

#include <stdbool.h>
#include <sys/types.h>

#include "util/str.h"

/* -EFBIG beyond max bytes. *ret is overwritten without a look at what it held, on success only. */
int file_read(const char *path, size_t max, struct buf *ret);
/*
 * Replaces path atomically; sync: fsync file and directory (state that must survive a power cut).
 */
int file_write_atomic(const char *path, const void *data, size_t len, mode_t mode, bool sync);
/* 0 also when nothing is there; never follows symlinks. */
int dir_remove_tree(const char *path);
/* Exactly mode; 0 also when the directory exists, whatever its mode; parents are not made. */
int dir_make(const char *path, mode_t mode);

#endif
