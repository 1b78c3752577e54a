/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Base64, see base64.h. */
#include "util/base64.h"

#include <errno.h>
#include <stdint.h>

static const char alphabet[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *data, size_t len, char *ret)
{
	const uint8_t *p = data;
	uint32_t v;

	for (; len >= 3; len -= 3, p += 3) {
		v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
		*ret++ = alphabet[v >> 18];
		*ret++ = alphabet[v >> 12 & 63];
		*ret++ = alphabet[v >> 6 & 63];
		*ret++ = alphabet[v & 63];
	}
	if (len == 0)
		return;
	v = (uint32_t)p[0] << 16 | (len == 2 ? (uint32_t)p[1] << 8 : 0);
	*ret++ = alphabet[v >> 18];
	*ret++ = alphabet[v >> 12 & 63];
	*ret++ = len == 2 ? alphabet[v >> 6 & 63] : '=';
	*ret = '=';
}

/* 0 to 63; 64 and above: not of the alphabet */
static unsigned int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (unsigned int)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (unsigned int)(c - 'a') + 26;
	if (c >= '0' && c <= '9')
		return (unsigned int)(c - '0') + 52;
	return c == '+' ? 62 : c == '/' ? 63 : 64;
}

/* n: how many of the four characters carry bits (2 to 4) */
static int decode_group(const char *text, size_t n, uint8_t *ret)
{
	uint32_t v = 0;

	for (size_t i = 0; i < 4; i++) {
		unsigned int bits = i < n ? value_of(text[i]) : 0;

		if (bits > 63)
			return -EINVAL;
		v = v << 6 | bits;
	}
	if ((n == 2 && v & 0xffff) || (n == 3 && v & 0xff))
		return -EINVAL;
	ret[0] = (uint8_t)(v >> 16);
	if (n > 2)
		ret[1] = (uint8_t)(v >> 8);
	if (n > 3)
		ret[2] = (uint8_t)v;
	return 0;
}

ssize_t base64_decode(const char *text, size_t len, void *ret)
{
	uint8_t *p = ret;

	if (len % 4 != 0)
		return -EINVAL;
	for (size_t i = 0; i < len; i += 4) {
		size_t n = 4;

		if (i + 4 == len && text[i + 3] == '=')
			n = text[i + 2] == '=' ? 2 : 3;
		if (decode_group(text + i, n, p) < 0)
			return -EINVAL;
		p += n - 1;
	}
	return p - (uint8_t *)ret;
}
