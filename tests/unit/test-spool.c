/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Output spools. A model keeps what was appended; every reader must see exactly that, less what it is told is lost.
 * Crashes are made by cutting and copying the file as a killed daemon would have left it.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/limits.h"
#include "core/spool.h"
#include "util-test.h"
#include "util/macro.h"

#define CAP (1u << 20)

static char dir[PATH_MAX], path[PATH_MAX];
static uint8_t buf[SPOOL_ENTRY_MAX];

/* What the file's header said when blocks were given back: see trim_order */
static int punches;
static uint64_t punched_to, header_base;

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	uint64_t header[2];

	punches++;
	punched_to = (uint64_t)(offset + len);
	if (pread(fd, header, sizeof(header), 0) == (ssize_t)sizeof(header))
		header_base = header[1];
	return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

static void setup(void)
{
	test_tmpdir(dir);
	test_path(path, dir, "x.spool");
}

static void teardown(void)
{
	unlink(path);
	rmdir(dir);
}

TestSuite(spool, .init = setup, .fini = teardown, .timeout = 60);

/* The content of entry id: both length and bytes follow from it. */
static size_t entry_len(uint64_t id, size_t max)
{
	return 1 + (size_t)(id * 2654435761u % max);
}

static void entry_fill(uint64_t id, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(id * 31 + i);
}

static enum spool_stream entry_stream(uint64_t id)
{
	return id % 3 == 0 ? SPOOL_STDERR : SPOOL_STDOUT;
}

static void append(struct spool *s, uint64_t id, size_t max)
{
	size_t len = entry_len(id, max);

	entry_fill(id, len);
	cr_assert_eq(spool_append(s, entry_stream(id), buf, len), 0);
	cr_assert_eq(spool_last_id(s), id);
}

static void check_entry(const struct spool_entry *e, size_t max)
{
	cr_assert_eq(e->stream, entry_stream(e->id));
	cr_assert_eq(e->len, entry_len(e->id, max));
	for (size_t i = 0; i < e->len; i++)
		cr_assert_eq(buf[i], (uint8_t)(e->id * 31 + i), "entry %llu, byte %zu", (unsigned long long)e->id, i);
}

/* Reads to the end; every entry has the id after the last one and those lost. Returns how many were lost. */
static uint64_t drain(struct spool *s, struct spool_cursor *c, size_t max)
{
	uint64_t lost = 0, expect = c->id;
	struct spool_entry e;
	int r;

	while ((r = spool_read(s, c, &e, buf)) > 0) {
		expect += e.lost + 1;
		cr_assert_eq(e.id, expect, "%llu after %llu lost, not %llu", (unsigned long long)e.id,
			     (unsigned long long)e.lost, (unsigned long long)expect);
		check_entry(&e, max);
		lost += e.lost;
	}
	cr_assert_eq(r, 0);
	cr_assert_eq(c->id, spool_last_id(s));
	cr_assert_eq(spool_lag(s, c), 0);
	return lost;
}

static uint64_t blocks(void)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

Test(spool, memory_only)
{
	struct spool_cursor c = { 0 };
	struct spool *s;

	cr_assert_eq(spool_new(path, CAP, false, &s), 0);
	cr_assert_eq(drain(s, &c, 100), 0);
	for (uint64_t id = 1; id <= 500; id++) {
		append(s, id, 100);
		if (id % 7 == 0)
			cr_assert_eq(drain(s, &c, 100), 0);
	}
	cr_assert_not(test_exists(path), "little output needs no file");
	c = (struct spool_cursor){ 0 };
	cr_assert_eq(drain(s, &c, 100), 0);
	cr_assert_not(spool_has_gap(s));
	cr_assert_eq(spool_append(s, SPOOL_STDOUT, buf, 0), 0, "nothing is no entry");
	cr_assert_eq(spool_last_id(s), 500);
	cr_assert_eq(spool_append(s, SPOOL_STDOUT, buf, SPOOL_ENTRY_MAX + 1), -EMSGSIZE);
	spool_free(s, true);
	test_leaks();
}

Test(spool, moves_to_a_file_and_goes_with_it)
{
	struct spool_cursor before = { 0 }, c = { 0 };
	struct stat st;
	struct spool *s;

	cr_assert_eq(spool_new(path, CAP, false, &s), 0);
	for (uint64_t id = 1; id <= 20; id++)
		append(s, id, 1000);
	drain(s, &before, 1000);
	for (uint64_t id = 21; !test_exists(path); id++)
		append(s, id, 1000);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert_eq(drain(s, &before, 1000), 0, "a place taken in memory is good in the file");
	cr_assert_eq(drain(s, &c, 1000), 0);
	spool_free(s, true);
	cr_assert_not(test_exists(path));
	test_leaks();
}

