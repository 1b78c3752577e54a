/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The resolver whole, on one loop with a fake name server and a fake declawd: what a guest is told, what left the host for
 * it, what was pinned before, and what the audit heard. A guest is an address of 127/8, which is how the resolver tells
 * sandboxes apart.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>

#include "egress/control.h"
#include "lib/fake-dns.h"
#include "resolver/serve.h"
#include "tap.h"
#include "util/macro.h"

#define ID "sbx-aaaaaaaaaa"
#define GUEST "127.0.0.5"
#define STRANGER "127.0.0.9"

static sd_event *event;
static struct control *control;
static struct resolver *resolver;
static struct serve *serve;
static struct fake_dns dns;
static char path[64];
static unsigned short port;
static bool is_ready, hold_pins, refuse_pins;
static const char *policy_text;
static uint64_t gen = 1;
static int n_pins, n_audits, n_limited, flips;
static struct chan_pin last_pin;
static struct chan_audit last_audit;
static uint64_t resolver_peer;

/* --- the world --- */

static bool world(struct fake_dns *d _unused_, const char *name, ldns_rr_type type, ldns_pkt *reply)
{
	char text[512];

	if (str_eq(name, "silent.test"))
		return false;
	if (str_eq(name, "broken.test"))
		ldns_pkt_set_rcode(reply, LDNS_RCODE_SERVFAIL);
	else if (str_eq(name, "nx.test"))
		ldns_pkt_set_rcode(reply, LDNS_RCODE_NXDOMAIN);
	else if (type == LDNS_RR_TYPE_TXT)
		fake_dns_rr(reply, "txt.test. 60 IN TXT \"hello\"");
	else if (type != LDNS_RR_TYPE_A)
		return true;
	else if (str_eq(name, "private.test"))
		fake_dns_rr(reply, "private.test. 60 IN A 10.0.0.1");
	else if (str_eq(name, "meta.test"))
		fake_dns_rr(reply, "meta.test. 60 IN A 169.254.169.254");
	else if (str_eq(name, "mixed.test")) {
		fake_dns_rr(reply, "mixed.test. 60 IN A 127.0.0.1");
		fake_dns_rr(reply, "mixed.test. 60 IN A 203.0.113.10");
	} else if (str_eq(name, "flip.test"))
		fake_dns_rr(reply, flips++ ? "flip.test. 0 IN A 192.168.1.1" : "flip.test. 0 IN A 203.0.113.10");
	else if (str_eq(name, "cname.test")) {
		fake_dns_rr(reply, "cname.test. 300 IN CNAME evil.test.");
		fake_dns_rr(reply, "evil.test. 30 IN A 203.0.113.66");
	} else if (str_eq(name, "half.test"))
		fake_dns_rr(reply, "half.test. 300 IN CNAME a.test.");
	else if (str_eq(name, "loop.test")) {
		fake_dns_rr(reply, "loop.test. 300 IN CNAME loop2.test.");
		fake_dns_rr(reply, "loop2.test. 300 IN CNAME loop.test.");
	} else if (str_eq(name, "far.test") || str_eq(name, "far2.test"))
		fake_dns_rr(reply, str_eq(name, "far.test") ? "far.test. 9 IN CNAME far2.test." : "far2.test. 9 IN CNAME far.test.");
	else if (str_eq(name, "stray.test"))
		fake_dns_rr(reply, "other.test. 60 IN A 203.0.113.77");
	else if (str_eq(name, "many.test"))
		for (int i = 0; i < 70; i++) {
			snprintf(text, sizeof(text), "many.test. 60 IN A 203.0.114.%d", i);
			fake_dns_rr(reply, text);
		}
	else {
		snprintf(text, sizeof(text), "%s. 60 IN A 203.0.113.10", name);
		fake_dns_rr(reply, text);
	}
	return true;
}

static void say_policy(uint64_t peer)
{
	_cleanup_json_ json_object *o = NULL;
	struct chan_msg m = { .type = CHAN_POLICY, .u.policy.gen = gen };
	const char *why;

	cr_assert_eq(json_parse(policy_text, strlen(policy_text), &o, &why), 0);
	memcpy(m.u.policy.id, ID, sizeof(ID));
	inet_pton(AF_INET, GUEST, &m.u.policy.addr);
	m.u.policy.policy = o;
	control_send(control, peer, &m);
}

