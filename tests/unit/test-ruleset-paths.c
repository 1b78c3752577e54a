/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which way packets of each policy go, and their answers, in a kernel: a tap whose guest is this test, and another for the
 * rest of the world. What became of a packet is what was counted for its sandbox. Skipped without root.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "lib/firewall-fixture.h"
#include "net/tap.h"
#include "util/clock.h"

#define GUEST "10.214.0.7"
#define GUEST_MAC "02:00:00:00:00:07"
#define WAN "wan0"
#define WAN_ADDRESS "192.0.2.1"
#define WAN_MAC "02:00:00:00:00:fe"

enum { SYN = 0x02, ACK = 0x10 };

struct packet {
	struct ether_header eth;
	struct iphdr ip;
	union {
		struct udphdr udp;
		struct tcphdr tcp;
	};
} __attribute__((packed));

static int guest, wan;

static int nic_open(const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return ioctl(fd, TUNSETIFF, &ifr) == 0 ? fd : -1;
}

static uint32_t sum_words(const void *data, size_t len, uint32_t sum)
{
	const uint8_t *p = data;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	return sum;
}

static uint16_t checksum(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~(sum + (sum >> 16)));
}

static void seal(struct packet *p, size_t payload)
{
	p->ip.check = 0;
	p->ip.tot_len = htons((uint16_t)(sizeof(p->ip) + payload));
	p->ip.check = checksum(sum_words(&p->ip, sizeof(p->ip), 0));
	if (p->ip.protocol != IPPROTO_TCP)
		return;
	p->tcp.check = 0;
	p->tcp.check = checksum(sum_words(&p->tcp, payload, sum_words(&p->ip.saddr, 8, IPPROTO_TCP + (uint32_t)payload)));
}

static struct packet packet_to(const char *to, uint8_t protocol, uint16_t port, uint8_t flags)
{
	struct packet p = {
		.eth.ether_type = htons(ETHERTYPE_IP),
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = protocol, .saddr = inet_addr(GUEST), .daddr = inet_addr(to) },
	};

	memcpy(p.eth.ether_shost, "\x02\x00\x00\x00\x00\x07", ETH_ALEN);
	memcpy(p.eth.ether_dhost, "\x02\xde\xc1\xaa\x00\x01", ETH_ALEN);
	if (protocol == IPPROTO_TCP) {
		p.tcp = (struct tcphdr){ .source = htons(4000), .dest = htons(port), .doff = 5, .window = htons(1000) };
		((uint8_t *)&p.tcp)[13] = flags;
	} else {
		p.udp = (struct udphdr){ .source = htons(4000), .dest = htons(port), .len = htons(sizeof(p.udp)) };
	}
	return p;
}

static void nic_send(int fd, struct packet *p)
{
	size_t payload = p->ip.protocol == IPPROTO_TCP ? sizeof(p->tcp) : sizeof(p->udp);

	seal(p, payload);
	if (write(fd, p, sizeof(p->eth) + sizeof(p->ip) + payload) < 0)
		printf("# write: %m\n");
}

/* An IPv4 packet with that source or destination port; false when none comes within half a second */
static bool nic_hear(int fd, uint16_t port, struct packet *ret)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char frame[2048];

	while (poll(&p, 1, 500) > 0) {
		ssize_t n = read(fd, frame, sizeof(frame));

		memcpy(ret, frame, sizeof(*ret));
		if (n >= (ssize_t)(sizeof(ret->eth) + sizeof(ret->ip) + sizeof(ret->udp)) && ret->eth.ether_type == htons(ETHERTYPE_IP) &&
		    ret->ip.protocol == IPPROTO_UDP && (ret->udp.source == htons(port) || ret->udp.dest == htons(port)))
			return true;
	}
	return false;
}

static int set_policy(const char *network)
{
	static const struct firewall_pin pins[] = { { 0xcb00710a, 60 } };
	struct policy *p = policy_of(network);
	const struct firewall_sandbox spec = {
		.short_id = ID, .tap = TAP, .mac = GUEST_MAC, .address = GUEST, .policy = p, .pins = pins,
		.n_pins = policy_name_checked(p) ? ELEMENTSOF(pins) : 0,
	};

	firewall_sandbox_set(fw, &spec, on_done, NULL);
	policy_free(p);
	return answer();
}

