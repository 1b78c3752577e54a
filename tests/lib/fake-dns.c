/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/fake-dns.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <ctype.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "util/macro.h"

void fake_dns_rr(ldns_pkt *reply, const char *text)
{
	ldns_rr *rr = NULL;

	cr_assert_eq(ldns_rr_new_frm_str(&rr, text, 0, NULL, NULL), LDNS_STATUS_OK, "%s", text);
	cr_assert(ldns_pkt_push_rr(reply, LDNS_SECTION_ANSWER, rr));
}

static ldns_pkt *reply_to(const ldns_pkt *q)
{
	ldns_pkt *p = ldns_pkt_new();

	ldns_pkt_set_id(p, ldns_pkt_id(q));
	ldns_pkt_set_qr(p, true);
	ldns_pkt_set_ra(p, true);
	ldns_pkt_push_rr(p, LDNS_SECTION_QUESTION, ldns_rr_clone(ldns_rr_list_rr(ldns_pkt_question(q), 0)));
	return p;
}

static int on_question(sd_event_source *s _unused_, int fd, uint32_t events _unused_, void *userdata)
{
	struct fake_dns *d = userdata;
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	uint8_t data[2048], *wire = NULL;
	ssize_t n = recvfrom(fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&from, &len);
	ldns_pkt *q = NULL, *reply;
	ldns_rr *rr;
	size_t size;
	char *name;

	if (n < 0 || ldns_wire2pkt(&q, data, (size_t)n) != LDNS_STATUS_OK)
		return 0;
	rr = ldns_rr_list_rr(ldns_pkt_question(q), 0);
	name = ldns_rdf2str(ldns_rr_owner(rr));
	for (char *p = name; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	name[strlen(name) - 1] = '\0';
	d->asked++;
	snprintf(d->last, sizeof(d->last), "%s", name);
	reply = reply_to(q);
	if (d->answer(d, name, ldns_rr_get_type(rr), reply) && ldns_pkt2wire(&wire, reply, &size) == LDNS_STATUS_OK)
		cr_assert_eq(sendto(fd, wire, size, 0, (struct sockaddr *)&from, len), (ssize_t)size);
	free(wire);
	free(name);
	ldns_pkt_free(reply);
	ldns_pkt_free(q);
	return 0;
}

void fake_dns_start(struct fake_dns *d, sd_event *event)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);

	d->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	cr_assert_eq(bind(d->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(getsockname(d->fd, (struct sockaddr *)&sa, &len), 0);
	d->port = ntohs(sa.sin_port);
	cr_assert_geq(sd_event_add_io(event, &d->io, d->fd, EPOLLIN, on_question, d), 0);
}

void fake_dns_stop(struct fake_dns *d)
{
	sd_event_source_disable_unref(d->io);
	close(d->fd);
}