Test(spool, durable_from_the_start)
{
	struct spool *s;

	cr_assert_eq(spool_new(path, CAP, true, &s), 0);
	cr_assert(test_exists(path));
	spool_free(s, false);
	cr_assert_eq(spool_open(path, CAP, &s), 0);
	cr_assert_eq(spool_last_id(s), 0);
	append(s, 1, 10);
	spool_free(s, true);
	test_path(path, dir, "absent/x.spool");
	cr_assert_eq(spool_new(path, CAP, true, &s), -ENOENT);
	cr_assert_eq(spool_open(path, CAP, &s), -ENOENT);
	test_leaks();
}

Test(spool, one_byte_entries)
{
	struct spool_cursor c = { 0 };
	struct spool *s;

	cr_assert_eq(spool_new(path, CAP, true, &s), 0);
	for (uint64_t id = 1; id <= 10000; id++)
		append(s, id, 1);
	cr_assert_eq(drain(s, &c, 1), 0);
	cr_assert_eq(spool_stream_size(s, SPOOL_STDERR), 3333);
	cr_assert_eq(spool_stream_size(s, SPOOL_STDOUT), 6667);
	spool_free(s, true);
	test_leaks();
}

Test(spool, cap_gives_blocks_back_and_counts_what_is_lost)
{
	struct spool_cursor fast = { 0 }, slow = { 0 }, late = { 0 }, middle = { 0 };
	uint64_t lost, id = 0, bytes[2] = { 0 };
	struct spool_entry e;
	struct spool *s;

	cr_assert_eq(spool_new(path, CAP, true, &s), 0);
	append(s, ++id, 5000);
	bytes[entry_stream(id) - 1] += entry_len(id, 5000);
	cr_assert_eq(spool_read(s, &slow, &e, buf), 1);
	while (id < 20000) {
		append(s, ++id, 5000);
		bytes[entry_stream(id) - 1] += entry_len(id, 5000);
		cr_assert_eq(drain(s, &fast, 5000), 0, "who keeps up loses nothing");
		if (id % 1000 == 0)
			cr_assert_leq(blocks(), CAP + 3 * 4096, "at %llu", (unsigned long long)id);
	}
	cr_assert(spool_has_gap(s));
	cr_assert_eq(spool_stream_size(s, SPOOL_STDOUT), bytes[0], "dropped bytes count");
	cr_assert_eq(spool_stream_size(s, SPOOL_STDERR), bytes[1]);
	cr_assert_leq(spool_lag(s, &late), CAP);
	cr_assert_geq(spool_lag(s, &late), CAP / 2, "no more is dropped than need be");
	lost = drain(s, &late, 5000);
	cr_assert_gt(lost, 0);
	cr_assert_eq(drain(s, &slow, 5000), lost - 1, "it had read one of them");
	cr_assert_eq(spool_seek(s, &middle, 10), 0);
	cr_assert_eq(drain(s, &middle, 5000), lost - 10, "a place that is gone tells what went");
	cr_assert_eq(spool_seek(s, &middle, lost), 0);
	cr_assert_eq(drain(s, &middle, 5000), 0, "the first entry left is at hand");
	spool_free(s, true);
	test_leaks();
}

/* A daemon that dies between giving blocks back and writing where the entries begin would find zeros there. */
Test(spool, trim_order)
{
	struct spool *s;

	cr_assert_eq(spool_new(path, CAP, true, &s), 0);
	for (uint64_t id = 1; punches < 5; id++) {
		int before = punches;

		append(s, id, 5000);
		if (punches > before)
			cr_assert_geq(header_base, punched_to, "the header still points at %llu, blocks are gone up to %llu",
				      (unsigned long long)header_base, (unsigned long long)punched_to);
	}
	spool_free(s, true);
}

Test(spool, reopen_after_trimming)
{
	struct spool_cursor c = { 0 };
	uint64_t id, out, err, lost;
	struct spool *s;

	cr_assert_eq(spool_new(path, CAP, true, &s), 0);
	for (id = 1; id <= 5000; id++)
		append(s, id, 3000);
	out = spool_stream_size(s, SPOOL_STDOUT);
	err = spool_stream_size(s, SPOOL_STDERR);
	lost = drain(s, &c, 3000);
	spool_free(s, false);

	cr_assert_eq(spool_open(path, CAP, &s), 0);
	cr_assert_eq(spool_last_id(s), 5000);
	cr_assert_eq(spool_stream_size(s, SPOOL_STDOUT), out, "streams resume at these offsets");
	cr_assert_eq(spool_stream_size(s, SPOOL_STDERR), err);
	c = (struct spool_cursor){ 0 };
	cr_assert_eq(drain(s, &c, 3000), lost);
	for (; id <= 10000; id++)
		append(s, id, 3000);
	cr_assert_leq(blocks(), CAP + 3 * 4096);
	c = (struct spool_cursor){ 0 };
	cr_assert_gt(drain(s, &c, 3000), lost);
	spool_free(s, true);
	test_leaks();
}

