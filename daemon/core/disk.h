/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A sandbox's disk: a qcow2 overlay over the template's read-only image.
 *
 * All empty overlays over one image are the same bytes, so `qemu-img create` runs once per image (the cache is keyed by
 * the image's inode, size and mtime) and each sandbox gets a copy of some 200 KiB. Runs on a worker.
 */
#ifndef DECLAW_DISK_H
#define DECLAW_DISK_H

#include <sys/types.h>

struct workers;

/* error: 0 or negative errno; message names the step, valid during the call */
typedef void (*disk_done_fn)(void *userdata, int error, const char *message);
/* Makes path, an overlay over image (format: a constant, raw or qcow2), mode 0660, group gid. */
int disk_create(struct workers *workers, const char *image, const char *format, const char *cache_dir, const char *path, gid_t gid,
		disk_done_fn fn, void *userdata);
/* Makes path, an empty overlay over the overlay lower, which may be in use; both are in the same directory. */
int disk_layer(struct workers *workers, const char *lower, const char *path, gid_t gid, disk_done_fn fn, void *userdata);
/* The file's bytes reach the disk; fn from the loop unless this fails. */
int disk_sync(struct workers *workers, const char *path, disk_done_fn fn, void *userdata);
/* Removes a file or a directory tree on a worker. */
int disk_remove_tree(struct workers *workers, const char *path, disk_done_fn fn, void *userdata);
/* Several, in order, up to the first error; at most DISK_REMOVE_MAX. */
#define DISK_REMOVE_MAX 3
int disk_remove_trees(struct workers *workers, const char *const *paths, size_t n, disk_done_fn fn, void *userdata);

#endif
