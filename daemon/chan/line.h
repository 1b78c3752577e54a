/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connected stream socket that carries one JSON object a line, on the event loop.
 *
 * Bounded both ways: a line longer than CHAN_LINE_MAX, bytes that are no JSON object, or a peer that lets more than the
 * given number of bytes wait ends the connection. closed() comes once, from the loop or from chan_poll(), never from
 * inside chan_send(); after it nothing is read or written. Callbacks may free the connection.
 */
#ifndef DECLAW_CHAN_LINE_H
#define DECLAW_CHAN_LINE_H

#include <systemd/sd-event.h>

#include "chan/msg.h"

#define CHAN_LINE_MAX (1u << 20)

struct chan;

struct chan_ops {
	void (*message)(void *userdata, const struct chan_msg *m);
	/* error: 0 = the peer closed, else a negative errno */
	void (*closed)(void *userdata, int error);
};

/* Takes fd, which becomes non-blocking, on success. */
int chan_new(sd_event *event, int fd, size_t pending_max, const struct chan_ops *ops, void *userdata, struct chan **ret);
struct chan *chan_free(struct chan *c);
/* -ENOBUFS: too much waits; the connection is of no use any more and closed() follows. -ENOMEM, -ENOTCONN. */
int chan_send(struct chan *c, const struct chan_msg *m);
/* The same in two steps: what was queued goes with the next chan_flush() or chan_send(). */
int chan_queue(struct chan *c, const struct chan_msg *m);
int chan_flush(struct chan *c);
/* Reads what has arrived already, as the loop would. False: freed or closed meanwhile. */
bool chan_poll(struct chan *c);

#endif
