/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame codec. See frame.h for the decoder's states and guest/PROTOCOL.md §2 for the reasons.
 *
 * The decoder never moves bytes unless the free tail of its buffer gets small, and what it moves then is
 * an unfinished frame: at most one move per frame. Garbage is skipped by memchr() and zero padding by
 * words, because the preamble of a session is 32 KiB of zeros.
 */
#include <string.h>

#include "wire/crc32c.h"
#include "wire/frame.h"
#include "wire/le.h"

#define SUMMED (DCLW_HEADER_SIZE - 4)
/* Below this much free tail the unread bytes move to the front. */
#define TAIL_MIN (DCLW_FRAME_MAX / 2)

_Static_assert(DCLW_HEADER_SIZE == 32 && DCLW_SEAL_SIZE == 4, "offsets below are written out");

void wire_header_encode(uint8_t out[static DCLW_HEADER_SIZE], const struct dclw_header *h)
{
	le32_store(out, DCLW_MAGIC);
	out[4] = h->type;
	out[5] = h->flags;
	le16_store(out + 6, h->epoch);
	le32_store(out + 8, h->stream);
	le32_store(out + 12, h->length);
	le64_store(out + 16, h->offset);
	le32_store(out + 24, h->arg);
	le32_store(out + 28, crc32c(out, SUMMED));
}

bool wire_header_decode(const uint8_t in[static DCLW_HEADER_SIZE], struct dclw_header *ret)
{
	if (le32_load(in) != DCLW_MAGIC || le32_load(in + 12) > DCLW_PAYLOAD_MAX)
		return false;
	if (le32_load(in + 28) != crc32c(in, SUMMED))
		return false;
	*ret = (struct dclw_header) {
		.type = in[4],
		.flags = in[5],
		.epoch = le16_load(in + 6),
		.stream = le32_load(in + 8),
		.length = le32_load(in + 12),
		.offset = le64_load(in + 16),
		.arg = le32_load(in + 24),
	};
	return true;
}

void wire_seal(uint8_t out[static DCLW_SEAL_SIZE], const uint8_t header[static DCLW_HEADER_SIZE])
{
	le32_store(out, le32_load(header + 28) ^ DCLW_SEAL_XOR);
}

void wire_frame_iov(struct iovec iov[static 3], struct wire_ends *ends, const struct dclw_header *h,
		    const void *payload)
{
	wire_header_encode(ends->head, h);
	wire_seal(ends->seal, ends->head);
	iov[0] = (struct iovec) { .iov_base = ends->head, .iov_len = sizeof(ends->head) };
	iov[1] = (struct iovec) { .iov_base = (void *)(uintptr_t)payload, .iov_len = h->length };
	iov[2] = (struct iovec) { .iov_base = ends->seal, .iov_len = sizeof(ends->seal) };
}

size_t wire_frame_put(uint8_t *out, size_t size, const struct dclw_header *h, const void *payload)
{
	size_t total = wire_frame_size(h);

	if (h->length > DCLW_PAYLOAD_MAX || total > size)
		return 0;
	wire_header_encode(out, h);
	if (payload && h->length > 0)
		memcpy(out + DCLW_HEADER_SIZE, payload, h->length);
	wire_seal(out + DCLW_HEADER_SIZE + h->length, out);
	return total;
}

void wire_decoder_init(struct wire_decoder *d)
{
	d->state = WIRE_SYNCED;
	d->start = d->end = d->wanted = 0;
	d->frames = d->bad_headers = d->bad_seals = d->skipped = 0;
}

uint8_t *wire_decoder_space(struct wire_decoder *d, size_t *ret_room)
{
	if (d->start == d->end) {
		d->start = d->end = 0;
	} else if (d->start > 0 && sizeof(d->buf) - d->end < TAIL_MIN) {
		memmove(d->buf, d->buf + d->start, d->end - d->start);
		d->end -= d->start;
		d->start = 0;
	}
	*ret_room = sizeof(d->buf) - d->end;
	return d->buf + d->end;
}

void wire_decoder_commit(struct wire_decoder *d, size_t len)
{
	size_t room = sizeof(d->buf) - d->end;

	d->end += len < room ? len : room;
}

size_t wire_decoder_push(struct wire_decoder *d, const void *data, size_t len)
{
	size_t room;
	uint8_t *space = wire_decoder_space(d, &room);

	if (len > room)
		len = room;
	if (len > 0)
		memcpy(space, data, len);
	d->end += len;
	return len;
}

static void skip_padding(struct wire_decoder *d)
{
	while (d->end - d->start >= 8 && le64_load(d->buf + d->start) == 0)
		d->start += 8;
	while (d->start < d->end && d->buf[d->start] == 0)
		d->start++;
}

/* Moves on to the next place where a magic stands or may be beginning to stand. */
static void skip_garbage(struct wire_decoder *d)
{
	uint8_t magic[4];

	le32_store(magic, DCLW_MAGIC);
	while (d->start < d->end) {
		const uint8_t *from = d->buf + d->start;
		const uint8_t *hit = memchr(from, magic[0], d->end - d->start);
		size_t left;

		if (!hit) {
			d->skipped += d->end - d->start;
			d->start = d->end;
			return;
		}
		d->skipped += (size_t)(hit - from);
		d->start += (size_t)(hit - from);
		left = d->end - d->start;
		if (memcmp(hit, magic, left < 4 ? left : 4) == 0)
			return;
		d->start++;
		d->skipped++;
	}
}

/* The header at d->start is not one: go on scanning behind its first byte. */
static void lose_header(struct wire_decoder *d)
{
	if (d->state == WIRE_SYNCED)
		d->bad_headers++;
	d->state = WIRE_LOST;
	d->start++;
	d->skipped++;
}

bool wire_decoder_next(struct wire_decoder *d, struct wire_frame *ret)
{
	for (;;) {
		const uint8_t *at;
		uint8_t seal[DCLW_SEAL_SIZE];

		/* A virtio port gives a page at a time: its header is not looked at with each of them. */
		if (d->end - d->start < d->wanted)
			return false;
		d->wanted = 0;
		if (d->state == WIRE_SYNCED)
			skip_padding(d);
		else
			skip_garbage(d);
		at = d->buf + d->start;
		/* A wrong magic is known early; waiting for 32 bytes could wait for ever. */
		if (d->end - d->start >= 4 && le32_load(at) != DCLW_MAGIC) {
			lose_header(d);
			continue;
		}
		if (d->end - d->start < DCLW_HEADER_SIZE)
			return false;
		if (!wire_header_decode(at, &ret->header)) {
			lose_header(d);
			continue;
		}
		if (d->end - d->start < wire_frame_size(&ret->header)) {
			d->wanted = wire_frame_size(&ret->header);
			return false;
		}
		wire_seal(seal, at);
		if (memcmp(at + DCLW_HEADER_SIZE + ret->header.length, seal, sizeof(seal)) != 0) {
			d->bad_seals++;
			d->state = WIRE_LOST;
			d->start += DCLW_HEADER_SIZE;
			continue;
		}
		d->state = WIRE_SYNCED;
		d->frames++;
		ret->payload = at + DCLW_HEADER_SIZE;
		d->start += wire_frame_size(&ret->header);
		return true;
	}
}
