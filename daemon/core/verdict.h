/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every verdict on egress: into the sandbox's audit ring and the journal. They come from the workers over the control
 * channel and from the rules' log group. Journal fields: DECLAW_SANDBOX_ID, DECLAW_VERDICT, DECLAW_PROTO, DECLAW_NAME,
 * DECLAW_ADDR, DECLAW_PORT, DECLAW_RULE, DECLAW_SOURCE; blocked ones at level info, allowed ones at debug.
 */
#ifndef DECLAW_VERDICT_H
#define DECLAW_VERDICT_H

#include "core/sandbox.h"
#include "egress/audit.h"

/* After the records were read. Failures are logged; the daemon goes on without what failed. */
void verdict_start(struct manager *m);
void verdict_stop(struct manager *m);
void verdict_add(struct sandbox *sb, enum audit_source source, const struct chan_audit *e);
/* So many were not told one by one */
void verdict_lose(struct sandbox *sb, uint64_t n);
/* The sandbox is forgotten */
void verdict_forget(struct sandbox *sb);

#endif
