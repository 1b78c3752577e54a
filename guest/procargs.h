/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the arguments of PROC_START to what spawn needs: argv, a complete environment, user, directory.
 */
#ifndef DCLW_PROCARGS_H
#define DCLW_PROCARGS_H

#include "ops.h"
#include "spawn.h"

struct procargs {
	struct spawn_spec spec;
	struct user user;
	char **argv, **envp;
	size_t nown;		/* entries of envp that the host gave */
	char *strings;		/* all of argv's and the environment's text */
	char cwd[PATH_MAX];
	char why[128];		/* on failure */
};

/* may_switch: the agent is root. Zeroed memory in; procargs_done() in every case. */
int procargs_make(struct procargs *pa, const struct args *g, bool may_switch);
void procargs_done(struct procargs *pa);

#endif
