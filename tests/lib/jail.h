/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A test in network, mount and process namespaces of its own, as root: whatever it starts ends with it, whatever it
 * mounts or configures nobody else sees. Needs no helper program.
 *
 * jail_enter() returns in the process that is to run the test; its exit code becomes the program's. Above it stand a
 * process that passes the code on and the namespace's first process, which reaps: libvirt waits for its QEMUs to
 * vanish, and a zombie has not.
 */
#ifndef DECLAW_TESTS_JAIL_H
#define DECLAW_TESTS_JAIL_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static inline int jail_wait(pid_t child)
{
	int status;

	for (;;) {
		pid_t p = wait(&status);

		if (p < 0 && errno == ECHILD)
			return EXIT_FAILURE;
		if (p == child)
			return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
	}
}

/* Returns in the child; the parent leaves with the child's exit code. */
static inline int jail_fork(void)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child < 0)
		return -errno;
	if (child > 0)
		_exit(jail_wait(child));
	return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
}

/* 0 or a negative errno: not root, or a host that forbids it. */
static inline int jail_enter(void)
{
	int r;

	if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID) < 0)
		return -errno;
	r = jail_fork();
	if (r < 0)
		return r;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("proc", "/proc", "proc", 0, NULL) < 0)
		return -errno;
	return jail_fork();
}

#endif
