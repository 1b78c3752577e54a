/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Boot console reader, see console.h. A ring of bytes; the guest is hostile, so what is shown is escaped and cut. */
#include "core/console.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "util/macro.h"
#include "util/str.h"

#define CONSOLE_KEEP 2048u

struct console {
	sd_event_source *io;
	int fd;
	char ring[CONSOLE_KEEP];
	size_t total;
};

static int console_readable(sd_event_source *s _unused_, int fd, uint32_t revents _unused_, void *userdata)
{
	struct console *c = userdata;
	char b[1024];
	ssize_t n = read(fd, b, sizeof(b));

	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			sd_event_source_set_enabled(c->io, SD_EVENT_OFF);
		return 0;
	}
	for (ssize_t i = 0; i < n; i++)
		c->ring[c->total++ % CONSOLE_KEEP] = b[i];
	return 0;
}

int console_open(sd_event *event, const char *path, struct console **ret)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct console *c;
	int r;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = c->fd < 0 ? -errno : 0;
	if (r == 0 && connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		r = -errno;
	if (r == 0)
		r = sd_event_add_io(event, &c->io, c->fd, EPOLLIN, console_readable, c);
	if (r < 0) {
		console_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct console *console_free(struct console *c)
{
	if (!c)
		return NULL;
	sd_event_source_disable_unref(c->io);
	fd_close(c->fd);
	free(c);
	return NULL;
}

char *console_tail(const struct console *c)
{
	char flat[CONSOLE_KEEP];
	size_t n, start;

	if (!c || c->total == 0)
		return NULL;
	n = MIN_OF(c->total, (size_t)CONSOLE_KEEP);
	start = c->total - n;
	for (size_t i = 0; i < n; i++)
		flat[i] = c->ring[(start + i) % CONSOLE_KEEP];
	return str_escape(flat, n, n);
}