static void copy_cut(const char *from, const char *to, off_t size)
{
	char chunk[65536];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ssize_t n;

	cr_assert(in >= 0 && out >= 0);
	while ((n = read(in, chunk, sizeof(chunk))) > 0)
		cr_assert_eq(write(out, chunk, (size_t)n), n);
	cr_assert_eq(ftruncate(out, size), 0);
	close(in);
	close(out);
}

/* The file cut at every length there is: whole entries stay, the half one goes, and writing goes on. */
Test(spool, half_written_entry_is_cut_off)
{
	char cut[PATH_MAX];
	off_t ends[8], header;
	struct spool *s, *t;
	struct stat st;

	test_path(cut, dir, "cut");
	cr_assert_eq(spool_new(path, CAP, true, &s), 0);
	cr_assert_eq(stat(path, &st), 0);
	header = ends[0] = st.st_size;
	for (uint64_t id = 1; id < ELEMENTSOF(ends); id++) {
		append(s, id, 40);
		cr_assert_eq(stat(path, &st), 0);
		ends[id] = st.st_size;
	}
	for (off_t size = 0; size <= ends[ELEMENTSOF(ends) - 1]; size++) {
		struct spool_cursor c = { 0 };
		uint64_t whole = 0;

		copy_cut(path, cut, size);
		if (size < header) {
			cr_assert_lt(spool_open(cut, CAP, &t), 0, "no header in %ld bytes", (long)size);
			continue;
		}
		while (whole + 1 < ELEMENTSOF(ends) && ends[whole + 1] <= size)
			whole++;
		cr_assert_eq(spool_open(cut, CAP, &t), 0);
		cr_assert_eq(spool_last_id(t), whole, "cut at %ld", (long)size);
		append(t, whole + 1, 40);
		cr_assert_eq(drain(t, &c, 40), 0);
		spool_free(t, true);
	}
	spool_free(s, true);
	unlink(cut);
	test_leaks();
}

Test(spool, not_a_spool)
{
	struct spool *s;

	test_write(path, "this is some text of more than enough bytes to have been a header, had it been one");
	cr_assert_eq(spool_open(path, CAP, &s), -EBADMSG);
	unlink(path);
	cr_assert_eq(symlink("/etc/passwd", path), 0);
	cr_assert_eq(spool_open(path, CAP, &s), -ELOOP);
	cr_assert_eq(spool_new(path, CAP, true, &s), -ELOOP, "links are not followed");
	test_leaks();
}

Test(spool, seek)
{
	struct spool_cursor c = { 0 };
	struct spool_entry e;
	struct spool *s;

	cr_assert_eq(spool_new(path, 64 * CAP, false, &s), 0);
	cr_assert_eq(spool_seek(s, &c, 0), 0);
	cr_assert_eq(spool_read(s, &c, &e, buf), 0);
	for (uint64_t id = 1; id <= 5000; id++)
		append(s, id, 50);
	for (uint64_t id = 0; id < 5000; id += 1 + id % 97) {
		cr_assert_eq(spool_seek(s, &c, id), 0);
		cr_assert_eq(spool_read(s, &c, &e, buf), 1);
		cr_assert_eq(e.id, id + 1);
		cr_assert_eq(e.lost, 0);
		check_entry(&e, 50);
	}
	cr_assert_eq(spool_seek(s, &c, 5000), 0);
	cr_assert_eq(spool_read(s, &c, &e, buf), 0);
	cr_assert_eq(spool_seek(s, &c, UINT64_MAX), 0);
	cr_assert_eq(spool_read(s, &c, &e, buf), 0, "beyond the end is the end");
	append(s, 5001, 50);
	cr_assert_eq(spool_read(s, &c, &e, buf), 1);
	cr_assert_eq(e.id, 5001);
	spool_free(s, true);
	test_leaks();
}