static void joined(void *userdata _unused_, uint64_t peer, enum chan_role role _unused_)
{
	const struct chan_msg synced = { .type = CHAN_SYNCED };

	resolver_peer = peer;
	say_policy(peer);
	control_send(control, peer, &synced);
}

static void answer_pin(uint64_t seq)
{
	const struct chan_msg m = { .type = CHAN_PINNED, .u.pinned = { seq, !refuse_pins } };

	control_send(control, resolver_peer, &m);
}

static void message(void *userdata _unused_, uint64_t peer _unused_, enum chan_role role _unused_, const struct chan_msg *m)
{
	if (m->type == CHAN_PIN) {
		n_pins++;
		last_pin = m->u.pin;
		if (!hold_pins)
			answer_pin(m->u.pin.seq);
	} else if (m->type == CHAN_AUDIT) {
		n_audits++;
		last_audit = m->u.audit;
		n_limited += str_eq(last_audit.rule, "rate_limit") || str_eq(last_audit.rule, "new_names");
	}
}

static void on_ready(void *userdata _unused_)
{
	is_ready = true;
}

static int any_port(int type)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	if (type == SOCK_STREAM)
		cr_assert_eq(listen(fd, 16), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	port = ntohs(sa.sin_port);
	return fd;
}

static void start_control(void)
{
	static const struct control_ops ops = { .joined = joined, .message = message };
	const uid_t uids[CHAN_ROLE_MAX] = { [CHAN_ROLE_PROXY] = (uid_t)-1, [CHAN_ROLE_RESOLVER] = getuid() };

	cr_assert_eq(control_new(event, path, uids, &ops, NULL, &control), 0);
}

static void stop(void)
{
	resolver_free(resolver);
	serve_free(serve);
	control_free(control);
	fake_dns_stop(&dns);
	sd_event_unref(event);
}

#define LISTS(deny_default, allow, deny) "{\"closed\":false,\"inspection\":false,\"deny_default\":" deny_default ",\"allow_nets\":[]," \
	"\"deny_nets\":[],\"allow_names\":[" allow "],\"deny_names\":[" deny "]}"
#define SOME LISTS("true", "\"a.test\",\"*.wild.test\",\"private.test\",\"meta.test\",\"mixed.test\",\"flip.test\",\"cname.test\"," \
	"\"half.test\",\"loop.test\",\"far.test\",\"stray.test\",\"many.test\",\"nx.test\",\"silent.test\",\"broken.test\"", "")
#define OPEN LISTS("false", "", "")
#define NOT_EVIL LISTS("false", "", "\"evil.test\"")

/* --- a guest --- */

struct told {
	int rcode;		/* -1: nothing came */
	bool cut;
	size_t n;
	char first[64];
	uint32_t ttl;
	int type;
};

static size_t question(const char *name, ldns_rr_type type, uint16_t edns, uint8_t out[1024])
{
	ldns_pkt *p = NULL;
	uint8_t *wire = NULL;
	size_t len;

	cr_assert_eq(ldns_pkt_query_new_frm_str(&p, name, type, LDNS_RR_CLASS_IN, LDNS_RD), LDNS_STATUS_OK, "%s", name);
	ldns_pkt_set_id(p, 4711);
	if (edns)
		ldns_pkt_set_edns_udp_size(p, edns);
	cr_assert_eq(ldns_pkt2wire(&wire, p, &len), LDNS_STATUS_OK);
	cr_assert_leq(len, 1024);
	memcpy(out, wire, len);
	free(wire);
	ldns_pkt_free(p);
	return len;
}

static struct told read_reply(const uint8_t *wire, size_t len)
{
	struct told t = { 0 };
	ldns_pkt *p = NULL;
	ldns_rr *rr;

