/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the resolver tells a guest, and what it makes of answers that lie. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/cmd.h"
#include "lib/resolver-fixture.h"
#include "resolver/own.h"
#include "tap.h"
#include "util/macro.h"

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

/* Public addresses of the host itself, of any interface, be they its first or not */
Test(resolver, rebinding_to_the_host)
{
	struct told t;

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		cr_skip_test("needs a network namespace");
	if (!CMD_OK("ip", "link", "set", "lo", "up") || !CMD_OK("ip", "link", "add", "wan0", "type", "veth") ||
	    !CMD_OK("ip", "addr", "add", "203.0.113.77/24", "dev", "wan0") ||
	    !CMD_OK("ip", "addr", "add", "203.0.113.78/24", "dev", "wan0"))
		cr_skip_test("no addresses");
	begin(OPEN);
	t = ask("host.test");
	cr_assert_eq(t.rcode, 0);
	cr_assert_eq(t.n, 0);
	heard(CHAN_BLOCK, "host.test", "rebind");
	cr_assert_eq(ask("a.test").n, 1, "its neighbour");
	/* a host whose programs may bind to any address */
	cr_assert(CMD_OK("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind"));
	cr_assert(own_address((struct in_addr){ inet_addr("203.0.113.77") }));
	cr_assert_not(own_address((struct in_addr){ inet_addr("203.0.113.10") }));
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
