/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reaping by signalfd. SIGCHLD stays blocked in the agent; what it starts gets an empty mask.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "agent.h"
#include "child.h"
#include "stats.h"

void child_watch(struct agent *a, struct child *c, pid_t pid, void (*exited)(struct child *, int))
{
	c->pid = pid;
	c->exited = exited;
	list_append(&a->children, &c->link);
}

void child_unwatch(struct child *c)
{
	list_unlink(&c->link);
}

void child_exited(struct agent *a, pid_t pid, int status)
{
	struct child *c;

	/* The kernel's choice of a victim is told to the host: it looks like any other SIGKILL otherwise. */
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		stats_check_oom(a);
	list_foreach(&a->children, c, struct child, link) {
		if (c->pid == pid) {
			list_unlink(&c->link);
			c->exited(c, status);
			return;
		}
	}
}

static void children_event(struct source *s, _unused_ uint32_t events)
{
	struct agent *a = container_of(s, struct agent, signals);
	struct signalfd_siginfo si;
	int status;
	pid_t pid;

	while (read(a->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGTERM)
			a->verdict = a->init ? AGENT_POWEROFF : AGENT_STOP;
	}
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		child_exited(a, pid, status);
}

int children_init(struct agent *a)
{
	sigset_t mask;

	list_init(&a->children);
	a->signals.fd = a->signal_fd = -1;
	signal(SIGPIPE, SIG_IGN);
	if (a->dry)
		return 0;
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
		return -errno;
	a->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (a->signal_fd < 0)
		return -errno;
	return loop_add(&a->loop, &a->signals, a->signal_fd, EPOLLIN, children_event);
}

void children_done(struct agent *a)
{
	loop_remove(&a->loop, &a->signals);
	a->signal_fd = fd_close(a->signal_fd);
}

pid_t child_fork(struct agent *a)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	/* The host's end must not live on in here when the agent is restarted. */
	fd_close(a->port.fd);
	return 0;
}
