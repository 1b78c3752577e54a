/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * INI files by table: declawd.conf, its drop-ins and template.conf.
 *
 * A file has [sections], `key = value` lines, and comment lines that begin with # or ; (a # inside
 * a value belongs to the value). An empty list is NULL. Each known key is a row {section, key,
 * type, range, offset into the caller's struct}; an unknown key or section, a duplicate within one
 * file or a value out of range is an error that names file and line.
 */
#ifndef DECLAW_CONF_H
#define DECLAW_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONF_INSTANCE_MAX 64	/* characters of NAME in [tier NAME] */

enum conf_type {
	CONF_STRING,	/* char *, malloc'ed; an old value is freed */
	CONF_U64,	/* uint64_t in [min, max] */
	CONF_BOOL,	/* bool: yes/no/true/false/on/off/1/0 */
	CONF_USEC,	/* uint64_t microseconds; text: 10, 10s, 500ms, 5min, 1h, 1d; 10 = 10s */
	CONF_SIZE,	/* uint64_t bytes; text: 10, 10K, 10M, 10G (1024) */
	CONF_ENUM,	/* int; choices is "a|b|c", stored as index */
	CONF_LIST,	/* char **, comma separated, trimmed; replaces */
	CONF_TYPE_MAX,
};

struct conf_key {
	const char *section, *key;
	enum conf_type type;
	size_t offset;
	uint64_t min, max;	/* inclusive; strings: length in bytes; max 0 = no upper limit */
	const char *choices;
	/*
	 * A section that may come with any name, "tier *" for [tier NAME]: returns what the offsets of its rows count from,
	 * NULL on no memory. The same function in every row of the section; the caller frees what these rows own.
	 */
	void *(*instance)(void *target, const char *name);
};

/*
 * keys ends with a row whose section is NULL. *ret_error: malloc'ed sentence `file:line: ...` on
 * -EINVAL (caller frees), NULL otherwise. After an error the target is partly filled; conf_done()
 * it.
 */
int conf_load(const char *path, const struct conf_key *keys, void *target, char **ret_error);
int conf_parse(const char *name, const char *text, size_t len, const struct conf_key *keys,
	       void *target, char **ret_error);
/* Every *.conf of a directory in name order; 0 when the directory is absent. */
int conf_load_dir(const char *dir, const struct conf_key *keys, void *target, char **ret_error);
/* Frees the strings and lists the table knows of. */
void conf_done(const struct conf_key *keys, void *target);

#endif
