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
#include "util/str.h"

#define CONTROL "/run/declaw/egress/control.sock"
#define BATCH 256
#define ACCEPTS 64

static void accept_some(struct proxy *p)
{
	for (int i = 0; i < ACCEPTS; i++) {
		struct sockaddr_in peer;
		socklen_t len = sizeof(peer);
		int conn = accept4(p->listener, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (conn < 0)
			break;
		if (peer.sin_family == AF_INET)
			flow_accept(p, conn, &peer);
		else
			fd_close(conn);
	}
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
		else if (e[i].data.ptr == p)
			accept_some(p);
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
	return 0;
}

static int on_tick(sd_event_source *s, uint64_t usec _unused_, void *userdata)
{
	flows_expire(userdata);
	flows_sweep(userdata);
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

static void on_lost(void *userdata)
{
	struct proxy *p = userdata;
	struct flow *f;

	log_warning("declawd is away: all connections are cut");
	list_foreach(&p->waiting, f, struct flow, link)
		flow_cut(f);
	list_foreach(&p->running, f, struct flow, link)
		flow_cut(f);
}

/* DECLAW_PROXY_BUSY_WAIT: microseconds */
static int busy_wait_setting(uint64_t *ret)
{
	const char *text = getenv("DECLAW_PROXY_BUSY_WAIT");

	*ret = BUSYWAIT_USEC;
	if (!text || str_to_u64(text, 0, BUSYWAIT_USEC_MAX, ret) >= 0)
		return 0;
	log_error("DECLAW_PROXY_BUSY_WAIT must be a number of microseconds, at most %u; 0 turns it off: \"%s\"", BUSYWAIT_USEC_MAX, text);
	return -EINVAL;
}

static int listener_take(void)
{
	int n = sd_listen_fds(1), one = 1;

	/* systemd's are blocking; what is accepted takes over its options */
	if (n == 1 && sd_is_socket_inet(SD_LISTEN_FDS_START, AF_INET, SOCK_STREAM, 1, 0) > 0 &&
	    fcntl(SD_LISTEN_FDS_START, F_SETFL, O_NONBLOCK) == 0 &&
	    setsockopt(SD_LISTEN_FDS_START, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0)
		return SD_LISTEN_FDS_START;
	log_error("One listening TCP socket must be handed over (declaw-proxy.socket)");
	return -EINVAL;
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
	if (r >= 0)
		chan_client_gather(p->client);
	if (r >= 0)
		r = watch(p->epoll, sd_event_get_fd(p->event), p->event);
	if (r >= 0)
		r = watch(p->epoll, p->listener, p);
	if (r >= 0)
		r = sd_event_add_time_relative(p->event, NULL, CLOCK_MONOTONIC, USEC_PER_SEC, 0, on_tick, p);
	return r;
}

int main(int argc, char **argv)
{
	struct proxy p = { .epoll = -EBADF };
	uint64_t busy;
	sigset_t mask;
	int r;

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
	p.listener = listener_take();
	r = p.listener < 0 ? p.listener : busy_wait_setting(&busy);
	if (r >= 0) {
		busywait_init(&p.wait, busy);
		r = setup(&p, argc == 2 ? argv[1] : CONTROL);
	}
	if (r >= 0)
		r = sd_event_add_signal(p.event, NULL, SIGTERM, NULL, NULL);
	if (r >= 0)
		r = sd_event_add_signal(p.event, NULL, SIGINT, NULL, NULL);
	if (r >= 0)
		sd_event_set_watchdog(p.event, true);
	if (r < 0) {
		log_error_errno(r, "The proxy cannot be set up: %m");
		return EXIT_FAILURE;
	}
	sd_notify(0, "READY=1");
	r = serve(&p);
	on_lost(&p);
	flows_sweep(&p);
	chan_client_flush(p.client);
	chan_client_free(p.client);
	fd_close(p.epoll);
	sd_event_unref(p.event);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
