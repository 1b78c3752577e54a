/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which headers cross the proxy: those of the request on their way in, those of the answer on their way out. Neither the
 * key nor what belongs to one connection only gets through, and no cookie for this server's own origin comes out.
 */
#ifndef DECLAW_PROXYHEAD_H
#define DECLAW_PROXYHEAD_H

#include "api/api.h"
#include "http/upstream.h"

#define PROXYHEAD_MAX (48u << 10)	/* the server takes 32 KiB of headers; the rest is what is added */

/* The request as the server in the sandbox gets it. upgrade: the Upgrade header's value, or NULL. */
int proxyhead_request(const struct http_request *req, const struct sandbox *sb, uint16_t port, const char *upgrade,
		      struct buf *ret);
/* What the client wants to upgrade to, NULL when it does not. */
const char *proxyhead_upgrade(const struct http_request *req);
/* Adds the answer's headers to ours. */
int proxyhead_answer(struct http_request *req, const struct upstream_head *head);

#endif
