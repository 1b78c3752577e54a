/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A world around the resolver, see resolver-fixture.h. */
#include "lib/resolver-fixture.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>

#include "tap.h"
#include "util/macro.h"


sd_event *event;
struct control *control;
static struct resolver *resolver;
static struct serve *serve;
struct fake_dns dns;
static char path[64];
unsigned short port;
bool is_ready, hold_pins, refuse_pins;
const char *policy_text;
uint64_t gen = 1;
int n_pins, n_audits, n_limited, flips;
struct chan_pin last_pin;
struct chan_audit last_audit;
uint64_t resolver_peer;

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
	} else if (str_eq(name, "host.test")) {
		fake_dns_rr(reply, "host.test. 60 IN A 203.0.113.77");
		fake_dns_rr(reply, "host.test. 60 IN A 203.0.113.78");
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

void say_policy(uint64_t peer)
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

void answer_pin(uint64_t seq)
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

void start_control(void)
{
	static const struct control_ops ops = { .joined = joined, .message = message };
	const uid_t uids[CHAN_ROLE_MAX] = { [CHAN_ROLE_PROXY] = (uid_t)-1, [CHAN_ROLE_RESOLVER] = getuid() };

	cr_assert_eq(control_new(event, path, uids, &ops, NULL, &control), 0);
}

void stop(void)
{
	resolver_free(resolver);
	serve_free(serve);
	control_free(control);
	fake_dns_stop(&dns);
	sd_event_unref(event);
}

/* --- a guest --- */

size_t question(const char *name, ldns_rr_type type, uint16_t edns, uint8_t out[1024])
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

struct told read_reply(const uint8_t *wire, size_t len)
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

int udp(const char *from)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	inet_pton(AF_INET, from, &sa.sin_addr);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

unsigned short udp_port;

struct told ask_wire(const char *from, const uint8_t *wire, size_t len, double seconds)
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

struct told ask_type(const char *name, ldns_rr_type type)
{
	uint8_t wire[1024];
	size_t len = question(name, type, 0, wire);

	return ask_wire(GUEST, wire, len, 10);
}

struct told ask(const char *name)
{
	return ask_type(name, LDNS_RR_TYPE_A);
}

void heard(enum chan_verdict verdict, const char *name, const char *rule)
{
	cr_assert(tap_wait(event, 10, n_audits > 0), "%s", name);
	cr_assert_eq(last_audit.verdict, verdict);
	cr_assert_str_eq(last_audit.name, name);
	cr_assert_str_eq(last_audit.rule, rule);
	n_audits = 0;
}

void begin(const char *policy)
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

int flood(const char *letter, const char *under, int n)
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
