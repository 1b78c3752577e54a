/* SPDX-License-Identifier: GPL-2.0-or-later */
/* API keys: the hashes below were computed with another implementation (Python's hashlib). */
#include <time.h>

#include "util-test.h"
#include "util/fileio.h"
#include "util/keyfile.h"
#include "util/macro.h"
#include "util/str.h"

#define SALT "000102030405060708090a0b0c0d0e0f"
#define ALICE "alice-key-0000000001"
#define ALICE_HASH "062316389e911c7e79c93afb4b9476929793d43910122c4e5d2069edd37c2189"
#define ROOT "root-key-00000000002"
#define ROOT_HASH "b893df48fe7b44051a8c35c68adfd1de9937d663a59c20531dffa9567630945c"
#define ALICE2 "alice-key-0000000003"
#define ALICE2_SALT "ffffffffffffffff"
#define ALICE2_HASH "abb6b087bcc441d3518f4da3081af3bb9f84f93abd6483346fafd899a248cc34"

static const char text[] = "# who is who\n\n"
			   "alice:user:default:" SALT ":" ALICE_HASH "\r\n"
			   "root@example.org:admin:big-tier:" SALT ":" ROOT_HASH "\n"
			   "alice:user:free:" ALICE2_SALT ":" ALICE2_HASH;

static struct keyfile *parse(const char *s)
{
	struct keyfile *kf = NULL;
	char *error = NULL;

	cr_assert_eq(keyfile_parse("keys", s, strlen(s), &kf, &error), 0, "%s", error);
	return kf;
}

static const struct keyfile_entry *check(struct keyfile *kf, const char *key)
{
	return keyfile_check(kf, key, strlen(key));
}

Test(keyfile, tells_who_a_key_belongs_to)
{
	struct keyfile *kf = parse(text);
	const struct keyfile_entry *e;

	cr_assert_eq(keyfile_size(kf), 3);
	/* Twice: computed, then remembered. */
	for (int i = 0; i < 2; i++) {
		e = check(kf, ALICE);
		cr_assert_not_null(e);
		cr_assert_str_eq(e->owner, "alice");
		cr_assert_eq(e->role, KEYFILE_ROLE_USER);
		cr_assert_str_eq(e->tier, "default");
		e = check(kf, ROOT);
		cr_assert_not_null(e);
		cr_assert_str_eq(e->owner, "root@example.org");
		cr_assert_eq(e->role, KEYFILE_ROLE_ADMIN);
		cr_assert_str_eq(e->tier, "big-tier");
		e = check(kf, ALICE2);
		cr_assert_not_null(e);
		cr_assert_str_eq(e->owner, "alice", "a second key of the same owner");
		cr_assert_str_eq(e->tier, "free");
	}
	keyfile_free(kf);
	test_leaks();
}

Test(keyfile, nothing_else_is_a_key)
{
	static const char *const wrong[] = { "",	 "alice",    "alice-key-000000000",
					     ALICE "x",	 " " ALICE,  SALT,
					     SALT ALICE, ALICE_HASH, "ALICE-KEY-0000000001" };
	struct keyfile *kf = parse(text);
	char big[KEYFILE_KEY_MAX + 1];

	cr_assert_not_null(check(kf, ALICE));
	for (size_t i = 0; i < ELEMENTSOF(wrong); i++)
		for (int again = 0; again < 2; again++)
			cr_expect_null(check(kf, wrong[i]), "%s", wrong[i]);
	cr_expect_null(keyfile_check(kf, ALICE "\0", sizeof(ALICE)), "a NUL behind the key counts");
	memset(big, 'x', sizeof(big));
	cr_expect_null(keyfile_check(kf, big, sizeof(big)));
	cr_expect_null(keyfile_check(kf, big, SIZE_MAX));
	keyfile_free(kf);
	test_leaks();
}

/* Bytes that move from the salt into the key give the same hash input, yet must not be a key. */
Test(keyfile, salt_and_key_are_told_apart_by_the_line_only)
{
	struct keyfile *kf = parse("alice:user:free:" ALICE2_SALT ":" ALICE2_HASH);

	cr_assert_null(keyfile_check(kf, "\xff" ALICE2, sizeof(ALICE2)));
	cr_assert_null(keyfile_check(kf, ALICE2, sizeof(ALICE2) - 2));
	keyfile_free(kf);
}

Test(keyfile, an_empty_file_lets_nobody_in)
{
	struct keyfile *kf = parse("");

	cr_assert_eq(keyfile_size(kf), 0);
	cr_assert_null(check(kf, ALICE));
	keyfile_free(kf);
	cr_assert_null(keyfile_free(NULL));
}

