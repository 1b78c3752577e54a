/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The frame codec: encodings fixed byte by byte, cuts at every byte, splices, garbage, bad seals. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "wire/crc32c.h"
#include "wire/frame.h"
#include "wire/le.h"

static size_t put(uint8_t *out, uint8_t type, uint32_t stream, uint64_t offset, const void *payload, uint32_t len)
{
	struct dclw_header h = {
		.type = type, .flags = DCLW_FIN, .epoch = 0x1234, .stream = stream, .length = len, .offset = offset,
		.arg = 0xa5a5a5a5,
	};
	size_t n = wire_frame_put(out, DCLW_FRAME_MAX, &h, payload);

	cr_assert_eq(n, DCLW_HEADER_SIZE + len + DCLW_SEAL_SIZE);
	return n;
}

static struct wire_decoder *fresh(void)
{
	struct wire_decoder *d = malloc(sizeof(*d));

	cr_assert(d);
	wire_decoder_init(d);
	return d;
}

/* Feeds in pieces of step and counts the frames; the last one's header is left in *last. */
static unsigned int feed(struct wire_decoder *d, const uint8_t *p, size_t len, size_t step, struct dclw_header *last)
{
	struct wire_frame f;
	unsigned int n = 0;

	while (len > 0) {
		size_t took = wire_decoder_push(d, p, len < step ? len : step);

		cr_assert_gt(took, 0);
		p += took;
		len -= took;
		while (wire_decoder_next(d, &f)) {
			*last = f.header;
			n++;
		}
	}
	return n;
}

Test(wire, crc32c_known_values)
{
	static const uint8_t zeros[32];

	cr_expect_eq(crc32c("123456789", 9), 0xe3069283u);
	cr_expect_eq(crc32c(zeros, 32), 0x8a9136aau);
	cr_expect_eq(crc32c("", 0), 0);
}

/* What other implementations must produce: changing this is changing the protocol. */
Test(wire, golden_frame)
{
	static const uint8_t golden[] = {
		'D', 'C', 'L', 'W', 0x20, 0x01, 0x34, 0x12, 0x07, 0, 0, 0, 0x02, 0, 0, 0,
		0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0xa5, 0xa5, 0xa5, 0xa5,
	};
	uint8_t out[64];
	size_t n = put(out, DCLW_DATA, 7, 0x0102030405060708ull, "hi", 2);

	cr_assert_eq(n, 38);
	cr_assert_arr_eq(out, golden, sizeof(golden));
	cr_assert_eq(le32_load(out + 28), crc32c(golden, 28));
	cr_assert_arr_eq(out + 32, "hi", 2);
	cr_assert_eq(le32_load(out + 34), le32_load(out + 28) ^ DCLW_SEAL_XOR);
}

Test(wire, header_round_trip_and_refusals)
{
	struct dclw_header h = { .type = 0xff, .flags = 0xfe, .epoch = 0xfffd, .stream = UINT32_MAX,
				 .length = DCLW_PAYLOAD_MAX, .offset = UINT64_MAX, .arg = UINT32_MAX };
	struct dclw_header got;
	uint8_t b[DCLW_HEADER_SIZE];

	wire_header_encode(b, &h);
	cr_assert(wire_header_decode(b, &got));
	cr_expect_eq(got.type, h.type);
	cr_expect_eq(got.flags, h.flags);
	cr_expect_eq(got.epoch, h.epoch);
	cr_expect_eq(got.stream, h.stream);
	cr_expect_eq(got.length, h.length);
	cr_expect_eq(got.offset, h.offset);
	cr_expect_eq(got.arg, h.arg);
	for (size_t bit = 0; bit < 8 * sizeof(b); bit++) {
		b[bit / 8] ^= (uint8_t)(1 << (bit % 8));
		cr_expect_not(wire_header_decode(b, &got), "bit %zu", bit);
		b[bit / 8] ^= (uint8_t)(1 << (bit % 8));
	}
	h.length = DCLW_PAYLOAD_MAX + 1;
	wire_header_encode(b, &h);
	cr_expect_not(wire_header_decode(b, &got), "oversize with a good sum");
}

