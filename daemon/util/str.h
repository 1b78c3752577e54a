/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strings, growing buffers, numbers, hex, UTF-8. No locale, no globals.
 */
#ifndef DECLAW_STR_H
#define DECLAW_STR_H

#include <stdarg.h>
#include <stdbool.h>

#include "util/macro.h"

static inline bool str_eq(const char *a, const char *b)
{
	return a && b ? __builtin_strcmp(a, b) == 0 : a == b;
}
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
/* malloc'ed; NULL on no memory */
char *str_format(const char *format, ...) _printf_(1, 2);
/* Whole string must be a decimal number in [min, max]; -EINVAL or -ERANGE otherwise. */
int str_to_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret);
int str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret);
/*
 * Printable ASCII copy of at most max input bytes: \n \r \t \\ \xNN, and "..." when cut. malloc'ed.
 */
char *str_escape(const void *data, size_t len, size_t max);
bool utf8_valid(const void *data, size_t len);
/*
 * Looks at the sequence data begins with. Returns its length when it is whole (== *ret_need); a
 * smaller positive number, all of len, when it is a proper prefix of one of *ret_need bytes; 0 when
 * it is invalid (or len is 0), then *ret_need is how many bytes stand for one U+FFFD (the maximal
 * subpart).
 */
size_t utf8_sequence(const void *data, size_t len, size_t *ret_need);
void hex_encode(const void *data, size_t len, char *ret);	/* ret: 2 * len + 1 bytes */
int hex_decode(const char *hex, void *ret, size_t len);		/* exactly 2 * len digits */

/*
 * Growing byte buffer with a hard cap: append fails with -ENOBUFS beyond `max` and changes nothing.
 * Always NUL terminated after the last byte when data != NULL.
 */
struct buf {
	char *data;
	size_t len, size, max;
};
#define BUF_INIT(cap) { .max = (cap) }
int buf_append(struct buf *b, const void *data, size_t len);
int buf_printf(struct buf *b, const char *format, ...) _printf_(2, 3);
int buf_puts(struct buf *b, const char *s);
void buf_done(struct buf *b);
/* The caller frees; "" when empty; NULL on no memory; b is empty then and keeps its cap. */
char *buf_take(struct buf *b);
#define _cleanup_buf_ _cleanup_(buf_done)

/* NULL terminated string arrays */
int strv_push(char ***v, const char *s);	/* copies */
size_t strv_len(char *const *v);
void strv_free(char **v);
static inline void cleanup_strvp(char ***v)
{
	strv_free(*v);
}
#define _cleanup_strv_ _cleanup_(cleanup_strvp)

#endif
