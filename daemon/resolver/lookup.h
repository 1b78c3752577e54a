/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The resolver's decision about one question: whose it is, whether the policy lets that name be resolved, whether the
 * answer is known, and that its addresses are pinned before the guest sees them.
 *
 * Per sandbox: a cache of its own (what one sandbox asked is no other's to measure), and limits, since a name that is
 * looked up is also a message to whoever runs the domain: questions a second, questions to upstream servers a second,
 * new names below a wildcard, and the length of these. Denied names cost no packet to anybody.
 */
#ifndef DECLAW_RESOLVER_LOOKUP_H
#define DECLAW_RESOLVER_LOOKUP_H

#include <systemd/sd-event.h>

#include "resolver/query.h"
#include "util/list.h"

struct resolver;
struct fetch;

/* Who waits for an answer; embedded in what knows how to send it. */
struct asker {
	struct list link;
	struct fetch *relay;		/* the resolver's */
	struct query q;
	size_t max;			/* bytes of the answer */
	/* Once, maybe from inside resolver_ask(); the asker is no longer known to the resolver then. */
	void (*reply)(struct asker *a, const uint8_t *wire, size_t len);
	/* Instead: no answer at all */
	void (*drop)(struct asker *a);
};

/*
 * servers: as upstream_new(); NULL: what declawd says. ready comes once, when declawd has said everything for the first
 * time: what is asked before would be refused, so it had better wait in the socket.
 */
int resolver_new(sd_event *event, const char *control_path, const char *servers, void (*ready)(void *userdata),
		 void *userdata, struct resolver **ret);
/* Askers are dropped. */
struct resolver *resolver_free(struct resolver *r);
/* from: the guest's address. Takes the asker until one of its functions is called. */
void resolver_ask(struct resolver *r, struct in_addr from, const uint8_t *wire, size_t len, struct asker *a);
/* It went away. */
void resolver_forget(struct asker *a);
/* Whether that address is a sandbox's: nobody else may hold a connection. */
bool resolver_knows(struct resolver *r, struct in_addr from);

#endif
