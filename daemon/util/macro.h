/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The few macros everything else is written with: cleanup attributes, ownership transfer,
 * container_of.
 *
 * A local that owns something carries _cleanup_(); handing it over is TAKE_PTR()/TAKE_FD().
 * Destructors accept NULL and return NULL.
 */
#ifndef DECLAW_MACRO_H
#define DECLAW_MACRO_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _unused_ __attribute__((unused))
#define _warn_unused_ __attribute__((warn_unused_result))

#define ELEMENTSOF(x) (sizeof(x) / sizeof((x)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

#define TAKE_PTR(p) ({ __typeof__(p) *_pp = &(p); __typeof__(p) _v = *_pp; *_pp = NULL; _v; })
#define TAKE_FD(fd) ({ int *_pf = &(fd); int _v = *_pf; *_pf = -EBADF; _v; })

/* Defines cleanup_<func>() for `_cleanup_(cleanup_<func>) type *x = NULL;` */
#define DEFINE_CLEANUP(type, func)			\
	static inline void cleanup_##func(type *p)	\
	{						\
		if (*p)					\
			func(*p);			\
	}

static inline void cleanup_freep(void *p)
{
	free(*(void **)p);
}
#define _cleanup_free_ _cleanup_(cleanup_freep)

/* Closes and returns -EBADF; keeps errno. Negative descriptors are ignored. */
static inline int fd_close(int fd)
{
	if (fd >= 0) {
		int saved = errno;

		close(fd);
		errno = saved;
	}
	return -EBADF;
}
static inline void cleanup_closep(int *fd)
{
	*fd = fd_close(*fd);
}
#define _cleanup_close_ _cleanup_(cleanup_closep)

static inline void cleanup_fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}
#define _cleanup_fclose_ _cleanup_(cleanup_fclosep)

#endif
