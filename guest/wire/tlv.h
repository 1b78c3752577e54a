/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tag-length-value lists: a bounded writer and a checking reader (guest/PROTOCOL.md §6).
 *
 * The writer's error is sticky: a caller puts everything and looks once, at the end. The reader hands out
 * pointers into the message; the typed getters refuse a wrong length instead of guessing.
 */
#ifndef DCLW_TLV_H
#define DCLW_TLV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/proto.h"

#define WIRE_TLV_HEADER 8u

struct wire_writer {
	uint8_t *buf;
	size_t size, len;
	int error;		/* 0 or -ENOBUFS; nothing is put after the first failure */
};

void wire_writer_init(struct wire_writer *w, void *buf, size_t size);
void wire_put_u32(struct wire_writer *w, uint16_t tag, uint32_t value);
void wire_put_u64(struct wire_writer *w, uint16_t tag, uint64_t value);
void wire_put_str(struct wire_writer *w, uint16_t tag, const char *s);
void wire_put_bytes(struct wire_writer *w, uint16_t tag, const void *data, size_t len);
/* The TLVs of inner as the value of one TLV; inner's error becomes w's. */
void wire_put_nested(struct wire_writer *w, uint16_t tag, const struct wire_writer *inner);
/* The same without a second buffer: begin returns a mark, what is put then is inside until end. */
size_t wire_nest_begin(struct wire_writer *w, uint16_t tag);
void wire_nest_end(struct wire_writer *w, size_t mark);
/* Bytes as they are, no tag: the u16 operation at the head of a REQUEST. */
void wire_put_raw(struct wire_writer *w, const void *data, size_t len);

struct wire_reader {
	const uint8_t *pos;
	size_t left;
};

void wire_reader_init(struct wire_reader *r, const void *data, size_t len);
/* 1: one TLV; 0: the end; -EBADMSG: malformed, and the same again on every further call. */
int wire_next(struct wire_reader *r, uint16_t *ret_tag, const uint8_t **ret_data, size_t *ret_len);
/* Whole message well formed? (The values are not looked at.) */
bool wire_well_formed(const void *data, size_t len);
/* First TLV with that tag: 1 found, 0 absent, -EBADMSG malformed before it was found. */
int wire_find(const void *data, size_t len, uint16_t tag, const uint8_t **ret_data, size_t *ret_len);

/* Typed getters over what wire_next() returned: 0, or -EBADMSG when the length is wrong. */
int wire_get_u32(const uint8_t *data, size_t len, uint32_t *ret);
int wire_get_u64(const uint8_t *data, size_t len, uint64_t *ret);
/* Copies and terminates. -EBADMSG: contains NUL; -ENAMETOOLONG: does not fit size with its terminator. */
int wire_get_str(const uint8_t *data, size_t len, char *buf, size_t size);

#endif
