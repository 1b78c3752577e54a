/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Identifiers: their form, that none repeats, that no character is preferred. */
#include "util-test.h"
#include "util/ident.h"
#include "util/macro.h"
#include "util/map.h"

Test(ident, sandbox_ids_have_the_form_and_differ)
{
	static char ids[2000][SANDBOX_ID_MAX];
	struct map *m = map_new();

	for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
		ident_sandbox(ids[i]);
		cr_assert_eq(strlen(ids[i]), SANDBOX_ID_MAX - 1);
		cr_assert(ident_sandbox_valid(ids[i]), "%s", ids[i]);
		cr_assert_eq(map_put(m, ids[i], ids[i]), 0, "%s came twice", ids[i]);
	}
	cr_assert_str_eq(ident_short("sbx-0123456789"), "0123456789");
	map_free(m);
}

Test(ident, validation)
{
	static const char *const bad[] = {
		"",
		"sbx-",
		"sbx-012345678",
		"sbx-01234567890",
		"sbx-012345678A",
		"sbx-012345678_",
		"SBX-0123456789",
		"sbx_0123456789",
		"sbx-../../../x",
		"sbx-01234 6789",
		"sbx-012345678\n",
		"xsbx-0123456789",
		"sbx-012345678\xc3",
	};

	cr_assert(ident_sandbox_valid("sbx-0123456789"));
	cr_assert(ident_sandbox_valid("sbx-abcdefghiz"));
	cr_assert_not(ident_sandbox_valid(NULL));
	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		cr_expect_not(ident_sandbox_valid(bad[i]), "%s", bad[i]);
}

/*
 * 36 classes, 180000 draws: chi square with 35 degrees of freedom is above 90 once in a million
 * runs; the bias of a plain modulo (7 against 8 in 256 for some characters) would give about 500.
 */
Test(ident, characters_are_unbiased)
{
	static char text[180001];
	double expected = 180000 / 36.0, chi = 0;
	unsigned count[256] = { 0 };

	ident_fill(text, 180000);
	cr_assert_eq(strlen(text), 180000);
	for (size_t i = 0; i < 180000; i++)
		count[(unsigned char)text[i]]++;
	for (const char *c = "abcdefghijklmnopqrstuvwxyz0123456789"; *c; c++) {
		double d = count[(unsigned char)*c] - expected;

		chi += d * d / expected;
		count[(unsigned char)*c] = 0;
	}
	for (size_t i = 0; i < 256; i++)
		cr_assert_eq(count[i], 0, "character %zu", i);
	cr_assert_lt(chi, 90.0, "chi square %f", chi);
}

Test(ident, nothing_is_filled_beyond_the_end)
{
	char text[8] = "zzzzzzz";

	ident_fill(text, 0);
	cr_assert_eq(text[0], '\0');
	cr_assert_eq(text[1], 'z');
	ident_fill(text, 3);
	cr_assert_eq(strlen(text), 3);
	cr_assert_eq(text[4], 'z');
}

Test(ident, random_numbers)
{
	unsigned char a[300] = { 0 }, b[300] = { 0 };

	random_bytes(a, sizeof(a));
	random_bytes(b, sizeof(b));
	cr_assert_neq(memcmp(a, b, sizeof(a)), 0);
	cr_assert_neq(memcmp(a + 268, b + 268, 32), 0, "the tail is filled too");
	random_bytes(NULL, 0);
	cr_assert_neq(random_u64(), random_u64());
}
