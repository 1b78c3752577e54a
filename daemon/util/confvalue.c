/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Configuration values: numbers with units, booleans, choices, lists.
 *
 * A value is parsed completely before the old one in the target is touched.
 */
#include <string.h>

#include "util/clock.h"
#include "util/confvalue.h"
#include "util/str.h"

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit time_units[] = {
	{ "", USEC_PER_SEC },
	{ "us", 1 },
	{ "ms", USEC_PER_MSEC },
	{ "s", USEC_PER_SEC },
	{ "min", 60 * USEC_PER_SEC },
	{ "h", 3600 * USEC_PER_SEC },
	{ "d", 86400 * USEC_PER_SEC },
	{ NULL, 0 },
};

static const struct unit size_units[] = {
	{ "", 1 },
	{ "K", 1ull << 10 },
	{ "M", 1ull << 20 },
	{ "G", 1ull << 30 },
	{ "T", 1ull << 40 },
	{ NULL, 0 },
};

static const struct unit no_units[] = { { "", 1 }, { NULL, 0 } };

static _printf_(2, 3) int refuse(char **ret_why, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(ret_why, format, ap);
	va_end(ap);
	if (n < 0) {
		*ret_why = NULL;
		return -ENOMEM;
	}
	return -EINVAL;
}

static void *field(const struct conf_key *k, void *target)
{
	return (char *)target + k->offset;
}

/* Digits, at most one blank run, a unit of the table. */
static int parse_scaled(const char *text, const struct unit *units, uint64_t *ret)
{
	size_t n = strspn(text, "0123456789");
	char digits[21];
	uint64_t v;
	int r;

	if (n == 0)
		return -EINVAL;
	if (n >= sizeof(digits))
		return -ERANGE;
	memcpy(digits, text, n);
	digits[n] = '\0';
	r = str_to_u64(digits, 0, UINT64_MAX, &v);
	if (r < 0)
		return r;
	text += n;
	if (units != no_units)
		text += strspn(text, " \t");
	while (units->name && !str_eq(units->name, text))
		units++;
	if (!units->name)
		return -EINVAL;
	return __builtin_mul_overflow(v, units->factor, ret) ? -ERANGE : 0;
}

/* Wants the largest unit that loses nothing, so that a limit reads as its author wrote it. */
static void print_scaled(uint64_t v, const struct unit *units, char *ret, size_t size)
{
	const struct unit *best = NULL;

	for (; units->name; units++)
		if (*units->name && v % units->factor == 0 && v >= units->factor &&
		    (!best || units->factor > best->factor))
			best = units;
	if (best)
		snprintf(ret, size, "%llu%s", (unsigned long long)(v / best->factor), best->name);
	else
		snprintf(ret, size, "%llu", (unsigned long long)v);
}

static int refuse_range(const struct conf_key *k, const struct unit *units, char **ret_why)
{
	char min[32], max[32];

	print_scaled(k->min, units, min, sizeof(min));
	if (!k->max)
		return refuse(ret_why, "must be at least %s", min);
	print_scaled(k->max, units, max, sizeof(max));
	return refuse(ret_why, "must be between %s and %s", min, max);
}

static int store_number(const struct conf_key *k, const char *text, const struct unit *units,
			const char *what, uint64_t *target, char **ret_why)
{
	uint64_t v = 0;
	int r = parse_scaled(text, units, &v);

	if (r == -EINVAL)
		return refuse(ret_why, "'%s' is not %s", text, what);
	if (r == -ERANGE && !k->max)
		return refuse(ret_why, "'%s' is too large", text);
	if (r == -ERANGE || v < k->min || (k->max && v > k->max))
		return refuse_range(k, units, ret_why);
	*target = v;
	return 0;
}

static int store_bool(const char *text, bool *target, char **ret_why)
{
	static const char *const words[] = { "no", "yes", "false", "true", "off", "on", "0", "1" };

	for (size_t i = 0; i < ELEMENTSOF(words); i++)
		if (strcasecmp(text, words[i]) == 0) {
			*target = i % 2;
			return 0;
		}
	return refuse(ret_why, "'%s' is neither yes nor no", text);
}

static int store_string(const struct conf_key *k, const char *text, char **target, char **ret_why)
{
	size_t n = strlen(text);
	char *copy;

	if (n < k->min)
		return n ? refuse(ret_why, "is too short") : refuse(ret_why, "must not be empty");
	if (k->max && n > k->max)
		return refuse(ret_why, "is longer than %llu bytes", (unsigned long long)k->max);
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*target);
	*target = copy;
	return 0;
}

static int store_enum(const struct conf_key *k, const char *text, int *target, char **ret_why)
{
	const char *c = k->choices;
	size_t n = strlen(text), m;

	for (int i = 0;; i++) {
		m = strcspn(c, "|");
		if (m == n && memcmp(c, text, n) == 0) {
			*target = i;
			return 0;
		}
		if (!c[m])
			return refuse(ret_why, "'%s' is not one of %s", text, k->choices);
		c += m + 1;
	}
}

static int push_item(char ***v, const char *s, size_t n)
{
	_cleanup_free_ char *item = NULL;

	while (n > 0 && strchr(" \t", *s))
		s++, n--;
	while (n > 0 && strchr(" \t", s[n - 1]))
		n--;
	if (n == 0)
		return -EINVAL;
	item = strndup(s, n);
	return item ? strv_push(v, item) : -ENOMEM;
}

/* An empty value is the empty list; an empty item (`a,,b`) is a slip. */
static int store_list(const char *text, char ***target, char **ret_why)
{
	_cleanup_strv_ char **v = NULL;
	size_t n;
	int r;

	for (const char *p = text; *text; p += n + 1) {
		n = strcspn(p, ",");
		r = push_item(&v, p, n);
		if (r == -EINVAL)
			return refuse(ret_why, "empty item in the list");
		if (r < 0)
			return r;
		if (!p[n])
			break;
	}
	strv_free(*target);
	*target = TAKE_PTR(v);
	return 0;
}

int conf_value_store(const struct conf_key *k, const char *text, void *target, char **ret_why)
{
	switch (k->type) {
	case CONF_STRING:
		return store_string(k, text, field(k, target), ret_why);
	case CONF_U64:
		return store_number(k, text, no_units, "a number", field(k, target), ret_why);
	case CONF_BOOL:
		return store_bool(text, field(k, target), ret_why);
	case CONF_USEC:
		return store_number(k, text, time_units, "a time (10s, 500ms, 5min, 1h)",
				    field(k, target), ret_why);
	case CONF_SIZE:
		return store_number(k, text, size_units, "a size (10K, 10M, 10G)", field(k, target),
				    ret_why);
	case CONF_ENUM:
		return store_enum(k, text, field(k, target), ret_why);
	case CONF_LIST:
		return store_list(text, field(k, target), ret_why);
	case CONF_TYPE_MAX:
		break;
	}
	return -ENOTSUP;
}

void conf_value_done(const struct conf_key *k, void *target)
{
	if (k->type == CONF_STRING) {
		char **s = field(k, target);

		free(*s);
		*s = NULL;
	} else if (k->type == CONF_LIST) {
		char ***v = field(k, target);

		strv_free(*v);
		*v = NULL;
	}
}
