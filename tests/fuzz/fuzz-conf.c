/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a configuration file and as a key file. Beyond not crashing: -EINVAL comes with a
 * sentence that names the file and nothing else does, numbers stay in their ranges, and nothing
 * leaks.
 */
#include <string.h>

#include "fuzz-main.h"
#include "util/clock.h"
#include "util/conf.h"
#include "util/keyfile.h"
#include "util/macro.h"
#include "util/str.h"

/* assert() that no build turns off */
#define MUST(x) ((x) ? (void)0 : abort())

struct target {
	char *string;
	uint64_t number, usec, size;
	bool flag;
	int mode;
	char **list;
};

#define ROW(s, k, t, field, ...) { s, k, t, offsetof(struct target, field), __VA_ARGS__, NULL }

static const struct conf_key keys[] = {
	ROW("a", "string", CONF_STRING, string, 1, 64, NULL),
	ROW("a", "number", CONF_U64, number, 5, 1000, NULL),
	ROW("a", "flag", CONF_BOOL, flag, 0, 0, NULL),
	ROW("b", "usec", CONF_USEC, usec, 0, 0, NULL),
	ROW("b", "size", CONF_SIZE, size, 4096, 1u << 30, NULL),
	ROW("b", "mode", CONF_ENUM, mode, 0, 0, "off|on|auto"),
	ROW("b", "list", CONF_LIST, list, 0, 0, NULL),
	{ 0 },
};

static void check_error(int r, const char *error)
{
	if (r == -EINVAL)
		MUST(error && str_starts(error, "fuzz:"));
	else
		MUST(r == 0 && !error);
}

static void check_conf(const char *text, size_t size)
{
	struct target t = { .number = 5, .size = 4096 };
	_cleanup_free_ char *error = NULL;
	int r = conf_parse("fuzz", text, size, keys, &t, &error);

	check_error(r, error);
	MUST(t.number >= 5 && t.number <= 1000);
	MUST(t.size >= 4096 && t.size <= 1u << 30);
	MUST(t.mode >= 0 && t.mode <= 2);
	MUST(!t.string || (strlen(t.string) >= 1 && strlen(t.string) <= 64));
	for (size_t i = 0; i < strv_len(t.list); i++)
		MUST(*t.list[i] && !strchr(t.list[i], ','));
	conf_done(keys, &t);
}

static void check_keyfile(const char *text, size_t size)
{
	_cleanup_free_ char *error = NULL;
	struct keyfile *kf = NULL;
	int r = keyfile_parse("fuzz", text, size, &kf, &error);

	check_error(r, error);
	MUST((r == 0) == (kf != NULL));
	if (kf)
		MUST(!keyfile_check(kf, "no line has this one", 20));
	keyfile_free(kf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t usec;
	char *text;

	if (size > 1u << 16)
		return 0;
	check_conf((const char *)data, size);
	check_keyfile((const char *)data, size);
	text = strndup((const char *)data, size);
	MUST(text);
	if (clock_parse(text, &usec) == 0) {
		char out[CLOCK_TEXT_MAX];
		uint64_t back;

		clock_format(usec, out);
		MUST(clock_parse(out, &back) == 0 && back == usec);
	}
	free(text);
	return 0;
}
