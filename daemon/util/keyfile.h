/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * API keys at rest: /etc/declaw/keys.
 *
 * A line is `name:role:tier:salt:hash` with salt and hash in hexadecimal and hash = SHA-256(salt |
 * key). Blank lines and lines that begin with # are skipped. A name may have several lines: that is
 * how a key is rotated. The keys themselves are nowhere, so this file only tells who is who.
 *
 * Use from one thread; a changed file is a new keyfile_load().
 */
#ifndef DECLAW_KEYFILE_H
#define DECLAW_KEYFILE_H

#include <errno.h>
#include <stddef.h>

#define KEYFILE_KEY_MIN 4		/* the public clients' own test suites use keys like test-key */
#define KEYFILE_KEY_GOOD 16		/* shorter ones can be guessed: --hash-key warns */
#define KEYFILE_KEY_MAX 512
#define KEYFILE_NAME_MAX 64		/* characters of a name or tier */
#define KEYFILE_ENTRIES_MAX 4096
#define KEYFILE_TIER_DEFAULT "default"

enum keyfile_role {
	KEYFILE_ROLE_USER,
	KEYFILE_ROLE_ADMIN,
	KEYFILE_ROLE_MAX,
	KEYFILE_ROLE_INVALID = -EINVAL,
};

struct keyfile_entry {
	char *owner;	/* the name: who the sandboxes made with this key belong to */
	enum keyfile_role role;
	char *tier;
};

struct keyfile;

/*
 * -ENOENT and the like; on -EINVAL *ret_error is a malloc'ed sentence `file:line: ...`, else NULL.
 */
int keyfile_load(const char *path, struct keyfile **ret, char **ret_error);
int keyfile_parse(const char *name, const char *text, size_t len, struct keyfile **ret,
		  char **ret_error);
struct keyfile *keyfile_free(struct keyfile *kf);
size_t keyfile_size(const struct keyfile *kf);
/*
 * Whose key this is, or NULL; lives as long as kf. The time of a first check depends on the number
 * of lines and the length of the key only. A key found good is remembered (not itself: its hash
 * under a random key of this process), so a client that keeps coming costs one hash.
 */
const struct keyfile_entry *keyfile_check(struct keyfile *kf, const char *key, size_t len);
/* A line for the file, without newline; the caller frees. -EINVAL: a name, tier or key is unfit. */
int keyfile_format_line(const char *name, enum keyfile_role role, const char *tier, const char *key,
			char **ret);
const char *keyfile_role_name(enum keyfile_role role);
enum keyfile_role keyfile_role_parse(const char *name);

#endif
