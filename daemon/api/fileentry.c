/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entries of directories and watches, see fileentry.h. */
#include "api/fileentry.h"

#include <string.h>

#define ENTRY_WINDOW (64u << 10)

/* --- JSON --- */

static int put_escaped(struct buf *b, const char *key, const char *text, size_t len)
{
	struct json_escape_state state = { 0 };
	int r = buf_printf(b, "\"%s\":\"", key);

	if (r == 0)
		r = json_escape_append(b, &state, text, len);
	if (r == 0)
		r = json_escape_append(b, &state, NULL, 0);
	return r < 0 ? r : buf_puts(b, "\"");
}

int fileentry_path(struct buf *b, const char *key, const char *path)
{
	return put_escaped(b, key, path, strlen(path));
}

/* The last component, without slashes behind it; that of "/" is "/". */
static void last_component(const char *path, const char **ret, size_t *ret_len)
{
	size_t end = strlen(path), start;

	while (end > 1 && path[end - 1] == '/')
		end--;
	start = end;
	while (start > 0 && path[start - 1] != '/')
		start--;
	if (start == end)
		start = end - (end > 0);
	*ret = path + start;
	*ret_len = end - start;
}

int fileentry_json(struct buf *b, const char *path, const struct agent_file_info *info)
{
	bool dir = info->type == AGENT_FILE_DIR;
	const char *name;
	size_t len;
	int r;

	path = path ?: info->path ?: "";
	last_component(path, &name, &len);
	r = buf_puts(b, "{");
	if (r == 0)
		r = put_escaped(b, "name", name, len);
	if (r == 0)
		r = buf_puts(b, ",");
	if (r == 0)
		r = put_escaped(b, "path", path, strlen(path));
	/* Two words only, the SDKs know no other; directories have no size */
	return r < 0 ? r : buf_printf(b, ",\"type\":\"%s\",\"size\":%llu}", dir ? "dir" : "file",
				      dir ? 0ull : (unsigned long long)info->size);
}

/* --- the stream --- */

static void on_data(void *userdata, uint64_t offset _unused_, const uint8_t *data, size_t len)
{
	struct fileentry_reader *fr = userdata;

	if (fr->at > 0) {
		memmove(fr->pending.data, fr->pending.data + fr->at, fr->pending.len - fr->at);
		fr->pending.len -= fr->at;
		fr->at = 0;
	}
	if (buf_append(&fr->pending, data, len) < 0)
		fr->error = -ENOMEM;
	fr->more(fr->userdata);
}

static void on_end(void *userdata, int error)
{
	struct fileentry_reader *fr = userdata;

	fr->ended = true;
	fr->error = fr->error ?: error;
	fr->more(fr->userdata);
}

int fileentry_open(struct fileentry_reader *fr, struct agent *a, void (*more)(void *userdata), void *userdata)
{
	static const struct agent_stream_ops ops = { .data = on_data, .end = on_end };

	*fr = (struct fileentry_reader){ .pending = BUF_INIT(2 * ENTRY_WINDOW), .more = more, .userdata = userdata };
	return agent_stream_open(a, AGENT_STREAM_IN, ENTRY_WINDOW, &ops, fr, &fr->stream);
}

void fileentry_done(struct fileentry_reader *fr)
{
	fr->stream = agent_stream_free(fr->stream);
	buf_done(&fr->pending);
	fr->at = 0;
}

int fileentry_next(struct fileentry_reader *fr, struct agent_file_info *ret, char *path_buf, size_t path_size)
{
	size_t left = fr->pending.len - fr->at, len;
	const uint8_t *pos;
	ssize_t n;
	int r;

	if (left == 0)
		return fr->error > 0 ? -EIO : fr->error;
	pos = (const uint8_t *)fr->pending.data + fr->at;
	n = agent_file_entry_size(pos, left);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return fr->ended ? -EBADMSG : 0;
	len = (size_t)n;
	r = agent_file_entry_next(&pos, &len, ret, path_buf, path_size);
	fr->at += (size_t)n;
	agent_stream_consumed(fr->stream, (size_t)n);
	return r == 0 ? -EBADMSG : r;
}
