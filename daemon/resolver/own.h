/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which addresses are this host's own, asked of the kernel with what a process without any rights may do. */
#ifndef DECLAW_RESOLVER_OWN_H
#define DECLAW_RESOLVER_OWN_H

#include <netinet/in.h>
#include <stdbool.h>

/* Of any interface, at this moment; true also when it cannot be known. Sends nothing. */
bool own_address(struct in_addr addr);

#endif
