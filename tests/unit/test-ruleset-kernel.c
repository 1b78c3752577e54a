/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net/firewall in a kernel: what the base is, what it drops, in a network namespace of its own. Policies: test-ruleset-apply.c.
 *
 * That the drops are the rules' doing is shown by the control at the end: after the teardown the very same frames
 * come through. For it the tap's other covers (NOARP, IPv6 off) are taken away by the test. Skipped without root.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "lib/firewall-fixture.h"
#include "lib/jail.h"
#include "net/ruleset.h"
#include "net/tap.h"

#define STRAY "dclstray00000"
#define PORT 4711

static void test_base_is_the_file(void)
{
	const char *srcdir = getenv("srcdir");
	_cleanup_free_ char *path = str_format("%s/nft/declaw-base.nft", srcdir ? srcdir : ".");
	_cleanup_free_ char *file = NULL, *built = NULL, *twice = NULL, *empty = NULL, *none = ruleset();
	char made[RULESET_MADE_MAX];

	ruleset_made(made);
	ok(CMD_OK("nft", "-f", path), "nft takes %s", path);
	ok(CMD_OK("nft", "add element inet declaw network { 10.214.0.0/16 }") &&
	   CMD_OK("nft", "add rule inet declaw workers_out ct mark 0x40000003 accept") &&
	   CMD_OK("nft", "add element inet declaw upstream { " UPSTREAM " }") &&
	   CMD_OK("nft", "add rule inet declaw workers_out meta skuid 4001 meta nfproto ipv6 goto refuse") &&
	   CMD_OK("nft", "add rule inet declaw workers_out meta skuid 4001 jump guard") &&
	   CMD_OK("nft", "add rule inet declaw workers_out meta skuid 4001 ct mark set 0x40000003") &&
	   CMD_OK("nft", "add rule inet declaw workers_out meta skuid 4002 ip daddr @upstream meta l4proto { tcp, udp } th dport 53 accept") &&
	   CMD_OK("nft", "add rule inet declaw workers_out meta skuid 4002 goto refuse") &&
	   CMD_OK("nft", "add", "chain", "inet", "declaw", made), "and what the configuration adds");
	file = ruleset();
	ok(CMD_OK("nft", "flush", "ruleset"), "flushed");
	ok(setup_rules() == 0, "what is built in is taken: %s", last_message);
	built = ruleset();
	ok(file && built && strstr(built, "members") && str_eq(file, built), "both give the same ruleset");
	if (!str_eq(file, built))
		printf("# file %s\n# built %s\n", file, built);
	ok(setup_rules() == 0, "set up again");
	twice = ruleset();
	ok(str_eq(built, twice), "nothing is there twice");
	ok(teardown() == 0 && teardown() == 0, "taken down, twice");
	empty = ruleset();
	ok(str_eq(empty, none), "nothing is left");
}

/* A daemon of another release left its table: with a set of another type, and a chain that drops what ours lets pass */
static void test_other_release(void)
{
	_cleanup_free_ char *ours = NULL, *instead = NULL;

	ok(setup_rules() == 0, "set up");
	ours = ruleset();
	ok(teardown() == 0 && CMD_OK("nft", "add table inet declaw") &&
	   CMD_OK("nft", "add set inet declaw sends { type ipv4_addr; counter; }") &&
	   CMD_OK("nft", "add chain inet declaw prerouting { type filter hook prerouting priority -150; policy drop; }"),
	   "what another release made");
	ok(setup_rules() == 0, "set up over it: %s", last_message);
	instead = ruleset();
	ok(str_eq(ours, instead), "ours is there instead");
	if (!str_eq(ours, instead))
		printf("# instead %s\n", instead);
	ok(close_sandbox(ID, TAP) == 0 && list() == 1 && setup_rules() == 0 && list() == 1, "the next one keeps what there is");
	ok(remove_sandbox(ID, TAP) == 0 && teardown() == 0, "taken down");
}

static void test_sandboxes(void)
{
	_cleanup_free_ char *before = NULL, *after = NULL, *again = NULL;

	ok(list() == 0, "no table, no sandboxes");
	ok(remove_sandbox(ID, TAP) == 0, "removing one without a table is no error");
	ok(close_sandbox(ID, TAP) == -ENOENT, "closing one without a table is: %s", last_message);
	ok(setup_rules() == 0, "set up");
	before = ruleset();
	ok(remove_sandbox(ID, TAP) == 0, "removing an unknown one is no error");
	ok(close_sandbox(ID, TAP) == 0, "closed");
	after = ruleset();
	ok(strstr(after, TAP) != NULL, "it is known");
	ok(close_sandbox(ID, TAP) == 0 && setup_rules() == 0, "closed again, base set up again");
	again = ruleset();
	ok(str_eq(after, again), "nothing is there twice, the sandbox stayed");
	ok(list() == 1 && str_eq(last_name, ID), "listed: %s", last_name);
	ok(close_sandbox("no;such", TAP) == -EINVAL, "a bad name never gets to the kernel: %s", last_message);
	ok(remove_sandbox(ID, TAP) == 0 && list() == 0, "removed");
	free(TAKE_PTR(after));
	after = ruleset();
	ok(str_eq(before, after), "nothing of it is left");
	ok(teardown() == 0, "taken down");
}

