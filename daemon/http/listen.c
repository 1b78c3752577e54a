/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listening sockets: numeric addresses only, so that a listener never waits for a resolver. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "http/internal.h"

#define LISTEN_BACKLOG 512

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* "127.0.0.1:80", "[::1]:80" */
static int parse_address(const char *text, union address *ret, socklen_t *ret_len)
{
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN];
	size_t len;
	uint64_t port;
	bool v6 = text[0] == '[';

	if (!colon || str_to_u64(colon + 1, 0, UINT16_MAX, &port) < 0)
		return -EINVAL;
	len = (size_t)(colon - text);
	if (v6) {
		if (len < 2 || text[len - 1] != ']')
			return -EINVAL;
		text++;
		len -= 2;
	}
	if (len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	*ret = (union address){};
	if (v6) {
		ret->v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
		*ret_len = sizeof(ret->v6);
		return inet_pton(AF_INET6, host, &ret->v6.sin6_addr) == 1 ? 0 : -EINVAL;
	}
	ret->v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	*ret_len = sizeof(ret->v4);
	return inet_pton(AF_INET, host, &ret->v4.sin_addr) == 1 ? 0 : -EINVAL;
}

int listen_open(const char *text)
{
	_cleanup_close_ int fd = -EBADF;
	const int one = 1;
	union address address;
	socklen_t len;
	int r;

	r = parse_address(text, &address, &len);
	if (r < 0)
		return r;
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
		return -errno;
	if (address.any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0)
		return -errno;
	if (bind(fd, &address.any, len) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int listen_adopt(int fd)
{
	_cleanup_close_ int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	int flags, accepts = 0;
	socklen_t len = sizeof(accepts);

	if (own < 0)
		return -errno;
	if (getsockopt(own, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) < 0)
		return -errno;
	if (!accepts)
		return -EINVAL;
	flags = fcntl(own, F_GETFL);
	if (flags < 0 || fcntl(own, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return TAKE_FD(own);
}

uint16_t listen_port(int fd)
{
	union address address = {};
	socklen_t len = sizeof(address);

	if (getsockname(fd, &address.any, &len) < 0)
		return 0;
	if (address.any.sa_family == AF_INET)
		return ntohs(address.v4.sin_port);
	return address.any.sa_family == AF_INET6 ? ntohs(address.v6.sin6_port) : 0;
}
