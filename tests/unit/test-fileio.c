/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole files and trees, mostly the ways they fail. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "util-test.h"
#include "util/fileio.h"

static char dir[PATH_MAX];

static void setup(void)
{
	test_tmpdir(dir);
}

static void teardown(void)
{
	cr_assert_eq(dir_remove_tree(dir), 0);
	cr_assert_not(test_exists(dir));
}

TestSuite(fileio, .init = setup, .fini = teardown);

static mode_t mode_of(const char *path)
{
	struct stat st;

	cr_assert_eq(lstat(path, &st), 0, "%s: %m", path);
	return st.st_mode & 07777;
}

Test(fileio, reads_up_to_the_cap)
{
	char path[PATH_MAX];
	struct buf b;

	test_path(path, dir, "f");
	test_write(path, "12345");
	cr_assert_eq(file_read(path, 5, &b), 0);
	cr_assert_str_eq(b.data, "12345");
	cr_assert_eq(b.len, 5);
	buf_done(&b);
	b.len = 4711;
	cr_assert_eq(file_read(path, 4, &b), -EFBIG);
	cr_assert_eq(b.len, 4711, "nothing is written on failure");
	test_leaks();
}

Test(fileio, reads_an_empty_file_as_an_empty_string)
{
	char path[PATH_MAX];
	struct buf b;

	test_path(path, dir, "f");
	test_write(path, "");
	cr_assert_eq(file_read(path, 0, &b), 0);
	cr_assert_str_eq(b.data, "");
	buf_done(&b);
}

Test(fileio, reads_more_than_one_chunk)
{
	_cleanup_free_ char *text = malloc(100001);
	char path[PATH_MAX];
	struct buf b;

	test_path(path, dir, "f");
	for (size_t i = 0; i < 100000; i++)
		text[i] = (char)('a' + i % 26);
	text[100000] = '\0';
	test_write(path, text);
	cr_assert_eq(file_read(path, 200000, &b), 0);
	cr_assert_eq(b.len, 100000);
	cr_assert_str_eq(b.data, text);
	buf_done(&b);
}

Test(fileio, read_errors)
{
	char path[PATH_MAX];
	struct buf b;

	test_path(path, dir, "absent");
	cr_assert_eq(file_read(path, 10, &b), -ENOENT);
	cr_assert_eq(file_read(dir, 10, &b), -EISDIR);
}

Test(fileio, writes_with_exactly_the_mode)
{
	char path[PATH_MAX], text[64];

	test_path(path, dir, "f");
	umask(0777);
	cr_assert_eq(file_write_atomic(path, "one", 3, 0640, true), 0);
	cr_assert_eq(mode_of(path), 0640);
	cr_assert_eq(file_write_atomic(path, "", 0, 0604, false), 0);
	cr_assert_eq(mode_of(path), 0604);
	cr_assert_str_eq(test_read(path, text, sizeof(text)), "");
	cr_assert_eq(test_count(dir), 1, "no temporary file is left");
}