/* --- packets --- */

struct nic {
	int fd;
	struct ether_header eth;	/* from the guest to the host's end */
};

static bool nic_open(struct nic *n, const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool good;

	n->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	good = ioctl(n->fd, TUNSETIFF, &ifr) == 0;
	good = good && ioctl(s, SIOCGIFHWADDR, &ifr) == 0;
	memcpy(n->eth.ether_dhost, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
	memcpy(n->eth.ether_shost, "\x02\x00\x00\x00\x00\x01", ETH_ALEN);
	close(s);
	return good;
}

static void nic_send(struct nic *n, uint16_t type, const void *data, size_t len)
{
	char frame[256];

	n->eth.ether_type = htons(type);
	memcpy(frame, &n->eth, sizeof(n->eth));
	memcpy(frame + sizeof(n->eth), data, len);
	if (write(n->fd, frame, sizeof(n->eth) + len) < 0)
		printf("# write: %m\n");
}

/* Did the host send a frame of that type within 0.2 s? */
static bool nic_hears(struct nic *n, uint16_t type)
{
	struct pollfd p = { .fd = n->fd, .events = POLLIN };
	struct ether_header frame[16];

	while (poll(&p, 1, 200) > 0)
		if (read(n->fd, frame, sizeof(frame)) > 0 && frame[0].ether_type == htons(type))
			return true;
	return false;
}

static uint16_t ip_checksum(const void *data, size_t len)
{
	const char *p = data;
	uint32_t sum = 0;
	uint16_t word;

	for (size_t i = 0; i + 1 < len; i += 2) {
		memcpy(&word, p + i, sizeof(word));
		sum += word;
	}
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~(sum + (sum >> 16));
}

static void send_udp4(struct nic *n)
{
	struct {
		struct iphdr ip;
		struct udphdr udp;
		char data[4];
	} p = { .ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons(sizeof(p)) } };

	p.ip.saddr = inet_addr("10.8.0.2");
	p.ip.daddr = inet_addr("10.9.9.1");
	p.ip.check = ip_checksum(&p.ip, sizeof(p.ip));
	p.udp = (struct udphdr) { .source = htons(1), .dest = htons(PORT), .len = htons(12) };
	nic_send(n, ETHERTYPE_IP, &p, sizeof(p));
}

/* UDP over IPv6 needs its checksum: one's complement sum over a pseudo header. */
static void send_udp6(struct nic *n)
{
	struct {
		struct in6_addr src, dst;
		uint32_t len, next;
		struct udphdr udp;
		char data[4];
	} sum = { .len = htonl(12), .next = htonl(IPPROTO_UDP) };
	struct {
		struct ip6_hdr ip;
		struct udphdr udp;
		char data[4];
	} p = { .ip.ip6_plen = htons(12), .ip.ip6_nxt = IPPROTO_UDP, .ip.ip6_hlim = 64 };

	p.ip.ip6_vfc = 0x60;
	inet_pton(AF_INET6, "2001:db8::2", &p.ip.ip6_src);
	inet_pton(AF_INET6, "2001:db8::1", &p.ip.ip6_dst);
	p.udp = (struct udphdr) { .source = htons(1), .dest = htons(PORT), .len = htons(12) };
	sum.src = p.ip.ip6_src;
	sum.dst = p.ip.ip6_dst;
	sum.udp = p.udp;
	p.udp.check = ip_checksum(&sum, sizeof(sum));
	nic_send(n, ETHERTYPE_IPV6, &p, sizeof(p));
}

static void send_arp(struct nic *n)
{
	struct ether_arp a = { .ea_hdr = { .ar_hrd = htons(1), .ar_pro = htons(ETHERTYPE_IP), .ar_hln = 6, .ar_pln = 4,
					   .ar_op = htons(ARPOP_REQUEST) } };

	memcpy(a.arp_sha, n->eth.ether_shost, ETH_ALEN);
	inet_pton(AF_INET, "10.8.0.2", a.arp_spa);
	inet_pton(AF_INET, "10.9.9.1", a.arp_tpa);
	nic_send(n, ETHERTYPE_ARP, &a, sizeof(a));
}

