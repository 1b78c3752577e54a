/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvirt's watches and timers in an epoll set of their own; sd-event sees one descriptor.
 *
 * libvirt adds, updates and removes watches from any thread and with locks of its own held, and its callbacks take
 * these same locks. Hence:
 *  - one mutex guards the table of watches, and it is never held while libvirt is called;
 *  - a watch is a slot of the table; the epoll datum carries slot and generation, so that an event fetched before the
 *    slot changed hands is recognised as stale;
 *  - a watch owns a duplicate of its descriptor: libvirt may register one twice, and may close it before removing;
 *  - a watch without events leaves the epoll set, because EPOLLHUP and EPOLLERR cannot be masked and would spin;
 *  - removal only marks the watch dead: libvirt's free callback runs later on the loop, outside of any dispatch, so
 *    the opaque pointer of a callback that is just being called stays valid;
 *  - timers are timerfds in the same set. Timeout 0 means "once the loop turns"; libvirt disarms it in the callback.
 */
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "loop/virtloop.h"
#include "util/macro.h"

#define BATCH 16
#define WAKE_SLOT UINT32_MAX

enum watch_kind { WATCH_FREE, WATCH_HANDLE, WATCH_TIMER };

struct watch {
	enum watch_kind kind;
	bool dead;		/* removed; waits for its free callback */
	bool polled;		/* own_fd is in the epoll set */
	uint32_t generation;
	int own_fd;		/* the duplicate, or the timerfd */
	int fd;			/* libvirt's number, which its callback is given */
	int events;		/* VIR_EVENT_HANDLE_* */
	union {
		virEventHandleCallback handle;
		virEventTimeoutCallback timer;
	} cb;
	void *opaque;
	virFreeCallback free_cb;
};

struct virtloop {
	pthread_mutex_t lock;
	int epfd;
	int wakefd;		/* in the epoll set: "there are dead watches" */
	sd_event_source *source;
	struct watch *watches;
	size_t n_watches;
};

/* virEventRegisterImpl() takes no userdata and is for the life of the process. */
static struct virtloop *the_loop;
static bool registered;

static uint32_t to_epoll(int events)
{
	return (events & VIR_EVENT_HANDLE_READABLE ? EPOLLIN : 0) |
	       (events & VIR_EVENT_HANDLE_WRITABLE ? EPOLLOUT : 0);
}

static int from_epoll(uint32_t events)
{
	return (events & (EPOLLIN | EPOLLRDHUP) ? VIR_EVENT_HANDLE_READABLE : 0) |
	       (events & EPOLLOUT ? VIR_EVENT_HANDLE_WRITABLE : 0) |
	       (events & EPOLLERR ? VIR_EVENT_HANDLE_ERROR : 0) |
	       (events & EPOLLHUP ? VIR_EVENT_HANDLE_HANGUP : 0);
}

/* All functions named watch_*: the mutex is held. */

static struct watch *watch_get(struct virtloop *l, int id, enum watch_kind kind)
{
	struct watch *w;

	if (id < 1 || (size_t)id > l->n_watches)
		return NULL;
	w = &l->watches[id - 1];
	return w->kind == kind && !w->dead ? w : NULL;
}

static struct watch *watch_new(struct virtloop *l, int *ret_id)
{
	struct watch *bigger;

	for (size_t i = 0; i < l->n_watches; i++)
		if (l->watches[i].kind == WATCH_FREE) {
			*ret_id = (int)i + 1;
			return &l->watches[i];
		}
	bigger = reallocarray(l->watches, l->n_watches + BATCH, sizeof(*bigger));
	if (!bigger)
		return NULL;
	for (size_t i = 0; i < BATCH; i++)
		bigger[l->n_watches + i] = (struct watch) { .kind = WATCH_FREE, .own_fd = -EBADF };
	l->watches = bigger;
	*ret_id = (int)l->n_watches + 1;
	l->n_watches += BATCH;
	return &l->watches[*ret_id - 1];
}

/* Brings the epoll set in line with what the watch wants. */
static int watch_poll(struct virtloop *l, struct watch *w)
{
	uint32_t slot = (uint32_t)(w - l->watches);
	bool want = w->kind == WATCH_TIMER || to_epoll(w->events);
	struct epoll_event ev = {
		.events = w->kind == WATCH_TIMER ? (uint32_t)EPOLLIN : to_epoll(w->events),
		.data.u64 = (uint64_t)w->generation << 32 | slot,
	};
	int op = !want ? EPOLL_CTL_DEL : w->polled ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (!want && !w->polled)
		return 0;
	if (epoll_ctl(l->epfd, op, w->own_fd, &ev) < 0)
		return -errno;
	w->polled = want;
	return 0;
}

