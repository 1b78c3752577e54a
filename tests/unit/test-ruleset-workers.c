/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the resolver's and the proxy's own users get, in a kernel, in a network namespace of its own. Skipped without
 * root.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "lib/cmd.h"
#include "lib/jail.h"
#include "lib/tap.h"
#include "loop/workers.h"
#include "net/firewall.h"
#include "util/macro.h"

#define PROXY_UID 4001
#define RESOLVER_UID 4002
#define UPSTREAM "10.9.9.53"

static sd_event *event;
static struct firewall *fw;
static bool answered;
static int last_error;
static char last_message[256];

static void on_done(void *userdata _unused_, int error, const char *message)
{
	answered = true;
	last_error = error;
	snprintf(last_message, sizeof(last_message), "%s", message);
}

static int setup_rules(void)
{
	static char upstream[] = UPSTREAM, *const upstreams[] = { upstream, NULL };
	static const struct firewall_config config = {
		.network = "10.214.0.0/16", .proxy_uid = PROXY_UID, .resolver_uid = RESOLVER_UID, .upstream = upstreams,
	};

	answered = false;
	firewall_setup(fw, &config, on_done, NULL);
	return tap_wait(event, 20, answered) ? last_error : -ETIMEDOUT;
}

static bool arrives(int sock)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	char c[64];

	return poll(&p, 1, 200) > 0 && recv(sock, c, sizeof(c), 0) >= 0;
}

static int listen_at(const char *addr, uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, addr, &a.sin_addr);
	return bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 ? -1 : s;
}

/* A datagram by that user; does it arrive? */
static bool says(uid_t uid, int listener)
{
	struct sockaddr_in to;
	socklen_t len = sizeof(to);
	pid_t pid;
	int status;

	if (getsockname(listener, (struct sockaddr *)&to, &len) < 0)
		return false;
	pid = fork();
	if (pid == 0) {
		int s = setuid(uid) < 0 ? -1 : socket(AF_INET, SOCK_DGRAM, 0);

		_exit(s < 0 ? 2 : sendto(s, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)) != 1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) == 2)
		printf("# no sender\n");
	return arrives(listener);
}

static void test_workers(void)
{
	int server, other_port, other;

	ok(CMD_OK("ip", "addr", "add", UPSTREAM "/32", "dev", "lo") && CMD_OK("ip", "addr", "add", "192.168.9.9/32", "dev", "lo") &&
	   CMD_OK("ip", "link", "set", "lo", "up"), "addresses that are this host's, or private, or both");
	server = listen_at(UPSTREAM, 53);
	other_port = listen_at(UPSTREAM, 54);
	other = listen_at("192.168.9.9", 53);
	ok(server >= 0 && other_port >= 0 && other >= 0, "somebody listens");
	ok(says(PROXY_UID, other) && says(RESOLVER_UID, other), "control: without rules both are heard");
	ok(setup_rules() == 0, "set up: %s", last_message);
	ok(says(0, other) && says(4003, server), "other users are left alone");
	ok(!says(PROXY_UID, server) && !says(PROXY_UID, other), "the proxy reaches no private address");
	ok(says(RESOLVER_UID, server), "the resolver reaches the server it asks");
	ok(!says(RESOLVER_UID, other_port), "that port and no other");
	ok(!says(RESOLVER_UID, other), "that server and no other");
	close(server);
	close(other_port);
	close(other);
}

int main(void)
{
	struct workers *w = NULL;
	int r;

	if (geteuid() != 0)
		tap_skip("needs root");
	r = jail_enter();
	if (r < 0)
		tap_skip("namespaces: %s", strerror(-r));
	if (sd_event_new(&event) < 0 || workers_new(event, 0, &w) < 0 || firewall_new(w, &fw) < 0)
		return EXIT_FAILURE;
	test_workers();
	firewall_free(fw);
	workers_free(w);
	sd_event_unref(event);
	return tap_done();
}
