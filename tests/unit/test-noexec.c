/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who called noexec() can do everything but execute: that is its end, also for what it forks. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/noexec.h"

#define TRUE "/bin/true"

static char *const args[] = { (char *)"true", NULL };
static char *const env[] = { NULL };

/* What became of a process that does @fn: its exit status, or its signal with a minus */
static int fate(int (*fn)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		/* A killed one leaves no core file behind */
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		_exit(fn());
	}
	cr_assert(pid > 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int execute(void)
{
	execve(TRUE, args, env);
	return 90;
}

static int execute_by_descriptor(void)
{
	int fd = open(TRUE, O_RDONLY | O_CLOEXEC);

	syscall(SYS_execveat, fd, "", args, env, AT_EMPTY_PATH);
	return 91;
}

static int then_execute(void)
{
	return noexec() < 0 ? 92 : execute();
}

static int then_execute_by_descriptor(void)
{
	return noexec() < 0 ? 92 : execute_by_descriptor();
}

/* What declaw-proxy does: several processes of one, and files, and memory */
static int then_go_on(void)
{
	int fd, status, r = noexec();
	pid_t pid;

	if (r < 0)
		return 92;
	fd = open(TRUE, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || close(fd) < 0 || !getpid())
		return 93;
	pid = fork();
	if (pid == 0)
		_exit(execute());
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 94;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS ? 42 : 95;
}

static int without_privileges(void)
{
	if (geteuid() == 0 && (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0))
		return 96;
	return then_execute();
}

/* As under systemd, which has set it before */
static int without_new_privileges(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? 97 : without_privileges();
}

static int twice(void)
{
	return noexec() < 0 ? 92 : then_execute();
}

Test(noexec, before_it_everything_is_executed)
{
	cr_assert_eq(fate(execute), 0);
	cr_assert_eq(fate(execute_by_descriptor), 0);
}

Test(noexec, whoever_executes_is_killed)
{
	cr_assert_eq(fate(then_execute), -SIGSYS);
	cr_assert_eq(fate(then_execute_by_descriptor), -SIGSYS);
	cr_assert_eq(fate(twice), -SIGSYS);
}

Test(noexec, all_else_goes_on_but_not_for_a_child_that_executes)
{
	cr_assert_eq(fate(then_go_on), 42);
}

Test(noexec, needs_no_privileges)
{
	cr_assert_eq(fate(without_privileges), -SIGSYS);
	cr_assert_eq(fate(without_new_privileges), -SIGSYS);
}
