/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vfork() and exec. The child shares the agent's memory until exec, so it makes system calls and nothing
 * else, and tells a failure by writing into the parent's stack frame. A plain fork() would copy page
 * tables for every command and make the agent fault on its own rings afterwards, which under TCG costs
 * more than the command.
 *
 * All signals are blocked around the vfork, so no handler runs on the shared stack; the child resets what
 * exec would keep: mask and SIGPIPE. All descriptors of the agent are close-on-exec; close_range() makes
 * sure of those of others.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "spawn.h"
#include "util/macro.h"

/* What the child needs; plain data made before vfork(). */
struct plan {
	const struct spawn_spec *spec;
	int fds[3];			/* become 0, 1, 2; all >= 3 */
	char *const *paths;		/* candidates for execve() */
	volatile int error;
	const char *volatile stage;
};

static _Noreturn void child_fail(struct plan *p, const char *stage)
{
	p->error = errno > 0 ? errno : EIO;
	p->stage = stage;
	_exit(127);
}

static void child_stdio(struct plan *p)
{
	if (setsid() < 0)
		child_fail(p, "setsid");
	for (int i = 0; i < 3; i++) {
		if (dup2(p->fds[i], i) < 0)
			child_fail(p, "dup2");
	}
	if (p->spec->pty && ioctl(0, TIOCSCTTY, 0) < 0)
		child_fail(p, "controlling terminal");
	/* error here means an old kernel: then close-on-exec has to do */
	syscall(SYS_close_range, 3u, ~0u, 0u);
}

/* The agent may hold thousands of descriptors; programs that use select() must not be given such numbers. */
static void child_limits(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur > 1024) {
		rl.rlim_cur = 1024;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

/* The raw calls: libc's wrappers would signal threads that do not exist, from a borrowed stack. */
static void child_user(struct plan *p)
{
	const struct user *u = p->spec->user;

	if (!p->spec->switch_user)
		return;
	if (syscall(SYS_setgroups, u->ngroups, u->groups) < 0)
		child_fail(p, "setgroups");
	if (syscall(SYS_setresgid, u->gid, u->gid, u->gid) < 0)
		child_fail(p, "setgid");
	if (syscall(SYS_setresuid, u->uid, u->uid, u->uid) < 0)
		child_fail(p, "setuid");
}

static _Noreturn void child_run(struct plan *p, const sigset_t *none)
{
	int error = ENOENT;

	child_stdio(p);
	child_limits();
	umask(022);
	child_user(p);
	if (chdir(p->spec->cwd) < 0)
		child_fail(p, "working directory");
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, none, NULL);
	for (char *const *path = p->paths; *path; path++) {
		execve(*path, p->spec->argv, p->spec->envp);
		if (errno != ENOENT && errno != ENOTDIR)
			error = errno;
		if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
			break;
	}
	errno = error;
	child_fail(p, "exec");
}

/* --- in the agent --- */

static const char *env_get(char *const *envp, const char *name)
{
	size_t len = strlen(name);

	for (; *envp; envp++) {
		if (strncmp(*envp, name, len) == 0 && (*envp)[len] == '=')
			return *envp + len + 1;
	}
	return "";
}

static void free_paths(char ***paths)
{
	for (char **p = *paths; p && *p; p++)
		free(*p);
	free(*paths);
}

/* The files that argv[0] may mean: itself when it has a slash, else one per PATH element. */
static char **make_paths(const struct spawn_spec *spec)
{
	const char *name = spec->argv[0], *path = env_get(spec->envp, "PATH");
	size_t n = 2, i = 0;
	char **paths;

	for (const char *c = path; *c; c++)
		n += *c == ':';
	paths = calloc(n + 1, sizeof(*paths));
	if (!paths)
		return NULL;
	if (strchr(name, '/')) {
		paths[0] = strdup(name);
		return paths;
	}
	while (*name && *path && i < n) {
		size_t len = strcspn(path, ":");

		if (asprintf(&paths[i], "%.*s/%s", len ? (int)len : 1, len ? path : ".", name) < 0) {
			paths[i] = NULL;
			break;
		}
		i++;
		path += len + (path[len] == ':');
	}
	return paths;
}