/* What a packet was counted as: exactly one of them, once */
static const char *became(struct packet *p)
{
	const struct ruleset_verdict *v;
	const char *what = NULL;
	long before[32];

	show(ID);
	for (v = ruleset_verdicts; v->mark; v++)
		before[v - ruleset_verdicts] = count_of(v->name);
	nic_send(guest, p);
	show(ID);
	for (v = ruleset_verdicts; v->mark; v++) {
		long more = count_of(v->name) - before[v - ruleset_verdicts];

		if (more == 0)
			continue;
		if (more > 1 || what)
			return "several";
		what = v->name;
	}
	return what ?: "nothing";
}

/* --- out --- */

static void test_ways(void)
{
	static const char ranges[] = "{'allow_out':['203.0.113.0/24','140.82.112.0/20','8.0.0.0/7','9.9.9.9','34.5.0.0/16']}";
	static const char names[] = "{'allow_out':['a.example.com','203.0.114.0/24']}";
	static const char denied[] = "{'deny_out':['203.0.113.0/25','100.128.0.0/9','9.9.9.9','34.5.0.0/16']}";
	static const char denied_names[] = "{'deny_out':['evil.example.com','198.51.100.0/24']}";
	static const char nothing[] = "{'deny_out':['*']}";
	static const struct {
		const char *policy, *to;
		uint8_t protocol;
		uint16_t port;
		uint8_t flags;
		const char *what;
	} ways[] = {
		{ "{}", "203.0.113.9", IPPROTO_UDP, 4000, 0, "forwarded" }, { "{}", "203.0.113.9", IPPROTO_TCP, 80, SYN, "forwarded" },
		{ "{}", "169.254.169.254", IPPROTO_TCP, 80, SYN, "never" }, { "{}", "192.168.1.1", IPPROTO_TCP, 80, SYN, "private" },
		{ "{}", "10.214.0.8", IPPROTO_UDP, 80, 0, "never" }, { "{}", WAN_ADDRESS, IPPROTO_TCP, 22, SYN, "never" },
		{ "{}", "8.8.8.8", IPPROTO_UDP, 53, 0, "resolver" }, { "{}", "8.8.8.8", IPPROTO_TCP, 53, SYN, "forwarded" },
		{ "{}", "10.214.0.1", IPPROTO_TCP, 53, SYN, "resolver" }, { "{}", "203.0.113.9", 47, 0, 0, "malformed" },
		{ nothing, "203.0.113.9", IPPROTO_UDP, 4000, 0, "denied" }, { nothing, "8.8.8.8", IPPROTO_UDP, 53, 0, "resolver" },
		{ nothing, "8.8.8.8", IPPROTO_TCP, 53, SYN, "denied" }, { nothing, "203.0.113.10", IPPROTO_TCP, 443, ACK, "denied" },
		{ ranges, "203.0.113.255", IPPROTO_UDP, 4000, 0, "forwarded" }, { ranges, "203.0.114.0", IPPROTO_UDP, 4000, 0, "denied" },
		{ ranges, "140.82.127.255", IPPROTO_TCP, 80, ACK, "forwarded" }, { ranges, "140.82.128.0", IPPROTO_TCP, 80, ACK, "denied" },
		{ ranges, "9.255.255.255", IPPROTO_TCP, 80, SYN, "forwarded" }, { ranges, "7.255.255.255", IPPROTO_TCP, 80, SYN, "denied" },
		{ ranges, "34.5.6.7", IPPROTO_TCP, 80, SYN, "forwarded" }, { ranges, "34.6.5.7", IPPROTO_TCP, 80, SYN, "denied" },
		{ denied, "203.0.113.127", IPPROTO_UDP, 4000, 0, "denied" }, { denied, "203.0.113.128", IPPROTO_UDP, 4000, 0, "forwarded" },
		{ denied, "100.255.0.1", IPPROTO_UDP, 4000, 0, "denied" }, { denied, "101.0.0.1", IPPROTO_UDP, 4000, 0, "forwarded" },
		{ denied, "9.9.9.9", IPPROTO_TCP, 80, SYN, "denied" }, { denied, "34.5.255.255", IPPROTO_TCP, 80, SYN, "denied" },
		{ names, "203.0.113.10", IPPROTO_TCP, 443, SYN, "proxied" }, { names, "203.0.113.11", IPPROTO_TCP, 443, SYN, "denied" },
		{ names, "203.0.113.10", IPPROTO_UDP, 443, 0, "denied" }, { names, "203.0.113.11", IPPROTO_TCP, 443, ACK, "proxied" },
		{ names, "203.0.113.11", IPPROTO_TCP, 443, SYN | ACK, "proxied" }, { names, "203.0.114.9", IPPROTO_UDP, 443, 0, "forwarded" },
		{ names, "203.0.114.9", IPPROTO_TCP, 443, SYN, "forwarded" }, { names, "203.0.113.10", IPPROTO_TCP, 443, SYN | 1, "denied" },
		{ denied_names, "203.0.113.10", IPPROTO_TCP, 443, SYN, "proxied" }, { denied_names, "203.0.113.11", IPPROTO_TCP, 443, SYN, "denied" },
		{ denied_names, "198.51.100.1", IPPROTO_TCP, 443, ACK, "denied" }, { denied_names, "198.51.101.1", IPPROTO_UDP, 443, 0, "denied" },
	};

	for (size_t i = 0; i < ELEMENTSOF(ways); i++) {
		struct packet p = packet_to(ways[i].to, ways[i].protocol, ways[i].port, ways[i].flags);
		const char *what;

		if (set_policy(ways[i].policy) < 0)
			printf("# %s: %s\n", ways[i].policy, last_message);
		what = became(&p);
		ok(str_eq(what, ways[i].what), "%s: %s port %u: %s", ways[i].policy, ways[i].to, ways[i].port, what);
	}
}