static void watch_release(struct virtloop *l, struct watch *w)
{
	if (w->polled)
		epoll_ctl(l->epfd, EPOLL_CTL_DEL, w->own_fd, NULL);
	w->polled = false;
	w->own_fd = fd_close(w->own_fd);
}

static int watch_arm(struct watch *w, int timeout)
{
	struct itimerspec t = { .it_value.tv_nsec = 0 };

	if (timeout == 0) {
		t.it_value.tv_nsec = 1;
		t.it_interval.tv_nsec = 1000000;
	} else if (timeout > 0) {
		t.it_value.tv_sec = timeout / 1000;
		t.it_value.tv_nsec = (long)(timeout % 1000) * 1000000;
		t.it_interval = t.it_value;
	}
	return timerfd_settime(w->own_fd, 0, &t, NULL) < 0 ? -errno : 0;
}

static int watch_add(struct virtloop *l, const struct watch *model, int timeout)
{
	struct watch *w;
	int id;

	w = watch_new(l, &id);
	if (!w)
		return -1;
	w->generation++;
	w->kind = model->kind;
	w->dead = w->polled = false;
	w->own_fd = model->own_fd;
	w->fd = model->fd;
	w->events = model->events;
	w->cb = model->cb;
	w->opaque = model->opaque;
	w->free_cb = model->free_cb;
	if (watch_poll(l, w) < 0 || (w->kind == WATCH_TIMER && watch_arm(w, timeout) < 0)) {
		/* The caller closes the descriptor and, as libvirt expects of a failure, frees nothing. */
		w->own_fd = -EBADF;
		w->polled = false;
		w->kind = WATCH_FREE;
		return -1;
	}
	return id;
}

static int loop_remove(int id, enum watch_kind kind)
{
	struct virtloop *l = the_loop;
	struct watch *w;
	uint64_t one = 1;

	if (!l)
		return -1;
	pthread_mutex_lock(&l->lock);
	w = watch_get(l, id, kind);
	if (w) {
		watch_release(l, w);
		w->dead = true;
		/* Cannot fail in a way that matters: the counter is non-zero then, and the loop awake. */
		if (write(l->wakefd, &one, sizeof(one)) < 0)
			errno = 0;
	}
	pthread_mutex_unlock(&l->lock);
	return w ? 0 : -1;
}

static int loop_add(struct watch *model, int timeout)
{
	struct virtloop *l = the_loop;
	int id = -1;

	if (l && model->own_fd >= 0) {
		pthread_mutex_lock(&l->lock);
		id = watch_add(l, model, timeout);
		pthread_mutex_unlock(&l->lock);
	}
	if (id < 0)
		fd_close(model->own_fd);
	return id;
}

static int add_handle(int fd, int events, virEventHandleCallback cb, void *opaque, virFreeCallback ff)
{
	struct watch model = {
		.kind = WATCH_HANDLE,
		.own_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3),
		.fd = fd, .events = events, .cb.handle = cb, .opaque = opaque, .free_cb = ff,
	};

	return loop_add(&model, 0);
}

static void update_handle(int id, int events)
{
	struct virtloop *l = the_loop;
	struct watch *w;

	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	w = watch_get(l, id, WATCH_HANDLE);
	if (w) {
		w->events = events;
		watch_poll(l, w);
	}
	pthread_mutex_unlock(&l->lock);
}

static int remove_handle(int id)
{
	return loop_remove(id, WATCH_HANDLE);
}

static int add_timeout(int timeout, virEventTimeoutCallback cb, void *opaque, virFreeCallback ff)
{
	struct watch model = {
		.kind = WATCH_TIMER,
		.own_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
		.fd = -EBADF, .cb.timer = cb, .opaque = opaque, .free_cb = ff,
	};

	return loop_add(&model, timeout);
}

static void update_timeout(int id, int timeout)
{
	struct virtloop *l = the_loop;
	struct watch *w;

	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	w = watch_get(l, id, WATCH_TIMER);
	if (w)
		watch_arm(w, timeout);
	pthread_mutex_unlock(&l->lock);
}

