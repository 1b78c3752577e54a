/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * String-keyed hash map of borrowed pointers; keys are borrowed too and must live as long as the
 * entry.
 */
#ifndef DECLAW_MAP_H
#define DECLAW_MAP_H

#include <stddef.h>

struct map;
struct map *map_new(void);
struct map *map_free(struct map *m);		/* frees the map, not what it points to */
int map_put(struct map *m, const char *key, void *value);	/* -EEXIST */
void *map_get(const struct map *m, const char *key);
void *map_remove(struct map *m, const char *key);
size_t map_size(const struct map *m);

#endif
