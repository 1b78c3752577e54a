/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection of a guest: looked at, judged, dialled, relayed.
 *
 *	LOOK	the first bytes are collected until they say what is spoken and to whom
 *	DIAL	the name is allowed and pinned to the address the guest chose; connecting there
 *	RELAY	bytes go both ways: TLS by splice(2), HTTP requests through the parser, answers by splice(2)
 *
 * Who a guest is, is its address, which the kernel's rules let nobody forge; where it wanted to go is what connection
 * tracking remembers. Everything that cannot be judged is reset. Flows live in an epoll set, edge-triggered, one
 * registration a socket, and the event loop is in that set, too; an event source per socket would cost more than the
 * relaying.
 */
#ifndef DECLAW_PROXY_FLOW_H
#define DECLAW_PROXY_FLOW_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "chan/client.h"
#include "proxy/busywait.h"
#include "proxy/hello.h"
#include "proxy/prefork.h"
#include "proxy/request.h"

#define LISTENERS_MAX PREFORK_MAX
#define FLOWS_MAX 16384u		/* of all sandboxes; these are an instance's, the rules limit what a sandbox has in all */
#define FLOWS_PER_SANDBOX 1024u
#define LARGE_MAX 128u			/* pipes of all instances: a user has 16384 pages, and beyond that two for each new one */
#define LARGE_PER_SANDBOX 16u		/* of all instances, too */
#define LOOK_USEC 5000000ull		/* for the first bytes to say who is meant */
#define DIAL_USEC 10000000ull

struct flow;

struct flow_end {
	struct flow *flow;
	int fd;
	bool in, out;		/* epoll said so, and no EAGAIN since */
	bool quiet;		/* epoll does not say when it can be written to */
	bool ending;		/* the peer has finished or failed: there may be no other news of it */
	bool eof, shut;		/* read to its end; nothing more will be written */
};

struct flow_pipe {
	int fd[2];		/* -EBADF: not made yet */
	size_t n;		/* bytes in it */
	bool asked, large;	/* to be larger; it is */
	bool bulk;		/* more than something short goes this way */
};

enum flow_phase { FLOW_LOOK, FLOW_DIAL, FLOW_RELAY, FLOW_OVER };

struct flow {
	struct list link;	/* proxy: waiting (LOOK, DIAL; oldest first), running or over */
	struct list sandbox_link;
	struct proxy *proxy;
	struct chan_sandbox *sandbox;	/* NULL: gone */
	enum flow_phase phase;
	struct flow_end guest, server;
	struct flow_pipe up, down;
	struct sockaddr_in dst;
	char name[POLICY_NAME_MAX];
	uint64_t deadline;	/* monotonic */
	struct hello *hello;
	struct request_parser *http;	/* all along: requests are judged for ever */
	bool upgrading;		/* waits for 101 */
	bool raw;		/* HTTP no more: the server changed the protocol */
	bool broken;		/* an end failed: reset, do not close */
	char *buf;		/* from the guest: [start, judged) may go to the server, what is behind is kept back */
	size_t start, judged, parsed, len, size;
};

struct proxy {
	sd_event *event;
	struct chan_client *client;
	struct prefork prefork;
	struct listener { int fd; } listeners[LISTENERS_MAX];	/* this instance's */
	unsigned int n_listeners;
	int epoll;
	struct busywait wait;
	bool told;		/* the channel was read: the event loop may have something to do */
	unsigned int n_flows, n_large;
	struct list waiting, running, over;
};

struct worker_sandbox {
	struct list flows;
	unsigned int n, n_large;
};

/* Makes room in the buffer for at least one byte. False: it is as large as it may be, or there is no memory. */
bool flow_room(struct flow *f);
/* Makes one of its pipes larger, if there are not too many that are */
void flow_large(struct flow *f, struct flow_pipe *p);
/* Judges what of an HTTP connection was read. False: the flow is over. */
bool flow_http(struct flow *f);
/* A connection was accepted; takes fd. */
void flow_accept(struct proxy *p, int fd, const struct sockaddr_in *peer);
void flow_event(struct flow_end *end, uint32_t events);
/* Resets both ends. The flow is freed by proxy_sweep(). */
void flow_cut(struct flow *f);
/* The policy is another one */
void flow_judge_again(struct flow *f);
/* Frees what is over */
void flows_sweep(struct proxy *p);
/* Resets what has waited too long */
void flows_expire(struct proxy *p);

#endif
