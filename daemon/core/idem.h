/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Idempotency keys: a creation that is asked for twice under one key happens once.
 *
 * A key belongs to the sandbox it made and is written in that sandbox's record, in the same write that makes the sandbox
 * exist: no crash can part the two, and there is no second table to bound or to clean. So a key is remembered for as
 * long as its sandbox is (killed_retention after its end), and a creation that fails gives it free. Keys of different
 * owners are different keys.
 */
#ifndef DECLAW_IDEM_H
#define DECLAW_IDEM_H

#include "core/sandbox.h"

#define IDEM_KEY_MAX 255

bool idem_key_valid(const char *key);
/* The sandbox that owner made with that key; NULL: none, the key is free. */
struct sandbox *idem_find(const struct manager *m, const char *owner, const char *key);
/* Takes note of sb's key, if it has one. */
int idem_add(struct sandbox *sb);
/* The key is free again. */
void idem_remove(struct sandbox *sb);

#endif
