/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Typed operations on files. Paths are bytes: they may be anything but NUL, and a path from the
 * guest is only copied within bounds; what may be shown to a user is decided where it is shown.
 */
#include <string.h>

#include "agent/ops.h"
#include "wire/le.h"

#define PATH_BYTES 4096u
/* Two paths, a user name and numbers. */
#define FILE_PAYLOAD (2 * (PATH_BYTES + WIRE_TLV_HEADER) + 512)

_Static_assert((int)AGENT_FILE_DIR == (int)DCLW_FT_DIR &&
		       (int)AGENT_FILE_OTHER == (int)DCLW_FT_OTHER &&
		       (int)AGENT_CHANGE_CREATE == (int)DCLW_CHANGE_CREATE &&
		       (int)AGENT_CHANGE_OVERFLOW == (int)DCLW_CHANGE_OVERFLOW,
	       "agent.h says what the wire says");

static int info_tag(struct agent_file_info *i, char *path, size_t size, uint16_t tag,
		    const uint8_t *data, size_t len)
{
	uint32_t created;
	int r;

	switch (tag) {
	case DCLW_TAG_PATH:
		i->path = path;
		return wire_get_str(data, len, path, size);
	case DCLW_TAG_TYPE:
		r = wire_get_u32(data, len, &i->type);
		return r < 0 ? r : i->type > DCLW_FT_OTHER ? -EBADMSG : 0;
	case DCLW_TAG_MODE:
		return wire_get_u32(data, len, &i->mode);
	case DCLW_TAG_UID:
		return wire_get_u32(data, len, &i->uid);
	case DCLW_TAG_GID:
		return wire_get_u32(data, len, &i->gid);
	case DCLW_TAG_SIZE:
		return wire_get_u64(data, len, &i->size);
	case DCLW_TAG_MTIME:
		return wire_get_u64(data, len, &i->mtime_nsec);
	case DCLW_TAG_CHANGE:
		r = wire_get_u32(data, len, &i->change);
		return r < 0 ? r : i->change > DCLW_CHANGE_OVERFLOW ? -EBADMSG : 0;
	case DCLW_TAG_CREATED:
		r = wire_get_u32(data, len, &created);
		if (r == 0)
			i->created = created != 0;
		return r;
	default:
		return 0;
	}
}

static int parse_info(const uint8_t *value, size_t value_len, struct agent_file_info *ret,
		      char *path, size_t size)
{
	struct wire_reader rd;
	const uint8_t *data;
	uint16_t tag;
	size_t len;
	int r;

	*ret = (struct agent_file_info) { 0 };
	wire_reader_init(&rd, value, value_len);
	while ((r = wire_next(&rd, &tag, &data, &len)) > 0) {
		r = info_tag(ret, path, size, tag, data, len);
		if (r < 0)
			return r;
	}
	return r;
}

static void on_file(struct agent_request *r, int error, const uint8_t *reply, size_t len)
{
	struct agent_file_info info;
	char path[PATH_BYTES];

	if (error == 0)
		error = parse_info(reply, len, &info, path, sizeof(path));
	if (r->fn.file)
		r->fn.file(r->userdata, error, error ? NULL : &info);
}

static int send_file(struct agent *a, uint16_t op, const struct wire_writer *w,
		     struct agent_stream *stream, agent_file_fn fn, void *userdata)
{
	struct agent_stream *streams[REQUEST_STREAMS] = { stream };
	struct agent_request *rq;
	int r = op_send(a, op, w, on_file, userdata, streams, &rq);

	/* A path that does not fit could not exist either. */
	if (r < 0)
		return r == -E2BIG ? -ENAMETOOLONG : r;
	rq->fn.file = fn;
	return 0;
}

static void put_user(struct wire_writer *w, const char *user)
{
	if (user)
		wire_put_str(w, DCLW_TAG_USER, user);
}

int agent_file_read(struct agent *a, const char *path, const char *user, struct agent_stream *in,
		    agent_file_fn fn, void *userdata)
{
	OP_WRITER(w, FILE_PAYLOAD);

	wire_put_str(&w, DCLW_TAG_PATH, path);
	wire_put_u32(&w, DCLW_TAG_STREAM, in->id);
	put_user(&w, user);
	return send_file(a, DCLW_OP_FILE_READ, &w, in, fn, userdata);
}

int agent_file_write(struct agent *a, const char *path, const char *user, uint32_t mode,
		     struct agent_stream *out, agent_file_fn fn, void *userdata)
{
	OP_WRITER(w, FILE_PAYLOAD);

