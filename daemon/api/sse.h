/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Server-sent events, the one writer of them.
 *
 * An event is `event: NAME`, one `data:` line with JSON, an empty line; LF only. Silence is filled with comments. Little
 * more than one event waits here: its owner adds the next one when sse_ready(), and pump() says when that may be so again. So a
 * client that does not read costs one event and the server's buffer, and its owner decides what waits behind that.
 *
 * The object is the owner's until sse_end(), sse_abort(), or gone().
 */
#ifndef DECLAW_SSE_H
#define DECLAW_SSE_H

#include <systemd/sd-event.h>

#include "http/http.h"
#include "util/json.h"

struct sse;

struct sse_ops {
	void (*pump)(void *userdata);
	/* The client left; the object is dead after this call. */
	void (*gone)(void *userdata);
};

/*
 * Begins the answer; a request that cannot be answered so is over when this fails. ops is kept, not copied. limit: seconds the
 * client may wait for a byte at all (0 = it did not say); the heartbeat is a third of it and 10 s at most.
 */
int sse_begin(struct http_request *req, sd_event *event, double limit, const struct sse_ops *ops, void *userdata,
	      struct sse **ret);
bool sse_ready(const struct sse *s);
/*
 * Each writes one event; to be called when sse_ready(), and once more for a small one that belongs to it. On an error
 * abort: half an event may have been sent.
 */
int sse_printf(struct sse *s, const char *name, const char *format, ...) _printf_(3, 4);
/* Text as json_escape_append() makes it; what is no whole character yet waits in *state. May write nothing. */
int sse_text(struct sse *s, const char *name, struct json_escape_state *state, const void *data, size_t len);
/* {"data":"base64"} and, unless it is 0, "entry_id" */
int sse_base64(struct sse *s, const char *name, const void *data, size_t len, uint64_t entry_id);
/* Sends what is left, then the end of the body. */
void sse_end(struct sse *s);
/* Closes the connection: the client must not take this for an end. */
void sse_abort(struct sse *s);

#endif
