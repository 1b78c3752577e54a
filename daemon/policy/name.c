/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Host names: one canonical form, made once, so that what is matched, resolved, compared and logged are the same bytes.
 *
 * IDNA is libidn2's (non-transitional, UTS 46). Everything that is not letters, digits, hyphens and dots afterwards is
 * refused, and so is what a resolver somewhere could read as an address: a last label of digits, or 0x....
 */
#include <idn2.h>
#include <string.h>

#include "policy/policy.h"

static bool label_char(char c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && !first) || (c == '_' && first);
}

static bool label_ok(const char *s, size_t len)
{
	if (len == 0 || len > 63 || s[len - 1] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!label_char(s[i], i == 0))
			return false;
	return true;
}

static bool labels_ok(const char *s)
{
	const char *last = s;

	for (;;) {
		size_t len = strcspn(s, ".");

		if (!label_ok(s, len))
			return false;
		last = s;
		if (!s[len])
			break;
		s += len + 1;
	}
	/* 1.2.3.4, 127.1, 0x7f000001: numbers are addresses to some of those who read names */
	return !(last[0] >= '0' && last[0] <= '9' && strspn(last, "0123456789abcdefx") == strlen(last));
}

static int to_ascii(const char *in, char **ret)
{
	char *out = NULL;

	if (idn2_to_ascii_8z(in, &out, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
		return -EINVAL;
	*ret = strdup(out);
	idn2_free(out);
	return *ret ? 0 : -ENOMEM;
}

int policy_name_canon(const char *name, size_t len, char *ret)
{
	_cleanup_free_ char *copy = NULL, *ascii = NULL;
	bool plain = true;
	int r;

	if (len > 1 && name[len - 1] == '.')
		len--;
	if (len == 0 || len >= 4 * POLICY_NAME_MAX || memchr(name, 0, len))
		return -EINVAL;
	copy = strndup(name, len);
	if (!copy)
		return -ENOMEM;
	for (char *p = copy; *p; p++) {
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p + 'a' - 'A');
		plain &= (unsigned char)*p < 0x80;
	}
	if (!plain) {
		r = to_ascii(copy, &ascii);
		if (r < 0)
			return r;
	}
	if (strlen(ascii ?: copy) >= POLICY_NAME_MAX || !labels_ok(ascii ?: copy))
		return -EINVAL;
	memcpy(ret, ascii ?: copy, strlen(ascii ?: copy) + 1);
	return 0;
}
