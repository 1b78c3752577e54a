/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames: encoding, and an incremental decoder that survives splices (guest/PROTOCOL.md §2).
 *
 * Nothing here allocates or does I/O. A decoder owns one buffer of a few frames; the caller reads from the
 * channel straight into it:
 *
 *	p = wire_decoder_space(&d, &room);
 *	n = read(fd, p, room);
 *	wire_decoder_commit(&d, n);
 *	while (wire_decoder_next(&d, &frame))
 *		handle(&frame);
 *
 * A frame's payload points into that buffer and is valid until the next wire_decoder_space() or
 * wire_decoder_push().
 */
#ifndef DCLW_FRAME_H
#define DCLW_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "wire/proto.h"

/*
 * SYNCED: at a frame's first byte; zero bytes are skipped, a good header begins a frame, anything else
 *         leads to LOST.
 * LOST:   bytes are dropped up to the next magic whose header is good; that leads to SYNCED.
 * A bad seal leads to LOST and the scan starts right behind the header that lied, because the beginning
 * of the spliced-in session may lie in what was taken for payload.
 */
enum wire_state { WIRE_SYNCED, WIRE_LOST };

struct wire_decoder {
	/* First, so that it begins where the decoder does: whoever cares for pages has a decoder that begins with one. More
	 * than two frames: an unfinished one is moved to the front that much more rarely. */
	uint8_t buf[4 * DCLW_FRAME_MAX];
	enum wire_state state;
	size_t start, end;		/* unread bytes: buf[start..end) */
	size_t wanted;			/* bytes that must be there before it is worth looking */
	uint64_t frames;		/* good ones */
	uint64_t bad_headers;		/* SYNCED left because of no or a bad header */
	uint64_t bad_seals;
	uint64_t skipped;		/* bytes dropped while LOST */
};

struct wire_frame {
	struct dclw_header header;
	const uint8_t *payload;		/* header.length bytes */
};

/* Empties the decoder; the counters begin at zero. A fresh connection may start in the middle of a
 * frame, which is an ordinary loss and needs no preparation. */
void wire_decoder_init(struct wire_decoder *d);
/* Where to read to; never without room after wire_decoder_next() has returned false. */
uint8_t *wire_decoder_space(struct wire_decoder *d, size_t *ret_room);
void wire_decoder_commit(struct wire_decoder *d, size_t len);
/* Copying form of the two above: returns the bytes taken, at most len. */
size_t wire_decoder_push(struct wire_decoder *d, const void *data, size_t len);
/* true: *ret is a frame with a good header and seal. false: more bytes are needed. */
bool wire_decoder_next(struct wire_decoder *d, struct wire_frame *ret);

/* header.length is not checked against DCLW_PAYLOAD_MAX: the caller must keep it. */
void wire_header_encode(uint8_t out[static DCLW_HEADER_SIZE], const struct dclw_header *h);
/* false: wrong magic, sum or a length above DCLW_PAYLOAD_MAX. */
bool wire_header_decode(const uint8_t in[static DCLW_HEADER_SIZE], struct dclw_header *ret);
/* The seal that closes the frame of an encoded header. */
void wire_seal(uint8_t out[static DCLW_SEAL_SIZE], const uint8_t header[static DCLW_HEADER_SIZE]);

/* Bytes of a frame on the wire. */
static inline size_t wire_frame_size(const struct dclw_header *h)
{
	return DCLW_HEADER_SIZE + (size_t)h->length + DCLW_SEAL_SIZE;
}

/* For writev() without copying the payload: head and seal must live as long as iov is used. The payload
 * may be NULL when h->length is 0; the middle element then has length 0. */
struct wire_ends {
	uint8_t head[DCLW_HEADER_SIZE];
	uint8_t seal[DCLW_SEAL_SIZE];
};
void wire_frame_iov(struct iovec iov[static 3], struct wire_ends *ends, const struct dclw_header *h,
		    const void *payload);

/* For one contiguous write: header, payload (may be NULL: the caller fills the gap itself) and seal are
 * put at out. Returns the frame's size, or 0 when it is larger than size or than DCLW_FRAME_MAX. */
size_t wire_frame_put(uint8_t *out, size_t size, const struct dclw_header *h, const void *payload);

#endif
