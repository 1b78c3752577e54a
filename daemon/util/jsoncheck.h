/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Validates JSON text against RFC 8259 without building anything. */
#ifndef DECLAW_JSONCHECK_H
#define DECLAW_JSONCHECK_H

#include <stddef.h>

/*
 * NULL when text is exactly one value in blanks, else a static sentence. depth_max counts nested
 * arrays and objects. *ret_members: how many object members the text has in total.
 */
const char *json_check(const char *text, size_t len, unsigned depth_max, size_t *ret_members);

#endif