	cr_assert_eq(ldns_wire2pkt(&p, wire, len), LDNS_STATUS_OK);
	cr_assert_eq(ldns_pkt_id(p), 4711);
	cr_assert(ldns_pkt_qr(p));
	t.rcode = ldns_pkt_get_rcode(p);
	t.cut = ldns_pkt_tc(p);
	t.n = ldns_pkt_ancount(p);
	rr = ldns_rr_list_rr(ldns_pkt_answer(p), 0);
	if (rr) {
		char *s = ldns_rdf2str(ldns_rr_rdf(rr, 0));

		snprintf(t.first, sizeof(t.first), "%s", s);
		t.ttl = ldns_rr_ttl(rr);
		t.type = ldns_rr_get_type(rr);
		free(s);
	}
	ldns_pkt_free(p);
	return t;
}

static int udp(const char *from)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	inet_pton(AF_INET, from, &sa.sin_addr);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static unsigned short udp_port;

static struct told ask_wire(const char *from, const uint8_t *wire, size_t len, double seconds)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(udp_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint8_t reply[4096];
	ssize_t n = -1;
	int fd = udp(from);

	cr_assert_eq(sendto(fd, wire, len, 0, (struct sockaddr *)&to, sizeof(to)), (ssize_t)len);
	if (!tap_wait(event, seconds, n >= 0 || (n = recv(fd, reply, sizeof(reply), 0)) >= 0)) {
		close(fd);
		return (struct told){ .rcode = -1 };
	}
	close(fd);
	return read_reply(reply, (size_t)n);
}

static struct told ask_type(const char *name, ldns_rr_type type)
{
	uint8_t wire[1024];
	size_t len = question(name, type, 0, wire);

	return ask_wire(GUEST, wire, len, 10);
}

static struct told ask(const char *name)
{
	return ask_type(name, LDNS_RR_TYPE_A);
}

static void heard(enum chan_verdict verdict, const char *name, const char *rule)
{
	cr_assert(tap_wait(event, 10, n_audits > 0), "%s", name);
	cr_assert_eq(last_audit.verdict, verdict);
	cr_assert_str_eq(last_audit.name, name);
	cr_assert_str_eq(last_audit.rule, rule);
	n_audits = 0;
}

static void begin(const char *policy)
{
	char servers[64];
	int fd;

	policy_text = policy;
	cr_assert_geq(sd_event_new(&event), 0);
	snprintf(path, sizeof(path), "/tmp/declaw-resolver-%d.sock", getpid());
	dns.answer = world;
	fake_dns_start(&dns, event);
	start_control();
	snprintf(servers, sizeof(servers), "127.0.0.1:%u", dns.port);
	cr_assert_eq(resolver_new(event, path, servers, on_ready, NULL, &resolver), 0);
	cr_assert_eq(serve_new(event, resolver, &serve), 0);
	fd = any_port(SOCK_DGRAM);
	udp_port = port;
	cr_assert_eq(serve_add(serve, fd), 0);
	cr_assert_eq(serve_add(serve, any_port(SOCK_STREAM)), 0);
	cr_assert(tap_wait(event, 10, is_ready));
}

/* --- what is allowed --- */

