/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Uploads as seen by the freezer and by the end of the agent.
 */
#ifndef DCLW_FILEWRITE_H
#define DCLW_FILEWRITE_H

struct agent;

/* Uploads wait while the file system is frozen; this makes them go on. */
void uploads_thawed(struct agent *a);
void uploads_free(struct agent *a);

#endif
