/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * {"stdout":"...","stderr":"...","exit_code":N} of an ended process.
 *
 * The text is made from the spool piece by piece: stdout is escaped on a first walk, stderr on a second, so a command
 * that printed 60 MiB costs one chunk of memory. Text that fits one answer goes out with a Content-Length.
 */
#include <string.h>

#include "api/api.h"

#define CHUNK_MAX (6u * SPOOL_ENTRY_MAX + 256u)	/* one entry, every byte escaped as \u00XX */
#define SMALL_MAX (256u << 10)

enum stage { STAGE_HEAD, STAGE_STDOUT, STAGE_MIDDLE, STAGE_STDERR, STAGE_TAIL, STAGE_DONE };

struct outjson {
	struct http_request *req;
	struct proc *p;
	struct spool_cursor cursor;
	struct json_escape_state escape;
	enum stage stage;
	struct buf pending;
	size_t sent;
	bool streaming;
	uint8_t entry[SPOOL_ENTRY_MAX];
};

static void outjson_free(struct outjson *j)
{
	proc_unref(j->p);
	buf_done(&j->pending);
	free(j);
}

static int walk(struct outjson *j, enum spool_stream stream)
{
	struct spool_entry e;
	int r = spool_read(j->p->spool, &j->cursor, &e, j->entry);

	if (r > 0 && e.stream == stream)
		return json_escape_append(&j->pending, &j->escape, j->entry, e.len);
	if (r == 0) {
		memset(&j->cursor, 0, sizeof(j->cursor));
		j->stage++;
		return json_escape_append(&j->pending, &j->escape, NULL, 0);
	}
	return r < 0 ? r : 0;
}

/* Adds at most one entry's text */
static int produce(struct outjson *j)
{
	switch (j->stage) {
	case STAGE_HEAD:
		j->stage++;
		return buf_puts(&j->pending, "{\"stdout\":\"");
	case STAGE_STDOUT:
		return walk(j, SPOOL_STDOUT);
	case STAGE_MIDDLE:
		j->stage++;
		return buf_puts(&j->pending, "\",\"stderr\":\"");
	case STAGE_STDERR:
		return walk(j, SPOOL_STDERR);
	case STAGE_TAIL:
		j->stage++;
		return buf_printf(&j->pending, "\",\"exit_code\":%d,\"pid\":%u%s}", proc_shell_code(j->p), j->p->pid,
				  spool_has_gap(j->p->spool) ? ",\"truncated\":true" : "");
	case STAGE_DONE:
		break;
	}
	return 0;
}

static void pump(void *userdata)
{
	struct outjson *j = userdata;
	size_t n;
	int r = 0;

	for (;;) {
		n = MIN_OF(http_stream_room(j->req), j->pending.len - j->sent);
		if (n > 0) {
			http_stream_write(j->req, j->pending.data + j->sent, n);
			j->sent += n;
		}
		if (j->sent < j->pending.len)
			return;		/* room() will call again */
		j->pending.len = j->sent = 0;
		if (j->stage == STAGE_DONE || r < 0)
			break;
		r = produce(j);
	}
	http_request_on_cancel(j->req, NULL, NULL);
	if (r < 0)
		http_stream_abort(j->req);
	else
		http_stream_end(j->req);
	outjson_free(j);
}

static void gone(void *userdata)
{
	outjson_free(userdata);
}

void api_reply_output(struct http_request *req, struct proc *p)
{
	static const struct http_stream_ops ops = { .room = pump };
	struct outjson *j = calloc(1, sizeof(*j));
	int r = 0;

	if (!j) {
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	j->req = req;
	j->p = proc_ref(p);
	j->pending.max = SMALL_MAX + CHUNK_MAX;
	while (r == 0 && j->stage != STAGE_DONE && j->pending.len < SMALL_MAX)
		r = produce(j);
	if (r < 0) {
		api_fail(req, FAULT_INTERNAL, "the command's output cannot be read back");
		outjson_free(j);
		return;
	}
	if (j->stage == STAGE_DONE) {
		http_reply(req, 200, "application/json", j->pending.data, j->pending.len);
		outjson_free(j);
		return;
	}
	http_request_on_cancel(req, gone, j);
	http_stream_begin(req, 200, "application/json", -1, &ops, j);
	pump(j);
}