Test(resolver, an_allowed_name_is_pinned_before_it_is_told)
{
	uint8_t wire[1024], reply[512];
	struct sockaddr_in to;
	size_t len = question("A.Test", LDNS_RR_TYPE_A, 0, wire);
	int fd;

	begin(SOME);
	hold_pins = true;
	to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(udp_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	fd = udp(GUEST);
	cr_assert_eq(sendto(fd, wire, len, 0, (struct sockaddr *)&to, sizeof(to)), (ssize_t)len);
	cr_assert(tap_wait(event, 10, n_pins == 1));
	for (int i = 0; i < 20; i++)
		sd_event_run(event, 1000);
	cr_assert_lt(recv(fd, reply, sizeof(reply), 0), 0, "told before it is pinned");
	cr_assert_str_eq(last_pin.name, "a.test");
	cr_assert_eq(last_pin.n_addrs, 1);
	cr_assert_eq(last_pin.gen, 1);
	cr_assert_eq(last_pin.addrs[0].s_addr, inet_addr("203.0.113.10"));
	answer_pin(last_pin.seq);
	ssize_t n = -1;
	cr_assert(tap_wait(event, 10, n > 0 || (n = recv(fd, reply, sizeof(reply), 0)) > 0));
	struct told t = read_reply(reply, (size_t)n);
	cr_assert_eq(t.rcode, 0);
	cr_assert_eq(t.n, 1);
	cr_assert_str_eq(t.first, "203.0.113.10");
	cr_assert(t.ttl <= 60 && t.ttl > 50);
	close(fd);
	heard(CHAN_ALLOW, "a.test", "a.test");
	/* from the cache: nobody is asked again */
	t = ask("a.test");
	cr_assert_eq(t.n, 1);
	cr_assert_eq(dns.asked, 1);
	cr_assert_eq(n_pins, 1);
	stop();
}

Test(resolver, a_refused_pin_is_no_answer)
{
	begin(SOME);
	refuse_pins = true;
	cr_assert_eq(ask("a.test").rcode, LDNS_RCODE_SERVFAIL);
	refuse_pins = false;
	cr_assert_eq(ask("a.test").n, 1);
	stop();
}

Test(resolver, below_a_wildcard_and_its_apex)
{
	struct told t;

	begin(SOME);
	cr_assert_eq(ask("x.wild.test").n, 1);
	heard(CHAN_ALLOW, "x.wild.test", "*.wild.test");
	cr_assert_eq(ask("x.y.wild.test").n, 1);
	heard(CHAN_ALLOW, "x.y.wild.test", "*.wild.test");
	t = ask("wild.test");
	cr_assert_eq(t.rcode, LDNS_RCODE_NXDOMAIN);
	heard(CHAN_BLOCK, "wild.test", "wildcard_apex");
	cr_assert_eq(ask("notwild.test").rcode, LDNS_RCODE_NXDOMAIN);
	cr_assert_eq(dns.asked, 2);
	stop();
}

Test(resolver, what_is_denied_leaves_no_packet)
{
	static const char *const names[] = {
		"evil.test", "a.test.evil.test", "a-test", "xn--pple-43d.test", "_x.a.test", "test", ".", "b\\.test", "a\\000.test",
		"a.test\\000.evil.test", "127.0.0.1", "use-application-dns.net",
	};

	begin(SOME);
	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		struct told t = ask(names[i]);

		cr_assert_eq(t.rcode, LDNS_RCODE_NXDOMAIN, "%s", names[i]);
		cr_assert(tap_wait(event, 10, n_audits > 0), "%s", names[i]);
		cr_assert_eq(last_audit.verdict, CHAN_BLOCK);
		n_audits = 0;
	}
	cr_assert_eq(dns.asked, 0);
	cr_assert_eq(n_pins, 0);
	stop();
}

Test(resolver, a_lookup_of_both_families_is_one_verdict)
{
	begin(SOME);
	cr_assert_eq(ask("evil.test").rcode, LDNS_RCODE_NXDOMAIN);
	cr_assert_eq(ask_type("evil.test", LDNS_RR_TYPE_AAAA).rcode, LDNS_RCODE_NXDOMAIN);
	cr_assert_eq(ask("evil2.test").rcode, LDNS_RCODE_NXDOMAIN);
	cr_assert(tap_wait(event, 10, str_eq(last_audit.name, "evil2.test")));
	cr_assert_eq(n_audits, 2);
	stop();
}

Test(resolver, other_types)
{
	static const ldns_rr_type empty[] = { LDNS_RR_TYPE_AAAA, LDNS_RR_TYPE_HTTPS, LDNS_RR_TYPE_SVCB };
	static const ldns_rr_type refused[] = {
		LDNS_RR_TYPE_TXT, LDNS_RR_TYPE_MX, LDNS_RR_TYPE_SRV, LDNS_RR_TYPE_NULL, LDNS_RR_TYPE_ANY, LDNS_RR_TYPE_AXFR,
		LDNS_RR_TYPE_CNAME, LDNS_RR_TYPE_PTR, LDNS_RR_TYPE_NS,
	};

	begin(SOME);
	for (size_t i = 0; i < ELEMENTSOF(empty); i++) {
		struct told t = ask_type("a.test", empty[i]);

		cr_assert_eq(t.rcode, 0);
		cr_assert_eq(t.n, 0);
	}
	for (size_t i = 0; i < ELEMENTSOF(refused); i++)
		cr_assert_eq(ask_type("a.test", refused[i]).rcode, LDNS_RCODE_REFUSED, "%d", refused[i]);
	heard(CHAN_BLOCK, "a.test", "record_type");
	cr_assert_eq(dns.asked, 0);
	stop();
}

