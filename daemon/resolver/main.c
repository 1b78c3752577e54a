/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * declaw-resolver: the only DNS server a sandbox can reach.
 *
 * A process of its own, without capabilities, that can do nothing but send and receive packets and speak to declawd's
 * control socket. Its sockets come from the service manager (declaw-resolver.socket); --listen makes some for tests.
 * What it may resolve for whom, it is told by declawd; while it is not told, it answers nobody.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "config.h"
#include "resolver/serve.h"
#include "util/log.h"
#include "util/noexec.h"

#define CONTROL_PATH "/run/declaw/egress/control.sock"

static void usage(FILE *f)
{
	fputs("declaw-resolver: answers the names that a sandbox's policy allows\n\n"
	      "  --control PATH        declawd's socket (" CONTROL_PATH ")\n"
	      "  --listen ADDRESS:PORT UDP and TCP, instead of sockets from the service manager\n"
	      "  --upstream SERVERS    name servers to ask, instead of those declawd names\n"
	      "  --debug --version --help\n", f);
}

static int bound(int type, const struct sockaddr_in *sa)
{
	_cleanup_close_ int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 || (type == SOCK_STREAM && listen(fd, 128) < 0))
		return -errno;
	return TAKE_FD(fd);
}

static int listen_on(struct serve *s, const char *where)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	const char *colon = strrchr(where, ':');
	_cleanup_free_ char *host = colon ? strndup(where, (size_t)(colon - where)) : NULL;
	static const int types[] = { SOCK_DGRAM, SOCK_STREAM };
	uint64_t port;
	int r = 0;

	if (!host || inet_pton(AF_INET, host, &sa.sin_addr) != 1 || str_to_u64(colon + 1, 1, 65535, &port) < 0)
		return -EINVAL;
	sa.sin_port = htons((uint16_t)port);
	for (size_t i = 0; r == 0 && i < ELEMENTSOF(types); i++) {
		_cleanup_close_ int fd = bound(types[i], &sa);

		r = fd < 0 ? fd : serve_add(s, fd);
		if (r == 0)
			TAKE_FD(fd);
	}
	return r;
}

static int passed_sockets(struct serve *s)
{
	int n = sd_listen_fds(1), r = n < 0 ? n : n == 0 ? -ENOTCONN : 0;

	for (int i = 0; r == 0 && i < n; i++)
		r = serve_add(s, SD_LISTEN_FDS_START + i);
	return r;
}

struct program {
	struct serve *serve;
	sd_event *event;
	const char *listen;
};

static void on_ready(void *userdata)
{
	struct program *p = userdata;
	int r = p->listen ? listen_on(p->serve, p->listen) : passed_sockets(p->serve);

	if (r < 0) {
		log_error_errno(r, "The resolver's sockets cannot be used: %m");
		sd_event_exit(p->event, r);
	}
}

static int run(const char *control, const char *listen, const char *servers)
{
	struct program p = { .listen = listen };
	struct resolver *resolver = NULL;
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	r = sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : noexec();
	if (r >= 0)
		r = sd_event_default(&p.event);
	if (r >= 0)
		r = sd_event_add_signal(p.event, NULL, SIGTERM, NULL, NULL);
	if (r >= 0)
		r = sd_event_add_signal(p.event, NULL, SIGINT, NULL, NULL);
	if (r >= 0)
		r = sd_event_set_watchdog(p.event, true);
	if (r >= 0)
		r = resolver_new(p.event, control, servers, on_ready, &p, &resolver);
	if (r >= 0)
		r = serve_new(p.event, resolver, &p.serve);
	if (r < 0) {
		log_error_errno(r, "The resolver cannot start: %m");
	} else {
		sd_notify(0, "READY=1");
		r = sd_event_loop(p.event);
	}
	resolver_free(resolver);
	serve_free(p.serve);
	sd_event_unref(p.event);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "control", required_argument, NULL, 'c' }, { "listen", required_argument, NULL, 'l' },
		{ "upstream", required_argument, NULL, 'u' }, { "debug", no_argument, NULL, 'd' },
		{ "version", no_argument, NULL, 'V' }, { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
	};
	const char *control = CONTROL_PATH, *listen = NULL, *servers = NULL;
	int c, level = LOG_INFO;

	setlocale(LC_ALL, "C.UTF-8");
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
		switch (c) {
		case 'c':
			control = optarg;
			break;
		case 'l':
			listen = optarg;
			break;
		case 'u':
			servers = optarg;
			break;
		case 'd':
			level = LOG_DEBUG;
			break;
		case 'V':
			puts("declaw-resolver " PACKAGE_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return EXIT_FAILURE;
		}
	log_init(level);
	return run(control, listen, servers);
}