static bool arrives(int sock)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	char c[64];

	return poll(&p, 1, 200) > 0 && recv(sock, c, sizeof(c), 0) >= 0;
}

static int udp_socket(void)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };
	int s = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 ? -1 : s;
}

static void test_tap_covers_itself(struct nic *n, int sock)
{
	send_arp(n);
	ok(!nic_hears(n, ETHERTYPE_ARP), "the tap alone: no ARP");
	send_udp6(n);
	ok(!arrives(sock), "the tap alone: no IPv6");
}

static void test_closed(struct nic *n, int sock, const char *which)
{
	send_udp4(n);
	ok(!arrives(sock), "%s: no IPv4 comes in", which);
	send_udp6(n);
	ok(!arrives(sock), "%s: no IPv6 comes in", which);
	send_arp(n);
	ok(!nic_hears(n, ETHERTYPE_ARP), "%s: no answer to ARP", which);
}

static bool counted(const char *chain)
{
	_cleanup_free_ char *s = CMD("nft", "list", "chain", "inet", "declaw", chain);
	const char *p = s ? strstr(s, "counter packets ") : NULL;

	return p && atoi(p + strlen("counter packets ")) > 0;
}

static bool tap_open_up(const char *tap)
{
	_cleanup_free_ char *path = str_format("/proc/sys/net/ipv6/conf/%s/disable_ipv6", tap);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, "0", 1) == 1;

	fd_close(fd);
	return good && CMD_OK("ip", "link", "set", tap, "arp", "on");
}

static void test_packets(void)
{
	struct nic n, stray;
	int sock;

	if (!CMD_OK("ip", "link", "set", "lo", "up") || !CMD_OK("ip", "addr", "add", "10.9.9.1/32", "dev", "lo") ||
	    !CMD_OK("ip", "addr", "add", "2001:db8::1/128", "dev", "lo")) {
		ok(false, "an address for the host");
		return;
	}
	ok(setup_rules() == 0 && tap_create(TAP, 0) == 0 && tap_create(STRAY, 0) == 0, "two taps");
	ok(close_sandbox(ID, TAP) == 0, "one of them is a closed sandbox's");
	sock = udp_socket();
	ok(nic_open(&n, TAP) && nic_open(&stray, STRAY) && sock >= 0, "guests on both");

	ok(teardown() == 0, "without rules");
	test_tap_covers_itself(&n, sock);
	ok(tap_open_up(TAP) && tap_open_up(STRAY), "the taps' own covers are taken away");
	ok(CMD_OK("ip", "route", "add", "10.8.0.0/24", "dev", TAP), "a way back for answers");
	ok(setup_rules() == 0 && close_sandbox(ID, TAP) == 0, "the rules alone");
	test_closed(&n, sock, "closed sandbox");
	firewall_show(fw, ID, on_show, NULL);
	ok(answer() == 0 && strstr(last_json, "\"unknown\",\"packets\":1,") && strstr(last_json, "\"ipv6\",\"packets\":1,"),
	   "they were counted: %s", last_json);
	test_closed(&stray, sock, "no element");
	ok(counted("dropped"), "the default counted them");
	ok(!counted("input"), "none got as far as input");
	ok(remove_sandbox(ID, TAP) == 0, "the sandbox's rules go, the tap stays");
	test_closed(&n, sock, "removed sandbox");

	ok(teardown() == 0, "control: without rules");
	send_udp4(&n);
	ok(arrives(sock), "IPv4 comes in");
	send_udp6(&n);
	ok(arrives(sock), "IPv6 comes in");
	send_arp(&n);
	ok(nic_hears(&n, ETHERTYPE_ARP), "ARP is answered");
	close(n.fd);
	close(stray.fd);
	close(sock);
	ok(tap_remove(TAP) == 0 && tap_remove(STRAY) == 0 && tap_remove(STRAY) == 0, "taps removed, one of them twice");
}

static void test_free(struct workers *w)
{
	struct firewall *f = NULL;

	n_answers = 0;
	ok(firewall_new(w, &f) == 0, "another firewall");
	for (int i = 0; i < 10; i++)
		firewall_setup(f, &config, on_done, NULL);
	firewall_list(f, on_list, NULL);
	firewall_free(f);
	ok(n_answers == 11 && last_error == -ECANCELED, "freed with calls in flight: each is answered");
	for (int i = 0; i < 20; i++)
		sd_event_run(event, 10000);
	ok(n_answers == 11, "once");
	n_answers = 0;
}

int main(void)
{
	fixture_open();
	test_base_is_the_file();
	test_other_release();
	test_sandboxes();
	test_packets();
	test_free(fixture_workers);
	return fixture_close();
}
