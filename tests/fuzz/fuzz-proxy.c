/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a ClientHello and as an HTTP connection. Beyond not crashing: the pieces they come in change nothing, nor does what
 * was read before; a name that is given is canonical; what was read never exceeds what there was, and something always is.
 */
#include <string.h>

#include "fuzz-main.h"
#include "proxy/hello.h"
#include "proxy/request.h"

#define MUST(x) ((x) ? (void)0 : abort())

static void check_canonical(const char *name)
{
	char again[POLICY_NAME_MAX];

	MUST(policy_name_canon(name, strlen(name), again) == 0 && str_eq(name, again));
}

static enum hello_result feed_hello(const uint8_t *data, size_t size, size_t step, char *name)
{
	enum hello_result r = HELLO_MORE;
	struct hello *h = NULL;

	MUST(hello_new(&h) == 0);
	for (size_t i = 0; i < size && r == HELLO_MORE; i += step)
		r = hello_feed(h, data + i, MIN_OF(step, size - i), name);
	hello_free(h);
	return r;
}

static void check_hello(const uint8_t *data, size_t size)
{
	char whole[POLICY_NAME_MAX] = "", pieces[POLICY_NAME_MAX] = "";
	enum hello_result a = feed_hello(data, size, size ?: 1, whole), b = feed_hello(data, size, 7, pieces);

	/* by the object that read it before, if it is one that is kept */
	MUST(feed_hello(data, size, size ?: 1, pieces) == a);
	if (a == HELLO_NAME) {
		check_canonical(whole);
		MUST(b == HELLO_NAME && str_eq(whole, pieces));
	}
}

/* Names of the heads up to the first that is refused, one a line */
static void feed_requests(const char *data, size_t size, size_t step, char *heads, size_t heads_size)
{
	struct request_parser *p = request_parser_new();
	size_t at = 0, have = 0, n = 0, idle = 0;

	MUST(p);
	*heads = '\0';
	while (have < size) {
		have = MIN_OF(have + step, size);
		while (at < have) {
			char name[POLICY_NAME_MAX] = "";
			const char *why = NULL;
			size_t used = 0;
			enum request_result r = request_feed(p, data + at, have - at, &used, name, &why);

			MUST(used <= have - at);
			idle = used ? 0 : idle + 1;
			MUST(idle < 8);
			at += used;
			if (r == REQUEST_BAD) {
				MUST(why);
				goto out;
			}
			if (r == REQUEST_HEAD || r == REQUEST_UPGRADE) {
				check_canonical(name);
				if (n + strlen(name) + 2 < heads_size)
					n += (size_t)snprintf(heads + n, heads_size - n, "%s\n", name);
			}
		}
	}
out:
	request_parser_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char whole[4096], pieces[4096];

	if (size > HELLO_MAX)
		return 0;
	check_hello(data, size);
	feed_requests((const char *)data, size, size ?: 1, whole, sizeof(whole));
	feed_requests((const char *)data, size, 3, pieces, sizeof(pieces));
	MUST(str_eq(whole, pieces));
	return 0;
}
