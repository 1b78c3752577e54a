/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random identifiers.
 *
 * There is no fallback when the kernel cannot give randomness: ids end up in paths and names that
 * must not be guessable or collide, so the process stops instead.
 */
#include <string.h>
#include <sys/random.h>

#include "util/ident.h"
#include "util/macro.h"
#include "util/str.h"

#define SANDBOX_PREFIX "sbx-"
#define SANDBOX_PREFIX_LEN (sizeof(SANDBOX_PREFIX) - 1)
#define SNAPSHOT_PREFIX "snap-"
#define SNAPSHOT_PREFIX_LEN (sizeof(SNAPSHOT_PREFIX) - 1)

_Static_assert(SANDBOX_ID_MAX == SANDBOX_PREFIX_LEN + IDENT_SHORT + 1,
	       "the id is the prefix and 10 characters");

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";
#define ALPHABET_LEN (sizeof(alphabet) - 1)

void random_bytes(void *ret, size_t len)
{
	unsigned char *p = ret;
	ssize_t n;

	while (len > 0) {
		n = getrandom(p, len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			abort();
		p += n;
		len -= (size_t)n;
	}
}

uint64_t random_u64(void)
{
	uint64_t v;

	do
		random_bytes(&v, sizeof(v));
	while (v == 0);
	return v;
}

void ident_fill(char *ret, size_t n)
{
	unsigned char pool[32];
	/* Bytes from here on are thrown away: they would make the first characters likelier. */
	const unsigned limit = 256 - 256 % ALPHABET_LEN;
	size_t have = 0;

	for (size_t i = 0; i < n;) {
		if (have == 0) {
			random_bytes(pool, sizeof(pool));
			have = sizeof(pool);
		}
		if (pool[--have] < limit)
			ret[i++] = alphabet[pool[have] % ALPHABET_LEN];
	}
	ret[n] = '\0';
}

void ident_snapshot(char ret[SNAPSHOT_ID_MAX])
{
	memcpy(ret, SNAPSHOT_PREFIX, SNAPSHOT_PREFIX_LEN);
	ident_fill(ret + SNAPSHOT_PREFIX_LEN, IDENT_SHORT);
}

bool ident_snapshot_valid(const char *id)
{
	if (!id || !str_starts(id, SNAPSHOT_PREFIX))
		return false;
	id += SNAPSHOT_PREFIX_LEN;
	return strspn(id, alphabet) == IDENT_SHORT && !id[IDENT_SHORT];
}

void ident_sandbox(char ret[SANDBOX_ID_MAX])
{
	memcpy(ret, SANDBOX_PREFIX, SANDBOX_PREFIX_LEN);
	ident_fill(ret + SANDBOX_PREFIX_LEN, IDENT_SHORT);
}

bool ident_sandbox_valid(const char *id)
{
	if (!id || !str_starts(id, SANDBOX_PREFIX))
		return false;
	id += SANDBOX_PREFIX_LEN;
	return strspn(id, alphabet) == IDENT_SHORT && !id[IDENT_SHORT];
}

const char *ident_short(const char *sandbox_id)
{
	return sandbox_id + SANDBOX_PREFIX_LEN;
}
