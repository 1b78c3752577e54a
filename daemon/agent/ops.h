/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What ops.c and ops-file.c share. */
#ifndef DECLAW_AGENT_OPS_H
#define DECLAW_AGENT_OPS_H

#include "agent/internal.h"

#define OP_WRITER(w, bytes)			\
	uint8_t w##_buf[bytes];			\
	struct wire_writer w;			\
	wire_writer_init(&w, w##_buf, sizeof(w##_buf))

/* Queues; the caller sets (*ret)->fn. */
int op_send(struct agent *a, uint16_t op, const struct wire_writer *w, request_handler handler,
	    void *userdata, struct agent_stream *const streams[REQUEST_STREAMS],
	    struct agent_request **ret);
int op_send_done(struct agent *a, uint16_t op, const struct wire_writer *w, agent_done_fn fn,
		 void *userdata, struct agent_stream *const streams[REQUEST_STREAMS]);
/* -EBADMSG when the tag is absent or of a wrong size. */
int op_get_u32(const uint8_t *reply, size_t len, uint16_t tag, uint32_t *ret);
int op_get_u64(const uint8_t *reply, size_t len, uint16_t tag, uint64_t *ret);

#endif