static const struct error_case {
	const char *line, *why;
} errors[] = {
	{ "alice", "a line is name:role:tier:salt:hash" },
	{ "alice:user:default:" SALT, "a line is name:role:tier:salt:hash" },
	{ "alice:user:default:" SALT ":" ALICE_HASH ":", "a line is name:role:tier:salt:hash" },
	{ ":user:default:" SALT ":" ALICE_HASH, "bad name" },
	{ "a/b:user:default:" SALT ":" ALICE_HASH, "bad name" },
	{ "..:user:default:" SALT ":" ALICE_HASH, "bad name" },
	{ " alice:user:default:" SALT ":" ALICE_HASH, "bad name" },
	{ "alice:root:default:" SALT ":" ALICE_HASH, "the role is neither user nor admin" },
	{ "alice::default:" SALT ":" ALICE_HASH, "the role is neither user nor admin" },
	{ "alice:user::" SALT ":" ALICE_HASH, "bad tier" },
	{ "alice:user:default::" ALICE_HASH, "the salt is not 16 to 64 hexadecimal digits" },
	{ "alice:user:default:00010203040506:" ALICE_HASH,
	  "the salt is not 16 to 64 hexadecimal digits" },
	{ "alice:user:default:0001020304050607f:" ALICE_HASH,
	  "the salt is not 16 to 64 hexadecimal digits" },
	{ "alice:user:default:" SALT SALT "00:" ALICE_HASH,
	  "the salt is not 16 to 64 hexadecimal digits" },
	{ "alice:user:default:" SALT ":" ALICE_HASH "00", "the hash is not 64 hexadecimal digits" },
	{ "alice:user:default:" SALT ":00", "the hash is not 64 hexadecimal digits" },
	{ "alice:user:default:" SALT ":" ALICE_HASH " ", "the hash is not 64 hexadecimal digits" },
};

Test(keyfile, a_bad_line_is_named)
{
	for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
		_cleanup_free_ char *all = str_format("%s\n%s\n", text, errors[i].line);
		_cleanup_free_ char *expected = str_format("keys:6: %s", errors[i].why);
		struct keyfile *kf = NULL;
		char *error = NULL;

		cr_expect_eq(keyfile_parse("keys", all, strlen(all), &kf, &error), -EINVAL, "%s",
			     errors[i].line);
		cr_expect_str_eq(error, expected, "%s", error);
		cr_expect_null(kf);
		free(error);
	}
	test_leaks();
}

Test(keyfile, a_nul_is_refused)
{
	struct keyfile *kf;
	char *error;

	cr_assert_eq(keyfile_parse("keys", text, sizeof(text), &kf, &error), -EINVAL);
	cr_assert_str_eq(error, "keys:1: NUL byte in the file");
	free(error);
}

Test(keyfile, a_line_we_format_is_one_we_accept)
{
	_cleanup_free_ char *a = NULL, *b = NULL, *both = NULL;
	const struct keyfile_entry *e;
	struct keyfile *kf;

	cr_assert_eq(
		keyfile_format_line("bob", KEYFILE_ROLE_ADMIN, KEYFILE_TIER_DEFAULT, ALICE, &a), 0);
	cr_assert_eq(keyfile_format_line("eve", KEYFILE_ROLE_USER, "t1", ROOT, &b), 0);
	cr_assert(str_starts(a, "bob:admin:default:"));
	cr_assert_null(strstr(a, ALICE));
	both = str_format("%s\n%s\n", a, b);
	kf = parse(both);
	e = check(kf, ALICE);
	cr_assert_not_null(e);
	cr_assert_str_eq(e->owner, "bob");
	e = check(kf, ROOT);
	cr_assert_not_null(e);
	cr_assert_str_eq(e->owner, "eve");
	keyfile_free(kf);
	test_leaks();
}

Test(keyfile, the_same_key_is_never_salted_twice_alike)
{
	_cleanup_free_ char *a = NULL, *b = NULL;

	cr_assert_eq(keyfile_format_line("bob", KEYFILE_ROLE_USER, "t", ALICE, &a), 0);
	cr_assert_eq(keyfile_format_line("bob", KEYFILE_ROLE_USER, "t", ALICE, &b), 0);
	cr_assert_str_neq(a, b);
}