/* Who begins too much, of what it wants to begin: a burst, and so many a second */
static void test_flood(void)
{
	struct packet p = packet_to("203.0.113.9", IPPROTO_TCP, 80, SYN);
	uint64_t began, usec;
	long let, stopped;

	ok(set_policy("{}") == 0 && show(ID) == 0, "open");
	let = count_of("forwarded");
	stopped = count_of("syn_rate");
	began = clock_monotonic();
	for (int i = 0; i < 1000; i++) {
		p.tcp.source = htons((uint16_t)(10000 + i));
		nic_send(guest, &p);
	}
	show(ID);
	usec = clock_monotonic() - began;
	let = count_of("forwarded") - let;
	stopped = count_of("syn_rate") - stopped;
	ok(let + stopped == 1000, "%ld begin, %ld do not", let, stopped);
	ok(let <= 401 + (long)(usec * 200 / USEC_PER_SEC), "of which in %llu us: %ld", (unsigned long long)usec, let);
	p = packet_to("203.0.113.9", IPPROTO_TCP, 80, ACK);
	ok(str_eq(became(&p), "forwarded"), "what is no beginning is not stopped");
}

static bool hears_reset(void)
{
	struct pollfd p = { .fd = guest, .events = POLLIN };
	struct packet in;

	while (poll(&p, 1, 500) > 0)
		if (read(guest, &in, sizeof(in)) >= (ssize_t)(sizeof(in.eth) + sizeof(in.ip) + sizeof(in.tcp)) &&
		    in.eth.ether_type == htons(ETHERTYPE_IP) && in.ip.protocol == IPPROTO_TCP && in.tcp.rst)
			return true;
	return false;
}

/* Going on with a connection that there is not, be it because it was ended for another policy */
static void test_ended(void)
{
	struct packet p = packet_to("203.0.113.11", IPPROTO_TCP, 443, ACK);

	nic_send(guest, &p);
	while (hears_reset())
		;
	ok(set_policy("{'allow_out':['a.example.com']}") == 0, "names");
	nic_send(guest, &p);
	ok(hears_reset(), "the guest is told that there is no such connection");
	ok(set_policy("{}") == 0, "open");
	nic_send(guest, &p);
	ok(hears_reset(), "and so where it could begin one");
}

/* Who is not who it says does not exist */
static void test_strangers(void)
{
	struct packet p = packet_to("203.0.113.9", IPPROTO_UDP, 4000, 0);

	ok(set_policy("{}") == 0, "open");
	p.ip.saddr = inet_addr("10.214.0.8");
	ok(str_eq(became(&p), "unknown"), "another's address");
	p = packet_to("203.0.113.9", IPPROTO_UDP, 4000, 0);
	p.eth.ether_shost[5] = 8;
	ok(str_eq(became(&p), "unknown"), "another MAC");
	p = packet_to("203.0.113.9", IPPROTO_UDP, 4000, 0);
	p.ip.frag_off = htons(0x2000);
	ok(str_eq(became(&p), "malformed"), "a first fragment");
	p.ip.frag_off = htons(0x0010);
	ok(str_eq(became(&p), "malformed"), "a later one");
	firewall_sandbox_close(fw, ID, TAP, on_done, NULL);
	ok(answer() == 0, "closed");
	p = packet_to("203.0.113.9", IPPROTO_UDP, 4000, 0);
	ok(str_eq(became(&p), "unknown"), "all of a closed one's");
	ok(set_policy("{}") == 0 && str_eq(became(&p), "forwarded"), "open again");
}