Test(fileio, a_reader_keeps_the_old_file)
{
	char path[PATH_MAX], text[8] = "";
	_cleanup_close_ int fd = -EBADF;

	test_path(path, dir, "f");
	cr_assert_eq(file_write_atomic(path, "old", 3, 0600, false), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(file_write_atomic(path, "newer", 5, 0600, false), 0);
	cr_assert_eq(read(fd, text, 7), 3);
	cr_assert_str_eq(text, "old");
	cr_assert_str_eq(test_read(path, text, sizeof(text)), "newer");
}

Test(fileio, a_failed_write_leaves_the_old_file_and_no_other)
{
	struct rlimit limit = { .rlim_cur = 10, .rlim_max = RLIM_INFINITY };
	char path[PATH_MAX], text[64];
	static char big[100000];

	test_path(path, dir, "f");
	cr_assert_eq(file_write_atomic(path, "precious", 8, 0600, false), 0);
	/* A full disk in small: the write itself fails after ten bytes. */
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_assert_eq(file_write_atomic(path, big, sizeof(big), 0644, true), -EFBIG);
	limit.rlim_cur = RLIM_INFINITY;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_assert_str_eq(test_read(path, text, sizeof(text)), "precious");
	cr_assert_eq(mode_of(path), 0600);
	cr_assert_eq(test_count(dir), 1);
}

Test(fileio, a_failed_rename_leaves_no_temporary_file)
{
	char path[PATH_MAX];

	test_path(path, dir, "d");
	cr_assert_eq(dir_make(path, 0700), 0);
	cr_assert_eq(file_write_atomic(path, "x", 1, 0600, false), -EISDIR);
	cr_assert_eq(test_count(dir), 1);
	test_path(path, dir, "d/");
	cr_assert_eq(file_write_atomic(path, "x", 1, 0600, false), -EISDIR);
	test_path(path, dir, "absent/f");
	cr_assert_eq(file_write_atomic(path, "x", 1, 0600, false), -ENOENT);
	cr_assert_eq(test_count(dir), 1);
}

Test(fileio, a_symlink_is_replaced_not_written_through)
{
	char target[PATH_MAX], path[PATH_MAX], text[64];

	test_path(target, dir, "target");
	test_path(path, dir, "link");
	test_write(target, "untouched");
	cr_assert_eq(symlink("target", path), 0);
	cr_assert_eq(file_write_atomic(path, "x", 1, 0600, false), 0);
	cr_assert_str_eq(test_read(target, text, sizeof(text)), "untouched");
	cr_assert_str_eq(test_read(path, text, sizeof(text)), "x");
}

Test(fileio, a_bare_name_is_in_the_working_directory)
{
	char path[PATH_MAX];

	cr_assert_eq(chdir(dir), 0);
	cr_assert_eq(file_write_atomic("bare", "x", 1, 0600, false), 0);
	test_path(path, dir, "bare");
	cr_assert(test_exists(path));
	cr_assert_eq(dir_remove_tree("bare"), 0);
	cr_assert_not(test_exists(path));
}

Test(fileio, makes_directories_once)
{
	char path[PATH_MAX];

	test_path(path, dir, "d");
	umask(0777);
	cr_assert_eq(dir_make(path, 02770), 0);
	cr_assert_eq(mode_of(path), 02770);
	cr_assert_eq(dir_make(path, 0700), 0);
	cr_assert_eq(mode_of(path), 02770, "an existing directory is left as it is");
	test_path(path, dir, "a/b");
	cr_assert_eq(dir_make(path, 0700), -ENOENT);
	test_path(path, dir, "file");
	umask(0);
	test_write(path, "x");
	cr_assert_eq(dir_make(path, 0700), -ENOTDIR);
}

Test(fileio, removing_what_is_not_there)
{
	char path[PATH_MAX];

	test_path(path, dir, "absent");
	cr_assert_eq(dir_remove_tree(path), 0);
	test_path(path, dir, "absent/deeper");
	cr_assert_eq(dir_remove_tree(path), 0);
	test_path(path, dir, "trailing/");
	cr_assert_eq(dir_remove_tree(path), -EISDIR);
}

Test(fileio, a_tree_goes_and_what_its_links_point_at_stays)
{
	char tree[PATH_MAX], outside[PATH_MAX], path[PATH_MAX], text[64];

	test_path(tree, dir, "tree");
	test_path(outside, dir, "outside");
	cr_assert_eq(dir_make(tree, 0700) | dir_make(outside, 0700), 0);
	test_path(path, outside, "precious");
	test_write(path, "still here");
	test_path(path, tree, "to-dir");
	cr_assert_eq(symlink(outside, path), 0);
	test_path(path, tree, "dangling");
	cr_assert_eq(symlink("/nonexistent/x", path), 0);
	test_path(path, tree, "fifo");
	cr_assert_eq(mkfifo(path, 0600), 0);
	test_path(path, tree, "sub");
	cr_assert_eq(dir_make(path, 0700), 0);
	test_path(path, tree, "sub/to-parent");
	cr_assert_eq(symlink("..", path), 0);
	test_path(path, tree, "sub/file");
	test_write(path, "x");
	cr_assert_eq(dir_remove_tree(tree), 0);
	cr_assert_not(test_exists(tree));
	test_path(path, outside, "precious");
	cr_assert_str_eq(test_read(path, text, sizeof(text)), "still here");
	test_leaks();
}

Test(fileio, a_link_given_as_the_tree_is_only_unlinked)
{
	char outside[PATH_MAX], link[PATH_MAX], path[PATH_MAX];

	test_path(outside, dir, "outside");
	test_path(link, dir, "link");
	test_path(path, dir, "outside/file");
	cr_assert_eq(dir_make(outside, 0700), 0);
	test_write(path, "x");
	cr_assert_eq(symlink("outside", link), 0);
	cr_assert_eq(dir_remove_tree(link), 0);
	cr_assert_not(test_exists(link));
	cr_assert(test_exists(path));
}

/* Deeper than descriptors are granted for: refused with nothing removed. */
Test(fileio, too_deep_a_tree_is_refused)
{
	char path[PATH_MAX], top[PATH_MAX];
	size_t len;

	test_path(top, dir, "0");
	test_path(path, dir, "0");
	for (int i = 0; i < 80; i++) {
		cr_assert_eq(dir_make(path, 0700), 0);
		len = strlen(path);
		snprintf(path + len, sizeof(path) - len, "/%d", i % 10);
	}
	cr_assert_eq(dir_remove_tree(top), -ELOOP);
	path[strlen(path) - 2] = '\0';
	cr_assert(test_exists(path));
	/* From the middle it is shallow enough. */
	path[strlen(dir) + 2 * 30] = '\0';
	cr_assert_eq(dir_remove_tree(path), 0);
	test_leaks();
}

Test(fileio, another_file_system_is_not_entered)
{
	char tree[PATH_MAX], mnt[PATH_MAX], path[PATH_MAX];

	test_path(tree, dir, "tree");
	test_path(mnt, tree, "mnt");
	cr_assert_eq(dir_make(tree, 0700) | dir_make(mnt, 0700), 0);
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", mnt, "tmpfs", 0, "size=64k") < 0) {
		teardown(); /* a skipped test is left without it */
		cr_skip_test("needs to mount");
	}
	test_path(path, mnt, "precious");
	test_write(path, "x");
	cr_assert_eq(dir_remove_tree(tree), -EXDEV);
	cr_assert(test_exists(path));
	cr_assert_eq(umount2(mnt, MNT_DETACH), 0);
}
