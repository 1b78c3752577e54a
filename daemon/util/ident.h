/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Random identifiers. All randomness comes from getrandom(2). */
#ifndef DECLAW_IDENT_H
#define DECLAW_IDENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IDENT_SHORT 10			/* characters after the prefix */
#define SANDBOX_ID_MAX 15		/* sbx- + 10 + NUL */
#define SNAPSHOT_ID_MAX 16		/* snap- + 10 + NUL */

void random_bytes(void *ret, size_t len);
uint64_t random_u64(void);		/* never 0 */
/* n characters of [a-z0-9] without bias, plus NUL */
void ident_fill(char *ret, size_t n);
void ident_sandbox(char ret[SANDBOX_ID_MAX]);
/* Exactly the form this daemon makes: safe for paths, units, nft and tap names. */
bool ident_sandbox_valid(const char *id);
void ident_snapshot(char ret[SNAPSHOT_ID_MAX]);
bool ident_snapshot_valid(const char *id);
/* The 10 characters after "sbx-" */
const char *ident_short(const char *sandbox_id);

#endif
