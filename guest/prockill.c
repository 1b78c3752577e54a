/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process's number is safe to use while it is not reaped. After that its session's number is pinned only
 * as long as somebody is still in the session, so members are looked for in /proc before a signal goes to
 * a number whose process is gone.
 *
 * SIGKILL to a group reaches the whole session: an interactive shell puts its jobs into groups of their
 * own, and what the host kills must leave nothing behind. The kernel kills one group at once and without a
 * race with fork(), so only other groups are looked for, by system calls that need no file: a machine full
 * of busy processes is when kills are asked for, and opening each one's files takes a second there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "prockill.h"
#include "util/macro.h"

/* The name in /proc/PID/stat may contain anything, so fields are counted from its last parenthesis. */
static bool is_dead(pid_t pid)
{
	char path[64], buf[512], *p;
	_cleanup_close_ int fd = -EBADF;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	n = read(fd, buf, sizeof(buf) - 1);
	if (n <= 0)
		return true;
	buf[n] = 0;
	p = strrchr(buf, ')');
	return !p || p[1] == 0 || p[2] == 'Z' || p[2] == 'X';
}

/* The next member of the session, dead ones included; 0: no more. */
static pid_t next_member(DIR *dir, pid_t session)
{
	struct dirent *de;

	while ((de = readdir(dir))) {
		pid_t pid = (pid_t)strtol(de->d_name, NULL, 10);

		if (pid > 0 && getsid(pid) == session)
			return pid;
	}
	return 0;
}

static bool session_lives(pid_t session)
{
	DIR *dir = opendir("/proc");
	pid_t pid = 0;

	if (!dir)
		return false;
	while ((pid = next_member(dir, session)) > 0 && is_dead(pid))
		;
	closedir(dir);
	return pid > 0;
}

/* Kills the groups other than the leader's. true: there were some. */
static bool kill_strays(pid_t session)
{
	DIR *dir = opendir("/proc");
	bool found = false;
	pid_t pid;

	if (!dir)
		return false;
	while ((pid = next_member(dir, session)) > 0) {
		pid_t group = getpgid(pid);

		if (group <= 0 || group == session)
			continue;
		kill(-group, SIGKILL);
		found = true;
	}
	closedir(dir);
	return found;
}

int proc_kill(pid_t pid, int sig, bool group, bool alive)
{
	if (!group)
		return !alive ? -ESRCH : kill(pid, sig) < 0 ? -errno : 0;
	if (!alive && !session_lives(pid))
		return -ESRCH;
	if (kill(-pid, sig) < 0 && errno != ESRCH)
		return -errno;
	/* Twice: somebody may have made one more group between being listed and being killed. */
	if (sig == SIGKILL && kill_strays(pid))
		kill_strays(pid);
	return 0;
}