Test(resolver, an_open_policy_resolves_all_and_pins_nothing)
{
	begin(OPEN);
	cr_assert_eq(ask("whatever.test").n, 1);
	cr_assert_eq(ask("private.test").n, 0);
	cr_assert_eq(ask_type("txt.test", LDNS_RR_TYPE_TXT).type, LDNS_RR_TYPE_TXT);
	cr_assert_eq(ask_type("txt.test", LDNS_RR_TYPE_ANY).rcode, LDNS_RCODE_REFUSED);
	cr_assert_eq(ask_type("txt.test", LDNS_RR_TYPE_NULL).rcode, LDNS_RCODE_REFUSED);
	cr_assert_eq(n_pins, 0);
	stop();
}

/* --- answers that lie --- */

Test(resolver, rebinding)
{
	struct told t;

	begin(SOME);
	t = ask("private.test");
	cr_assert_eq(t.rcode, 0);
	cr_assert_eq(t.n, 0);
	heard(CHAN_BLOCK, "private.test", "rebind");
	cr_assert_eq(last_audit.addr.s_addr, inet_addr("10.0.0.1"));
	cr_assert_eq(ask("meta.test").n, 0);
	cr_assert_eq(n_pins, 0);
	t = ask("mixed.test");
	cr_assert_eq(t.n, 1);
	cr_assert_str_eq(t.first, "203.0.113.10");
	cr_assert_eq(last_pin.n_addrs, 1);
	/* nothing for an address that is not this name's */
	cr_assert_eq(ask("stray.test").n, 0);
	stop();
}

Test(resolver, an_owner_who_flips_answers, .timeout = 60)
{
	begin(SOME);
	cr_assert_eq(ask("flip.test").n, 1);
	cr_assert_eq(ask("flip.test").n, 1, "a TTL of 0 is kept for a few seconds all the same");
	cr_assert_eq(flips, 1);
	cr_assert_not(tap_wait(event, 5.5, false));
	cr_assert_eq(ask("flip.test").n, 0);
	cr_assert_eq(n_pins, 1);
	stop();
}

Test(resolver, cnames)
{
	struct told t;

	begin(SOME);
	t = ask("cname.test");
	cr_assert_eq(t.n, 1);
	cr_assert_eq(t.type, LDNS_RR_TYPE_A, "only addresses, under the name that was asked for");
	cr_assert_leq(t.ttl, 30);
	cr_assert_str_eq(last_pin.name, "cname.test");
	cr_assert_eq(ask("evil.test").rcode, LDNS_RCODE_NXDOMAIN, "what a name leads to is not allowed by that");
	/* a chain in pieces is put together */
	dns.asked = 0;
	t = ask("half.test");
	cr_assert_eq(t.n, 1);
	cr_assert_eq(dns.asked, 2);
	cr_assert_str_eq(dns.last, "a.test");
	cr_assert_str_eq(last_pin.name, "half.test");
	/* circles end */
	cr_assert_eq(ask("loop.test").rcode, LDNS_RCODE_SERVFAIL);
	dns.asked = 0;
	cr_assert_eq(ask("far.test").n, 0);
	cr_assert_leq(dns.asked, 4);
	stop();
}

Test(resolver, a_cname_to_a_denied_name)
{
	begin(NOT_EVIL);
	cr_assert_eq(ask("a.test").n, 1);
	n_audits = 0;
	cr_assert_eq(ask("cname.test").rcode, LDNS_RCODE_NXDOMAIN);
	heard(CHAN_BLOCK, "cname.test", "evil.test");
	cr_assert_str_eq(last_audit.detail, "evil.test");
	cr_assert_eq(n_pins, 1);
	stop();
}

