/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inside of creating: what create.c and those who take other ways to the same end share. */
#ifndef DECLAW_CREATE_H
#define DECLAW_CREATE_H

#include "core/fault.h"

struct sandbox;

/* Its turn has come: the first step. */
void create_begin(struct sandbox *sb);
/* Ends it; who waits for it is told why. */
void create_fail(struct sandbox *sb, enum fault fault, const char *detail);

#endif