Test(spool, mark_only_moves_forward_and_stays)
{
	struct spool_cursor c = { 0 }, older, m;
	struct spool_entry e;
	struct spool *s;

	cr_assert_eq(spool_new(path, CAP, true, &s), 0);
	spool_get_mark(s, &m);
	cr_assert_eq(m.id, 0);
	for (uint64_t id = 1; id <= 10; id++)
		append(s, id, 50);
	cr_assert_eq(spool_read(s, &c, &e, buf), 1);
	older = c;
	cr_assert_eq(spool_read(s, &c, &e, buf), 1);
	spool_set_mark(s, &c);
	spool_set_mark(s, &older);
	spool_free(s, false);
	cr_assert_eq(spool_open(path, CAP, &s), 0);
	spool_get_mark(s, &m);
	cr_assert_eq(m.id, 2);
	cr_assert_eq(spool_read(s, &m, &e, buf), 1);
	cr_assert_eq(e.id, 3);
	spool_free(s, true);
	test_leaks();
}

/* Appends until one fails; what was there is all there and no half of the one that failed. */
static void fill_and_check(struct spool *s, int error)
{
	struct spool_cursor c = { 0 };
	uint64_t id = spool_last_id(s), size;
	int r;

	do {
		size_t len = entry_len(++id, 60000);

		entry_fill(id, len);
		r = spool_append(s, entry_stream(id), buf, len);
	} while (r == 0 && id < 1000);
	cr_assert_eq(r, error, "%s", strerror(-r));
	cr_assert_eq(spool_last_id(s), id - 1);
	size = spool_stream_size(s, SPOOL_STDOUT) + spool_stream_size(s, SPOOL_STDERR);
	cr_assert_gt(size, 0);
	cr_assert_eq(drain(s, &c, 60000), 0);
}

/*
 * The failed entry's bytes come from the guest and may look like an entry. Behind the small one that fits afterwards
 * they must not be taken for one when the file is opened again.
 */
static void check_leftover(struct spool *s)
{
	uint64_t last = spool_last_id(s) + 1;
	struct stat st;

	cr_assert_eq(spool_append(s, SPOOL_STDOUT, "x", 1), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq((uint64_t)st.st_size, spool_lag(s, &(struct spool_cursor){ 0 }) + 56, "nothing stands behind the end");
	spool_free(s, false);
	cr_assert_eq(spool_open(path, CAP, &s), 0);
	cr_assert_eq(spool_last_id(s), last);
	spool_free(s, true);
}

Test(spool, file_size_limit)
{
	const struct rlimit limit = { 300000, 300000 };
	struct spool *s;

	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_assert_eq(spool_new(path, CAP, false, &s), 0);
	fill_and_check(s, -EFBIG);
	check_leftover(s);
	test_leaks();
}

Test(spool, no_space_for_the_move_to_a_file)
{
	const struct rlimit limit = { 30000, 30000 };
	struct spool_cursor c = { 0 };
	struct spool *s;
	uint64_t id;
	int r = 0;

	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_assert_eq(spool_new(path, CAP, false, &s), 0);
	for (id = 1; r == 0; id++) {
		entry_fill(id, 1000);
		r = spool_append(s, SPOOL_STDOUT, buf, 1000);
	}
	cr_assert_eq(r, -EFBIG);
	cr_assert_eq(spool_last_id(s), id - 2);
	cr_assert_not(test_exists(path));
	for (struct spool_entry e; spool_read(s, &c, &e, buf) > 0;)
		cr_assert_eq(e.len, 1000);
	cr_assert_eq(c.id, spool_last_id(s), "what is in memory stays readable");
	spool_free(s, true);
	test_leaks();
}

Test(spool, full_disk)
{
	struct spool *s;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", dir, "tmpfs", 0, "size=300k") < 0)
		cr_skip_test("needs to mount a small tmpfs");
	cr_assert_eq(spool_new(path, CAP, false, &s), 0);
	fill_and_check(s, -ENOSPC);
	check_leftover(s);
	cr_assert_eq(umount(dir), 0);
	test_leaks();
}

/* Many of everything in random order against the model, with reopening. */
Test(spool, random_walk)
{
	struct spool_cursor c[4] = { 0 };
	unsigned int seed = 4711;
	struct spool *s;
	uint64_t id = 0;

	cr_assert_eq(spool_new(path, CAP / 4, true, &s), 0);
	for (int i = 0; i < 30000; i++) {
		unsigned int k = (unsigned int)rand_r(&seed) % 100;

		if (k < 90) {
			append(s, ++id, 2000);
		} else if (k < 95) {
			drain(s, &c[k % 4], 2000);
		} else if (k < 99) {
			cr_assert_eq(spool_seek(s, &c[k % 4], (uint64_t)rand_r(&seed) % (id + 1)), 0);
		} else {
			spool_free(s, false);
			cr_assert_eq(spool_open(path, CAP / 4, &s), 0);
			cr_assert_eq(spool_last_id(s), id);
		}
	}
	for (size_t i = 0; i < ELEMENTSOF(c); i++)
		drain(s, &c[i], 2000);
	spool_free(s, true);
	test_leaks();
}