Test(resolver, failures_upstream, .timeout = 60)
{
	begin(SOME);
	cr_assert_eq(ask("nx.test").rcode, LDNS_RCODE_NXDOMAIN);
	cr_assert_eq(ask("broken.test").rcode, LDNS_RCODE_SERVFAIL);
	cr_assert_eq(ask("silent.test").rcode, LDNS_RCODE_SERVFAIL);
	cr_assert_eq(ask("a.test").n, 1);
	stop();
}

/* --- size and transport --- */

static struct told ask_tcp(const char *name, size_t step)
{
	struct sockaddr_in sa = { .sin_family = AF_INET }, to = { .sin_family = AF_INET, .sin_port = htons(port) };
	uint8_t wire[1026], reply[65538];
	size_t len = question(name, LDNS_RR_TYPE_A, 0, wire + 2), got = 0;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	wire[0] = (uint8_t)(len >> 8);
	wire[1] = (uint8_t)len;
	inet_pton(AF_INET, GUEST, &sa.sin_addr);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	for (size_t i = 0; i < len + 2; i += step) {
		cr_assert_gt(send(fd, wire + i, MIN_OF(step, len + 2 - i), MSG_NOSIGNAL), 0);
		sd_event_run(event, 0);
	}
	cr_assert(tap_wait(event, 10, ({
		ssize_t n = recv(fd, reply + got, sizeof(reply) - got, MSG_DONTWAIT);

		got += n > 0 ? (size_t)n : 0;
		got >= 2 && got >= 2u + (size_t)(reply[0] << 8 | reply[1]);
	})));
	close(fd);
	return read_reply(reply + 2, got - 2);
}

Test(resolver, long_answers_go_by_tcp)
{
	uint8_t wire[1024];
	struct told t;
	size_t len;

	begin(SOME);
	t = ask("many.test");
	cr_assert(t.cut);
	cr_assert_eq(t.n, 0);
	len = question("many.test", LDNS_RR_TYPE_A, 4096, wire);
	t = ask_wire(GUEST, wire, len, 10);
	cr_assert_not(t.cut);
	cr_assert_eq(t.n, DNS_ADDRS_MAX);
	t = ask_tcp("many.test", 2000);
	cr_assert_not(t.cut);
	cr_assert_eq(t.n, DNS_ADDRS_MAX);
	cr_assert_eq(ask_tcp("a.test", 1).n, 1);
	cr_assert_eq(ask_tcp("evil.test", 3).rcode, LDNS_RCODE_NXDOMAIN);
	stop();
}

Test(resolver, noise)
{
	uint8_t wire[1100] = { 0 }, good[1024];
	size_t len = question("a.test", LDNS_RR_TYPE_A, 0, good);

	begin(SOME);
	cr_assert_eq(ask_wire(GUEST, wire, 5, 0.2).rcode, -1, "shorter than a header");
	cr_assert_eq(ask_wire(GUEST, wire, sizeof(wire), 0.2).rcode, -1, "longer than a question");
	memcpy(wire, good, len);
	wire[2] |= 0x80;
	cr_assert_eq(ask_wire(GUEST, wire, len, 0.2).rcode, -1, "an answer");
	memcpy(wire, good, len);
	wire[2] |= 0x28;	/* UPDATE */
	cr_assert_eq(ask_wire(GUEST, wire, len, 10).rcode, LDNS_RCODE_NOTIMPL);
	memcpy(wire, good, len);
	wire[5] = 2;		/* two questions, one there */
	cr_assert_eq(ask_wire(GUEST, wire, len, 10).rcode, LDNS_RCODE_FORMERR);
	memcpy(wire, good, len);
	wire[12] = 0xc0;	/* a name that points at itself */
	wire[13] = 12;
	cr_assert_eq(ask_wire(GUEST, wire, len, 10).rcode, LDNS_RCODE_FORMERR);
	memcpy(wire, good, len);
	wire[len - 1] = 3;	/* class CHAOS */
	cr_assert_eq(ask_wire(GUEST, wire, len, 10).rcode, LDNS_RCODE_REFUSED);
	cr_assert_eq(ask("a.test").n, 1);
	stop();
}

