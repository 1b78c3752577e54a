/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virt/qmp against a monitor that says what it should not, in pieces. A real one: test-domxml-libvirtd.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/macro.h"
#include "virt/qmp.h"

#define GREETING "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22}}, \"capabilities\": []}}\r\n"
#define EVENT "{\"timestamp\": {\"seconds\": 1}, \"event\": \"STOP\"}\r\n"
#define OK "{\"return\": {}}\r\n"

/* What it says at first, and to each line it hears; then it listens, or "": it hangs up. Every byte by itself where slow. */
struct script {
	const char *say[8];
	bool slow;
	char heard[512];
	int passed;			/* the last descriptor that came */
};

static char dir[] = "/tmp/declaw-qmp-XXXXXX", path[64];
static pthread_t thread;

static void say(int fd, const struct script *s, const char *text)
{
	for (size_t n = strlen(text), part; n; n -= part, text += part) {
		part = s->slow ? 1 : n;
		cr_assert_eq(write(fd, text, part), (ssize_t)part);
	}
}

static void hear(int fd, struct script *s)
{
	for (char c = 0; c != '\n';) {
		union {
			char space[CMSG_SPACE(sizeof(int))];
			struct cmsghdr align;
		} control;
		struct iovec iov = { &c, 1 };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
				    .msg_controllen = sizeof(control.space) };

		if (recvmsg(fd, &m, MSG_CMSG_CLOEXEC) != 1)
			return;
		if (CMSG_FIRSTHDR(&m))
			memcpy(&s->passed, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
		if (strlen(s->heard) < sizeof(s->heard) - 1)
			s->heard[strlen(s->heard)] = c;
	}
}

static int server = -1;

static void *serve(void *arg)
{
	struct script *s = arg;
	_cleanup_close_ int fd = accept4(server, NULL, NULL, SOCK_CLOEXEC);

	char nothing[64];
	size_t i;

	for (i = 0; fd >= 0 && s->say[i] && *s->say[i]; i++) {
		if (i > 0)
			hear(fd, s);
		say(fd, s, s->say[i]);
	}
	while (fd >= 0 && !s->say[i] && read(fd, nothing, sizeof(nothing)) > 0)
		;
	return NULL;
}

static int start(struct script *s)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	s->passed = -1;
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert(bind(server, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(server, 1) == 0);
	cr_assert_eq(pthread_create(&thread, NULL, serve, s), 0);
	return qmp_open(path);
}

static void stop(int fd)
{
	fd_close(fd);
	pthread_join(thread, NULL);
	fd_close(server);
	unlink(path);
	rmdir(dir);
}

static void answers(bool slow)
{
	struct script s = { { EVENT GREETING, EVENT OK EVENT, EVENT EVENT "{\"return\": {\"a b\": \"c  \\\" d\\\\\", \"n\": [1, 2]}}\r\n", OK }, slow, "", -1 };
	int fd = start(&s), file = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat is, must;
	char *answer = NULL;

	cr_assert_geq(fd, 0);
	cr_assert_eq(qmp_command(fd, "{\"execute\":\"x\"}", -1, &answer), 0);
	cr_assert_str_eq(answer, "{\"return\":{\"a b\":\"c  \\\" d\\\\\",\"n\":[1,2]}}");
	free(answer);
	cr_assert_eq(qmp_command(fd, "{\"execute\":\"y\"}", file, NULL), 0);
	stop(fd);
	cr_assert_str_eq(s.heard, "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"x\"}\n{\"execute\":\"y\"}\n");
	cr_assert(fstat(s.passed, &is) == 0 && fstat(file, &must) == 0 && is.st_ino == must.st_ino, "the descriptor arrives");
	fd_close(s.passed);
	fd_close(file);
}

Test(qmp, answers_among_events)
{
	answers(false);
}

Test(qmp, in_pieces)
{
	answers(true);
}

Test(qmp, a_refusal_is_told_apart)
{
	struct script s = { { GREETING, OK, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not finalized yet\"}}\r\n" }, false, "", -1 };
	int fd = start(&s);
	char *answer = NULL;

	cr_assert_eq(qmp_command(fd, "{\"execute\":\"cont\"}", -1, &answer), -EREMOTEIO);
	cr_assert_str_eq(answer, "{\"error\":{\"class\":\"GenericError\",\"desc\":\"not finalized yet\"}}");
	free(answer);
	stop(fd);
}

Test(qmp, who_hangs_up_is_gone)
{
	struct script s = { { GREETING, OK, "{\"retu", "" }, false, "", -1 };
	int fd = start(&s);

	cr_assert_geq(fd, 0);
	cr_assert_eq(qmp_command(fd, "{}", -1, NULL), -ECONNRESET);
	stop(fd);
}

Test(qmp, who_never_ends_is_not_heard_out)
{
	static char endless[100 * 1024];
	struct script s = { { endless }, false, "", -1 };

	memset(endless, 'x', sizeof(endless) - 1);
	cr_assert_eq(start(&s), -EMSGSIZE);
	pthread_join(thread, NULL);
	fd_close(server);
	unlink(path);
	rmdir(dir);
}

Test(qmp, nobody_there)
{
	cr_assert_eq(qmp_open("/nonexistent/qmp.sock"), -ENOENT);
	cr_assert_eq(qmp_open("/a-path-that-is-longer-than-the-name-of-a-socket-may-be/which-is-one-hundred-and-seven-bytes/"
			      "and-not-one-more/qmp.sock"), -ENAMETOOLONG);
}
