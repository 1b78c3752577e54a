/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The map against a model, through growth and removal. */
#include "util-test.h"
#include "util/macro.h"
#include "util/map.h"

#define KEYS 3000

static char keys[KEYS][16];
static int values[KEYS];

static void fill_keys(void)
{
	for (int i = 0; i < KEYS; i++)
		snprintf(keys[i], sizeof(keys[i]), "%.*s%d", i % 9, "aaaaaaaaa", i);
}

Test(map, empty)
{
	struct map *m = map_new();

	cr_assert_null(map_get(m, "x"));
	cr_assert_null(map_remove(m, "x"));
	cr_assert_eq(map_size(m), 0);
	cr_assert_null(map_free(m));
	cr_assert_null(map_free(NULL));
	test_leaks();
}

Test(map, put_get_remove)
{
	struct map *m = map_new();

	fill_keys();
	for (int i = 0; i < KEYS; i++)
		cr_assert_eq(map_put(m, keys[i], &values[i]), 0);
	cr_assert_eq(map_size(m), KEYS);
	for (int i = 0; i < KEYS; i++)
		cr_assert_eq(map_get(m, keys[i]), &values[i], "%s", keys[i]);
	for (int i = 0; i < KEYS; i += 2)
		cr_assert_eq(map_remove(m, keys[i]), &values[i]);
	cr_assert_eq(map_size(m), KEYS / 2);
	for (int i = 0; i < KEYS; i++)
		cr_assert_eq(map_get(m, keys[i]), i % 2 ? &values[i] : NULL, "%s", keys[i]);
	for (int i = 0; i < KEYS; i += 2)
		cr_assert_eq(map_put(m, keys[i], &values[0]), 0);
	cr_assert_eq(map_get(m, keys[2]), &values[0]);
	map_free(m);
	test_leaks();
}

Test(map, a_key_is_compared_by_its_bytes_and_never_replaced)
{
	struct map *m = map_new();
	char same[] = "key";

	cr_assert_eq(map_put(m, "key", &values[0]), 0);
	cr_assert_eq(map_put(m, same, &values[1]), -EEXIST);
	cr_assert_eq(map_get(m, same), &values[0]);
	cr_assert_eq(map_put(m, "", &values[2]), 0);
	cr_assert_eq(map_get(m, ""), &values[2]);
	cr_assert_null(map_get(m, "ke"));
	cr_assert_null(map_get(m, "keyy"));
	cr_assert_eq(map_remove(m, same), &values[0]);
	cr_assert_null(map_remove(m, same));
	cr_assert_eq(map_size(m), 1);
	map_free(m);
}
