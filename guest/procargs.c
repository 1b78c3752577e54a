/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * argv and environment of a process. One allocation holds all strings: their sum is bounded by the request
 * they came in. Defaults are put first and left out when the host names the variable itself.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "procargs.h"

#define PATH_DEFAULT "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define DEFAULTS_MAX 6

static int fail(struct procargs *pa, int error, const char *why, const char *what)
{
	snprintf(pa->why, sizeof(pa->why), "%s%.80s", why, what);
	return error;
}

static int count(struct procargs *pa, const struct args *g, size_t *ret_argc, size_t *ret_envc, size_t *ret_bytes)
{
	struct wire_reader rd;
	const uint8_t *data;
	size_t len;
	uint16_t tag;

	wire_reader_init(&rd, g->tlvs, g->tlvs_len);
	while (wire_next(&rd, &tag, &data, &len) > 0) {
		if (tag != DCLW_TAG_ARG && tag != DCLW_TAG_ENV)
			continue;
		if (len > 0 && memchr(data, 0, len))
			return fail(pa, -EBADMSG, "a NUL byte in an argument", "");
		if (tag == DCLW_TAG_ENV && (len == 0 || data[0] == '=' || !memchr(data, '=', len)))
			return fail(pa, -EINVAL, "an environment entry without a name", "");
		(*(tag == DCLW_TAG_ARG ? ret_argc : ret_envc))++;
		*ret_bytes += len + 1;
	}
	return 0;
}

static bool env_named(char *const *envp, size_t n, const char *entry)
{
	size_t len = (size_t)(strchr(entry, '=') - entry) + 1;

	for (size_t i = 0; i < n; i++) {
		if (strncmp(envp[i], entry, len) == 0)
			return true;
	}
	return false;
}

/* The host's own entries are in already, so a default is put only when its name is not. */
static int put_default(struct procargs *pa, size_t *n, const char *name, const char *value)
{
	char *entry;

	if (asprintf(&entry, "%s%s", name, value) < 0)
		return -ENOMEM;
	if (env_named(pa->envp, *n, entry))
		free(entry);
	else
		pa->envp[(*n)++] = entry;
	return 0;
}

static size_t copy_strings(struct procargs *pa, const struct args *g)
{
	struct wire_reader rd;
	const uint8_t *data;
	char *to = pa->strings;
	size_t len, argc = 0, envc = 0;
	uint16_t tag;

	wire_reader_init(&rd, g->tlvs, g->tlvs_len);
	while (wire_next(&rd, &tag, &data, &len) > 0) {
		if (tag != DCLW_TAG_ARG && tag != DCLW_TAG_ENV)
			continue;
		if (len > 0)
			memcpy(to, data, len);
		to[len] = 0;
		if (tag == DCLW_TAG_ARG)
			pa->argv[argc++] = to;
		else
			pa->envp[envc++] = to;
		to += len + 1;
	}
	return envc;
}

static int make_strings(struct procargs *pa, const struct args *g)
{
	size_t argc = 0, envc = 0, bytes = 1;
	int r = count(pa, g, &argc, &envc, &bytes);

	if (r < 0)
		return r;
	pa->argv = calloc(argc + 1, sizeof(*pa->argv));
	pa->envp = calloc(envc + DEFAULTS_MAX + 1, sizeof(*pa->envp));
	pa->strings = malloc(bytes);
	if (!pa->argv || !pa->envp || !pa->strings)
		return fail(pa, -ENOMEM, "no memory", "");
	pa->nown = envc = copy_strings(pa, g);
	r = put_default(pa, &envc, "HOME=", pa->user.home);
	r = r ?: put_default(pa, &envc, "USER=", pa->user.name);
	r = r ?: put_default(pa, &envc, "LOGNAME=", pa->user.name);
	r = r ?: put_default(pa, &envc, "SHELL=", pa->user.shell);
	r = r ?: put_default(pa, &envc, PATH_DEFAULT, "");
	if (pa->spec.pty)
		r = r ?: put_default(pa, &envc, "TERM=", "xterm-256color");
	return r < 0 ? fail(pa, r, "no memory", "") : 0;
}

int procargs_make(struct procargs *pa, const struct args *g, bool may_switch)
{
	const char *name = args_have(g, DCLW_TAG_USER) && *g->user ? g->user : "root";
	int r = user_lookup(name, &pa->user);

	if (r < 0 && may_switch)
		return fail(pa, -ESRCH, "no user ", name);
	if (r < 0)
		pa->user = (struct user) { .name = "nobody", .home = "/", .shell = "/bin/sh", .uid = geteuid() };
	pa->spec = (struct spawn_spec) {
		.user = &pa->user, .switch_user = may_switch,
		.in = g->in, .out = g->out, .err = g->err,
		.pty = g->rows && g->cols, .rows = (uint16_t)g->rows, .cols = (uint16_t)g->cols,
	};
	if (g->rows > UINT16_MAX || g->cols > UINT16_MAX)
		return fail(pa, -EINVAL, "a terminal of that size", "");
	snprintf(pa->cwd, sizeof(pa->cwd), "%s", args_have(g, DCLW_TAG_CWD) ? g->cwd : pa->user.home);
	pa->spec.cwd = pa->cwd;
	r = make_strings(pa, g);
	if (r < 0)
		return r;
	if (!*pa->argv[0])
		return fail(pa, -EINVAL, "an empty program name", "");
	pa->spec.argv = pa->argv;
	pa->spec.envp = pa->envp;
	return 0;
}

void procargs_done(struct procargs *pa)
{
	/* the host's entries are inside strings, the defaults behind them are allocated one by one */
	for (char **e = pa->envp ? pa->envp + pa->nown : NULL; e && *e; e++)
		free(*e);
	free(pa->envp);
	free(pa->argv);
	free(pa->strings);
}