/* --- and back --- */

/* A question that leaves, and where its answer must go; false when it does not leave */
static bool leaves(const char *to, struct packet *ret)
{
	struct packet p = packet_to(to, IPPROTO_UDP, 4001, 0), out;

	nic_send(guest, &p);
	if (!nic_hear(wan, 4001, &out))
		return false;
	*ret = out;
	memcpy(ret->eth.ether_shost, out.eth.ether_dhost, ETH_ALEN);
	memcpy(ret->eth.ether_dhost, out.eth.ether_shost, ETH_ALEN);
	ret->ip.saddr = out.ip.daddr;
	ret->ip.daddr = out.ip.saddr;
	ret->ip.ttl = 64;
	ret->udp = (struct udphdr){ .source = out.udp.dest, .dest = out.udp.source, .len = htons(sizeof(out.udp)) };
	return out.ip.saddr == inet_addr(WAN_ADDRESS);
}

static bool arrives(struct packet p)
{
	struct packet in;

	nic_send(wan, &p);
	return nic_hear(guest, 4001, &in) && in.ip.saddr == p.ip.saddr && in.ip.daddr == inet_addr(GUEST);
}

static void test_answers(void)
{
	static const struct {
		const char *policy;
		bool comes;
	} later[] = {
		{ "{}", true }, { "{'deny_out':['*']}", false }, { "{'allow_out':['203.0.113.0/24']}", true },
		{ "{'allow_out':['203.0.114.0/24']}", false }, { "{'deny_out':['203.0.113.9']}", false },
		{ "{'deny_out':['203.0.112.0/24']}", true }, { "{'allow_out':['203.0.113.8/29']}", true },
		{ "{'allow_out':['203.0.0.0/16']}", true }, { "{'allow_out':['200.0.0.0/6']}", true },
		{ "{'deny_out':['203.0.0.0/16']}", false }, { "{'deny_out':['200.0.0.0/6']}", false },
		{ "{'deny_out':['203.0.113.0/24']}", false }, { "{'allow_out':['a.example.com']}", false },
		{ "{'allow_out':['a.example.com','203.0.113.9']}", true }, { "{'deny_out':['evil.example.com']}", false },
	};
	struct packet packet;

	ok(set_policy("{}") == 0 && leaves("203.0.113.9", &packet), "a packet leaves, masqueraded");
	for (size_t i = 0; i < ELEMENTSOF(later); i++) {
		ok(set_policy(later[i].policy) == 0 && arrives(packet) == later[i].comes, "%s: the far end %s", later[i].policy,
		   later[i].comes ? "is heard" : "is silenced");
		show(ID);
	}
	ok(count_of("answered") > 0 && count_of("silenced") > 0, "both are counted");
	ok(remove_sandbox(ID, TAP) == 0 && !arrives(packet), "the removed one's is silenced");
}

/* --- a connection that runs --- */

/* Its packets are judged by the policy that holds, each of them, also where the mark of its connection spares the kernel that */
static void test_running(void)
{
	static const struct {
		const char *policy, *what;
	} later[] = {
		{ "{}", "forwarded" }, { "{'allow_out':['203.0.113.0/24']}", "forwarded" }, { "{'deny_out':['203.0.113.9']}", "denied" },
		{ "{'deny_out':['203.0.114.0/24']}", "forwarded" }, { "{'allow_out':['a.example.com']}", "denied" },
		{ "{'allow_out':['a.example.com','203.0.113.9']}", "forwarded" }, { "{'deny_out':['*']}", "denied" }, { "{}", "forwarded" },
	};
	struct packet packet, p = packet_to("203.0.113.9", IPPROTO_UDP, 4001, 0), q;
	_cleanup_free_ char *marked = NULL;

	ok(set_policy("{}") == 0 && leaves("203.0.113.9", &packet) && arrives(packet), "a question and an answer");
	for (size_t i = 0; i < ELEMENTSOF(later); i++) {
		const char *what[3];

		ok(set_policy(later[i].policy) == 0, "%s: %s", later[i].policy, last_message);
		for (size_t k = 0; k < ELEMENTSOF(what); k++)
			what[k] = became(&p);
		ok(str_eq(what[0], later[i].what) && str_eq(what[1], what[0]) && str_eq(what[2], what[0]), "%s: %s, %s, %s",
		   later[i].policy, what[0], what[1], what[2]);
	}
	marked = CMD("nft", "-a", "list", "set", "inet", "declaw", "sends");
	ok(marked && strstr(marked, "packets 2"), "the second and third by the mark of their connection");
	q = p;
	q.eth.ether_shost[5] = 8;
	ok(str_eq(became(&q), "unknown"), "another MAC is nobody's all the same");
	q = p;
	q.ip.saddr = inet_addr("10.214.0.8");
	ok(str_eq(became(&q), "unknown"), "another address, too");
	q = p;
	q.ip.frag_off = htons(0x2000);
	ok(str_eq(became(&q), "malformed"), "a fragment goes nowhere");
	firewall_sandbox_close(fw, ID, TAP, on_done, NULL);
	ok(answer() == 0 && str_eq(became(&p), "unknown") && !arrives(packet), "closed in both directions");
}

