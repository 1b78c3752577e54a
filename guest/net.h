/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's network interfaces.
 */
#ifndef DCLW_NET_H
#define DCLW_NET_H

struct args;

/* Loopback up. 0 or -errno. */
int net_loopback(void);
/* MAC, address, route and resolver of eth0 from the tags that are there. 0 or -errno with *ret_what. */
int net_configure(const struct args *g, const char **ret_what);

#endif
