/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLV lists. Value lengths are compared with what is left before any pointer moves, so no arithmetic on
 * a length from the wire can wrap.
 */
#include <errno.h>
#include <string.h>

#include "wire/le.h"
#include "wire/tlv.h"

void wire_writer_init(struct wire_writer *w, void *buf, size_t size)
{
	*w = (struct wire_writer) { .buf = buf, .size = size };
}

static uint8_t *reserve(struct wire_writer *w, size_t len)
{
	uint8_t *p;

	if (w->error)
		return NULL;
	if (len > w->size - w->len) {
		w->error = -ENOBUFS;
		return NULL;
	}
	p = w->buf + w->len;
	w->len += len;
	return p;
}

static uint8_t *put_header(struct wire_writer *w, uint16_t tag, size_t len)
{
	uint8_t *p;

	if (len > DCLW_REQUEST_MAX)
		len = w->size;		/* cannot fit: makes reserve() fail */
	p = reserve(w, WIRE_TLV_HEADER + len);
	if (!p)
		return NULL;
	le16_store(p, tag);
	le16_store(p + 2, 0);
	le32_store(p + 4, (uint32_t)len);
	return p + WIRE_TLV_HEADER;
}

void wire_put_raw(struct wire_writer *w, const void *data, size_t len)
{
	uint8_t *p = reserve(w, len);

	if (p && len > 0)
		memcpy(p, data, len);
}

void wire_put_bytes(struct wire_writer *w, uint16_t tag, const void *data, size_t len)
{
	uint8_t *p = put_header(w, tag, len);

	if (p && len > 0)
		memcpy(p, data, len);
}

void wire_put_u32(struct wire_writer *w, uint16_t tag, uint32_t value)
{
	uint8_t *p = put_header(w, tag, sizeof(value));

	if (p)
		le32_store(p, value);
}

void wire_put_u64(struct wire_writer *w, uint16_t tag, uint64_t value)
{
	uint8_t *p = put_header(w, tag, sizeof(value));

	if (p)
		le64_store(p, value);
}

void wire_put_str(struct wire_writer *w, uint16_t tag, const char *s)
{
	wire_put_bytes(w, tag, s, strlen(s));
}

void wire_put_nested(struct wire_writer *w, uint16_t tag, const struct wire_writer *inner)
{
	if (inner->error && !w->error)
		w->error = inner->error;
	wire_put_bytes(w, tag, inner->buf, inner->len);
}

size_t wire_nest_begin(struct wire_writer *w, uint16_t tag)
{
	put_header(w, tag, 0);
	return w->len;
}

void wire_nest_end(struct wire_writer *w, size_t mark)
{
	if (!w->error)
		le32_store(w->buf + mark - 4, (uint32_t)(w->len - mark));
}

void wire_reader_init(struct wire_reader *r, const void *data, size_t len)
{
	*r = (struct wire_reader) { .pos = data, .left = len };
}

int wire_next(struct wire_reader *r, uint16_t *ret_tag, const uint8_t **ret_data, size_t *ret_len)
{
	uint32_t len;

	if (r->left == 0)
		return 0;
	if (r->left < WIRE_TLV_HEADER || le16_load(r->pos + 2) != 0)
		return -EBADMSG;
	len = le32_load(r->pos + 4);
	if (len > r->left - WIRE_TLV_HEADER)
		return -EBADMSG;
	*ret_tag = le16_load(r->pos);
	*ret_data = r->pos + WIRE_TLV_HEADER;
	*ret_len = len;
	r->pos += WIRE_TLV_HEADER + len;
	r->left -= WIRE_TLV_HEADER + len;
	return 1;
}

bool wire_well_formed(const void *data, size_t len)
{
	const uint8_t *value;
	size_t value_len;
	uint16_t tag;
	struct wire_reader r;
	int ret;

	wire_reader_init(&r, data, len);
	while ((ret = wire_next(&r, &tag, &value, &value_len)) > 0)
		;
	return ret == 0;
}

int wire_find(const void *data, size_t len, uint16_t tag, const uint8_t **ret_data, size_t *ret_len)
{
	const uint8_t *value;
	size_t value_len;
	uint16_t found;
	struct wire_reader r;
	int ret;

	wire_reader_init(&r, data, len);
	while ((ret = wire_next(&r, &found, &value, &value_len)) > 0) {
		if (found != tag)
			continue;
		*ret_data = value;
		*ret_len = value_len;
		return 1;
	}
	return ret;
}

int wire_get_u32(const uint8_t *data, size_t len, uint32_t *ret)
{
	if (len != sizeof(*ret))
		return -EBADMSG;
	*ret = le32_load(data);
	return 0;
}

int wire_get_u64(const uint8_t *data, size_t len, uint64_t *ret)
{
	if (len != sizeof(*ret))
		return -EBADMSG;
	*ret = le64_load(data);
	return 0;
}

int wire_get_str(const uint8_t *data, size_t len, char *buf, size_t size)
{
	if (len > 0 && memchr(data, 0, len))
		return -EBADMSG;
	if (len >= size)
		return -ENAMETOOLONG;
	if (len > 0)
		memcpy(buf, data, len);
	buf[len] = 0;
	return 0;
}
