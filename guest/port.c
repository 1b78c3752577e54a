/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The channel's descriptor. Edge-triggered, because a virtio port without a host is readable and hung up
 * all the time and would wake a level-triggered loop hundreds of thousands of times a second; the edges
 * are remembered in two flags and forgotten when a call says EAGAIN. The flags are raised once a second
 * by port_tick(): an edge can be lost in the kernel's virtio_console.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "port.h"
#include "util/macro.h"
#include "wire/proto.h"

#define CLASS_DIR "/sys/class/virtio-ports"
#define EDGES (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

static void port_event(struct source *s, uint32_t events)
{
	struct port *p = container_of(s, struct port, source);

	if (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP | EPOLLERR))
		p->readable = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		p->writable = true;
}

static int port_attach(struct port *p, int fd)
{
	int r = loop_add(p->loop, &p->source, fd, EDGES, port_event);

	if (r < 0)
		return r;
	p->fd = fd;
	p->readable = p->writable = true;
	return 0;
}

static void port_detach(struct port *p)
{
	loop_remove(p->loop, &p->source);
	p->fd = fd_close(p->fd);
	p->readable = p->writable = false;
}

static void port_accept(struct source *s, _unused_ uint32_t events)
{
	struct port *p = container_of(s, struct port, listen_source);
	int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	port_detach(p);
	if (port_attach(p, fd) < 0)
		fd_close(fd);
}

static void port_reset(struct port *p, struct loop *l, enum port_kind kind)
{
	*p = (struct port) {
		.kind = kind, .loop = l, .fd = -1, .listen_fd = -1,
		.source.fd = -1, .listen_source.fd = -1,
	};
}

static bool port_has_name(const char *entry)
{
	char path[300], name[64];
	_cleanup_close_ int fd = -EBADF;
	ssize_t n;

	snprintf(path, sizeof(path), CLASS_DIR "/%s/name", entry);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, name, sizeof(name) - 1);
	if (n <= 0)
		return false;
	name[n] = 0;
	name[strcspn(name, "\n")] = 0;
	return strcmp(name, DCLW_PORT_NAME) == 0;
}

static int port_find(void)
{
	char path[300];
	struct dirent *de;
	int fd = -ENOENT;
	DIR *dir = opendir(CLASS_DIR);

	if (!dir)
		return -errno;
	while ((de = readdir(dir))) {
		if (de->d_name[0] == '.' || !port_has_name(de->d_name))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", de->d_name);
		fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
		break;
	}
	closedir(dir);
	return fd;
}

int port_open_virtio(struct port *p, struct loop *l, int timeout_ms)
{
	int fd;

	port_reset(p, l, PORT_VIRTIO);
	/* The name arrives from the host in a control message after the device itself: no event to wait for. */
	while ((fd = port_find()) < 0 && timeout_ms > 0) {
		poll(NULL, 0, 5);
		timeout_ms -= 5;
	}
	if (fd < 0)
		return fd;
	return port_attach(p, fd);
}

static int port_listen_on(struct port *p, struct loop *l, int fd)
{
	port_reset(p, l, PORT_LISTEN);
	p->listen_fd = fd;
	return loop_add(l, &p->listen_source, fd, EPOLLIN, port_accept);
}

int port_open_fd(struct port *p, struct loop *l, int fd)
{
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && listening)
		return port_listen_on(p, l, fd);
	port_reset(p, l, PORT_SOCKET);
	return port_attach(p, fd);
}

int port_open_listen(struct port *p, struct loop *l, const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -EBADF;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	unlink(path);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 4) < 0)
		return -errno;
	return port_listen_on(p, l, TAKE_FD(fd));
}

void port_close(struct port *p)
{
	port_detach(p);
	loop_remove(p->loop, &p->listen_source);
	p->listen_fd = fd_close(p->listen_fd);
}

/* The peer is gone: a virtio port waits for the next one, a listener too, a socket is finished. */
static void port_lost(struct port *p)
{
	p->readable = p->writable = false;
	if (p->kind == PORT_LISTEN)
		port_detach(p);
	else if (p->kind == PORT_SOCKET)
		p->ended = true;
}

ssize_t port_read(struct port *p, void *buf, size_t len)
{
	ssize_t n;

	if (!p->readable || p->fd < 0)
		return 0;
	n = read(p->fd, buf, len);
	if (n > 0)
		return n;
	if (n < 0 && errno == EINTR)
		return 0;
	p->readable = false;
	/* 0 from a virtio port: nobody is connected; writing may still be queued for the next one */
	if (n == 0 ? p->kind != PORT_VIRTIO : errno != EAGAIN)
		port_lost(p);
	return 0;
}

ssize_t port_write(struct port *p, const void *buf, size_t len)
{
	ssize_t n;

	if (!p->writable || p->fd < 0)
		return 0;
	n = p->kind == PORT_VIRTIO ? write(p->fd, buf, len) : send(p->fd, buf, len, MSG_NOSIGNAL);
	if (n >= 0)
		return n;
	if (errno == EINTR)
		return 0;
	p->writable = false;
	if (errno != EAGAIN && p->kind != PORT_VIRTIO)
		port_lost(p);
	return 0;
}

void port_tick(struct port *p)
{
	if (p->fd >= 0 && !p->ended)
		p->readable = p->writable = true;
}
