/* SPDX-License-Identifier: GPL-2.0-or-later */
/* INI files: values of each type, and errors that name file and line. */
#include "util-test.h"
#include "util/clock.h"
#include "util/conf.h"
#include "util/fileio.h"
#include "util/macro.h"
#include "util/str.h"

struct target {
	char *name, *path;
	uint64_t number, usec, size;
	bool flag;
	int mode;
	char **list;
};

#define ROW(s, k, t, field, ...) { s, k, t, offsetof(struct target, field), __VA_ARGS__, NULL }

static const struct conf_key keys[] = {
	ROW("main", "name", CONF_STRING, name, 1, 8, NULL),
	ROW("main", "path", CONF_STRING, path, 0, 0, NULL),
	ROW("main", "number", CONF_U64, number, 1, 100, NULL),
	ROW("main", "flag", CONF_BOOL, flag, 0, 0, NULL),
	ROW("other", "timeout", CONF_USEC, usec, USEC_PER_SEC, 3600 * USEC_PER_SEC, NULL),
	ROW("other", "size", CONF_SIZE, size, 1 << 20, 0, NULL),
	ROW("other", "mode", CONF_ENUM, mode, 0, 0, "off|on|auto"),
	ROW("other", "list", CONF_LIST, list, 0, 0, NULL),
	{ 0 },
};

static int parse(const char *text, struct target *t, char **error)
{
	return conf_parse("f.conf", text, strlen(text), keys, t, error);
}

Test(conf, every_type)
{
	static const char text[] =
		"# comment\n; comment\n\n\t [ main ] \r\n  name = a b \t\r\npath=/x # y = z\n"
		"number\t=\t42\nflag = Yes\n[other]\ntimeout = 5 min\nsize=10M\nmode = auto\n"
		"list = a, b c ,d";
	struct target t = { 0 };
	char *error = (char *)text;

	cr_assert_eq(parse(text, &t, &error), 0, "%s", error);
	cr_assert_null(error);
	cr_assert_str_eq(t.name, "a b");
	cr_assert_str_eq(t.path, "/x # y = z", "a comment is a line of its own");
	cr_assert_eq(t.number, 42);
	cr_assert(t.flag);
	cr_assert_eq(t.usec, 300 * USEC_PER_SEC);
	cr_assert_eq(t.size, 10 << 20);
	cr_assert_eq(t.mode, 2);
	cr_assert_eq(strv_len(t.list), 3);
	cr_assert_str_eq(t.list[1], "b c");
	conf_done(keys, &t);
	cr_assert_null(t.name);
	cr_assert_null(t.list);
	conf_done(keys, &t);
	test_leaks();
}

static const struct error_case {
	const char *text, *error;
} errors[] = {
	{ "name = x", "f.conf:1: name stands before the first section" },
	{ "\n\n[main]\nnope = 1", "f.conf:4: unknown key nope in [main]" },
	{ "[main]\ntimeout = 5", "f.conf:2: unknown key timeout in [main]" },
	{ "[main]\nName = x", "f.conf:2: unknown key Name in [main]" },
	{ "[main]\n= x", "f.conf:2: unknown key  in [main]" },
	{ "[nope]", "f.conf:1: unknown section [nope]" },
	{ "[]", "f.conf:1: unknown section []" },
	{ "[", "f.conf:1: a section is [name]" },
	{ "[main", "f.conf:1: a section is [name]" },
	{ "[main] x", "f.conf:1: a section is [name]" },
	{ "[main]\nname", "f.conf:2: neither a section nor key = value" },
	{ "[main]\nnumber=1\n[other]\n[main]\nnumber=2", "f.conf:5: number is set twice" },
	{ "[main]\nname =", "f.conf:2: name: must not be empty" },
	{ "[main]\nname = 123456789", "f.conf:2: name: is longer than 8 bytes" },
	{ "[main]\nnumber = 0", "f.conf:2: number: must be between 1 and 100" },
	{ "[main]\nnumber = 101", "f.conf:2: number: must be between 1 and 100" },
	{ "[main]\nnumber = 99999999999999999999", "f.conf:2: number: must be between 1 and 100" },
	{ "[main]\nnumber = 999999999999999999999", "f.conf:2: number: must be between 1 and 100" },
	{ "[main]\nnumber = ", "f.conf:2: number: '' is not a number" },
	{ "[main]\nnumber = -1", "f.conf:2: number: '-1' is not a number" },
	{ "[main]\nnumber = 5 # five", "f.conf:2: number: '5 # five' is not a number" },
	{ "[main]\nnumber = 5K", "f.conf:2: number: '5K' is not a number" },
	{ "[main]\nflag = maybe", "f.conf:2: flag: 'maybe' is neither yes nor no" },
	{ "[other]\ntimeout = 500ms", "f.conf:2: timeout: must be between 1s and 1h" },
	{ "[other]\ntimeout = 2h", "f.conf:2: timeout: must be between 1s and 1h" },
	{ "[other]\ntimeout = 5 m",
	  "f.conf:2: timeout: '5 m' is not a time (10s, 500ms, 5min, 1h)" },
	{ "[other]\ntimeout = 1.5s",
	  "f.conf:2: timeout: '1.5s' is not a time (10s, 500ms, 5min, 1h)" },
	{ "[other]\nsize = 10", "f.conf:2: size: must be at least 1M" },
	{ "[other]\nsize = 18446744073709551615G",
	  "f.conf:2: size: '18446744073709551615G' is too large" },
	{ "[other]\nsize = 10m", "f.conf:2: size: '10m' is not a size (10K, 10M, 10G)" },
	{ "[other]\nmode = o", "f.conf:2: mode: 'o' is not one of off|on|auto" },
	{ "[other]\nmode = off|on", "f.conf:2: mode: 'off|on' is not one of off|on|auto" },
	{ "[other]\nmode =", "f.conf:2: mode: '' is not one of off|on|auto" },
	{ "[other]\nlist = a,,b", "f.conf:2: list: empty item in the list" },
	{ "[other]\nlist = a, ", "f.conf:2: list: empty item in the list" },
	{ "[main]\n\xff", "f.conf:2: not valid UTF-8" },
};

