/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Users of the guest, straight from /etc/passwd and /etc/group: a static program cannot load NSS modules.
 */
#ifndef DCLW_USER_H
#define DCLW_USER_H

#include <limits.h>
#include <sys/types.h>

#define USER_GROUPS_MAX 64

struct user {
	char name[256];
	char home[PATH_MAX];
	char shell[PATH_MAX];
	uid_t uid;
	gid_t gid;
	gid_t groups[USER_GROUPS_MAX];	/* gid first, then what /etc/group adds */
	size_t ngroups;
};

/* name: a login name or a decimal uid. -ENOENT: no such user. */
int user_lookup(const char *name, struct user *ret);

#endif
