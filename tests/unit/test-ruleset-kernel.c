/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net/firewall in a kernel: what is loaded, what it drops, what it costs, in a network namespace of its own.
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

#include "lib/cmd.h"
#include "lib/jail.h"
#include "lib/tap.h"
#include "loop/workers.h"
#include "net/firewall.h"
#include "net/tap.h"
#include "policy/policy.h"
#include "util/macro.h"
#include "util/str.h"

#define ID "aaaaaaaaaa"
#define TAP "dcl" ID
#define STRAY "dclstray00000"
#define PORT 4711

static sd_event *event;
static struct firewall *fw;
static int n_answers, last_error;
static size_t n_names;
static char last_name[16], last_message[256];

static void on_done(void *userdata _unused_, int error, const char *message)
{
	n_answers++;
	last_error = error;
	snprintf(last_message, sizeof(last_message), "%s", message);
}

static void on_list(void *userdata _unused_, int error, const char (*names)[16], size_t n)
{
	n_answers++;
	last_error = error;
	n_names = n;
	snprintf(last_name, sizeof(last_name), "%s", n ? names[n - 1] : "");
}

static int answer(void)
{
	bool came = tap_wait(event, 20, n_answers > 0);

	n_answers = 0;
	return came ? last_error : -ETIMEDOUT;
}

#define PROXY_UID 4001
#define RESOLVER_UID 4002
#define UPSTREAM "10.9.9.53"

static char upstream[] = UPSTREAM, *const upstreams[] = { upstream, NULL };
static const struct firewall_config config = {
	.network = "10.214.0.0/16", .proxy_uid = PROXY_UID, .resolver_uid = RESOLVER_UID, .upstream = upstreams,
};

static int setup_rules(void)
{
	firewall_setup(fw, &config, on_done, NULL);
	return answer();
}

static int close_sandbox(const char *id, const char *tap)
{
	firewall_sandbox_close(fw, id, tap, on_done, NULL);
	return answer();
}

static int remove_sandbox(const char *id, const char *tap)
{
	firewall_sandbox_remove(fw, id, tap, on_done, NULL);
	return answer();
}

static int teardown(void)
{
	firewall_teardown(fw, on_done, NULL);
	return answer();
}

static size_t list(void)
{
	firewall_list(fw, on_list, NULL);
	return answer() == 0 ? n_names : (size_t)-1;
}

/* --- the ruleset as text --- */

/* Handles say in which order things were made, which is not what is compared. */
static char *ruleset(void)
{
	char *s = CMD("nft", "-j", "list", "ruleset"), *p;

	while (s && (p = strstr(s, "\"handle\": "))) {
		size_t n = strlen("\"handle\": ");

		n += strspn(p + n, "0123456789, ");
		memmove(p, p + n, strlen(p + n) + 1);
	}
	return s;
}

static void test_base_is_the_file(void)
{
	const char *srcdir = getenv("srcdir");
	_cleanup_free_ char *path = str_format("%s/nft/declaw-base.nft", srcdir ? srcdir : ".");
	_cleanup_free_ char *file = NULL, *built = NULL, *twice = NULL, *empty = NULL, *none = ruleset();

	ok(CMD_OK("nft", "-f", path), "nft takes %s", path);
	ok(CMD_OK("nft", "add element inet declaw network { 10.214.0.0/16 }") &&
	   CMD_OK("nft", "add element inet declaw upstream { " UPSTREAM " }") &&
	   CMD_OK("nft", "add rule inet declaw workers_out meta skuid 4001 meta nfproto ipv6 goto refuse") &&
	   CMD_OK("nft", "add rule inet declaw workers_out meta skuid 4001 jump guard") &&
	   CMD_OK("nft", "add rule inet declaw workers_out meta skuid 4002 ip daddr @upstream meta l4proto { tcp, udp } th dport 53 accept") &&
	   CMD_OK("nft", "add rule inet declaw workers_out meta skuid 4002 goto refuse"), "and what the configuration adds");
	file = ruleset();
	ok(CMD_OK("nft", "flush", "ruleset"), "flushed");
	ok(setup_rules() == 0, "what is built in is taken: %s", last_message);
	built = ruleset();
	ok(file && built && strstr(built, "sandboxes") && str_eq(file, built), "both give the same ruleset");
	if (!str_eq(file, built))
		printf("# file %s\n# built %s\n", file, built);
	ok(setup_rules() == 0, "set up again");
	twice = ruleset();
	ok(str_eq(built, twice), "nothing is there twice");
	ok(teardown() == 0 && teardown() == 0, "taken down, twice");
	empty = ruleset();
	ok(str_eq(empty, none), "nothing is left");
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
	ok(strstr(after, "sbx_" ID) != NULL, "its chain is there");
	ok(close_sandbox(ID, TAP) == 0 && setup_rules() == 0, "closed again, base set up again");
	again = ruleset();
	ok(str_eq(after, again), "nothing is there twice, the sandbox stayed");
	ok(list() == 1 && str_eq(last_name, ID), "listed: %s", last_name);
	ok(close_sandbox("no;such", TAP) == -EINVAL, "a bad name never gets to nft: %s", last_message);
	ok(remove_sandbox(ID, TAP) == 0 && list() == 0, "removed");
	free(TAKE_PTR(after));
	after = ruleset();
	ok(str_eq(before, after), "nothing of it is left");
	ok(teardown() == 0, "taken down");
}