Test(wire, put_refuses_what_does_not_fit)
{
	static uint8_t out[2 * DCLW_FRAME_MAX], payload[DCLW_FRAME_MAX];
	struct dclw_header h = { .type = DCLW_DATA, .length = DCLW_PAYLOAD_MAX };

	cr_expect_eq(wire_frame_put(out, DCLW_FRAME_MAX, &h, payload), DCLW_FRAME_MAX);
	cr_expect_eq(wire_frame_put(out, DCLW_FRAME_MAX - 1, &h, payload), 0);
	h.length++;
	cr_expect_eq(wire_frame_put(out, sizeof(out), &h, payload), 0);
}

Test(wire, iov_is_the_same_frame)
{
	uint8_t whole[64], parts[64];
	struct dclw_header h = { .type = DCLW_EVENT, .length = 3, .arg = 2 };
	struct wire_ends ends;
	struct iovec iov[3];
	size_t n = wire_frame_put(whole, sizeof(whole), &h, "abc"), at = 0;

	wire_frame_iov(iov, &ends, &h, "abc");
	for (int i = 0; i < 3; i++) {
		memcpy(parts + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	cr_assert_eq(at, n);
	cr_assert_arr_eq(parts, whole, n);
}

Test(wire, any_chunking_gives_the_same_frames)
{
	static uint8_t stream[3 * DCLW_FRAME_MAX], payload[DCLW_PAYLOAD_MAX];
	static const uint32_t lengths[] = { 0, 1, 7, 100, 4096, 20000, 0, 3 };
	static const size_t steps[] = { 1, 2, 3, 31, 32, 33, 35, 36, 37, 143, 4096, 32768, 100000 };
	size_t len = 0;

	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
		len += put(stream + len, DCLW_DATA, (uint32_t)i, i, payload, lengths[i]);
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		struct wire_decoder *d = fresh();
		struct dclw_header last = { 0 };

		cr_expect_eq(feed(d, stream, len, steps[i], &last), 8, "step %zu", steps[i]);
		cr_expect_eq(last.stream, 7);
		cr_expect_eq(d->bad_headers + d->bad_seals + d->skipped, 0);
		free(d);
	}
}

Test(wire, largest_frames_back_to_back)
{
	static uint8_t frame[DCLW_FRAME_MAX], payload[DCLW_PAYLOAD_MAX];
	struct wire_decoder *d = fresh();
	struct dclw_header last;
	size_t n = put(frame, DCLW_DATA, 1, 0, payload, DCLW_PAYLOAD_MAX);

	for (int i = 0; i < 20; i++)
		cr_expect_eq(feed(d, frame, n, 4096, &last), 1);
	cr_expect_eq(d->frames, 20);
	free(d);
}

Test(wire, padding_is_not_garbage)
{
	static uint8_t b[DCLW_PREAMBLE + 200];
	struct wire_decoder *d = fresh();
	struct dclw_header last;
	size_t len = put(b + DCLW_PREAMBLE, DCLW_HELLO, 0, 0, "x", 1);

	cr_expect_eq(feed(d, b, DCLW_PREAMBLE + len, 1000, &last), 1);
	cr_expect_eq(feed(d, b + DCLW_PREAMBLE - 3, len + 3, 1, &last), 1);
	cr_expect_eq(d->bad_headers + d->bad_seals + d->skipped, 0);
	free(d);
}

/* A session that dies at any byte, the preamble, and a new HELLO: it must be found, and nothing else. */
Test(wire, cut_at_every_byte_then_hello)
{
	static uint8_t first[400], second[DCLW_PREAMBLE + 100], payload[100];
	size_t len = 0, len2;

	memset(payload, 'D', sizeof(payload));
	len += put(first, DCLW_REQUEST, 0, 1, payload, sizeof(payload));
	len += put(first + len, DCLW_DATA, 9, 0, "DCLW", 4);
	len += put(first + len, DCLW_DATA, 9, 4, payload, sizeof(payload));
	len2 = DCLW_PREAMBLE + put(second + DCLW_PREAMBLE, DCLW_HELLO, 77, 0, "", 0);
	for (size_t cut = 0; cut <= len; cut++) {
		struct wire_decoder *d = fresh();
		struct dclw_header last = { 0 };
		unsigned int whole = (cut >= 136) + (cut >= 176) + (cut >= len);

		cr_expect_eq(feed(d, first, cut, 50, &last), whole, "cut %zu", cut);
		cr_expect_eq(feed(d, second, len2, 4096, &last), 1, "cut %zu", cut);
		cr_expect_eq(last.stream, 77, "cut %zu", cut);
		free(d);
	}
}

/* The other direction: a reader that connects in the middle of what was being sent. */
Test(wire, joins_at_every_byte)
{
	static uint8_t b[600], payload[100];
	size_t len = 0, end;

	memset(payload, 'D', sizeof(payload));
	len += put(b, DCLW_DATA, 1, 0, payload, sizeof(payload));
	end = len;
	len += put(b + len, DCLW_HELLO_ACK, 2, 0, payload, 20);
	for (size_t from = 1; from <= end; from++) {
		struct wire_decoder *d = fresh();
		struct dclw_header last = { 0 };

		cr_expect_eq(feed(d, b + from, len - from, 64, &last), 1, "from %zu", from);
		cr_expect_eq(last.type, DCLW_HELLO_ACK, "from %zu", from);
		/* zeros at the place of entry are padding */
		cr_expect_leq(d->skipped, end - from, "from %zu: %ju", from, (uintmax_t)d->skipped);
		free(d);
	}
}

Test(wire, bad_seal_drops_the_frame_and_finds_what_it_swallowed)
{
	uint8_t b[400], inner[100];
	struct wire_decoder *d = fresh();
	struct dclw_header last = { 0 };
	size_t n = put(inner, DCLW_HELLO, 5, 0, "new", 3);
	size_t len = put(b, DCLW_DATA, 4, 0, inner, (uint32_t)n);

	b[len - 1] ^= 1;
	cr_expect_eq(feed(d, b, len, len, &last), 1);
	cr_expect_eq(last.stream, 5);
	cr_expect_eq(d->bad_seals, 1);
	len = put(b, DCLW_PING, 6, 0, "", 0);
	cr_expect_eq(feed(d, b, len, 1, &last), 1);
	cr_expect_eq(last.stream, 6);
	free(d);
}

/* The same frame with a good seal is one frame: payload is never looked into. */
Test(wire, payload_is_opaque)
{
	uint8_t b[400], inner[100];
	struct wire_decoder *d = fresh();
	struct dclw_header last = { 0 };
	size_t n = put(inner, DCLW_HELLO, 5, 0, "new", 3);
	size_t len = put(b, DCLW_DATA, 4, 0, inner, (uint32_t)n);

	cr_expect_eq(feed(d, b, len, 3, &last), 1);
	cr_expect_eq(last.stream, 4);
	free(d);
}

Test(wire, garbage_before_a_frame)
{
	static const char *const garbage[] = {
		"x", "DCL", "DCLW", "DDCLW", "DCLDCLW", "DCLWDCLWDCLWDCLWDCLWDCLWDCLWDCLWDCLW",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	};
	uint8_t b[200];

	for (size_t i = 0; i < sizeof(garbage) / sizeof(*garbage); i++) {
		for (size_t step = 1; step < 40; step++) {
			struct wire_decoder *d = fresh();
			struct dclw_header last = { 0 };
			size_t n = strlen(garbage[i]), len;

			memcpy(b, garbage[i], n);
			len = n + put(b + n, DCLW_PING, 3, 0, "", 0);
			cr_expect_eq(feed(d, b, len, step, &last), 1, "%s step %zu", garbage[i], step);
			cr_expect_eq(d->bad_headers, 1);
			cr_expect_eq(d->skipped, n);
			free(d);
		}
	}
}

Test(wire, oversize_header_is_skipped)
{
	struct dclw_header h = { .type = DCLW_DATA, .length = UINT32_MAX };
	uint8_t b[200];
	struct wire_decoder *d = fresh();
	struct dclw_header last = { 0 };
	size_t len;

	wire_header_encode(b, &h);
	len = DCLW_HEADER_SIZE + put(b + DCLW_HEADER_SIZE, DCLW_PING, 3, 0, "", 0);
	cr_expect_eq(feed(d, b, len, 7, &last), 1);
	cr_expect_eq(last.stream, 3);
	cr_expect_eq(d->skipped, DCLW_HEADER_SIZE);
	free(d);
}

Test(wire, space_is_never_empty)
{
	struct wire_decoder *d = fresh();
	struct wire_frame f;
	uint32_t seed = 1;

	for (int i = 0; i < 20000; i++) {
		size_t room;
		uint8_t *p = wire_decoder_space(d, &room);

		cr_assert_geq(room, DCLW_FRAME_MAX / 2);
		seed = seed * 1664525u + 1013904223u;
		room = seed % room;
		memset(p, (int)(seed >> 24), room);
		wire_decoder_commit(d, room);
		while (wire_decoder_next(d, &f))
			;
	}
	free(d);
}
