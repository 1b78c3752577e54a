/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frozen root file system as the rest of the agent needs to know it.
 */
#ifndef DCLW_FREEZE_H
#define DCLW_FREEZE_H

struct agent;

/* Thaws when the host seems to have forgotten. */
void freeze_tick(struct agent *a);

#endif
