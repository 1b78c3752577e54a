/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/idem.h"

#include <string.h>

#include "core/manager.h"

bool idem_key_valid(const char *key)
{
	size_t n = strlen(key);

	if (n == 0 || n > IDEM_KEY_MAX)
		return false;
	for (; *key; key++)
		if ((unsigned char)*key < 0x21 || (unsigned char)*key > 0x7e)
			return false;
	return true;
}

/* Neither owners' names nor keys contain a space. */
static char *full_name(const char *owner, const char *key)
{
	return str_format("%s %s", owner, key);
}

struct sandbox *idem_find(const struct manager *m, const char *owner, const char *key)
{
	_cleanup_free_ char *name = full_name(owner, key);

	return name ? map_get(m->by_key, name) : NULL;
}

int idem_add(struct sandbox *sb)
{
	int r;

	/* A creation that failed has given its key free */
	if (!sb->options.idem_key || (sb->state == SANDBOX_KILLED && !sb->started_usec))
		return 0;
	sb->idem_name = full_name(sb->owner, sb->options.idem_key);
	r = sb->idem_name ? map_put(sb->manager->by_key, sb->idem_name, sb) : -ENOMEM;
	if (r < 0) {
		free(sb->idem_name);
		sb->idem_name = NULL;
	}
	return r;
}

void idem_remove(struct sandbox *sb)
{
	if (!sb->idem_name)
		return;
	map_remove(sb->manager->by_key, sb->idem_name);
	free(sb->idem_name);
	sb->idem_name = NULL;
}
