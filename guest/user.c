/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /etc/passwd and /etc/group by hand. Both belong to root of the guest, but a user that became root may
 * have put anything there: lines are cut at a maximum, numbers checked, wrong lines skipped.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "user.h"
#include "util/macro.h"

#define LINE_MAX_LEN 16384

/* Splits at ':' in place; returns the number of fields, at most max. */
static int split(char *line, char **fields, int max)
{
	int n = 0;

	line[strcspn(line, "\n")] = 0;
	while (n < max) {
		fields[n++] = line;
		line = strchr(line, ':');
		if (!line)
			break;
		*line++ = 0;
	}
	return n;
}

static bool parse_id(const char *s, uint32_t *ret)
{
	unsigned long long v;
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || *end || v >= UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool copy(char *to, size_t size, const char *from)
{
	size_t len = strlen(from);

	if (len >= size)
		return false;
	memcpy(to, from, len + 1);
	return true;
}

static bool take_passwd(char *line, const char *name, struct user *ret)
{
	char *f[7];
	uint32_t uid, gid, wanted;

	if (split(line, f, 7) != 7 || !parse_id(f[2], &uid) || !parse_id(f[3], &gid))
		return false;
	if (strcmp(f[0], name) != 0 && !(parse_id(name, &wanted) && wanted == uid))
		return false;
	if (f[5][0] != '/' || !copy(ret->name, sizeof(ret->name), f[0]) ||
	    !copy(ret->home, sizeof(ret->home), f[5]) ||
	    !copy(ret->shell, sizeof(ret->shell), f[6][0] == '/' ? f[6] : "/bin/sh"))
		return false;
	ret->uid = uid;
	ret->gid = gid;
	return true;
}

static void take_group(char *line, struct user *u)
{
	char *f[4], *save = NULL;
	uint32_t gid;

	if (u->ngroups >= USER_GROUPS_MAX || split(line, f, 4) != 4 || !parse_id(f[2], &gid) || gid == u->gid)
		return;
	for (char *m = strtok_r(f[3], ",", &save); m; m = strtok_r(NULL, ",", &save)) {
		if (strcmp(m, u->name) == 0) {
			u->groups[u->ngroups++] = gid;
			return;
		}
	}
}

int user_lookup(const char *name, struct user *ret)
{
	_cleanup_free_ char *line = malloc(LINE_MAX_LEN);
	_cleanup_fclose_ FILE *passwd = NULL;
	_cleanup_fclose_ FILE *group = NULL;
	bool found = false;

	if (!line)
		return -ENOMEM;
	if (!*name)
		return -ENOENT;
	passwd = fopen("/etc/passwd", "re");
	while (passwd && !found && fgets(line, LINE_MAX_LEN, passwd))
		found = take_passwd(line, name, ret);
	if (!found && strcmp(name, "root") == 0) {
		/* an image without /etc/passwd still has a root */
		*ret = (struct user) { .name = "root", .home = "/root", .shell = "/bin/sh" };
		found = true;
	}
	if (!found)
		return -ENOENT;
	ret->groups[0] = ret->gid;
	ret->ngroups = 1;
	group = fopen("/etc/group", "re");
	while (group && fgets(line, LINE_MAX_LEN, group))
		take_group(line, ret);
	return 0;
}
