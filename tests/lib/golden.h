/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Golden files of tests/golden for Criterion tests: the text must be the file's, byte for byte.
 *
 * DECLAW_GOLDEN_UPDATE=1 writes the files instead; the change is then reviewed in the diff. automake's test driver
 * sets $srcdir.
 */
#ifndef DECLAW_TESTS_GOLDEN_H
#define DECLAW_TESTS_GOLDEN_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_MAX (64 * 1024)

static inline void golden_path(char *ret, size_t size, const char *name)
{
	const char *srcdir = getenv("srcdir");

	snprintf(ret, size, "%s/tests/golden/%s", srcdir ? srcdir : ".", name);
}

static inline void golden_write(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	cr_assert_not_null(f, "%s: %m", path);
	cr_assert_eq(fputs(text, f) < 0, 0);
	cr_assert_eq(fclose(f), 0);
}

static inline void golden_check(const char *name, const char *text)
{
	static char want[GOLDEN_MAX];
	char path[512];
	size_t n;
	FILE *f;

	golden_path(path, sizeof(path), name);
	if (getenv("DECLAW_GOLDEN_UPDATE"))
		golden_write(path, text);
	f = fopen(path, "re");
	cr_assert_not_null(f, "%s: %m", path);
	n = fread(want, 1, sizeof(want) - 1, f);
	want[n] = '\0';
	fclose(f);
	cr_assert_str_eq(text, want, "%s differs; it is now:\n%s", name, text);
}

#endif
