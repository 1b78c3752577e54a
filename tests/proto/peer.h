/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two stand-ins of harness.h that live in this process. */
#ifndef PROTO_PEER_H
#define PROTO_PEER_H

#include "harness.h"

void peer_done(struct peer *p);
void relay_done(struct relay *rl);
/* Listens at rig->path and serves the guest's end; takes the descriptor. */
void relay_start(struct rig *rig, int guest);

#endif
