/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tag-length-value lists: what is put is read back, what is malformed is refused, nothing overflows. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "wire/le.h"
#include "wire/tlv.h"

Test(wire_tlv, round_trip)
{
	uint8_t buf[256];
	struct wire_writer w;
	struct wire_reader r;
	const uint8_t *data;
	size_t len, mark;
	uint16_t tag;
	uint32_t v32;
	uint64_t v64;
	char text[8];

	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u32(&w, 1, 0x01020304);
	wire_put_u64(&w, 2, 0x0102030405060708ull);
	wire_put_str(&w, 3, "text");
	wire_put_bytes(&w, 4, NULL, 0);
	mark = wire_nest_begin(&w, 5);
	wire_put_u32(&w, 6, 7);
	wire_nest_end(&w, mark);
	cr_assert_eq(w.error, 0);
	cr_assert(wire_well_formed(buf, w.len));

	wire_reader_init(&r, buf, w.len);
	cr_assert_eq(wire_next(&r, &tag, &data, &len), 1);
	cr_expect_eq(tag, 1);
	cr_expect_eq(wire_get_u32(data, len, &v32), 0);
	cr_expect_eq(v32, 0x01020304);
	cr_expect_eq(wire_get_u64(data, len, &v64), -EBADMSG);
	cr_assert_eq(wire_next(&r, &tag, &data, &len), 1);
	cr_expect_eq(wire_get_u64(data, len, &v64), 0);
	cr_expect_eq(v64, 0x0102030405060708ull);
	cr_expect_eq(wire_get_u32(data, len, &v32), -EBADMSG);
	cr_assert_eq(wire_next(&r, &tag, &data, &len), 1);
	cr_expect_eq(wire_get_str(data, len, text, sizeof(text)), 0);
	cr_expect_str_eq(text, "text");
	cr_expect_eq(wire_get_str(data, len, text, 4), -ENAMETOOLONG);
	cr_assert_eq(wire_next(&r, &tag, &data, &len), 1);
	cr_expect_eq(tag, 4);
	cr_expect_eq(len, 0);
	cr_assert_eq(wire_next(&r, &tag, &data, &len), 1);
	cr_expect_eq(tag, 5);
	cr_expect_eq(wire_find(data, len, 6, &data, &len), 1);
	cr_expect_eq(le32_load(data), 7);
	cr_expect_eq(wire_next(&r, &tag, &data, &len), 0);
	cr_expect_eq(wire_next(&r, &tag, &data, &len), 0);
}

Test(wire_tlv, nested_equals_nest)
{
	uint8_t a[64], b[64], in[32];
	struct wire_writer wa, wb, inner;
	size_t mark;

	wire_writer_init(&wa, a, sizeof(a));
	mark = wire_nest_begin(&wa, 9);
	wire_put_str(&wa, 1, "x");
	wire_nest_end(&wa, mark);
	wire_writer_init(&inner, in, sizeof(in));
	wire_put_str(&inner, 1, "x");
	wire_writer_init(&wb, b, sizeof(b));
	wire_put_nested(&wb, 9, &inner);
	cr_assert_eq(wa.len, wb.len);
	cr_assert_arr_eq(a, b, wa.len);
}

static const struct malformed {
	size_t len;
	uint8_t bytes[24];
} malformed[] = {
	{ 1, { 1 } },
	{ 7, { 1, 0, 0, 0, 0, 0, 0 } },
	{ 8, { 1, 0, 0, 0, 1, 0, 0, 0 } },
	{ 8, { 1, 0, 1, 0, 0, 0, 0, 0 } },
	{ 8, { 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff } },
	{ 12, { 1, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff, 1, 2, 3, 4 } },
	{ 13, { 1, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4, 5 } },
	{ 20, { 1, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4, 2, 0, 0, 0, 5, 0, 0, 0 } },
};

Test(wire_tlv, malformed_is_refused_for_good)
{
	for (size_t i = 0; i < sizeof(malformed) / sizeof(*malformed); i++) {
		struct wire_reader r;
		const uint8_t *data;
		size_t len;
		uint16_t tag;
		int ret;

		cr_expect_not(wire_well_formed(malformed[i].bytes, malformed[i].len), "case %zu", i);
		wire_reader_init(&r, malformed[i].bytes, malformed[i].len);
		while ((ret = wire_next(&r, &tag, &data, &len)) > 0)
			;
		cr_expect_eq(ret, -EBADMSG, "case %zu", i);
		cr_expect_eq(wire_next(&r, &tag, &data, &len), -EBADMSG, "case %zu", i);
		cr_expect_eq(wire_find(malformed[i].bytes, malformed[i].len, 99, &data, &len), -EBADMSG);
	}
}

Test(wire_tlv, nul_in_a_string)
{
	char text[8] = "keep";

	cr_expect_eq(wire_get_str((const uint8_t *)"a\0b", 3, text, sizeof(text)), -EBADMSG);
	cr_expect_str_eq(text, "keep");
	cr_expect_eq(wire_get_str(NULL, 0, text, sizeof(text)), 0);
	cr_expect_str_eq(text, "");
}

/* Whatever the room, the writer stays in it, its error sticks, and what it has put stays well formed. */
Test(wire_tlv, every_room)
{
	for (size_t size = 0; size < 64; size++) {
		uint8_t buf[64 + 1];
		struct wire_writer w;
		size_t mark;

		memset(buf, 0x5a, sizeof(buf));
		wire_writer_init(&w, buf, size);
		wire_put_u32(&w, 1, 1);
		wire_put_str(&w, 2, "abc");
		mark = wire_nest_begin(&w, 3);
		wire_put_u64(&w, 4, 4);
		wire_nest_end(&w, mark);
		cr_expect_leq(w.len, size);
		cr_expect_eq(buf[size], 0x5a);
		cr_expect_eq(w.error, size < 12 + 11 + 8 + 16 ? -ENOBUFS : 0, "size %zu", size);
		if (w.error) {
			size_t len = w.len;

			wire_put_bytes(&w, 9, NULL, 0);
			cr_expect_eq(w.len, len);
		}
	}
}

Test(wire_tlv, absurd_lengths_do_not_wrap)
{
	uint8_t buf[32];
	struct wire_writer w;

	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_bytes(&w, 1, buf, SIZE_MAX);
	cr_expect_eq(w.error, -ENOBUFS);
	cr_expect_eq(w.len, 0);
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_raw(&w, buf, SIZE_MAX);
	cr_expect_eq(w.error, -ENOBUFS);
}