static int remove_timeout(int id)
{
	return loop_remove(id, WATCH_TIMER);
}

/* Copies the watch an event belongs to; false when the event is stale. A timer's expiry is consumed. */
static bool event_lookup(struct virtloop *l, const struct epoll_event *ev, struct watch *ret)
{
	uint32_t slot = (uint32_t)ev->data.u64, generation = (uint32_t)(ev->data.u64 >> 32);
	bool valid = false;
	uint64_t n;

	pthread_mutex_lock(&l->lock);
	if (slot < l->n_watches) {
		struct watch *w = &l->watches[slot];

		valid = w->kind != WATCH_FREE && !w->dead && w->generation == generation;
		/* Disarmed or put off since epoll_wait(): nothing to read, nothing to call. */
		if (valid && w->kind == WATCH_TIMER)
			valid = read(w->own_fd, &n, sizeof(n)) == sizeof(n);
		if (valid)
			*ret = *w;
	}
	pthread_mutex_unlock(&l->lock);
	return valid;
}

static void event_dispatch(struct virtloop *l, const struct epoll_event *ev)
{
	struct watch w;
	int id = (int)(uint32_t)ev->data.u64 + 1, events;

	if (!event_lookup(l, ev, &w))
		return;
	if (w.kind == WATCH_TIMER) {
		w.cb.timer(id, w.opaque);
		return;
	}
	events = from_epoll(ev->events) & (w.events | VIR_EVENT_HANDLE_ERROR | VIR_EVENT_HANDLE_HANGUP);
	if (events)
		w.cb.handle(id, w.fd, events, w.opaque);
}

/* Calls the free callback of one dead watch; false when there is none. */
static bool reap_one(struct virtloop *l)
{
	virFreeCallback ff = NULL;
	void *opaque = NULL;
	bool found = false;

	pthread_mutex_lock(&l->lock);
	for (size_t i = 0; i < l->n_watches && !found; i++) {
		struct watch *w = &l->watches[i];

		if (w->kind == WATCH_FREE || !w->dead)
			continue;
		found = true;
		ff = w->free_cb;
		opaque = w->opaque;
		w->kind = WATCH_FREE;
		w->dead = false;
	}
	pthread_mutex_unlock(&l->lock);
	if (ff)
		ff(opaque);
	return found;
}

static void reap(struct virtloop *l)
{
	while (reap_one(l))
		;
}

static int on_events(sd_event_source *s _unused_, int fd, uint32_t revents _unused_, void *userdata)
{
	struct virtloop *l = userdata;
	struct epoll_event ev[BATCH];
	bool dead = false;
	uint64_t n_wakes;
	int n;

	n = epoll_wait(fd, ev, BATCH, 0);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < n; i++)
		if ((uint32_t)ev[i].data.u64 == WAKE_SLOT)
			dead = read(l->wakefd, &n_wakes, sizeof(n_wakes)) > 0;
		else
			event_dispatch(l, &ev[i]);
	if (dead)
		reap(l);
	return 0;
}

static int loop_open(struct virtloop *l, sd_event *event)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = WAKE_SLOT };

	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->epfd < 0 || l->wakefd < 0 || epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->wakefd, &ev) < 0)
		return -errno;
	return sd_event_add_io(event, &l->source, l->epfd, EPOLLIN, on_events, l);
}

int virtloop_new(sd_event *event, struct virtloop **ret)
{
	struct virtloop *l;
	int r;

	if (the_loop)
		return -EBUSY;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	pthread_mutex_init(&l->lock, NULL);
	r = loop_open(l, event);
	if (r < 0) {
		virtloop_free(l);
		return r;
	}
	the_loop = l;
	if (!registered)
		virEventRegisterImpl(add_handle, update_handle, remove_handle,
				     add_timeout, update_timeout, remove_timeout);
	registered = true;
	*ret = l;
	return 0;
}

struct virtloop *virtloop_free(struct virtloop *l)
{
	if (!l)
		return NULL;
	reap(l);
	if (the_loop == l)
		the_loop = NULL;
	sd_event_source_disable_unref(l->source);
	/* What libvirt still has open here it will never be told of: its connections are closed before. */
	for (size_t i = 0; i < l->n_watches; i++)
		fd_close(l->watches[i].own_fd);
	fd_close(l->wakefd);
	fd_close(l->epfd);
	pthread_mutex_destroy(&l->lock);
	free(l->watches);
	free(l);
	return NULL;
}
