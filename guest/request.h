/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests and their cached replies (guest/PROTOCOL.md §3.2). A slot is taken when a request arrives and
 * freed when the host says it has the reply; an operation may hold its slot as long as it likes and must
 * answer exactly once.
 */
#ifndef DCLW_REQUEST_H
#define DCLW_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/list.h"
#include "util/macro.h"
#include "wire/frame.h"
#include "wire/tlv.h"

struct agent;

/* Running ones and kept replies. One long request holds the host's `arg` back, so replies behind it pile
 * up; the oldest sent one is given up when all slots are taken. */
#define REQUEST_SLOTS (4u * DCLW_REQUESTS_MAX)

struct request {
	struct agent *agent;
	struct list due;		/* in session.replies_due */
	enum { REQUEST_FREE, REQUEST_RUNNING, REQUEST_DONE } state;
	bool orphan;			/* asked by an earlier daemon: nobody waits */
	uint64_t id;
	uint64_t order;			/* of its end: the cache gives up the oldest reply first */
	uint16_t op;
	int error;
	uint8_t *reply;
	size_t len;
};

void request_on_frame(struct agent *a, const struct wire_frame *f);
/* w may be NULL: an empty reply. w's overflow turns into EMSGSIZE. */
void request_done(struct request *r, const struct wire_writer *w);
/* error: positive errno; the sentence is for people. */
_printf_(3, 4) void request_fail(struct request *r, int error, const char *fmt, ...);
void requests_hello(struct agent *a, bool same_instance);
void requests_free(struct agent *a);
/* Slots freed that the host no longer waits for. */
void requests_answered(struct agent *a, uint32_t oldest);

#endif
