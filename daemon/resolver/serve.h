/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The resolver's sockets: UDP packets and TCP connections in, askers to lookup.c, answers out. */
#ifndef DECLAW_RESOLVER_SERVE_H
#define DECLAW_RESOLVER_SERVE_H

#include "resolver/lookup.h"

#define TCP_MAX 512u		/* connections altogether */
#define TCP_PER_SANDBOX 8u
#define UDP_WAITING_MAX 8192u	/* questions that wait for an answer */

struct serve;

int serve_new(sd_event *event, struct resolver *r, struct serve **ret);
/* Frees the resolver's askers; so the resolver goes first. */
struct serve *serve_free(struct serve *s);
/* A bound UDP or a listening TCP socket; taken on success. */
int serve_add(struct serve *s, int fd);

#endif
