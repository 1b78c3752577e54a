/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between stream.c and streamwire.c only: which streams have something to send.
 */
#ifndef DCLW_STREAMWIRE_H
#define DCLW_STREAMWIRE_H

#include <stdbool.h>

struct stream;

/* Into or out of the session's list of streams with sendable data. */
void stream_update_ready(struct stream *s);
/* A WINDOW is due; a lazy one may wait a little for another frame to travel with. */
void stream_window_due(struct stream *s, bool lazy);

#endif
