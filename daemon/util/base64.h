/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Base64 (RFC 4648, standard alphabet, padded). Decoding is strict: no white space, no missing or misplaced padding, no
 * bits set that the padding cuts off, so each byte string has exactly one text.
 */
#ifndef DECLAW_BASE64_H
#define DECLAW_BASE64_H

#include <stddef.h>
#include <sys/types.h>

/* Characters for len bytes, without a NUL */
#define BASE64_SIZE(len) (((size_t)(len) + 2) / 3 * 4)

/* ret: BASE64_SIZE(len) bytes; no NUL is written. */
void base64_encode(const void *data, size_t len, char *ret);
/* ret: len / 4 * 3 bytes. Returns how many were written, -EINVAL when it is no base64. */
ssize_t base64_decode(const char *text, size_t len, void *ret);

#endif
