/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The channel to the host as the session sees it: a non-blocking descriptor that may lose its peer and
 * get a new one without a word (guest/PROTOCOL.md §1).
 *
 * Three kinds behind one face: the virtio port; a connected socket, whose end is the agent's end; and a
 * listening UNIX socket, which takes one client at a time like QEMU does, a new one replacing the old.
 */
#ifndef DCLW_PORT_H
#define DCLW_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop.h"

enum port_kind { PORT_VIRTIO, PORT_SOCKET, PORT_LISTEN };

struct port {
	enum port_kind kind;
	struct loop *loop;
	int fd;			/* -1: no peer (PORT_LISTEN) */
	int listen_fd;
	struct source source, listen_source;
	bool readable, writable;	/* edge-triggered memory */
	bool ended;			/* PORT_SOCKET: the peer is gone for good */
};

/* Finds and opens the port, waiting up to timeout_ms for the driver. */
int port_open_virtio(struct port *p, struct loop *l, int timeout_ms);
/* Takes fd; a listening socket becomes PORT_LISTEN. */
int port_open_fd(struct port *p, struct loop *l, int fd);
int port_open_listen(struct port *p, struct loop *l, const char *path);
void port_close(struct port *p);
/* >0 bytes, 0 nothing now. */
ssize_t port_read(struct port *p, void *buf, size_t len);
ssize_t port_write(struct port *p, const void *buf, size_t len);
/* Once a second: try again whatever epoll said. */
void port_tick(struct port *p);

#endif
