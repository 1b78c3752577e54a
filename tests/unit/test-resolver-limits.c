/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The resolver's transports, noise, who may ask and when, and names that carry messages. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/resolver-fixture.h"
#include "tap.h"
#include "util/macro.h"

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
