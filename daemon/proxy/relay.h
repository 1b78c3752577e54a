/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Moving the bytes of a flow that was judged. */
#ifndef DECLAW_PROXY_RELAY_H
#define DECLAW_PROXY_RELAY_H

#include "proxy/flow.h"

#define RELAY_PIPE (256u << 10)	/* a large one's size */
#define RELAY_BUF_MAX (REQUEST_HEAD_MAX + 32768u)

/* Registers an end for everything, edge-triggered. */
int relay_watch(int epoll, struct flow_end *end);
/* Of a socket that can be written to: not for that, until it cannot. Spares a turn for each that is accepted. */
int relay_watch_in(int epoll, struct flow_end *end);
/* Moves what can be moved. False: both ways are finished, or (f->broken) an end failed. */
bool relay(struct flow *f);

#endif
