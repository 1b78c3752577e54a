/* SPDX-License-Identifier: GPL-2.0-or-later */
/* c-ares on sd-event, see upstream.h. */
#include "resolver/upstream.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <errno.h>
#include <sys/epoll.h>

#include "util/list.h"
#include "util/macro.h"

#define TIMEOUT_MS 1500
#define TRIES 2

struct watch {
	struct list link;
	struct upstream *upstream;
	sd_event_source *io;
	int fd;
};

struct upstream {
	sd_event *event;
	ares_channel channel;
	bool channel_ok;
	sd_event_source *timer;
	struct list watches;
};

struct ask {
	upstream_fn fn;
	void *userdata;
};

static void arm(struct upstream *u)
{
	struct timeval tv, *t = ares_timeout(u->channel, NULL, &tv);

	if (!t) {
		sd_event_source_set_enabled(u->timer, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time_relative(u->timer, (uint64_t)t->tv_sec * 1000000 + (uint64_t)t->tv_usec);
	sd_event_source_set_enabled(u->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct upstream *u = userdata;

	ares_process_fd(u->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	arm(u);
	return 0;
}

static int on_io(sd_event_source *s _unused_, int fd, uint32_t events, void *userdata)
{
	struct upstream *u = ((struct watch *)userdata)->upstream;	/* the watch may be gone behind the call */

	ares_process_fd(u->channel, events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? fd : ARES_SOCKET_BAD,
			events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
	arm(u);
	return 0;
}

static void watch_free(struct watch *w)
{
	list_unlink(&w->link);
	sd_event_source_disable_unref(w->io);
	free(w);
}

static void on_state(void *data, ares_socket_t fd, int readable, int writable)
{
	uint32_t events = (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u);
	struct upstream *u = data;
	struct watch *w;

	list_foreach(&u->watches, w, struct watch, link)
		if (w->fd == fd) {
			if (events)
				sd_event_source_set_io_events(w->io, events);
			else
				watch_free(w);
			return;
		}
	if (!events)
		return;
	w = calloc(1, sizeof(*w));
	if (!w)
		return;		/* the question runs into its timeout */
	*w = (struct watch){ .upstream = u, .fd = fd };
	list_append(&u->watches, &w->link);
	if (sd_event_add_io(u->event, &w->io, fd, events, on_io, w) < 0)
		watch_free(w);
}

static void on_answer(void *arg, int status, int timeouts _unused_, unsigned char *wire, int len)
{
	bool answered = status == ARES_SUCCESS || status == ARES_ENODATA || status == ARES_ENOTFOUND;
	struct ask a = *(struct ask *)arg;

	free(arg);
	a.fn(a.userdata, answered ? wire : NULL, answered && wire ? (size_t)len : 0);
}

void upstream_ask(struct upstream *u, const char *name, uint16_t type, upstream_fn fn, void *userdata)
{
	struct ask *a = malloc(sizeof(*a));

	if (!a) {
		fn(userdata, NULL, 0);
		return;
	}
	*a = (struct ask){ fn, userdata };
	ares_query(u->channel, name, ns_c_in, type, on_answer, a);
	arm(u);
}

int upstream_new(sd_event *event, const char *servers, struct upstream **ret)
{
	struct upstream *u = calloc(1, sizeof(*u));
	struct ares_options o = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS, .timeout = TIMEOUT_MS, .tries = TRIES,
		.sock_state_cb = on_state, .sock_state_cb_data = u, .ednspsz = 1232, .lookups = (char *)"b",
	};
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB | ARES_OPT_EDNSPSZ |
		   ARES_OPT_LOOKUPS | ARES_OPT_NOROTATE, r;

	if (!u)
		return -ENOMEM;
	list_init(&u->watches);
	u->event = sd_event_ref(event);
	r = sd_event_add_time_relative(event, &u->timer, CLOCK_MONOTONIC, 0, 0, on_timer, u);
	if (r >= 0)
		r = sd_event_source_set_enabled(u->timer, SD_EVENT_OFF);
	if (r >= 0)
		r = ares_init_options(&u->channel, &o, mask) == ARES_SUCCESS ? 0 : -EINVAL;
	u->channel_ok = r == 0;
	if (r == 0 && servers && *servers)
		r = ares_set_servers_ports_csv(u->channel, servers) == ARES_SUCCESS ? 0 : -EINVAL;
	if (r < 0) {
		upstream_free(u);
		return r;
	}
	*ret = u;
	return 0;
}

struct upstream *upstream_free(struct upstream *u)
{
	struct watch *w;

	if (!u)
		return NULL;
	if (u->channel_ok)
		ares_destroy(u->channel);	/* answers what is under way, closes the sockets */
	list_foreach(&u->watches, w, struct watch, link)
		watch_free(w);
	sd_event_source_disable_unref(u->timer);
	sd_event_unref(u->event);
	free(u);
	return NULL;
}
