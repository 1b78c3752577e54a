/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes into the frame decoder, whole and in pieces: the same frames must come out, each inside the
 * limits, and a good frame put behind whatever went before, with a preamble, must be found. Payloads go
 * through the TLV reader.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz-main.h"
#include "wire/crc32c.h"
#include "wire/frame.h"
#include "wire/tlv.h"

#define MUST(x) ((x) ? (void)0 : abort())

struct digest {
	uint32_t sum;
	unsigned int frames;
};

static void walk_tlvs(const uint8_t *p, size_t len, unsigned int depth)
{
	struct wire_reader r;
	const uint8_t *data;
	size_t n;
	uint16_t tag;
	char text[16];

	wire_reader_init(&r, p, len);
	while (wire_next(&r, &tag, &data, &n) > 0) {
		MUST(data >= p && data + n <= p + len);
		if (wire_get_str(data, n, text, sizeof(text)) == 0)
			MUST(strlen(text) == n);
		if (depth < 4)
			walk_tlvs(data, n, depth + 1);
	}
}

static void take(struct wire_decoder *d, struct digest *g)
{
	struct wire_frame f;
	uint8_t head[DCLW_HEADER_SIZE];

	while (wire_decoder_next(d, &f)) {
		MUST(f.header.length <= DCLW_PAYLOAD_MAX);
		wire_header_encode(head, &f.header);
		g->sum = g->sum * 31 + crc32c(head, sizeof(head)) + crc32c(f.payload, f.header.length);
		g->frames++;
		walk_tlvs(f.payload, f.header.length, 0);
	}
}

static void run(struct wire_decoder *d, const uint8_t *p, size_t len, size_t step, struct digest *g)
{
	while (len > 0) {
		size_t n = wire_decoder_push(d, p, len < step ? len : step);

		MUST(n > 0);
		p += n;
		len -= n;
		take(d, g);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct wire_decoder whole, pieces;
	static const uint8_t preamble[DCLW_PREAMBLE];
	const struct dclw_header hello = { .type = DCLW_HELLO, .stream = 0x48454c4f };
	uint8_t last[DCLW_HEADER_SIZE + DCLW_SEAL_SIZE];
	struct digest a = { 0 }, b = { 0 };
	unsigned int before;

	wire_decoder_init(&whole);
	wire_decoder_init(&pieces);
	run(&whole, data, size, SIZE_MAX, &a);
	run(&pieces, data, size, 1 + (size ? data[0] % 37 : 0), &b);
	MUST(a.sum == b.sum && a.frames == b.frames);
	MUST(whole.bad_seals == pieces.bad_seals && whole.bad_headers == pieces.bad_headers);
	run(&whole, preamble, sizeof(preamble), SIZE_MAX, &a);
	before = a.frames;
	MUST(wire_frame_put(last, sizeof(last), &hello, NULL) == sizeof(last));
	run(&whole, last, sizeof(last), 5, &a);
	MUST(a.frames == before + 1);
	return 0;
}