Test(conf, errors_name_file_and_line)
{
	for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
		struct target t = { 0 };
		char *error = NULL;

		cr_expect_eq(parse(errors[i].text, &t, &error), -EINVAL, "%s", errors[i].text);
		cr_expect_not_null(error);
		cr_expect_str_eq(error, errors[i].error, "%s", error);
		free(error);
		conf_done(keys, &t);
	}
	test_leaks();
}

Test(conf, a_nul_is_found_on_its_line)
{
	static const char text[] = "[main]\nname = a\0b\n";
	struct target t = { 0 };
	char *error;

	cr_assert_eq(conf_parse("f.conf", text, sizeof(text) - 1, keys, &t, &error), -EINVAL);
	cr_assert_str_eq(error, "f.conf:2: NUL byte");
	free(error);
}

static const struct usec_case {
	const char *text;
	uint64_t usec;
} usec_cases[] = {
	{ "1", USEC_PER_SEC },	  { "1s", USEC_PER_SEC },	  { "1000ms", USEC_PER_SEC },
	{ "1500000us", 1500000 }, { "1 min", 60 * USEC_PER_SEC }, { "1h", 3600 * USEC_PER_SEC },
};

Test(conf, times)
{
	for (size_t i = 0; i < ELEMENTSOF(usec_cases); i++) {
		_cleanup_free_ char *text = str_format("[other]\ntimeout=%s\n", usec_cases[i].text);
		struct target t = { 0 };
		char *error;

		cr_expect_eq(parse(text, &t, &error), 0, "%s", text);
		cr_expect_eq(t.usec, usec_cases[i].usec, "%s", text);
	}
}

Test(conf, booleans)
{
	static const char *const words[] = { "no", "yes", "false", "TRUE", "Off", "on", "0", "1" };

	for (size_t i = 0; i < ELEMENTSOF(words); i++) {
		_cleanup_free_ char *text = str_format("[main]\nflag=%s\n", words[i]);
		struct target t = { .flag = i % 2 == 0 };
		char *error;

		cr_expect_eq(parse(text, &t, &error), 0);
		cr_expect_eq(t.flag, i % 2, "%s", words[i]);
	}
}

Test(conf, a_later_file_replaces_a_default)
{
	struct target t = { .name = strdup("default"), .number = 7 };
	char *error;

	cr_assert_eq(parse("[other]\nlist = a,b\n", &t, &error), 0);
	cr_assert_eq(parse("[main]\nname = new\n[other]\nlist =\n", &t, &error), 0);
	cr_assert_str_eq(t.name, "new");
	cr_assert_eq(t.number, 7, "what is not named keeps its value");
	cr_assert_eq(strv_len(t.list), 0, "an empty list replaces a full one");
	conf_done(keys, &t);
	test_leaks();
}

Test(conf, a_bad_value_keeps_the_old_one)
{
	struct target t = { .name = strdup("default"), .number = 7, .mode = 1 };
	char *error;

	cr_assert_eq(parse("[main]\nname = muchtoolong\n", &t, &error), -EINVAL);
	free(error);
	cr_assert_eq(parse("[main]\nnumber = 0\n", &t, &error), -EINVAL);
	free(error);
	cr_assert_eq(parse("[other]\nmode = x\n", &t, &error), -EINVAL);
	free(error);
	cr_assert_str_eq(t.name, "default");
	cr_assert_eq(t.number, 7);
	cr_assert_eq(t.mode, 1);
	conf_done(keys, &t);
	test_leaks();
}

Test(conf, files_and_directories)
{
	char dir[PATH_MAX], path[PATH_MAX];
	struct target t = { 0 };
	_cleanup_free_ char *expected = NULL;
	char *error = NULL;

	test_tmpdir(dir);
	test_path(path, dir, "absent");
	cr_assert_eq(conf_load(path, keys, &t, &error), -ENOENT);
	cr_assert_eq(conf_load_dir(path, keys, &t, &error), 0);
	cr_assert_null(error);
	test_path(path, dir, "20-b.conf");
	test_write(path, "[main]\nnumber=20\nname=b\n");
	test_path(path, dir, "10-a.conf");
	test_write(path, "[main]\nnumber=10\nname=a\nflag=on\n");
	test_path(path, dir, "30-ignored.conf.bak");
	test_write(path, "nonsense");
	test_path(path, dir, ".hidden.conf");
	test_write(path, "nonsense");
	cr_assert_eq(conf_load_dir(dir, keys, &t, &error), 0, "%s", error);
	cr_assert_eq(t.number, 20, "later names win");
	cr_assert(t.flag);
	test_path(path, dir, "15-bad.conf");
	test_write(path, "[main]\n\nnumber=x\n");
	cr_assert_eq(conf_load_dir(dir, keys, &t, &error), -EINVAL);
	expected = str_format("%s:3: number: 'x' is not a number", path);
	cr_assert_str_eq(error, expected);
	cr_assert_eq(t.number, 10, "reading stopped at the bad file");
	free(error);
	conf_done(keys, &t);
	dir_remove_tree(dir);
	test_leaks();
}