/* --- policies: the kernel takes each, any number of times, and nothing is left --- */

static char last_json[65536];

static void on_show(void *userdata _unused_, int error, const char *json)
{
	n_answers++;
	last_error = error;
	snprintf(last_json, sizeof(last_json), "%s", json ?: "");
}

static int set_policy(const char *network)
{
	json_object *o = json_tokener_parse(network);
	const struct firewall_pin pins[] = { { 0xcb00710a, 60 }, { 0xcb00710b, 60 } };
	struct firewall_sandbox spec = {
		.short_id = ID, .tap = TAP, .mac = "02:00:00:00:00:07", .address = "10.214.0.7", .pins = pins,
	};
	struct policy *p = NULL;
	char *detail = NULL;

	if (policy_parse(o, false, &p, &detail) < 0)
		return -EINVAL;
	spec.policy = p;
	spec.n_pins = policy_name_checked(p) ? 2 : 0;
	firewall_sandbox_set(fw, &spec, on_done, NULL);
	policy_free(p);
	json_object_put(o);
	return answer();
}

/* What waits is run together; one that cannot be spoils nothing for the others, and nothing of it is left. */
static int together_errors[6];

static void on_together(void *userdata, int error, const char *message _unused_)
{
	*(int *)userdata = error;
	n_answers++;
}

static void test_together(void)
{
	static struct firewall_pin too_many[5000];
	json_object *o = json_tokener_parse("{'allow_out':['a.example.com']}");
	struct policy *p = NULL;
	char *detail = NULL;
	size_t set = 0;

	ok(policy_parse(o, false, &p, &detail) == 0, "a policy");
	ok(setup_rules() == 0, "set up");
	for (uint32_t i = 0; i < ELEMENTSOF(too_many); i++)
		too_many[i] = (struct firewall_pin){ 0xcb007200 + i, 60 };
	for (int i = 0; i < 6; i++) {
		char id[16], tap[16];
		const struct firewall_sandbox spec = { .short_id = id, .tap = tap, .mac = "02:00:00:00:00:07",
			.address = "10.214.0.7", .policy = p, .pins = too_many, .n_pins = i == 3 ? ELEMENTSOF(too_many) : 1 };

		together_errors[i] = 1;
		/* the fifth is the second one's once more */
		snprintf(id, sizeof(id), "together%02d", i == 4 ? 1 : i);
		snprintf(tap, sizeof(tap), "dcltogeth%02d", i == 4 ? 1 : i);
		firewall_sandbox_set(fw, &spec, on_together, &together_errors[i]);
	}
	ok(tap_wait(event, 60, n_answers == 6), "all are answered");
	n_answers = 0;
	for (int i = 0; i < 6; i++)
		set += together_errors[i] == 0;
	ok(set == 5 && together_errors[3] < 0, "all but the one with too many addresses: %zu, %d", set, together_errors[3]);
	ok(list() == 4, "four of them are there");
	for (int i = 0; i < 6; i++) {
		char id[16], tap[16];

		snprintf(id, sizeof(id), "together%02d", i);
		snprintf(tap, sizeof(tap), "dcltogeth%02d", i);
		firewall_sandbox_remove(fw, id, tap, on_together, &together_errors[i]);
	}
	ok(tap_wait(event, 60, n_answers == 6), "all are removed");
	n_answers = 0;
	ok(list() == 0, "none is left");
	ok(teardown() == 0, "taken down");
	policy_free(p);
	json_object_put(o);
}