Test(keyfile, what_cannot_be_a_line_is_refused)
{
	char *line = (char *)text, big[KEYFILE_KEY_MAX + 2];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	cr_expect_eq(keyfile_format_line("a:b", KEYFILE_ROLE_USER, "t", ALICE, &line), -EINVAL);
	cr_expect_eq(keyfile_format_line("", KEYFILE_ROLE_USER, "t", ALICE, &line), -EINVAL);
	cr_expect_eq(keyfile_format_line("a", KEYFILE_ROLE_MAX, "t", ALICE, &line), -EINVAL);
	cr_expect_eq(keyfile_format_line("a", KEYFILE_ROLE_INVALID, "t", ALICE, &line), -EINVAL);
	cr_expect_eq(keyfile_format_line("a", KEYFILE_ROLE_USER, "t\n", ALICE, &line), -EINVAL);
	cr_expect_eq(keyfile_format_line("a", KEYFILE_ROLE_USER, "t", "abc", &line), -EINVAL);
	cr_expect_eq(keyfile_format_line("a", KEYFILE_ROLE_USER, "t", big, &line), -EINVAL);
	cr_expect_eq(line, text);
	big[KEYFILE_NAME_MAX + 1] = '\0';
	cr_expect_eq(keyfile_format_line(big, KEYFILE_ROLE_USER, "t", ALICE, &line), -EINVAL);
}

Test(keyfile, roles)
{
	cr_assert_eq(keyfile_role_parse("admin"), KEYFILE_ROLE_ADMIN);
	cr_assert_eq(keyfile_role_parse("Admin"), KEYFILE_ROLE_INVALID);
	cr_assert_eq(keyfile_role_parse(NULL), KEYFILE_ROLE_INVALID);
	cr_assert_str_eq(keyfile_role_name(KEYFILE_ROLE_USER), "user");
	cr_assert_null(keyfile_role_name(KEYFILE_ROLE_MAX));
	cr_assert_null(keyfile_role_name(KEYFILE_ROLE_INVALID));
}

Test(keyfile, files)
{
	char dir[PATH_MAX], path[PATH_MAX];
	struct keyfile *kf = NULL;
	char *error = NULL;

	test_tmpdir(dir);
	test_path(path, dir, "keys");
	cr_assert_eq(keyfile_load(path, &kf, &error), -ENOENT);
	cr_assert_null(error);
	test_write(path, text);
	cr_assert_eq(keyfile_load(path, &kf, &error), 0);
	cr_assert_not_null(check(kf, ALICE));
	keyfile_free(kf);
	dir_remove_tree(dir);
}

static uint64_t cpu_nsec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* As many lines as are allowed, the key in the first; then one line more. */
static char *many_lines(size_t n)
{
	struct buf b = BUF_INIT(2u << 20);

	for (size_t i = 0; i < n; i++)
		cr_assert_eq(buf_printf(&b, "u%zu:user:default:%s:%s\n", i, SALT,
					i ? ROOT_HASH : ALICE_HASH),
			     0);
	return buf_take(&b);
}

Test(keyfile, a_remembered_key_costs_one_hash)
{
	_cleanup_free_ char *all = many_lines(KEYFILE_ENTRIES_MAX);
	struct keyfile *kf = parse(all);
	uint64_t start, first, later;

	start = cpu_nsec();
	cr_assert_not_null(check(kf, ALICE));
	first = cpu_nsec() - start;
	start = cpu_nsec();
	for (int i = 0; i < 100; i++)
		cr_assert_not_null(check(kf, ALICE));
	later = cpu_nsec() - start;
	/* 4096 hashes once against a hundred keyed ones: an order of magnitude apart. */
	cr_assert_lt(later, first, "first %ju ns, 100 later ones %ju ns", (uintmax_t)first,
		     (uintmax_t)later);
	keyfile_free(kf);
}

Test(keyfile, the_number_of_lines_is_limited)
{
	_cleanup_free_ char *all = many_lines(KEYFILE_ENTRIES_MAX + 1);
	struct keyfile *kf = NULL;
	char *error;

	cr_assert_eq(keyfile_parse("keys", all, strlen(all), &kf, &error), -EINVAL);
	cr_assert_str_eq(error, "keys:4097: too many keys");
	free(error);
	test_leaks();
}

/* More good keys than the memory has places for: each still gets its own owner, again and again. */
Test(keyfile, keys_that_share_a_place_stay_apart)
{
	_cleanup_buf_ struct buf b = BUF_INIT(1u << 20);
	struct keyfile *kf;
	char name[32], key[32];

	for (int i = 0; i < 600; i++) {
		_cleanup_free_ char *line = NULL;

		snprintf(name, sizeof(name), "owner%d", i);
		snprintf(key, sizeof(key), "key-of-owner-%08d", i);
		cr_assert_eq(keyfile_format_line(name, KEYFILE_ROLE_USER, "t", key, &line), 0);
		cr_assert_eq(buf_printf(&b, "%s\n", line), 0);
	}
	kf = parse(b.data);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 600; i++) {
			snprintf(name, sizeof(name), "owner%d", i);
			snprintf(key, sizeof(key), "key-of-owner-%08d", i);
			cr_assert_not_null(check(kf, key));
			cr_assert_str_eq(check(kf, key)->owner, name);
		}
	keyfile_free(kf);
	test_leaks();
}
