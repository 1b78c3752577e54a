/* SPDX-License-Identifier: GPL-2.0-or-later */
/* proxy/prefork: several processes that live and end together. */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/prefork.h"
#include "util/macro.h"

/* What the processes say of themselves */
static struct said {
	volatile pid_t pid[PREFORK_MAX];
	volatile bool notify[PREFORK_MAX], watchdog[PREFORK_MAX];
} *said;

static const struct timespec tick = { 0, 5000000 };

#define until(cond)							\
	({								\
		for (int _i = 0; _i < 2000 && !(cond); _i++)		\
			nanosleep(&tick, NULL);				\
		(cond);							\
	})

static void setup(void)
{
	said = mmap(NULL, sizeof(*said), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(said, MAP_FAILED);
	/* whose parent has died is this process's to wait for */
	cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
}

/* In a process of its own, whose children are the test's when it has died: what declaw-proxy does. Its exit status is the loop's. */
static int work(unsigned int n)
{
	struct prefork p;
	sd_event *event;
	int r = prefork_start(n, &p);

	if (r < 0)
		return 99;
	if (sd_event_default(&event) < 0)
		return 98;
	said->notify[p.instance] = getenv("NOTIFY_SOCKET") != NULL;
	said->watchdog[p.instance] = p.watchdog > 0;
	said->pid[p.instance] = getpid();
	r = prefork_ready(&p, event);
	if (r >= 0)
		r = sd_event_loop(event);
	said->pid[p.instance] = 0;
	return r < 0 ? 1 : 0;
}

static pid_t start(unsigned int n)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(work(n));
	cr_assert(pid > 0);
	for (unsigned int i = 0; i < n; i++)
		cr_assert(until(said->pid[i]), "%u", i);
	return pid;
}

static int status_of(pid_t pid)
{
	int status = -1;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static bool is_gone(pid_t pid)
{
	waitpid(pid, NULL, WNOHANG);
	return kill(pid, 0) < 0;
}

TestSuite(prefork, .init = setup, .timeout = 60);

Test(prefork, one_is_alone)
{
	struct prefork p;

	cr_assert_eq(prefork_start(1, &p), 0);
	cr_assert_eq(p.instance, 0);
	cr_assert_eq(p.n, 1);
	cr_assert_eq(prefork_start(PREFORK_MAX + 1, &p), -EINVAL);
	cr_assert_geq(prefork_processors(4), 1);
	cr_assert_leq(prefork_processors(1), 1);
}

Test(prefork, a_child_ends_all)
{
	for (unsigned int which = 1; which < 4; which++) {
		pid_t pid = start(4), others[4];

		for (unsigned int i = 0; i < 4; i++) {
			others[i] = said->pid[i];
			for (unsigned int k = 0; k < i; k++)
				cr_assert_neq(others[i], others[k]);
		}
		cr_assert_eq(kill(others[which], SIGKILL), 0);
		cr_assert_eq(status_of(pid), 1, "the first one fails");
		for (unsigned int i = 1; i < 4; i++)
			cr_assert(until(is_gone(others[i])), "%u of %u", i, which);
		for (unsigned int i = 1; i < 4; i++)
			cr_assert(i == which || said->pid[i] == 0, "%u ended by itself", i);
		memset((void *)said, 0, sizeof(*said));
	}
}

Test(prefork, the_parent_ends_all)
{
	pid_t pid = start(3), others[3];

	for (unsigned int i = 1; i < 3; i++)
		others[i] = said->pid[i];
	cr_assert_eq(kill(pid, SIGKILL), 0);
	cr_assert_eq(status_of(pid), -SIGKILL);
	for (unsigned int i = 1; i < 3; i++) {
		cr_assert(until(said->pid[i] == 0), "%u ended by itself", i);
		cr_assert(until(is_gone(others[i])));
	}
}

/* systemd hears of one process, once, when all are set up; children would be taken for it */
Test(prefork, systemd_hears_of_the_first)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	char text[64] = "";
	pid_t pid;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "/tmp/declaw-prefork-%d.sock", getpid());
	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	setenv("NOTIFY_SOCKET", sa.sun_path, 1);
	setenv("WATCHDOG_USEC", "10000000", 1);
	pid = start(3);
	cr_assert_eq(poll(&ready, 1, 10000), 1);
	cr_assert(recv(fd, text, sizeof(text) - 1, 0) > 0);
	cr_assert_str_eq(text, "READY=1");
	for (unsigned int i = 0; i < 3; i++) {
		cr_assert_eq(said->notify[i], i == 0);
		cr_assert_eq(said->watchdog[i], i > 0, "the first one's is systemd's");
	}
	cr_assert_eq(kill(said->pid[2], SIGKILL), 0);
	cr_assert_eq(status_of(pid), 1);
	cr_assert_eq(recv(fd, text, sizeof(text), MSG_DONTWAIT), -1, "once");
	unlink(sa.sun_path);
}

/* Who hangs is ended by its own clock */
Test(prefork, a_child_that_hangs_is_ended)
{
	struct prefork p = { .instance = 1, .n = 2, .watchdog = 1 };
	pid_t pid = fork();

	if (pid == 0) {
		prefork_alive(&p);
		for (;;)
			pause();
	}
	cr_assert_eq(status_of(pid), -SIGALRM);
}
