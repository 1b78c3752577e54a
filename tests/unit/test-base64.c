/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Base64: the RFC's vectors, every length, every pair of bytes, and everything that is none. */
#include "util-test.h"
#include "util/base64.h"
#include "util/macro.h"

static const struct base64_case {
	const char *data, *text;
} vectors[] = {
	{ "", "" },	    { "f", "Zg==" },	{ "fo", "Zm8=" },	 { "foo", "Zm9v" },
	{ "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" },
};

Test(base64, vectors)
{
	for (size_t i = 0; i < ELEMENTSOF(vectors); i++) {
		const struct base64_case *c = &vectors[i];
		size_t len = strlen(c->data), n = BASE64_SIZE(len);
		char text[16] = "", data[16] = "";

		cr_assert_eq(n, strlen(c->text));
		base64_encode(c->data, len, text);
		cr_assert_str_eq(text, c->text);
		cr_assert_eq(base64_decode(c->text, n, data), (ssize_t)len);
		cr_assert_str_eq(data, c->data);
	}
}

Test(base64, there_and_back)
{
	uint8_t data[512] = { 0 }, back[520];
	char text[BASE64_SIZE(512)];

	for (size_t len = 0; len <= sizeof(data); len++) {
		for (size_t i = 0; i < len; i++)
			data[i] = (uint8_t)(i * 167 + len * 59);
		memset(text, '#', sizeof(text));
		base64_encode(data, len, text);
		cr_assert(BASE64_SIZE(len) == sizeof(text) || text[BASE64_SIZE(len)] == '#', "nothing beyond");
		cr_assert_eq(base64_decode(text, BASE64_SIZE(len), back), (ssize_t)len);
		cr_assert_eq(memcmp(data, back, len), 0);
	}
}

/* Of the 64^4 groups of four characters that could be, the last one of a text is where the rules are. */
Test(base64, one_text_per_value)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned int good[2] = { 0 };

	for (size_t a = 0; a < 64; a++)
		for (size_t b = 0; b < 64; b++) {
			char two[4] = { alphabet[a], alphabet[b], '=', '=' }, three[4] = { 'A', alphabet[a], alphabet[b], '=' };
			uint8_t out[3];

			good[0] += base64_decode(two, 4, out) == 1;
			good[1] += base64_decode(three, 4, out) == 2;
		}
	cr_assert_eq(good[0], 256);
	cr_assert_eq(good[1], 1024, "the first six bits are zero");
}

Test(base64, refused)
{
	static const char *const bad[] = {
		"Z", "Zg", "Zg=", "Zg==Zg==", "=g==", "Z===", "====", "Zg=g", "Zm9v\n", "Zm 9", " Zg=", "Zm9-", "Zm9_", "Zh==",
		"Zm9=", "Zm9vZg", "not base64!", "\xc3\xa9\xc3\xa9", "Zg==\n\n\n\n",
	};
	uint8_t out[64];

	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		cr_assert_eq(base64_decode(bad[i], strlen(bad[i]), out), -EINVAL, "%s", bad[i]);
	cr_assert_eq(base64_decode("Zg\0=", 4, out), -EINVAL, "a NUL inside");
}
