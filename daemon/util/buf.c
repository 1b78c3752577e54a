/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Growing byte buffers with a hard cap, and string arrays.
 *
 * The cap is the owner's promise to whoever is charged for the memory; an append either fits as a
 * whole or leaves the buffer as it was. Room for one NUL is kept on top of the cap, so data can
 * always be printed.
 */
#include <string.h>

#include "util/str.h"

#define BUF_FIRST 64u

static int buf_reserve(struct buf *b, size_t more)
{
	size_t want, size;
	char *p;

	if (b->len > b->max || more > b->max - b->len)
		return -ENOBUFS;
	if (__builtin_add_overflow(b->len + more, 1u, &want))
		return -ENOMEM;
	if (want <= b->size)
		return 0;
	size = MAX_OF(b->size, BUF_FIRST);
	while (size < want)
		if (__builtin_mul_overflow(size, 2u, &size))
			size = want;
	if (b->max < SIZE_MAX)
		size = MAX_OF(want, MIN_OF(size, b->max + 1));
	p = realloc(b->data, size);
	if (!p)
		return -ENOMEM;
	b->data = p;
	b->size = size;
	return 0;
}

int buf_append(struct buf *b, const void *data, size_t len)
{
	int r = buf_reserve(b, len);

	if (r < 0)
		return r;
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
	return 0;
}

int buf_puts(struct buf *b, const char *s)
{
	return buf_append(b, s, strlen(s));
}

int buf_printf(struct buf *b, const char *format, ...)
{
	va_list ap;
	int n, r;

	va_start(ap, format);
	n = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	r = buf_reserve(b, (size_t)n);
	if (r < 0)
		return r;
	va_start(ap, format);
	vsnprintf(b->data + b->len, (size_t)n + 1, format, ap);
	va_end(ap);
	b->len += (size_t)n;
	return 0;
}

void buf_done(struct buf *b)
{
	free(b->data);
	b->data = NULL;
	b->len = b->size = 0;
}

char *buf_take(struct buf *b)
{
	char *ret = b->data ? b->data : strdup("");

	b->data = NULL;
	b->len = b->size = 0;
	return ret;
}

int strv_push(char ***v, const char *s)
{
	size_t n = strv_len(*v);
	char **grown, *copy;

	copy = strdup(s);
	if (!copy)
		return -ENOMEM;
	grown = reallocarray(*v, n + 2, sizeof(*grown));
	if (!grown) {
		free(copy);
		return -ENOMEM;
	}
	grown[n] = copy;
	grown[n + 1] = NULL;
	*v = grown;
	return 0;
}

size_t strv_len(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

void strv_free(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}