/* Descriptors 0 to 2 may be free (PID 1, or a careless parent): the child's dup2() must not meet them. */
static int lift(int *fd)
{
	int high;

	if (*fd > 2)
		return 0;
	high = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
	if (high < 0)
		return -errno;
	close(*fd);
	*fd = high;
	return 0;
}

static int make_pipe(bool wanted, bool input, int *ret_child, int *ret_ours)
{
	int fds[2];

	*ret_ours = -EBADF;
	if (!wanted) {
		*ret_child = open("/dev/null", O_RDWR | O_CLOEXEC);
		return *ret_child < 0 ? -errno : lift(ret_child);
	}
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*ret_child = fds[input ? 0 : 1];
	*ret_ours = fds[input ? 1 : 0];
	if (fcntl(*ret_ours, F_SETFL, O_NONBLOCK) < 0 || lift(ret_child) < 0 || lift(ret_ours) < 0)
		return -errno;
	return 0;
}

static int open_slave(int master)
{
	char path[32];
	unsigned int n;
	int fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (ioctl(master, TIOCGPTN, &n) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/dev/pts/%u", n);
	fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int make_pty(const struct spawn_spec *spec, int child[static 3], struct spawn_result *ret)
{
	struct winsize ws = { .ws_row = spec->rows, .ws_col = spec->cols };
	int unlock = 0, slave;

	ret->out = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (ret->out < 0)
		return -errno;
	if (ioctl(ret->out, TIOCSPTLCK, &unlock) < 0)
		return -errno;
	slave = open_slave(ret->out);
	if (slave < 0)
		return slave;
	child[0] = slave;
	if (lift(&child[0]) < 0 || ioctl(ret->out, TIOCSWINSZ, &ws) < 0)
		return -errno;
	if (spec->switch_user && (fchown(child[0], spec->user->uid, (gid_t)-1) < 0 || fchmod(child[0], 0620) < 0))
		return -errno;
	child[1] = fcntl(child[0], F_DUPFD_CLOEXEC, 3);
	child[2] = fcntl(child[0], F_DUPFD_CLOEXEC, 3);
	if (child[1] < 0 || child[2] < 0)
		return -errno;
	if (!spec->in)
		return 0;
	ret->in = fcntl(ret->out, F_DUPFD_CLOEXEC, 3);
	return ret->in < 0 ? -errno : 0;
}

static int make_stdio(const struct spawn_spec *spec, int child[static 3], struct spawn_result *ret)
{
	int r;

	if (spec->pty)
		return make_pty(spec, child, ret);
	r = make_pipe(spec->in, true, &child[0], &ret->in);
	if (r == 0)
		r = make_pipe(spec->out, false, &child[1], &ret->out);
	if (r == 0)
		r = make_pipe(spec->err, false, &child[2], &ret->err);
	return r;
}

static void close_result(struct spawn_result *ret)
{
	ret->in = fd_close(ret->in);
	ret->out = fd_close(ret->out);
	ret->err = fd_close(ret->err);
}

static int run(struct plan *p, struct spawn_result *ret)
{
	sigset_t all, none, old;
	pid_t pid;
	int error;

	sigfillset(&all);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = vfork();
	if (pid == 0)
		child_run(p, &none);
	error = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0) {
		ret->stage = "fork";
		return -error;
	}
	ret->pid = pid;
	if (p->error) {
		/* The zombie is reaped with all others; nobody watches its pid. */
		ret->stage = p->stage;
		return -p->error;
	}
	return 0;
}

int spawn_process(const struct spawn_spec *spec, struct spawn_result *ret)
{
	_cleanup_(free_paths) char **paths = make_paths(spec);
	struct plan plan = { .spec = spec, .fds = { -EBADF, -EBADF, -EBADF }, .paths = paths };
	int r;

	*ret = (struct spawn_result) { .in = -EBADF, .out = -EBADF, .err = -EBADF, .stage = "standard streams" };
	if (!paths)
		return -ENOMEM;
	r = make_stdio(spec, plan.fds, ret);
	if (r == 0)
		r = run(&plan, ret);
	for (int i = 0; i < 3; i++)
		fd_close(plan.fds[i]);
	if (r < 0)
		close_result(ret);
	return r;
}