/* The guest's next word on a connection that it has with port 443 of that address */
static bool connected(const char *to, struct packet *ret)
{
	struct packet p = packet_to(to, IPPROTO_TCP, 443, SYN), in;
	struct pollfd fd = { .fd = guest, .events = POLLIN };
	char frame[2048];

	nic_send(guest, &p);
	while (poll(&fd, 1, 500) > 0) {
		memset(frame, 0, sizeof(frame));
		if (read(guest, frame, sizeof(frame)) < 0)
			return false;
		memcpy(&in, frame, sizeof(in));
		if (in.ip.protocol != IPPROTO_TCP || ((uint8_t *)&in.tcp)[13] != (SYN | ACK) || in.ip.saddr != inet_addr(to))
			continue;
		p.tcp.seq = in.tcp.ack_seq;
		p.tcp.ack_seq = htonl(ntohl(in.tcp.seq) + 1);
		((uint8_t *)&p.tcp)[13] = ACK;
		*ret = p;
		return true;
	}
	return false;
}

/* A connection that the proxy has: only the proxy can judge its name, and what else there is to judge the kernel does */
static void test_proxied(void)
{
	static const struct {
		const char *policy, *what;
	} later[] = {
		{ "{'allow_out':['a.example.com']}", "proxied" }, { "{'deny_out':['*']}", "denied" }, { "{}", "proxied" },
		{ "{'deny_out':['203.0.113.10']}", "denied" }, { "{'allow_out':['203.0.113.0/24']}", "proxied" },
		{ "{'allow_out':['203.0.114.0/24']}", "denied" }, { "{'deny_out':['evil.example.com','203.0.113.0/24']}", "denied" },
		{ "{'allow_out':['b.example.com','203.0.114.0/24']}", "proxied" },
	};
	const struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(9040) };
	int proxy = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct packet p;

	ok(bind(proxy, (const struct sockaddr *)&at, sizeof(at)) == 0 && listen(proxy, 1) == 0 && set_policy(later[0].policy) == 0 &&
	   connected("203.0.113.10", &p), "a connection by way of the proxy");
	for (size_t i = 0; i < ELEMENTSOF(later); i++) {
		const char *first, *second;

		ok(set_policy(later[i].policy) == 0, "%s: %s", later[i].policy, last_message);
		first = became(&p);
		second = became(&p);
		ok(str_eq(first, later[i].what) && str_eq(second, first), "%s: %s, %s", later[i].policy, first, second);
	}
	close(proxy);
}

/* What was counted stays counted, whatever policies come, each packet once */
static void test_counts(void)
{
	static const char *const policies[] = { "{}", "{'allow_out':['203.0.113.0/24']}", "{'deny_out':['*']}", "{}" };
	struct packet packet, p = packet_to("203.0.113.9", IPPROTO_UDP, 4001, 0);
	long sent, heard;

	ok(set_policy("{}") == 0 && leaves("203.0.113.9", &packet) && arrives(packet) && show(ID) == 0, "a question and an answer");
	sent = count_of("forwarded");
	heard = count_of("answered");
	for (int i = 0; i < 4; i++) {
		nic_send(guest, &p);
		arrives(packet);
	}
	ok(show(ID) == 0 && count_of("forwarded") == sent + 4 && count_of("answered") == heard + 4, "%ld and %ld more, of four",
	   count_of("forwarded") - sent, count_of("answered") - heard);
	for (size_t i = 0; i < ELEMENTSOF(policies); i++)
		ok(set_policy(policies[i]) == 0 && show(ID) == 0 && count_of("forwarded") == sent + 4 && count_of("answered") == heard + 4,
		   "%s: as many: %ld, %ld", policies[i], count_of("forwarded") - sent, count_of("answered") - heard);
	ok(str_eq(became(&p), "forwarded") && arrives(packet) && show(ID) == 0 && count_of("answered") == heard + 5, "and one more");
	firewall_sandbox_close(fw, ID, TAP, on_done, NULL);
	ok(answer() == 0 && show(ID) == 0 && count_of("forwarded") == sent + 5 && count_of("answered") == heard + 5, "closed: as many");
}

