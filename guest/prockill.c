/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process's number is safe to use while it is not reaped. After that its session's number is pinned only
 * as long as somebody is still in the session, so members are looked for in /proc before a signal goes to
 * a number whose process is gone. SIGKILL to a group reaches the whole session: an interactive shell puts
 * its jobs into groups of their own, and what the host kills must leave nothing behind.
 */
#include <ctype.h>
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
static bool in_session(const char *entry, pid_t session)
{
	char path[64], buf[512], *p;
	_cleanup_close_ int fd = -EBADF;
	int pgrp, sid;
	char state;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", entry);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, sizeof(buf) - 1);
	if (n <= 0)
		return false;
	buf[n] = 0;
	p = strrchr(buf, ')');
	if (!p || sscanf(p + 1, " %c %*d %d %d", &state, &pgrp, &sid) != 3)
		return false;
	return sid == session && state != 'Z' && state != 'X';
}

/* Signals every member (sig 0 only counts). Returns how many there are. */
static int session_signal(pid_t session, int sig)
{
	DIR *dir = opendir("/proc");
	struct dirent *de;
	int n = 0;

	if (!dir)
		return 0;
	while ((de = readdir(dir))) {
		if (!isdigit((unsigned char)de->d_name[0]) || !in_session(de->d_name, session))
			continue;
		n++;
		if (sig)
			kill((pid_t)strtol(de->d_name, NULL, 10), sig);
	}
	closedir(dir);
	return n;
}

int proc_kill(pid_t pid, int sig, bool group, bool alive)
{
	if (!group)
		return !alive ? -ESRCH : kill(pid, sig) < 0 ? -errno : 0;
	if (!alive && session_signal(pid, 0) == 0)
		return -ESRCH;
	if (kill(-pid, sig) < 0 && errno != ESRCH)
		return -errno;
	/* Twice: a member may have forked between being listed and being killed. */
	if (sig == SIGKILL && session_signal(pid, sig) > 0)
		session_signal(pid, sig);
	return 0;
}
