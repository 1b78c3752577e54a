/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * INI files by table.
 *
 * One pass over the text, a line at a time; what a value means is confvalue.c's business. Strict on
 * purpose: a misspelt key that is silently ignored is a security setting that is silently off.
 * After an error the target is partly filled and only good for conf_done().
 */
#include <dirent.h>
#include <string.h>

#include "util/conf.h"
#include "util/confvalue.h"
#include "util/fileio.h"
#include "util/str.h"

#define CONF_FILE_MAX (1024u * 1024)

struct parser {
	const char *name;
	unsigned line;
	const struct conf_key *keys;
	void *target;
	const char *section; /* as the table spells it */
	void *section_target; /* what its offsets count from */
	bool *seen; /* by row */
	char **ret_error;
};

static _printf_(2, 3) int complain(struct parser *p, const char *format, ...)
{
	char *what = NULL;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&what, format, ap);
	va_end(ap);
	if (n < 0)
		return -ENOMEM;
	*p->ret_error = str_format("%s:%u: %s", p->name, p->line, what);
	free(what);
	return *p->ret_error ? -EINVAL : -ENOMEM;
}

static char *trim(char *s)
{
	char *end;

	s += strspn(s, " \t\r");
	end = s + strlen(s);
	while (end > s && strchr(" \t\r", end[-1]))
		end--;
	*end = '\0';
	return s;
}

/* What stands in the place of the star; NULL: this is another section. */
static const char *instance_name(const char *pattern, const char *s)
{
	size_t n = strlen(pattern) - 1;

	if (strncmp(pattern, s, n) != 0 || !s[n] || strlen(s + n) > CONF_INSTANCE_MAX)
		return NULL;
	return s[n + strspn(s + n, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")] ? NULL : s + n;
}

static int enter_instance(struct parser *p, const struct conf_key *key, const char *name)
{
	p->section = key->section;
	p->section_target = key->instance(p->target, name);
	for (const struct conf_key *k = p->keys; k->section; k++)
		if (k->section == p->section || str_eq(k->section, p->section))
			p->seen[k - p->keys] = false;
	return p->section_target ? 0 : -ENOMEM;
}

static int parse_section(struct parser *p, char *s)
{
	size_t n = strlen(s);

	if (s[n - 1] != ']')
		return complain(p, "a section is [name]");
	s[n - 1] = '\0';
	s = trim(s + 1);
	for (const struct conf_key *k = p->keys; k->section; k++)
		if (k->instance && instance_name(k->section, s))
			return enter_instance(p, k, instance_name(k->section, s));
		else if (str_eq(k->section, s)) {
			p->section = k->section;
			p->section_target = p->target;
			return 0;
		}
	return complain(p, "unknown section [%s]", s);
}

static int parse_assignment(struct parser *p, char *s)
{
	_cleanup_free_ char *why = NULL;
	char *eq = strchr(s, '='), *value;
	const struct conf_key *k;
	int r;

	if (!eq)
		return complain(p, "neither a section nor key = value");
	*eq = '\0';
	s = trim(s);
	value = trim(eq + 1);
	if (!p->section)
		return complain(p, "%s stands before the first section", s);
	for (k = p->keys; k->section; k++)
		if (str_eq(k->section, p->section) && str_eq(k->key, s))
			break;
	if (!k->section)
		return complain(p, "unknown key %s in [%s]", s, p->section);
	if (p->seen[k - p->keys])
		return complain(p, "%s is set twice", s);
	p->seen[k - p->keys] = true;
	r = conf_value_store(k, value, p->section_target, &why);
	return r == -EINVAL ? complain(p, "%s: %s", s, why) : r;
}

static int parse_line(struct parser *p, char *s)
{
	s = trim(s);
	if (!*s || *s == '#' || *s == ';')
		return 0;
	return *s == '[' ? parse_section(p, s) : parse_assignment(p, s);
}

static int parse_lines(struct parser *p, char *text)
{
	char *line;
	int r;

	while ((line = strsep(&text, "\n"))) {
		p->line++;
		if (!utf8_valid(line, strlen(line)))
			return complain(p, "not valid UTF-8");
		r = parse_line(p, line);
		if (r < 0)
			return r;
	}
	return 0;
}

static unsigned line_of(const char *text, const char *at)
{
	unsigned n = 1;

	for (; text < at; text++)
		n += *text == '\n';
	return n;
}

int conf_parse(const char *name, const char *text, size_t len, const struct conf_key *keys,
	       void *target, char **ret_error)
{
	struct parser p = { .name = name, .keys = keys, .target = target, .ret_error = ret_error };
	_cleanup_free_ char *copy = NULL;
	_cleanup_free_ bool *seen = NULL;
	const char *nul = len ? memchr(text, '\0', len) : NULL;
	size_t n = 0;

	*ret_error = NULL;
	if (nul) {
		p.line = line_of(text, nul);
		return complain(&p, "NUL byte");
	}
	while (keys[n].section)
		n++;
	copy = strndup(len ? text : "", len);
	seen = calloc(n + 1, sizeof(*seen));
	if (!copy || !seen)
		return -ENOMEM;
	p.seen = seen;
	return parse_lines(&p, copy);
}

int conf_load(const char *path, const struct conf_key *keys, void *target, char **ret_error)
{
	_cleanup_buf_ struct buf b = BUF_INIT(0);
	int r;

	*ret_error = NULL;
	r = file_read(path, CONF_FILE_MAX, &b);
	if (r < 0)
		return r;
	return conf_parse(path, b.data, b.len, keys, target, ret_error);
}

static int is_conf(const struct dirent *de)
{
	return de->d_name[0] != '.' && str_ends(de->d_name, ".conf");
}

/* Bytes, not the locale: the order must be the same on every machine. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

int conf_load_dir(const char *dir, const struct conf_key *keys, void *target, char **ret_error)
{
	struct dirent **found = NULL;
	int n, r = 0;

	*ret_error = NULL;
	n = scandir(dir, &found, is_conf, by_name);
	if (n < 0)
		return errno == ENOENT ? 0 : -errno;
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *path = str_format("%s/%s", dir, found[i]->d_name);

		if (r == 0)
			r = path ? conf_load(path, keys, target, ret_error) : -ENOMEM;
		free(found[i]);
	}
	free(found);
	return r;
}

void conf_done(const struct conf_key *keys, void *target)
{
	for (; keys->section; keys++)
		if (!keys->instance)
			conf_value_done(keys, target);
}
