/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strings, numbers, hex and UTF-8.
 *
 * Numbers are parsed by hand because strtoull() accepts what no protocol of ours allows: leading
 * blanks, signs for unsigned values, locale grouping and a tail. Growing buffers live in buf.c.
 */
#include <string.h>

#include "util/str.h"

bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

char *str_format(const char *format, ...)
{
	char *ret = NULL;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&ret, format, ap);
	va_end(ap);
	return n < 0 ? NULL : ret;
}

/* Digits only, at least one, nothing behind them. */
static int parse_digits(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v)) {
			/* A number, only too large, unless something else follows. */
			return s[strspn(s, "0123456789")] ? -EINVAL : -ERANGE;
		}
	}
	*ret = v;
	return 0;
}

int str_to_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t v;
	int r;

	if (!s)
		return -EINVAL;
	r = parse_digits(s, &v);
	if (r < 0)
		return r;
	if (v < min || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

int str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret)
{
	bool negative;
	uint64_t u;
	int64_t v;
	int r;

	if (!s)
		return -EINVAL;
	negative = *s == '-';
	r = parse_digits(s + negative, &u);
	if (r < 0)
		return r;
	if (u > (uint64_t)INT64_MAX + negative)
		return -ERANGE;
	v = negative ? (int64_t)(0 - u) : (int64_t)u;
	if (v < min || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

static char *escape_byte(char *out, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";

	*out++ = '\\';
	switch (c) {
	case '\n':
		*out++ = 'n';
		break;
	case '\r':
		*out++ = 'r';
		break;
	case '\t':
		*out++ = 't';
		break;
	case '\\':
		*out++ = '\\';
		break;
	default:
		*out++ = 'x';
		*out++ = digits[c >> 4];
		*out++ = digits[c & 15];
	}
	return out;
}

/*
 * Everything outside printable ASCII is escaped, the backslash too, so that the text can be turned
 * back into the bytes and no terminal or log viewer interprets any of it.
 */
char *str_escape(const void *data, size_t len, size_t max)
{
	const unsigned char *p = data;
	size_t n = MIN_OF(len, max), size;
	char *ret, *out;

	if (__builtin_mul_overflow(n, 4u, &size) ||
	    __builtin_add_overflow(size, sizeof("..."), &size))
		return NULL;
	ret = out = malloc(size);
	if (!ret)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (p[i] >= 0x20 && p[i] < 0x7f && p[i] != '\\')
			*out++ = (char)p[i];
		else
			out = escape_byte(out, p[i]);
	}
	if (n < len)
		out = mempcpy(out, "...", 3);
	*out = '\0';
	return ret;
}

size_t utf8_sequence(const void *data, size_t len, size_t *ret_need)
{
	const unsigned char *p = data;
	unsigned char lo = 0x80, hi = 0xbf;
	size_t need;

	*ret_need = 1;
	if (len == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		need = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		need = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		need = 4;
	else
		return 0;
	/*
	 * The second byte's range excludes overlong forms, surrogates and what is above U+10FFFF.
	 */
	if (p[0] == 0xe0)
		lo = 0xa0;
	else if (p[0] == 0xed)
		hi = 0x9f;
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f;
	*ret_need = need;
	for (size_t i = 1; i < need; i++) {
		if (i == len)
			return i;
		if (p[i] < lo || p[i] > hi) {
			*ret_need = i;
			return 0;
		}
		lo = 0x80;
		hi = 0xbf;
	}
	return need;
}

bool utf8_valid(const void *data, size_t len)
{
	const unsigned char *p = data;
	size_t n, need;

	while (len > 0) {
		n = utf8_sequence(p, len, &need);
		if (n == 0 || n < need)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

void hex_encode(const void *data, size_t len, char *ret)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++) {
		*ret++ = digits[p[i] >> 4];
		*ret++ = digits[p[i] & 15];
	}
	*ret = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -EINVAL;
}

/* ret is untouched when the text is bad: the digits are checked before the first byte is stored. */
int hex_decode(const char *hex, void *ret, size_t len)
{
	unsigned char *out = ret;
	size_t n = 0;

	for (; hex[n]; n++)
		if (hex_digit(hex[n]) < 0)
			return -EINVAL;
	if (n % 2 || n / 2 != len)
		return -EINVAL;
	for (size_t i = 0; i < len; i++)
		out[i] = (unsigned char)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
	return 0;
}
