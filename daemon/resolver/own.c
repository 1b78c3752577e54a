/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A socket can be bound to an address that is the host's, and to no other; where the host allows any (ip_nonlocal_bind),
 * what the kernel would send from to that address says it. Netlink would list them, but the worker may not speak it.
 */
#include "resolver/own.h"

#include <sys/socket.h>

#include "util/macro.h"

static bool binds(uint32_t addr)
{
	const struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = addr };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool can = fd < 0 || bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) == 0;

	fd_close(fd);
	return can;
}

static bool reached_from_itself(uint32_t addr)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = addr };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sa);
	bool own = fd < 0 || (connect(fd, (struct sockaddr *)&sa, len) == 0 && getsockname(fd, (struct sockaddr *)&sa, &len) == 0 &&
			      sa.sin_addr.s_addr == addr);

	fd_close(fd);
	return own;
}

bool own_address(struct in_addr addr)
{
	/* 240.0.0.1 is nobody's: who can bind to it can bind to anything */
	return binds(addr.s_addr) && (!binds(htonl(0xf0000001)) || reached_from_itself(addr.s_addr));
}
