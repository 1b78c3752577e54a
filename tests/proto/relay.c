/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stand-in for QEMU's chardev: serves one client, loses what the guest says while there is none,
 * and can cut the client after an exact number of bytes in either direction.
 */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "peer.h"

static void drop_host(struct relay *rl)
{
	rl->host_io = sd_event_source_disable_unref(rl->host_io);
	rl->host = fd_close(rl->host);
}

void relay_done(struct relay *rl)
{
	drop_host(rl);
	rl->guest_io = sd_event_source_disable_unref(rl->guest_io);
	rl->listen_io = sd_event_source_disable_unref(rl->listen_io);
	rl->guest = fd_close(rl->guest);
	rl->listen_fd = fd_close(rl->listen_fd);
}

/* At most max bytes before the cut; true: the cut is reached with them. */
static bool limit(int64_t *cut, size_t *len)
{
	if (*cut < 0)
		return false;
	*len = MIN_OF((int64_t)*len, *cut);
	*cut -= (int64_t)*len;
	if (*cut > 0)
		return false;
	*cut = -1;
	return true;
}

/* The agent is another process and may be waited for; the session is not, so what it has not read
 * must fit the socket: the relay is for small sessions. */
static void push(int fd, bool wait, const uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			struct epoll_event ev = { .events = EPOLLOUT };
			int ep = epoll_create1(EPOLL_CLOEXEC);

			cr_assert(wait, "the relay's socket to the host is full");
			epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
			epoll_wait(ep, &ev, 1, 1000);
			close(ep);
			continue;
		}
		if (n < 0)
			return;
		data += n;
		len -= (size_t)n;
	}
}

static int on_host(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct relay *rl = &((struct rig *)userdata)->relay;
	uint8_t buf[4096];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	size_t len;
	bool cut;

	(void)s;
	(void)revents;
	if (n <= 0) {
		drop_host(rl);
		return 0;
	}
	len = (size_t)n;
	cut = limit(&rl->cut_down, &len);
	push(rl->guest, true, buf, len);
	rl->down += len;
	if (cut) {
		rl->cuts++;
		drop_host(rl);
	}
	return 0;
}

static int on_guest(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct relay *rl = &((struct rig *)userdata)->relay;
	uint8_t buf[65536];
	ssize_t n;
	size_t len;
	bool cut;

	(void)s;
	(void)revents;
	n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0) {
		sd_event_source_set_enabled(rl->guest_io, SD_EVENT_OFF);
		drop_host(rl);
		return 0;
	}
	if (rl->host < 0) {
		rl->lost += (uint64_t)n;
		return 0;
	}
	len = (size_t)n;
	cut = limit(&rl->cut_up, &len);
	push(rl->host, false, buf, len);
	rl->up += len;
	if (cut) {
		rl->cuts++;
		rl->lost += (uint64_t)n - len;
		drop_host(rl);
	}
	return 0;
}

static int on_accept(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct rig *rig = userdata;
	struct relay *rl = &rig->relay;

	(void)s;
	(void)revents;
	drop_host(rl);
	rl->host = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert(rl->host >= 0);
	cr_assert(sd_event_add_io(rig->event, &rl->host_io, rl->host, EPOLLIN, on_host, rig) >= 0);
	return 0;
}

void relay_start(struct rig *rig, int guest)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct relay *rl = &rig->relay;

	rl->guest = guest;
	strncpy(sa.sun_path, rig->path, sizeof(sa.sun_path) - 1);
	rl->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cr_assert(rl->listen_fd >= 0);
	cr_assert_eq(bind(rl->listen_fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(listen(rl->listen_fd, 8), 0);
	cr_assert(sd_event_add_io(rig->event, &rl->listen_io, rl->listen_fd, EPOLLIN, on_accept,
				  rig) >= 0);
	cr_assert(sd_event_add_io(rig->event, &rl->guest_io, guest, EPOLLIN, on_guest, rig) >= 0);
}
