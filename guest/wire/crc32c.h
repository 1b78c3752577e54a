/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CRC32C (Castagnoli), the sum over a frame's header. It tells a header from payload bytes that look
 * like one; it is no protection against an attacker, nor meant to be.
 */
#ifndef DCLW_CRC32C_H
#define DCLW_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *data, size_t len);

#endif
