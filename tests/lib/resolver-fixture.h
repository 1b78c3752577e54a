/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The resolver whole, on one loop with a fake name server and a fake declawd: what a guest is told, what left the host for
 * it, what was pinned before, and what the audit heard. A guest is an address of 127/8, which is how the resolver tells
 * sandboxes apart.
 */
#ifndef DECLAW_TESTS_RESOLVER_FIXTURE_H
#define DECLAW_TESTS_RESOLVER_FIXTURE_H

#include "egress/control.h"
#include "lib/fake-dns.h"
#include "resolver/serve.h"

#define ID "sbx-aaaaaaaaaa"
#define GUEST "127.0.0.5"
#define STRANGER "127.0.0.9"

/* --- policies --- */
#define LISTS(deny_default, allow, deny) "{\"closed\":false,\"inspection\":false,\"deny_default\":" deny_default ",\"allow_nets\":[]," \
	"\"deny_nets\":[],\"allow_names\":[" allow "],\"deny_names\":[" deny "]}"
#define SOME LISTS("true", "\"a.test\",\"*.wild.test\",\"private.test\",\"meta.test\",\"mixed.test\",\"flip.test\",\"cname.test\"," \
	"\"half.test\",\"loop.test\",\"far.test\",\"stray.test\",\"many.test\",\"nx.test\",\"silent.test\",\"broken.test\"", "")
#define OPEN LISTS("false", "", "")
#define NOT_EVIL LISTS("false", "", "\"evil.test\"")

/* --- the world: see world() for its names --- */
extern sd_event *event;
extern struct control *control;
extern struct fake_dns dns;
extern unsigned short port, udp_port;		/* the resolver's, TCP and UDP */
extern bool is_ready, hold_pins, refuse_pins;
extern const char *policy_text;
extern uint64_t gen, resolver_peer;
extern int n_pins, n_audits, n_limited, flips;
extern struct chan_pin last_pin;
extern struct chan_audit last_audit;

void begin(const char *policy);
void stop(void);
void start_control(void);
void say_policy(uint64_t peer);
void answer_pin(uint64_t seq);
/* The last verdict told, which is forgotten */
void heard(enum chan_verdict verdict, const char *name, const char *rule);

/* --- a guest --- */
struct told {
	int rcode;		/* -1: nothing came */
	bool cut;
	size_t n;
	char first[64];
	uint32_t ttl;
	int type;
};

size_t question(const char *name, ldns_rr_type type, uint16_t edns, uint8_t out[1024]);
struct told read_reply(const uint8_t *wire, size_t len);
int udp(const char *from);		/* a socket bound there */
struct told ask_wire(const char *from, const uint8_t *wire, size_t len, double seconds);
struct told ask_type(const char *name, ldns_rr_type type);
struct told ask(const char *name);
/* Questions for letter0.under, letter1.under, ...; how many of them reached the name server */
int flood(const char *letter, const char *under, int n);

#endif