	wire_put_str(&w, DCLW_TAG_PATH, path);
	wire_put_u32(&w, DCLW_TAG_STREAM, out->id);
	put_user(&w, user);
	if (mode)
		wire_put_u32(&w, DCLW_TAG_MODE, mode);
	return send_file(a, DCLW_OP_FILE_WRITE, &w, out, fn, userdata);
}

int agent_file_stat(struct agent *a, const char *path, agent_file_fn fn, void *userdata)
{
	OP_WRITER(w, FILE_PAYLOAD);

	wire_put_str(&w, DCLW_TAG_PATH, path);
	return send_file(a, DCLW_OP_FILE_STAT, &w, NULL, fn, userdata);
}

int agent_file_mkdir(struct agent *a, const char *path, const char *user, agent_file_fn fn,
		     void *userdata)
{
	OP_WRITER(w, FILE_PAYLOAD);

	wire_put_str(&w, DCLW_TAG_PATH, path);
	put_user(&w, user);
	return send_file(a, DCLW_OP_FILE_MKDIR, &w, NULL, fn, userdata);
}

int agent_file_rename(struct agent *a, const char *from, const char *to, const char *user,
		      agent_file_fn fn, void *userdata)
{
	OP_WRITER(w, FILE_PAYLOAD);

	wire_put_str(&w, DCLW_TAG_PATH, from);
	wire_put_str(&w, DCLW_TAG_PATH2, to);
	put_user(&w, user);
	return send_file(a, DCLW_OP_FILE_RENAME, &w, NULL, fn, userdata);
}

static int send_done(struct agent *a, uint16_t op, const struct wire_writer *w,
		     struct agent_stream *in, agent_done_fn fn, void *userdata)
{
	struct agent_stream *streams[REQUEST_STREAMS] = { in };
	int r = op_send_done(a, op, w, fn, userdata, streams);

	return r == -E2BIG ? -ENAMETOOLONG : r;
}

int agent_file_remove(struct agent *a, const char *path, agent_done_fn fn, void *userdata)
{
	OP_WRITER(w, FILE_PAYLOAD);

	wire_put_str(&w, DCLW_TAG_PATH, path);
	return send_done(a, DCLW_OP_FILE_REMOVE, &w, NULL, fn, userdata);
}

int agent_file_list(struct agent *a, const char *path, uint32_t depth, struct agent_stream *in,
		    agent_done_fn fn, void *userdata)
{
	OP_WRITER(w, FILE_PAYLOAD);

	wire_put_str(&w, DCLW_TAG_PATH, path);
	wire_put_u32(&w, DCLW_TAG_DEPTH, depth);
	wire_put_u32(&w, DCLW_TAG_STREAM, in->id);
	return send_done(a, DCLW_OP_FILE_LIST, &w, in, fn, userdata);
}

int agent_file_watch(struct agent *a, const char *path, bool recursive, struct agent_stream *in,
		     agent_done_fn fn, void *userdata)
{
	OP_WRITER(w, FILE_PAYLOAD);

	wire_put_str(&w, DCLW_TAG_PATH, path);
	wire_put_u32(&w, DCLW_TAG_RECURSIVE, recursive);
	wire_put_u32(&w, DCLW_TAG_STREAM, in->id);
	return send_done(a, DCLW_OP_FILE_WATCH, &w, in, fn, userdata);
}

int agent_file_entry_next(const uint8_t **pos, size_t *len, struct agent_file_info *ret,
			  char *path_buf, size_t path_size)
{
	struct wire_reader rd;
	const uint8_t *data;
	uint16_t tag;
	size_t n;
	int r;

	wire_reader_init(&rd, *pos, *len);
	do
		r = wire_next(&rd, &tag, &data, &n);
	while (r > 0 && tag != DCLW_TAG_ENTRY);
	*pos = rd.pos;
	*len = rd.left;
	if (r <= 0)
		return r;
	r = parse_info(data, n, ret, path_buf, path_size);
	return r < 0 ? r : ret->path ? 1 : -EBADMSG;
}

ssize_t agent_file_entry_size(const uint8_t *data, size_t len)
{
	uint32_t n;

	if (len < WIRE_TLV_HEADER)
		return 0;
	n = le32_load(data + 4);
	if (le16_load(data + 2) != 0 || n > DCLW_PAYLOAD_MAX)
		return -EBADMSG;
	return len >= WIRE_TLV_HEADER + n ? (ssize_t)(WIRE_TLV_HEADER + n) : 0;
}
