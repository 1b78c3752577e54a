/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * epoll with removal-safe batches; see loop.h.
 */
#include <errno.h>
#include <unistd.h>

#include "loop.h"

int loop_init(struct loop *l)
{
	l->count = l->pos = 0;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	return l->epfd < 0 ? -errno : 0;
}

void loop_done(struct loop *l)
{
	if (l->epfd >= 0)
		close(l->epfd);
	l->epfd = -1;
}

int loop_add(struct loop *l, struct source *s, int fd, uint32_t events, source_fn fn)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };

	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	s->fd = fd;
	s->fn = fn;
	return 0;
}

int loop_modify(struct loop *l, struct source *s, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };

	return epoll_ctl(l->epfd, EPOLL_CTL_MOD, s->fd, &ev) < 0 ? -errno : 0;
}

void loop_remove(struct loop *l, struct source *s)
{
	if (s->fd < 0)
		return;
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, s->fd, NULL);
	s->fd = -1;
	for (int i = l->pos; i < l->count; i++) {
		if (l->batch[i].data.ptr == s)
			l->batch[i].data.ptr = NULL;
	}
}

int loop_turn(struct loop *l, int timeout_ms)
{
	int n = epoll_wait(l->epfd, l->batch, LOOP_BATCH, timeout_ms);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	l->count = n;
	for (l->pos = 0; l->pos < l->count;) {
		struct epoll_event *ev = &l->batch[l->pos++];
		struct source *s = ev->data.ptr;

		if (s)
			s->fn(s, ev->events);
	}
	l->count = l->pos = 0;
	return 0;
}
