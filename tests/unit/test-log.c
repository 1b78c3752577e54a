/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a record looks like on stderr, and in a journal of our own. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "util-test.h"
#include "util/fileio.h"
#include "util/log.h"
#include "util/str.h"

static char dir[PATH_MAX], path[PATH_MAX];

static void setup(void)
{
	int fd;

	test_tmpdir(dir);
	test_path(path, dir, "stderr");
	fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	cr_assert_geq(dup2(fd, STDERR_FILENO), 0);
	close(fd);
	unsetenv("JOURNAL_STREAM");
}

static void teardown(void)
{
	dir_remove_tree(dir);
}

TestSuite(log, .init = setup, .fini = teardown);

Test(log, a_record_is_one_line_with_its_priority)
{
	char text[8192];

	log_init(LOG_INFO);
	log_debug("not printed");
	log_info("started %d", 5);
	log_warning("two\nlines\x1b[31m");
	log_sandbox(LOG_NOTICE, "sbx-0123456789", MSG_SANDBOX_CREATED, 0, "created");
	cr_assert_eq(log_error_errno(-ENOENT, "Failed: %m"), -ENOENT);
	cr_assert_str_eq(test_read(path, text, sizeof(text)),
			 "info: started 5\n"
			 "warning: two lines [31m\n"
			 "notice: sbx-0123456789: created\n"
			 "error: Failed: No such file or directory\n");
}

Test(log, errno_survives)
{
	log_init(LOG_DEBUG);
	errno = EXDEV;
	log_full(LOG_DEBUG, NULL, NULL, -ENOENT, __FILE__, __LINE__, "%m");
	cr_assert_eq(errno, EXDEV);
}

Test(log, a_long_record_is_cut_and_still_ends_its_line)
{
	static char big[10000], text[8192];

	memset(big, 'x', sizeof(big) - 1);
	log_init(LOG_INFO);
	log_info("%s", big);
	log_info("next");
	test_read(path, text, sizeof(text));
	cr_assert_lt(strlen(text), 4096);
	cr_assert(str_ends(text, "x\ninfo: next\n"));
}

/* A stale $JOURNAL_STREAM, inherited across a redirection, must not send records to the journal. */
Test(log, stderr_elsewhere_is_not_the_journal)
{
	char text[256];

	setenv("JOURNAL_STREAM", "1:2", 1);
	log_init(LOG_INFO);
	log_info("here");
	cr_assert_str_eq(test_read(path, text, sizeof(text)), "info: here\n");
	setenv("JOURNAL_STREAM", "garbage", 1);
	log_init(LOG_INFO);
	log_info("too");
	cr_assert_str_eq(test_read(path, text, sizeof(text)), "info: here\ninfo: too\n");
}

/* A mount namespace in which /run/systemd/journal/socket is ours. */
static int fake_journal(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX,
				    .sun_path = "/run/systemd/journal/socket" };
	int fd;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", "/run", "tmpfs", 0, "size=64k") < 0) {
		teardown(); /* a skipped test is left without it */
		cr_skip_test("needs to mount");
	}
	cr_assert_eq(mkdir("/run/systemd", 0755) | mkdir("/run/systemd/journal", 0755), 0);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0, "%m");
	return fd;
}

Test(log, the_journal_gets_fields)
{
	char text[4096] = "\n", stream[64];
	struct stat st;
	ssize_t n;
	int fd = fake_journal();

	cr_assert_eq(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_init(LOG_INFO);
	log_full(LOG_ERR, "sbx-0123456789", MSG_SANDBOX_FAILED, -EIO, "core/x.c", 7,
		 "it broke: %m");
	n = recv(fd, text + 1, sizeof(text) - 2, 0);
	cr_assert_gt(n, 0, "%m");
	text[n + 1] = '\0';
	cr_expect_not_null(strstr(text, "\nMESSAGE=it broke: Input/output error\n"), "%s", text);
	cr_expect_not_null(strstr(text, "\nPRIORITY=3\n"));
	cr_expect_not_null(strstr(text, "\nCODE_FILE=core/x.c\n"));
	cr_expect_not_null(strstr(text, "\nCODE_LINE=7\n"));
	cr_expect_not_null(strstr(text, "\nERRNO=5\n"));
	cr_expect_not_null(strstr(text, "\nDECLAW_SANDBOX_ID=sbx-0123456789\n"));
	cr_expect_not_null(strstr(text, "\nMESSAGE_ID=" MSG_SANDBOX_FAILED "\n"));
	log_info("plain");
	n = recv(fd, text + 1, sizeof(text) - 2, 0);
	cr_assert_gt(n, 0);
	text[n + 1] = '\0';
	cr_expect_null(strstr(text, "SANDBOX"));
	cr_expect_null(strstr(text, "MESSAGE_ID"));
	cr_expect_null(strstr(text, "ERRNO"));
	cr_assert_eq(fstat(STDERR_FILENO, &st), 0);
	cr_expect_eq(st.st_size, 0, "nothing goes to stderr as well");
}
