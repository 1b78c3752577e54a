/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small configuration files of the guest.
 */
#ifndef DCLW_WRITEFILE_H
#define DCLW_WRITEFILE_H

#include <sys/types.h>

/* Replaces path by a file with that text (a symlink is replaced itself). 0 or -errno. */
int write_file(const char *path, const char *text, mode_t mode);
/* Writes into an existing file, as /proc and /sys want it. 0 or -errno. */
int write_setting(const char *path, const char *text);

#endif