/* --- gates --- */

/* Without its gate an interface is nobody's, whatever else there is of its sandbox */
static void test_gate(void)
{
	struct packet p = packet_to("203.0.113.9", IPPROTO_UDP, 4001, 0), q = p, packet = p, forged;
	long strangers = 0, heard;

	q.eth.ether_shost[5] = 8;
	ok(set_policy("{}") == 0 && leaves("203.0.113.9", &packet) && arrives(packet), "a question and an answer");
	ok(str_eq(became(&q), "unknown") && (strangers = count_of("unknown")) > 0, "another MAC");
	firewall_sandbox_close(fw, ID, TAP, on_done, NULL);
	ok(answer() == 0 && str_eq(became(&p), "unknown") && set_policy("{}") == 0 && show(ID) == 0 && count_of("unknown") == strangers + 1,
	   "what a gate has counted stays counted: %ld, %ld", strangers, count_of("unknown"));
	ok(str_eq(became(&p), "forwarded"), "the connection goes on");
	ok(CMD_OK("nft", "delete table netdev " TAP) && str_eq(became(&p), "unknown"), "no gate: nothing, on a connection that runs");
	/* The rules know what comes from sandboxes' interfaces by itself, too: no answer comes from there */
	forged = packet;
	forged.eth = p.eth;
	ok(show(ID) == 0 && count_of("answered") > 0, "there were answers");
	heard = count_of("answered");
	nic_send(guest, &forged);
	ok(str_eq(became(&p), "unknown") && count_of("answered") == heard, "an answer that it forged: %ld", count_of("answered"));
	ok(arrives(packet) && show(ID) == 0 && count_of("answered") == heard + 1, "the real one: %ld", count_of("answered"));
	p.udp.source = htons(4002);
	ok(str_eq(became(&p), "unknown"), "nor on a new one");
	firewall_free(fw);
	ok(firewall_new(fixture_workers, &fw) == 0 && set_policy("{}") == 0 && str_eq(became(&p), "forwarded"), "the next daemon makes it");
	close(guest);
	ok(tap_remove(TAP) == 0 && tap_create(TAP, 0) == 0 && (guest = nic_open(TAP)) >= 0 &&
	   tap_network(TAP, "10.214.0.1", GUEST, GUEST_MAC) == 0, "another interface of the same name");
	/* a kernel before 6.16 forgets gates with their interfaces */
	ok(str_eq(became(&q), "unknown"), "strangers get nowhere");
	ok(set_policy("{}") == 0 && str_eq(became(&p), "forwarded") && str_eq(became(&q), "unknown"), "nor when it is made known");
	ok(remove_sandbox(ID, TAP) == 0 && !CMD_OK("nft", "list table netdev " TAP), "it goes with its sandbox");
}

static bool world(void)
{
	return CMD_OK("ip", "link", "set", "lo", "up") && tap_forwarding() == 0 && tap_create(TAP, 0) == 0 &&
	       CMD_OK("ip", "tuntap", "add", "dev", WAN, "mode", "tap") && (guest = nic_open(TAP)) >= 0 && (wan = nic_open(WAN)) >= 0 &&
	       CMD_OK("ip", "addr", "add", WAN_ADDRESS "/24", "dev", WAN) && CMD_OK("ip", "link", "set", WAN, "up") &&
	       CMD_OK("ip", "neigh", "add", "192.0.2.254", "lladdr", WAN_MAC, "dev", WAN, "nud", "permanent") &&
	       CMD_OK("ip", "route", "add", "default", "via", "192.0.2.254") &&
	       tap_network(TAP, "10.214.0.1", GUEST, GUEST_MAC) == 0;
}

int main(void)
{
	fixture_open();
	ok(setup_rules() == 0 && world(), "a guest and a world");
	test_ways();
	test_flood();
	test_ended();
	test_strangers();
	test_running();
	test_proxied();
	test_counts();
	test_answers();
	test_gate();
	close(guest);
	close(wan);
	ok(tap_remove(TAP) == 0, "removed");
	return fixture_close();
}
