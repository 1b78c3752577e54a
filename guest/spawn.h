/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starting a program as a user: nothing of the agent leaks into it, and a failure on the way is an errno
 * and a sentence, not an exit code. The process table calls it through a pointer so that the fuzzer can
 * start nothing.
 */
#ifndef DCLW_SPAWN_H
#define DCLW_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "user.h"

struct spawn_spec {
	char *const *argv;
	char *const *envp;		/* complete; PATH in it finds argv[0] */
	const char *cwd;
	const struct user *user;
	bool switch_user;		/* false: not root, or the same */
	bool in, out, err;		/* wanted; else /dev/null */
	bool pty;
	uint16_t rows, cols;
};

struct spawn_result {
	pid_t pid;
	int in, out, err;		/* the agent's ends, non-blocking; in and out of a PTY are two
					 * descriptors of its master; -1 where not wanted */
	const char *stage;		/* on failure: what was tried, for the sentence */
};

/* 0 or -errno with ret->stage. */
int spawn_process(const struct spawn_spec *spec, struct spawn_result *ret);

#endif
