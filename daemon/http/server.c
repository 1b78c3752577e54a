/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server: libmicrohttpd on the event loop.
 *
 * Each listening socket has an MHD daemon; its epoll descriptor is an I/O source. MHD does not tell when it has work
 * that no descriptor announces (a resumed connection, a connection left readable for fairness), so after every
 * MHD_run() MHD_get_timeout() decides: 0 means run again soon, which a defer source does; anything else arms a timer.
 * MHD's timeouts are idle timeouts of seconds, so a timer that fires early just runs MHD once more: it is only ever
 * moved forward, never back, and not touched on every request.
 *
 * Resuming a connection only marks it in MHD; the defer source ("kick") makes the one MHD_run() for the whole batch.
 */
#include <stdarg.h>

#include "http/internal.h"
#include "util/clock.h"
#include "util/log.h"

_printf_(2, 0)
static void log_mhd(void *userdata _unused_, const char *format, va_list ap)
{
	char text[512];
	_cleanup_free_ char *safe = NULL;
	int n = vsnprintf(text, sizeof(text), format, ap);

	if (n <= 0)
		return;
	safe = str_escape(text, MIN_OF((size_t)n, sizeof(text) - 1), sizeof(text));
	log_debug("libmicrohttpd: %s", safe ? safe : "");
}

/* MHD would decode '%' and '+' in place, before routing and without refusing anything: leave the text alone. */
static size_t keep_escaped(void *userdata _unused_, struct MHD_Connection *mhd _unused_, char *text)
{
	return __builtin_strlen(text);
}

static void run_work(struct http_server *s)
{
	struct http_request *req;

	while ((req = list_first(&s->work, struct http_request, work_link)))
		request_run_work(req);
}

static void arm_timer(struct http_listener *l, uint64_t msec)
{
	uint64_t deadline = clock_monotonic() + (msec + 1) * USEC_PER_MSEC;

	if (l->deadline <= deadline)
		return;
	l->deadline = deadline;
	sd_event_source_set_time(l->timer, deadline);
	sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
}

static void listener_run(struct http_listener *l)
{
	MHD_UNSIGNED_LONG_LONG msec = 0;

	for (unsigned int i = 0; i < HTTP_SPINS; i++) {
		l->kick = false;
		MHD_run(l->mhd);
		run_work(l->server);
		if (MHD_get_timeout(l->mhd, &msec) != MHD_YES)
			msec = UINT64_MAX;
		if (msec > 0 && !l->kick)
			break;
	}
	if (msec == 0)
		listener_kick(l);
	else if (msec != UINT64_MAX)
		arm_timer(l, msec);
}

void listener_kick(struct http_listener *l)
{
	l->kick = true;
	sd_event_source_set_enabled(l->server->kick, SD_EVENT_ONESHOT);
}

static int on_kick(sd_event_source *source _unused_, void *userdata)
{
	struct http_server *s = userdata;

	run_work(s);
	for (size_t i = 0; i < s->n_listeners; i++)
		if (s->listeners[i].kick)
			listener_run(&s->listeners[i]);
	return 0;
}

static int on_io(sd_event_source *source _unused_, int fd _unused_, uint32_t revents _unused_, void *userdata)
{
	listener_run(userdata);
	return 0;
}

static int on_timer(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
	struct http_listener *l = userdata;

	l->deadline = UINT64_MAX;
	listener_run(l);
	return 0;
}

static struct MHD_Daemon *start_mhd(struct http_listener *l, int fd)
{
	const struct http_server_config *config = &l->server->config;

	return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG, 0, NULL, NULL,
				request_on_access, l,
				MHD_OPTION_EXTERNAL_LOGGER, log_mhd, NULL,
				MHD_OPTION_LISTEN_SOCKET, fd,
				MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_POOL_SIZE,
				MHD_OPTION_CONNECTION_LIMIT, config->connections_max + HTTP_CONNECTIONS_SLACK,
				MHD_OPTION_CONNECTION_TIMEOUT, config->idle_timeout_sec,
				MHD_OPTION_NOTIFY_CONNECTION, conn_notify, l,
				MHD_OPTION_NOTIFY_COMPLETED, request_on_completed, l,
				MHD_OPTION_URI_LOG_CALLBACK, request_on_uri, l,
				MHD_OPTION_UNESCAPE_CALLBACK, keep_escaped, NULL,
				MHD_OPTION_END);
}

