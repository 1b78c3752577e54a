/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * declaw-proxy: checks whom sandboxes speak to, by name, where their policy has names.
 *
 * A process of its own with a user of its own, because it reads what hostile guests write: it has no capability, no key,
 * no libvirt, no file to write; systemd hands it the listening socket, declawd tells it policies and pins over the
 * control channel. Without declawd it denies what is new at once and cuts what is old after a few seconds.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "proxy/flow.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/noexec.h"
#include "util/str.h"

#define CONTROL "/run/declaw/egress/control.sock"
#define BATCH 256
#define ACCEPTS 64

_Static_assert(PREFORK_MAX <= CHAN_INSTANCES_MAX, "each instance has a number on the control channel");

static void accept_some(struct proxy *p, int listener)
{
	for (int i = 0; i < ACCEPTS; i++) {
		struct sockaddr_in peer;
		socklen_t len = sizeof(peer);
		int conn = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (conn < 0)
			break;
		if (peer.sin_family == AF_INET)
			flow_accept(p, conn, &peer);
		else
			fd_close(conn);
	}
}

static bool is_listener(const struct proxy *p, const void *what)
{
	return what >= (const void *)p->listeners && what < (const void *)(p->listeners + LISTENERS_MAX);
}

/* One batch of what the sockets say. Whether the event loop has something to do, too. */
static bool on_sockets(struct proxy *p)
{
	struct epoll_event e[BATCH];
	bool loop = false;
	int n, msec;

	if (chan_client_tell(p->client, &msec) < 0)
		return true;
	p->told = false;
	n = busywait(&p->wait, p->epoll, e, BATCH, msec);
	for (int i = 0; i < n; i++) {
		if (e[i].data.ptr == p->event)
			loop = true;
		else if (is_listener(p, e[i].data.ptr))
			accept_some(p, ((struct listener *)e[i].data.ptr)->fd);
		else
			flow_event(e[i].data.ptr, e[i].events);
	}
	flows_sweep(p);
	return loop || p->told;
}

/*
 * The event loop is one of the things this waits for, not the other way round: a flow that only relays costs one
 * system call to be heard of, and nothing of the loop's bookkeeping.
 */
static int serve(struct proxy *p)
{
	int code;

	while (sd_event_get_state(p->event) != SD_EVENT_FINISHED) {
		int r = sd_event_prepare(p->event);

		if (r == 0) {
			while (!on_sockets(p))
				;
			r = sd_event_wait(p->event, 0);
		}
		if (r > 0)
			r = sd_event_dispatch(p->event);
		if (r < 0)
			return r;
	}
	return sd_event_get_exit_code(p->event, &code) < 0 ? 0 : code;
}

static int on_tick(sd_event_source *s, uint64_t usec _unused_, void *userdata)
{
	struct proxy *p = userdata;

	prefork_alive(&p->prefork);
	flows_expire(p);
	flows_sweep(p);
	sd_event_source_set_time_relative(s, USEC_PER_SEC);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

/* --- what declawd says --- */

static void each_flow(struct chan_sandbox *sb, void (*fn)(struct flow *f))
{
	struct worker_sandbox *ws = sb->userdata;
	struct flow *f;

	if (!ws)
		return;
	list_foreach(&ws->flows, f, struct flow, sandbox_link)
		fn(f);
}

static void on_policy(void *userdata _unused_, struct chan_sandbox *sb, bool fresh)
{
	struct worker_sandbox *ws;

	if (!fresh) {
		each_flow(sb, flow_judge_again);
		return;
	}
	ws = calloc(1, sizeof(*ws));
	if (ws)
		list_init(&ws->flows);
	sb->userdata = ws;	/* without one its flows are refused */
}

static void on_gone(void *userdata _unused_, struct chan_sandbox *sb)
{
	each_flow(sb, flow_cut);
	free(sb->userdata);
	sb->userdata = NULL;
}

static void cut_all(struct proxy *p)
{
	struct flow *f;

	list_foreach(&p->waiting, f, struct flow, link)
		flow_cut(f);
	list_foreach(&p->running, f, struct flow, link)
		flow_cut(f);
}

static void on_lost(void *userdata)
{
	log_warning("declawd is away: all connections are cut");
	cut_all(userdata);
}

/* Of the environment, see declaw-proxy.service; *ret is left when it has none */
static int setting(const char *name, uint64_t min, uint64_t max, uint64_t *ret)
{
	const char *text = getenv(name);

	if (!text || str_to_u64(text, min, max, ret) >= 0)
		return 0;
	log_error("%s must be a number from %llu to %llu: \"%s\"", name, (unsigned long long)min, (unsigned long long)max, text);
	return -EINVAL;
}

static bool listener_good(int fd)
{
	int one = 1;

	/* systemd's are blocking; what is accepted takes over its options */
	return sd_is_socket_inet(fd, AF_INET, SOCK_STREAM, 1, 0) > 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
	       setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0;
}

/* How many there are: all of one port, among which the kernel shares out connections */
static int listeners_take(void)
{
	int n = sd_listen_fds(1), good = 0;

	while (good < n && n <= (int)LISTENERS_MAX && listener_good(SD_LISTEN_FDS_START + good))
		good++;
	if (good > 0 && good == n)
		return n;
	log_error("One to %u listening TCP sockets must be handed over (declaw-proxy.socket)", LISTENERS_MAX);
	return -EINVAL;
}

/* Those of this instance; the others' are closed here, and stay with them */
static void listeners_share(struct proxy *p, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + (int)i;

		if (i % p->prefork.n == p->prefork.instance)
			p->listeners[p->n_listeners++].fd = fd;
		else
			fd_close(fd);
	}
}

