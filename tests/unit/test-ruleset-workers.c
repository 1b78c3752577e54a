/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the resolver's and the proxy's own users get, and what becomes of fragments, in a kernel, in a network namespace of
 * its own. Skipped without root.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "lib/cmd.h"
#include "lib/jail.h"
#include "lib/tap.h"
#include "loop/workers.h"
#include "net/firewall.h"
#include "net/tap.h"
#include "policy/policy.h"
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

/* --- fragments: the kernel must not have put them together before they are looked at --- */

#define ID "aaaaaaaaaa"
#define TAP "dcl" ID

static int open_sandbox(void)
{
	struct firewall_sandbox spec = { .short_id = ID, .tap = TAP, .mac = "02:00:00:00:00:07", .address = "10.214.0.7" };
	struct policy *p = NULL;
	char *detail = NULL;

	if (policy_parse(NULL, false, &p, &detail) < 0)
		return -EINVAL;
	spec.policy = p;
	answered = false;
	firewall_sandbox_set(fw, &spec, on_done, NULL);
	policy_free(p);
	return tap_wait(event, 20, answered) ? last_error : -ETIMEDOUT;
}

static uint16_t ip_checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~(sum + (sum >> 16)));
}

static bool guest_sends(uint16_t offset_and_flags)
{
	struct {
		struct ether_header eth;
		struct iphdr ip;
		char data[24];
	} __attribute__((packed)) f = { .eth.ether_type = htons(ETHERTYPE_IP) };
	struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons(44), .id = 7 };
	struct ifreq ifr = { .ifr_name = TAP, .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool good = fd >= 0 && s >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0 && ioctl(s, SIOCGIFHWADDR, &ifr) == 0;

	memcpy(f.eth.ether_dhost, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
	memcpy(f.eth.ether_shost, "\x02\x00\x00\x00\x00\x07", ETH_ALEN);
	ip.saddr = inet_addr("10.214.0.7");
	ip.daddr = inet_addr("203.0.113.7");
	ip.frag_off = htons(offset_and_flags);
	ip.check = ip_checksum(&ip, sizeof(ip));
	memcpy(&f.ip, &ip, sizeof(ip));
	good = good && write(fd, &f, sizeof(f)) == (ssize_t)sizeof(f);
	fd_close(fd);
	fd_close(s);
	return good;
}

/* The second of those that count at its gate */
static int malformed(void)
{
	static const char counter[] = "counter packets ";
	_cleanup_free_ char *s = CMD("nft", "list", "table", "netdev", TAP);
	const char *p = s ? strstr(s, counter) : NULL;

	p = p ? strstr(p + strlen(counter), counter) : NULL;
	return p ? atoi(p + strlen(counter)) : -1;
}

static void test_fragments(void)
{
	ok(setup_rules() == 0 && tap_create(TAP, 0) == 0 && open_sandbox() == 0, "an open sandbox: %s", last_message);
	ok(guest_sends(0x2000) && guest_sends(3), "two fragments of one datagram");
	ok(malformed() == 2, "both were dropped as such: %d", malformed());
	ok(tap_remove(TAP) == 0, "removed");
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
	test_fragments();
	firewall_free(fw);
	workers_free(w);
	sd_event_unref(event);
	return tap_done();
}
