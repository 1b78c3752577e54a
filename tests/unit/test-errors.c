/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What users read when something goes wrong: the whole table as a golden file, and the rules that it obeys. */
#include <ctype.h>
#include <errno.h>

#include "api/api.h"
#include "lib/golden.h"
#include "util-test.h"

#define MARK "DETAIL"

Test(errors, table)
{
	_cleanup_buf_ struct buf out = BUF_INIT(1 << 20);

	buf_puts(&out, "[\n");
	for (int f = FAULT_NONE + 1; f < FAULT_MAX; f++) {
		_cleanup_free_ char *text = api_fault_text((enum fault)f, MARK);
		_cleanup_json_ json_object *o = json_object_new_object();

		json_put_int(o, "status", api_fault_status((enum fault)f));
		json_put_string(o, "code", api_fault_code((enum fault)f));
		json_put_string(o, "message", text);
		buf_printf(&out, "\t%s%s\n", json_text(o, NULL), f + 1 < FAULT_MAX ? "," : "");
	}
	buf_puts(&out, "]\n");
	golden_check("errors.json", out.data);
}

Test(errors, rules)
{
	for (int f = FAULT_NONE + 1; f < FAULT_MAX; f++) {
		_cleanup_free_ char *text = api_fault_text((enum fault)f, MARK);
		const char *code = api_fault_code((enum fault)f);
		int status = api_fault_status((enum fault)f);

		cr_assert_not_null(code, "fault %d has no row", f);
		cr_assert_gt(strlen(code), 2);
		for (const char *c = code; *c; c++)
			cr_assert(islower(*c) || *c == '_', "%s", code);
		cr_assert(status >= 400 && status < 500 ? f != FAULT_INTERNAL : status == 500 && f == FAULT_INTERNAL,
			  "%s: %d", code, status);
		cr_assert_gt(strlen(text), 15, "%s: a sentence", code);
		cr_assert_null(strchr(text, '%'), "%s", text);
		cr_assert_null(strstr(text, ".."), "%s", text);
	}
	test_leaks();
}

/* The client retries 502, 503 and 504, which would run a command twice. */
Test(errors, nothing_clients_retry)
{
	for (int f = FAULT_NONE + 1; f < FAULT_MAX; f++)
		cr_assert_not(api_fault_status((enum fault)f) > 500, "%s", api_fault_code((enum fault)f));
}

Test(errors, seed_texts)
{
	_cleanup_free_ char *resources = api_fault_text(FAULT_RESOURCES_FIELD, NULL);
	_cleanup_free_ char *unauthorized = api_fault_text(FAULT_UNAUTHORIZED, NULL);

	cr_assert_str_eq(resources, "resources field is not supported; set resources at template level");
	cr_assert_str_eq(unauthorized, "unauthorized: missing or invalid API key");
	cr_assert_eq(api_fault_status(FAULT_RESOURCES_FIELD), 400);
}

Test(errors, no_detail)
{
	_cleanup_free_ char *memory = api_fault_text(FAULT_NO_MEMORY, NULL);

	cr_assert_str_eq(memory, "The host has no memory for this sandbox; kill one, or try again later.");
	for (int f = FAULT_NONE + 1; f < FAULT_MAX; f++) {
		_cleanup_free_ char *text = api_fault_text((enum fault)f, NULL);
		_cleanup_free_ char *empty = api_fault_text((enum fault)f, "");

		cr_assert(text && empty);
		cr_assert_null(strstr(text, "(null)"), "%s", text);
	}
	test_leaks();
}

/* Details may come from a guest. */
Test(errors, details_are_escaped_and_cut)
{
	char flood[100000], *text;

	text = api_fault_text(FAULT_PROC_START, "a\n\x1b[31m\"<\xff>%s%n");
	cr_assert_not_null(strstr(text, "a\\n\\x1b[31m"), "%s", text);
	cr_assert_not_null(strstr(text, "%s%n"), "a format in it is text");
	for (const char *c = text; *c; c++)
		cr_assert(*c >= ' ' && *c < 127);
	free(text);
	memset(flood, 'x', sizeof(flood) - 1);
	flood[sizeof(flood) - 1] = '\0';
	text = api_fault_text(FAULT_PROC_START, flood);
	cr_assert_lt(strlen(text), 600);
	cr_assert_not_null(strstr(text, "xxx..."), "%s", text);
	free(text);
	memset(flood, '\xff', sizeof(flood) - 1);
	text = api_fault_text(FAULT_PROC_START, flood);
	cr_assert_lt(strlen(text), 2000);
	free(text);
	text = api_fault_text(FAULT_START_FAILED, "It broke.");
	cr_assert_str_eq(text, "The sandbox could not be started and was removed: It broke.");
	free(text);
	test_leaks();
}

Test(errors, of_files)
{
	static const struct { int error; enum fault fault; } table[] = {
		{ ENOENT, FAULT_FILE_NOT_FOUND }, { EISDIR, FAULT_FILE_IS_DIR }, { ENOTDIR, FAULT_FILE_NOT_DIR },
		{ EACCES, FAULT_FILE_PERMISSION }, { EPERM, FAULT_FILE_PERMISSION }, { EROFS, FAULT_FILE_PERMISSION },
		{ ENAMETOOLONG, FAULT_FILE_NAME }, { ELOOP, FAULT_FILE_LOOP }, { ENOSPC, FAULT_FILE_NO_SPACE },
		{ EDQUOT, FAULT_FILE_NO_SPACE }, { EFBIG, FAULT_FILE_TOO_LARGE }, { EEXIST, FAULT_FILE_EXISTS },
		{ ESRCH, FAULT_FILE_USER }, { EIO, FAULT_FILE_OTHER }, { 99999, FAULT_FILE_OTHER },
		{ -ECONNRESET, FAULT_AGENT_LOST },
	};

	for (size_t i = 0; i < ELEMENTSOF(table); i++)
		cr_assert_eq(api_file_fault(table[i].error), table[i].fault, "%d", table[i].error);
	for (int e = 1; e < 140; e++)
		cr_assert_neq(api_file_fault(e), FAULT_INTERNAL, "the guest's errors are not ours");
}
