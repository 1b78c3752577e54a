/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FNV-1a, 64 bits: for names and numbers that nobody attacks. Begin with FNV_BEGIN, go on with what came back. Pure.
 */
#ifndef DECLAW_FNV_H
#define DECLAW_FNV_H

#include <stddef.h>
#include <stdint.h>

#define FNV_BEGIN 14695981039346656037ull

static inline uint64_t fnv(uint64_t h, const void *data, size_t len)
{
	for (const uint8_t *p = data; len > 0; len--)
		h = (h ^ *p++) * 1099511628211ull;
	return h;
}

#endif