static int watch(int epoll, int fd, void *what)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = what };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static int setup(struct proxy *p, const char *control)
{
	static const struct chan_client_ops ops = { .policy = on_policy, .gone = on_gone, .lost = on_lost };
	int r = sd_event_default(&p->event);

	if (r < 0)
		return r;
	list_init(&p->waiting);
	list_init(&p->running);
	list_init(&p->over);
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (p->epoll < 0)
		return -errno;
	r = chan_client_new(p->event, control, CHAN_ROLE_PROXY, &ops, p, &p->client);
	if (r >= 0) {
		chan_client_instance(p->client, p->prefork.instance);
		chan_client_gather(p->client);
	}
	if (r >= 0)
		r = watch(p->epoll, sd_event_get_fd(p->event), p->event);
	for (unsigned int i = 0; i < p->n_listeners && r >= 0; i++)
		r = watch(p->epoll, p->listeners[i].fd, &p->listeners[i]);
	if (r >= 0)
		r = sd_event_add_time_relative(p->event, NULL, CLOCK_MONOTONIC, USEC_PER_SEC, 0, on_tick, p);
	return r;
}

int main(int argc, char **argv)
{
	uint64_t busy = BUSYWAIT_USEC, processes = prefork_processors(PREFORK_MAX);
	struct proxy p = { .epoll = -EBADF };
	sigset_t mask;
	int r, n = 0;

	log_init(LOG_INFO);
	if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
		fprintf(stderr, "usage: declaw-proxy [CONTROL-SOCKET]; started by systemd\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	r = noexec();
	if (r >= 0)
		r = n = listeners_take();
	if (r >= 0)
		r = setting("DECLAW_PROXY_BUSY_WAIT", 0, BUSYWAIT_USEC_MAX, &busy);
	if (r >= 0)
		r = setting("DECLAW_PROXY_PROCESSES", 1, PREFORK_MAX, &processes);
	if (r >= 0)
		r = prefork_start(MIN_OF((unsigned int)processes, (unsigned int)n), &p.prefork);
	if (r >= 0) {
		listeners_share(&p, (unsigned int)n);
		busywait_init(&p.wait, busy);
		r = setup(&p, argc == 2 ? argv[1] : CONTROL);
	}
	if (r >= 0)
		r = sd_event_add_signal(p.event, NULL, SIGTERM, NULL, NULL);
	if (r >= 0)
		r = sd_event_add_signal(p.event, NULL, SIGINT, NULL, NULL);
	if (r >= 0)
		sd_event_set_watchdog(p.event, true);
	if (r >= 0)
		r = prefork_ready(&p.prefork, p.event);
	if (r < 0) {
		log_error_errno(r, "The proxy cannot be set up: %m");
		return EXIT_FAILURE;
	}
	r = serve(&p);
	cut_all(&p);
	flows_sweep(&p);
	chan_client_flush(p.client);
	chan_client_free(p.client);
	fd_close(p.epoll);
	sd_event_unref(p.event);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