/* --- who, and when --- */

Test(resolver, strangers_and_a_lost_daemon)
{
	uint8_t wire[1024];
	size_t len = question("a.test", LDNS_RR_TYPE_A, 0, wire);

	begin(SOME);
	cr_assert_eq(ask_wire(STRANGER, wire, len, 10).rcode, LDNS_RCODE_SERVFAIL);
	cr_assert_eq(ask("a.test").n, 1);
	control = control_free(control);
	cr_assert(tap_wait(event, 10, ask("a.test").rcode == LDNS_RCODE_SERVFAIL));
	/* back again: what was given out is pinned anew before anything else is said */
	n_pins = 0;
	is_ready = false;
	start_control();
	cr_assert(tap_wait(event, 10, n_pins == 1));
	cr_assert_str_eq(last_pin.name, "a.test");
	cr_assert_eq(ask("a.test").n, 1);
	cr_assert_not(is_ready, "once");
	stop();
}

Test(resolver, another_policy_counts_at_once)
{
	begin(SOME);
	cr_assert_eq(ask("a.test").n, 1);
	policy_text = LISTS("true", "\"b.test\"", "");
	gen = 2;
	say_policy(resolver_peer);
	cr_assert(tap_wait(event, 10, ask("a.test").rcode == LDNS_RCODE_NXDOMAIN));
	cr_assert_eq(ask("b.test").n, 1);
	cr_assert_eq(last_pin.gen, 2);
	stop();
}

Test(resolver, a_policy_that_changes_under_a_question)
{
	uint8_t wire[1024], reply[512];
	size_t len = question("a.test", LDNS_RR_TYPE_A, 0, wire);
	struct sockaddr_in to;
	ssize_t n = -1;
	int fd;

	begin(SOME);
	hold_pins = true;
	to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(udp_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	fd = udp(GUEST);
	cr_assert_eq(sendto(fd, wire, len, 0, (struct sockaddr *)&to, sizeof(to)), (ssize_t)len);
	cr_assert(tap_wait(event, 10, n_pins == 1));
	policy_text = LISTS("true", "\"b.test\"", "");
	gen = 2;
	say_policy(resolver_peer);
	answer_pin(last_pin.seq);
	cr_assert(tap_wait(event, 10, n > 0 || (n = recv(fd, reply, sizeof(reply), 0)) > 0));
	cr_assert_eq(read_reply(reply, (size_t)n).rcode, LDNS_RCODE_SERVFAIL);
	close(fd);
	stop();
}

/* --- tunnelling --- */

static int flood(const char *letter, const char *under, int n)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(udp_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint8_t wire[1024];
	int fd = udp(GUEST), before = dns.asked;
	char name[128];

	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s%d.%s", letter, i, under);
		size_t len = question(name, LDNS_RR_TYPE_A, 0, wire);

		sendto(fd, wire, len, 0, (struct sockaddr *)&to, sizeof(to));
		sd_event_run(event, 0);
		sd_event_run(event, 0);
	}
	for (int i = 0; i < 50; i++)
		sd_event_run(event, 1000);
	close(fd);
	return dns.asked - before;
}

Test(resolver, names_that_carry_messages)
{
	begin(SOME);
	/* labels and names that are longer than names are */
	cr_assert_eq(ask("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk.wild.test").rcode, LDNS_RCODE_REFUSED);
	heard(CHAN_BLOCK, "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk.wild.test", "name_length");
	cr_assert_eq(ask("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.cccccccccccccccccccccccccccc."
			 "dddddddddddddddddddddddddddddd.wild.test").rcode, LDNS_RCODE_REFUSED);
	cr_assert_eq(dns.asked, 0);
	/* and many of them */
	cr_assert_leq(flood("m", "wild.test", 400), 130);
	cr_assert(tap_wait(event, 10, n_limited > 0));
	stop();
}

Test(resolver, questions_have_a_rate)
{
	begin(SOME);
	cr_assert_eq(flood("d", "evil.test", 1500), 0);
	cr_assert_eq(ask("a.test").rcode == 0 || tap_wait(event, 10, ask("a.test").n == 1), true);
	stop();
}
