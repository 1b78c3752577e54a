/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SHA-256 as hexadecimal text: tells whether two bodies are the same without keeping either. */
#ifndef DECLAW_DIGEST_H
#define DECLAW_DIGEST_H

#include <stddef.h>

#define DIGEST_TEXT_MAX 65

void digest_text(const void *data, size_t len, char ret[DIGEST_TEXT_MAX]);

#endif
