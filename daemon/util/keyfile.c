/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * API keys: reading the file and checking a key against it.
 *
 * Because every line has a salt of its own, a check has to hash once a line. All lines are hashed
 * and compared in constant time whether or not one has matched already, so the time tells nothing
 * about which line or how many bytes agreed. What was verified once is remembered in a small table
 * under HMAC-SHA256 with a random key: the table holds nothing that could be replayed or searched
 * offline.
 */
#include <gcrypt.h>
#include <string.h>

#include "util/fileio.h"
#include "util/ident.h"
#include "util/keyfile.h"
#include "util/str.h"

#define FILE_SIZE_MAX (2u * 1024 * 1024)
#define DIGEST_LEN 32u
#define SALT_LEN 16u	/* of lines we make; others may have SALT_MIN to SALT_MAX */
#define SALT_MIN 8u
#define SALT_MAX 32u
#define CACHE_SLOTS 256u	/* a power of two, at most 256 */
#define FIELDS 5u

struct line {
	struct keyfile_entry entry;
	unsigned char salt[SALT_MAX];
	size_t salt_len;
	unsigned char hash[DIGEST_LEN];
};

struct slot {
	unsigned char tag[DIGEST_LEN];
	const struct keyfile_entry *entry;
};

struct keyfile {
	struct line *lines;
	size_t n;
	unsigned char cache_key[DIGEST_LEN];
	struct slot cache[CACHE_SLOTS];
};

DEFINE_CLEANUP(struct keyfile *, keyfile_free)

static const char *const role_names[] = {
	[KEYFILE_ROLE_USER] = "user",
	[KEYFILE_ROLE_ADMIN] = "admin",
};
_Static_assert(ELEMENTSOF(role_names) == KEYFILE_ROLE_MAX, "every role has a name");

const char *keyfile_role_name(enum keyfile_role role)
{
	return role >= 0 && role < KEYFILE_ROLE_MAX ? role_names[role] : NULL;
}

enum keyfile_role keyfile_role_parse(const char *name)
{
	for (int i = 0; i < KEYFILE_ROLE_MAX; i++)
		if (str_eq(role_names[i], name))
			return (enum keyfile_role)i;
	return KEYFILE_ROLE_INVALID;
}

/* Whoever in the process uses libgcrypt first has to initialise it; no secure memory is needed. */
static void crypt_init(void)
{
	if (gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P))
		return;
	gcry_check_version(NULL);
	gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
	gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
}

/* SHA-256 of prefix | data; with GCRY_MD_FLAG_HMAC prefix is the HMAC's key. */
static int digest(unsigned flags, const void *prefix, size_t prefix_len, const void *data,
		  size_t len, unsigned char ret[DIGEST_LEN])
{
	gcry_buffer_t iov[2] = {
		{ .data = (void *)prefix, .len = prefix_len },
		{ .data = (void *)data, .len = len },
	};

	return gcry_md_hash_buffers(GCRY_MD_SHA256, flags, ret, iov, 2) ? -EIO : 0;
}

/* 1 when equal, 0 when not, without a branch on the bytes. */
static unsigned digest_equal(const unsigned char *a, const unsigned char *b)
{
	volatile unsigned diff = 0;

	for (size_t i = 0; i < DIGEST_LEN; i++)
		diff |= (unsigned)(a[i] ^ b[i]);
	return ((diff - 1) >> 31) & 1;
}

/* Letters, digits and . _ - @ : safe in a line of this file, a log record and a path. */
static bool word_valid(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= KEYFILE_NAME_MAX && s[0] != '.' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@") == n;
}

struct keyfile *keyfile_free(struct keyfile *kf)
{
	if (!kf)
		return NULL;
	for (size_t i = 0; i < kf->n; i++) {
		free(kf->lines[i].entry.owner);
		free(kf->lines[i].entry.tier);
	}
	free(kf->lines);
	explicit_bzero(kf, sizeof(*kf));
	free(kf);
	return NULL;
}

static size_t split_fields(char *text, char *fields[FIELDS + 1])
{
	size_t n = 0;

	while (text && n <= FIELDS)
		fields[n++] = strsep(&text, ":");
	return n;
}

/* NULL and a filled line, or what is wrong with the text. Strings are borrowed from text. */
static const char *parse_fields(char *text, struct line *ret)
{
	char *f[FIELDS + 1];
	size_t salt_hex;

	if (split_fields(text, f) != FIELDS)
		return "a line is name:role:tier:salt:hash";
	if (!word_valid(f[0]))
		return "bad name";
	ret->entry.role = keyfile_role_parse(f[1]);
	if (ret->entry.role == KEYFILE_ROLE_INVALID)
		return "the role is neither user nor admin";
	if (!word_valid(f[2]))
		return "bad tier";
	salt_hex = strlen(f[3]);
	if (salt_hex < 2 * SALT_MIN || salt_hex > 2 * SALT_MAX ||
	    hex_decode(f[3], ret->salt, salt_hex / 2) < 0)
		return "the salt is not 16 to 64 hexadecimal digits";
	ret->salt_len = salt_hex / 2;
	if (hex_decode(f[4], ret->hash, DIGEST_LEN) < 0)
		return "the hash is not 64 hexadecimal digits";
	ret->entry.owner = f[0];
	ret->entry.tier = f[2];
	return NULL;
}

