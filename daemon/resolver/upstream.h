/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Questions to the host's name servers, by c-ares on the event loop. Ports, ids, retries and servers are its business. */
#ifndef DECLAW_RESOLVER_UPSTREAM_H
#define DECLAW_RESOLVER_UPSTREAM_H

#include <stdint.h>
#include <systemd/sd-event.h>

struct upstream;

/* wire NULL: no server answered in a usable way. Once, also from inside upstream_ask() and upstream_free(). */
typedef void (*upstream_fn)(void *userdata, const uint8_t *wire, size_t len);

/* servers: "192.0.2.1,192.0.2.2:5353"; NULL or "": those of /etc/resolv.conf */
int upstream_new(sd_event *event, const char *servers, struct upstream **ret);
struct upstream *upstream_free(struct upstream *u);
void upstream_ask(struct upstream *u, const char *name, uint16_t type, upstream_fn fn, void *userdata);

#endif
