/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of daemon/util share: a temporary directory, small files, a leak check.
 *
 * Criterion runs a test in a process that leaves without LeakSanitizer's exit check, so a test body
 * ends with test_leaks() itself.
 */
#ifndef DECLAW_UTIL_TEST_H
#define DECLAW_UTIL_TEST_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#if defined(__SANITIZE_ADDRESS__)
#define TEST_LSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_LSAN 1
#endif
#endif

#ifdef TEST_LSAN
int __lsan_do_recoverable_leak_check(void);
#define test_leaks() cr_assert_eq(__lsan_do_recoverable_leak_check(), 0, "memory leaked")
#else
#define test_leaks() ((void)0)
#endif

/* A fresh directory below $TMPDIR or /tmp. */
static inline void test_tmpdir(char ret[PATH_MAX])
{
	const char *base = getenv("TMPDIR");

	snprintf(ret, PATH_MAX, "%s/declaw-util-XXXXXX", base ? base : "/tmp");
	cr_assert_not_null(mkdtemp(ret), "mkdtemp %s: %m", ret);
}

static inline void test_path(char ret[PATH_MAX], const char *dir, const char *name)
{
	cr_assert_lt(snprintf(ret, PATH_MAX, "%s/%s", dir, name), PATH_MAX);
}

static inline void test_write(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	cr_assert_not_null(f, "%s: %m", path);
	cr_assert_geq(fputs(text, f), 0);
	cr_assert_eq(fclose(f), 0);
}

/* The first bytes of a small file; "" when it cannot be opened. */
static inline const char *test_read(const char *path, char *ret, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(ret, 1, size - 1, f) : 0;

	ret[n] = '\0';
	if (f)
		fclose(f);
	return ret;
}

static inline size_t test_count(const char *dir)
{
	DIR *d = opendir(dir);
	size_t n = 0;

	cr_assert_not_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;	/* . and .. */
}

static inline int test_exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

#endif