static int add_line(struct keyfile *kf, const struct line *line)
{
	_cleanup_free_ char *owner = strdup(line->entry.owner), *tier = strdup(line->entry.tier);
	struct line *grown;

	grown = owner && tier ? reallocarray(kf->lines, kf->n + 1, sizeof(*grown)) : NULL;
	if (!grown)
		return -ENOMEM;
	kf->lines = grown;
	grown[kf->n] = *line;
	grown[kf->n].entry.owner = TAKE_PTR(owner);
	grown[kf->n].entry.tier = TAKE_PTR(tier);
	kf->n++;
	return 0;
}

/* 0, -ENOMEM, or -EINVAL and a static reason. */
static int parse_line(struct keyfile *kf, char *text, const char **ret_why)
{
	struct line line = { 0 };
	size_t n = strlen(text);

	if (n > 0 && text[n - 1] == '\r')
		text[--n] = '\0';
	if (n == 0 || text[0] == '#')
		return 0;
	*ret_why = parse_fields(text, &line);
	if (!*ret_why && kf->n >= KEYFILE_ENTRIES_MAX)
		*ret_why = "too many keys";
	return *ret_why ? -EINVAL : add_line(kf, &line);
}

static int parse_lines(struct keyfile *kf, const char *name, char *text, char **ret_error)
{
	const char *why = NULL;
	unsigned number = 0;
	char *line;
	int r;

	while ((line = strsep(&text, "\n"))) {
		number++;
		r = parse_line(kf, line, &why);
		if (r == -EINVAL) {
			*ret_error = str_format("%s:%u: %s", name, number, why);
			return *ret_error ? -EINVAL : -ENOMEM;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int keyfile_parse(const char *name, const char *text, size_t len, struct keyfile **ret,
		  char **ret_error)
{
	_cleanup_(cleanup_keyfile_free) struct keyfile *kf = NULL;
	_cleanup_free_ char *copy = NULL;
	int r;

	*ret_error = NULL;
	if (len > 0 && memchr(text, '\0', len)) {
		*ret_error = str_format("%s:1: NUL byte in the file", name);
		return *ret_error ? -EINVAL : -ENOMEM;
	}
	kf = calloc(1, sizeof(*kf));
	copy = strndup(len ? text : "", len);
	if (!kf || !copy)
		return -ENOMEM;
	crypt_init();
	random_bytes(kf->cache_key, sizeof(kf->cache_key));
	r = parse_lines(kf, name, copy, ret_error);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(kf);
	return 0;
}

int keyfile_load(const char *path, struct keyfile **ret, char **ret_error)
{
	_cleanup_buf_ struct buf b = BUF_INIT(0);
	int r;

	*ret_error = NULL;
	r = file_read(path, FILE_SIZE_MAX, &b);
	if (r < 0)
		return r;
	return keyfile_parse(path, b.data, b.len, ret, ret_error);
}

size_t keyfile_size(const struct keyfile *kf)
{
	return kf->n;
}

static const struct keyfile_entry *check_all(const struct keyfile *kf, const char *key, size_t len)
{
	unsigned char hash[DIGEST_LEN];
	size_t found = 0, mask;	/* found: index + 1 */
	unsigned ok;

	for (size_t i = 0; i < kf->n; i++) {
		ok = digest(0, kf->lines[i].salt, kf->lines[i].salt_len, key, len, hash) == 0;
		mask = 0 - (size_t)(ok & digest_equal(hash, kf->lines[i].hash));
		found = (found & ~mask) | ((i + 1) & mask);
	}
	explicit_bzero(hash, sizeof(hash));
	return found ? &kf->lines[found - 1].entry : NULL;
}

const struct keyfile_entry *keyfile_check(struct keyfile *kf, const char *key, size_t len)
{
	const struct keyfile_entry *found;
	unsigned char tag[DIGEST_LEN];
	struct slot *slot;

	if (len == 0 || len > KEYFILE_KEY_MAX)
		return NULL;
	if (digest(GCRY_MD_FLAG_HMAC, kf->cache_key, sizeof(kf->cache_key), key, len, tag) < 0)
		return NULL;
	slot = &kf->cache[tag[0] % CACHE_SLOTS];
	if (slot->entry && digest_equal(slot->tag, tag))
		return slot->entry;
	found = check_all(kf, key, len);
	if (found) {
		memcpy(slot->tag, tag, sizeof(tag));
		slot->entry = found;
	}
	return found;
}

int keyfile_format_line(const char *name, enum keyfile_role role, const char *tier, const char *key,
			char **ret)
{
	char salt_hex[2 * SALT_LEN + 1], hash_hex[2 * DIGEST_LEN + 1];
	unsigned char salt[SALT_LEN], hash[DIGEST_LEN];
	size_t len = strlen(key);
	char *line;

	if (!word_valid(name) || !word_valid(tier) || !keyfile_role_name(role) ||
	    len < KEYFILE_KEY_MIN || len > KEYFILE_KEY_MAX)
		return -EINVAL;
	crypt_init();
	random_bytes(salt, sizeof(salt));
	if (digest(0, salt, sizeof(salt), key, len, hash) < 0)
		return -EIO;
	hex_encode(salt, sizeof(salt), salt_hex);
	hex_encode(hash, sizeof(hash), hash_hex);
	line = str_format("%s:%s:%s:%s:%s", name, role_names[role], tier, salt_hex, hash_hex);
	if (!line)
		return -ENOMEM;
	*ret = line;
	return 0;
}
