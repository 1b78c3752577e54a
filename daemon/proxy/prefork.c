/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See prefork.h. */
#include "proxy/prefork.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/log.h"
#include "util/macro.h"

unsigned int prefork_processors(unsigned int max)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return MAX_OF(MIN_OF((unsigned int)CPU_COUNT(&set), max), 1u);
}

/* In a child, of which systemd hears nothing */
static void become(struct prefork *p, unsigned int instance, int to, int from)
{
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	for (unsigned int i = 1; i < instance; i++)	/* elder siblings' */
		p->pipe[i] = fd_close(p->pipe[i]);
	p->instance = instance;
	p->pipe[0] = to;
	p->pipe[1] = from;
}

int prefork_start(unsigned int n, struct prefork *ret)
{
	uint64_t usec = 0;
	int life[2], r = 0;

	*ret = (struct prefork){ .n = n };
	for (unsigned int i = 0; i < PREFORK_MAX; i++)
		ret->pipe[i] = -EBADF;
	if (n <= 1)
		return 0;
	/* The children's end of `life` ends when the parent, who alone has the other, does */
	if (n > PREFORK_MAX || pipe2(life, O_CLOEXEC | O_NONBLOCK) < 0)
		return n > PREFORK_MAX ? -EINVAL : -errno;
	if (sd_watchdog_enabled(0, &usec) > 0)
		usec = MAX_OF(usec, USEC_PER_SEC);
	signal(SIGCHLD, SIG_IGN);
	for (unsigned int i = 1; i < n && r == 0; i++) {
		int news[2];
		pid_t pid;

		if (pipe2(news, O_CLOEXEC | O_NONBLOCK) < 0) {
			r = -errno;
			break;
		}
		pid = fork();
		if (pid == 0) {
			fd_close(news[0]);
			fd_close(life[1]);
			become(ret, i, news[1], life[0]);
			ret->watchdog = (unsigned int)(usec / USEC_PER_SEC);
			return 0;
		}
		r = pid < 0 ? -errno : 0;
		fd_close(news[1]);
		ret->pipe[i] = news[0];
	}
	fd_close(life[0]);
	ret->pipe[0] = life[1];
	return r;
}

static int on_child(sd_event_source *s, int fd, uint32_t events _unused_, void *userdata)
{
	struct prefork *p = userdata;
	int code;
	char byte;
	ssize_t n = read(fd, &byte, 1);

	if (n < 0)
		return 0;
	if (n > 0) {
		if (++p->n_ready == p->n)
			sd_notify(0, "READY=1");
		return 0;
	}
	sd_event_source_set_enabled(s, SD_EVENT_OFF);
	/* who was told to end ends, and its children may have been quicker */
	if (sd_event_get_exit_code(sd_event_source_get_event(s), &code) != -ENODATA)
		return 0;
	log_error("One of the proxy's processes has ended: all of them begin anew");
	return sd_event_exit(sd_event_source_get_event(s), -ECHILD);
}

static int on_parent(sd_event_source *s, int fd _unused_, uint32_t events _unused_, void *userdata _unused_)
{
	return sd_event_exit(sd_event_source_get_event(s), 0);
}

static int watch(struct prefork *p, sd_event *event, int fd, sd_event_io_handler_t fn)
{
	return sd_event_add_io(event, NULL, fd, EPOLLIN, fn, p);
}

int prefork_ready(struct prefork *p, sd_event *event)
{
	int r = 0;

	if (p->instance > 0) {
		r = watch(p, event, p->pipe[1], on_parent);
		return r < 0 || write(p->pipe[0], "", 1) == 1 ? r : -errno;
	}
	for (unsigned int i = 1; i < p->n && r >= 0; i++)
		r = watch(p, event, p->pipe[i], on_child);
	if (r >= 0 && ++p->n_ready == p->n)
		sd_notify(0, "READY=1");
	return r;
}

void prefork_alive(const struct prefork *p)
{
	if (p->watchdog > 0)
		alarm(p->watchdog);
}