/* Takes fd, also when it fails. */
static int listener_start(struct http_server *s, int fd)
{
	_cleanup_close_ int own = fd;
	struct http_listener *l = &s->listeners[s->n_listeners];
	const union MHD_DaemonInfo *info;
	int r;

	*l = (struct http_listener){ .server = s, .deadline = UINT64_MAX, .port = listen_port(fd) };
	l->mhd = start_mhd(l, fd);
	if (!l->mhd)
		return -EIO;
	TAKE_FD(own);
	s->n_listeners++;
	info = MHD_get_daemon_info(l->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info || info->epoll_fd < 0)
		return -EIO;
	r = sd_event_add_io(s->event, &l->io, info->epoll_fd, EPOLLIN, on_io, l);
	if (r < 0)
		return r;
	r = sd_event_add_time(s->event, &l->timer, CLOCK_MONOTONIC, UINT64_MAX, USEC_PER_SEC, on_timer, l);
	if (r < 0)
		return r;
	r = sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
	if (r < 0)
		return r;
	listener_kick(l);
	return 0;
}

static void set_limits(struct http_server_config *c)
{
	c->listen = NULL;
	c->listen_fds = NULL;
	c->n_listen_fds = 0;
	if (c->json_body_max == 0)
		c->json_body_max = HTTP_JSON_BODY_MAX;
	if (c->connections_max == 0)
		c->connections_max = HTTP_CONNECTIONS_MAX;
	if (c->connections_per_address_max == 0)
		c->connections_per_address_max = c->connections_max;
	if (c->idle_timeout_sec == 0)
		c->idle_timeout_sec = HTTP_IDLE_SEC;
	if (c->stream_pending_max == 0)
		c->stream_pending_max = HTTP_PENDING_MAX;
}

static int start_all(struct http_server *s, const struct http_server_config *config)
{
	size_t n = 0;
	int r;

	while (config->listen && config->listen[n])
		n++;
	if (n + config->n_listen_fds == 0)
		return -EINVAL;
	s->listeners = calloc(n + config->n_listen_fds, sizeof(*s->listeners));
	if (!s->listeners)
		return -ENOMEM;
	for (size_t i = 0; i < n + config->n_listen_fds; i++) {
		int fd = i < n ? listen_open(config->listen[i]) : listen_adopt(config->listen_fds[i - n]);

		if (fd < 0)
			return fd;
		r = listener_start(s, fd);
		if (r < 0)
			return r;
	}
	return 0;
}

int http_server_new(sd_event *event, const struct http_server_config *config, const struct http_route *routes,
		    const struct http_server_ops *ops, void *userdata, struct http_server **ret)
{
	struct http_server *s;
	int r = route_check(routes);

	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->event = sd_event_ref(event);
	s->config = *config;
	set_limits(&s->config);
	s->routes = routes;
	s->ops = *ops;
	s->userdata = userdata;
	list_init(&s->conns);
	list_init(&s->requests);
	list_init(&s->work);
	r = sd_event_add_defer(event, &s->kick, on_kick, s);
	if (r >= 0)
		r = sd_event_source_set_enabled(s->kick, SD_EVENT_OFF);
	if (r >= 0)
		r = start_all(s, config);
	if (r < 0) {
		http_server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void cancel_all(struct http_server *s)
{
	struct http_request *req;

	list_foreach(&s->requests, req, struct http_request, link)
		if (!req->user_done)
			request_add_work(req, HTTP_WORK_LEFT);
	run_work(s);
	/* MHD aborts the process when it is stopped with a suspended connection. */
	list_foreach(&s->requests, req, struct http_request, link)
		if (tunnel_is_open(req))
			tunnel_close(req);
		else
			request_wake(req);
}

struct http_server *http_server_free(struct http_server *s)
{
	struct http_request *req;

	if (!s)
		return NULL;
	cancel_all(s);
	for (size_t i = 0; i < s->n_listeners; i++) {
		struct http_listener *l = &s->listeners[i];

		sd_event_source_disable_unref(l->io);
		sd_event_source_disable_unref(l->timer);
		MHD_stop_daemon(l->mhd);	/* closes the socket */
	}
	/* What is left has no cancel callback to tell its handler. */
	list_foreach(&s->requests, req, struct http_request, link)
		request_free(req);
	sd_event_source_disable_unref(s->kick);
	sd_event_unref(s->event);
	free(s->listeners);
	free(s);
	return NULL;
}

uint16_t http_server_port(const struct http_server *s, size_t i)
{
	return i < s->n_listeners ? s->listeners[i].port : 0;
}
