/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A name server that answers what the test says, and counts who asked. On the test's own loop, 127.0.0.1, UDP and TCP-less. */
#ifndef DECLAW_TESTS_FAKE_DNS_H
#define DECLAW_TESTS_FAKE_DNS_H

#include <ldns/ldns.h>
#include <systemd/sd-event.h>

struct fake_dns {
	int fd;
	unsigned short port;
	sd_event_source *io;
	int asked;		/* questions that came */
	char last[256];		/* the last one's name */
	/* Fills the answer section and the rcode; false: no answer at all */
	bool (*answer)(struct fake_dns *d, const char *name, ldns_rr_type type, ldns_pkt *reply);
};

void fake_dns_start(struct fake_dns *d, sd_event *event);
void fake_dns_stop(struct fake_dns *d);
/* "a.test. 60 IN A 203.0.113.1" into the answer */
void fake_dns_rr(ldns_pkt *reply, const char *text);

#endif