static void test_policies(void)
{
	static const char *const networks[] = {
		"{}", "{'deny_out':['*']}", "{'allow_out':['203.0.113.0/24','203.0.113.7','203.0.112.0/23']}",
		"{'allow_out':['a.example.com','203.0.113.7']}", "{'deny_out':['203.0.113.0/24','203.0.113.0/25']}",
		"{'deny_out':['evil.example.com']}",
	};
	const struct firewall_pin pin = { 0xcb007163, 90 };
	_cleanup_free_ char *before = NULL, *after = NULL;

	ok(setup_rules() == 0, "set up");
	before = ruleset();
	for (size_t i = 0; i < ELEMENTSOF(networks); i++) {
		_cleanup_free_ char *once = NULL, *twice = NULL;

		ok(set_policy(networks[i]) == 0, "%s: %s", networks[i], last_message);
		once = ruleset();
		ok(set_policy(networks[i]) == 0, "again: %s", last_message);
		twice = ruleset();
		/* but for what a pin has left of its life */
		ok(strlen(once) + 16 > strlen(twice) && strlen(twice) + 16 > strlen(once), "nothing is there twice");
	}
	firewall_pin(fw, ID, &pin, 1, on_done, NULL);
	ok(answer() == 0, "a pin: %s", last_message);
	firewall_pin(fw, ID, &pin, 1, on_done, NULL);
	ok(answer() == 0, "once more");
	firewall_show(fw, ID, on_show, NULL);
	ok(answer() == 0 && strstr(last_json, "203.0.113.99") && strstr(last_json, "203.0.113.10") && strstr(last_json, "counter"),
	   "shown with its counters and pins");
	firewall_pin(fw, "bbbbbbbbbb", &pin, 1, on_done, NULL);
	ok(answer() == -ENOENT, "a pin for nobody: %s", last_message);
	ok(remove_sandbox(ID, TAP) == 0, "removed: %s", last_message);
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
	ok(counted("sbx_" ID), "its chain counted them");
	test_closed(&stray, sock, "no element");
	ok(counted("sandbox"), "the default counted them");
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

/* --- cost --- */

static void test_many(void)
{
	enum { N = 400, MORE = 50 };
	char id[16], tap[20];
	double t, add, del;
	int bad = 0;

	ok(setup_rules() == 0, "set up");
	t = tap_seconds();
	for (int i = 0; i < N + MORE; i++) {
		snprintf(id, sizeof(id), "s%09d", i);
		snprintf(tap, sizeof(tap), "dcl%s", id);
		bad += close_sandbox(id, tap) != 0;
		if (i == N - 1)
			t = tap_seconds();
	}
	add = (tap_seconds() - t) / MORE;
	ok(bad == 0 && list() == N + MORE, "%d sandboxes", N + MORE);
	t = tap_seconds();
	for (int i = 0; i < MORE; i++) {
		snprintf(id, sizeof(id), "s%09d", i);
		snprintf(tap, sizeof(tap), "dcl%s", id);
		bad += remove_sandbox(id, tap) != 0;
	}
	del = (tap_seconds() - t) / MORE;
	ok(bad == 0, "with %d sandboxes: close %.2f ms, remove %.2f ms", N, add * 1e3, del * 1e3);
	t = tap_seconds();
	bad = list() != N;
	ok(!bad, "list: %.1f ms", (tap_seconds() - t) * 1e3);
	t = tap_seconds();
	bad = setup_rules();
	ok(bad == 0, "setting up the base again: %.1f ms", (tap_seconds() - t) * 1e3);
	ok(list() == N, "which keeps the sandboxes");
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
	struct workers *w = NULL;
	int r;

	if (geteuid() != 0 || access("/usr/sbin/nft", X_OK) < 0 || access("/dev/net/tun", F_OK) < 0)
		tap_skip("needs root, nft and /dev/net/tun");
	r = jail_enter();
	if (r < 0)
		tap_skip("namespaces: %s", strerror(-r));
	if (sd_event_new(&event) < 0 || workers_new(event, 0, &w) < 0 || firewall_new(w, &fw) < 0)
		return EXIT_FAILURE;
	test_base_is_the_file();
	test_sandboxes();
	test_policies();
	test_together();
	test_packets();
	test_many();
	test_free(w);
	firewall_free(fw);
	workers_free(w);
	sd_event_unref(event);
	return tap_done();
}
