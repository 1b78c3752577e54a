/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A flow's life, see flow.h. relay.c moves its bytes. */
#include "proxy/flow.h"

#include <fcntl.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/relay.h"
#include "util/clock.h"
#include "util/log.h"

#define FLOW_BUF_MIN 2048u

/* --- audit --- */

static void audit(struct flow *f, enum chan_verdict verdict, enum chan_proto proto, const char *rule, const char *detail)
{
	struct chan_audit a = { .verdict = verdict, .proto = proto, .addr = f->dst.sin_addr, .port = ntohs(f->dst.sin_port) };

	if (!f->sandbox)
		return;
	chan_text(a.name, sizeof(a.name), f->name);
	chan_text(a.rule, sizeof(a.rule), rule);
	chan_text(a.detail, sizeof(a.detail), detail);
	chan_client_audit(f->proxy->client, f->sandbox, &a);
}

static enum chan_proto proto_of(const struct flow *f)
{
	return f->hello ? CHAN_PROTO_TLS : f->http ? CHAN_PROTO_HTTP : CHAN_PROTO_TCP;
}

/* --- ends --- */

static void end_reset(struct flow_end *e)
{
	const struct linger now = { .l_onoff = 1, .l_linger = 0 };

	if (e->fd >= 0)
		setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	e->fd = fd_close(e->fd);
}

static void flow_over(struct flow *f)
{
	struct worker_sandbox *ws = f->sandbox ? f->sandbox->userdata : NULL;

	if (f->phase == FLOW_OVER)
		return;
	f->phase = FLOW_OVER;
	if (ws) {
		ws->n--;
		ws->n_large -= f->up.large + f->down.large;
	}
	list_unlink(&f->sandbox_link);
	f->sandbox = NULL;
	f->guest.fd = fd_close(f->guest.fd);
	f->server.fd = fd_close(f->server.fd);
	list_unlink(&f->link);
	list_append(&f->proxy->over, &f->link);
}

void flow_cut(struct flow *f)
{
	end_reset(&f->guest);
	end_reset(&f->server);
	flow_over(f);
}

void flow_large(struct flow *f, struct flow_pipe *p)
{
	struct worker_sandbox *ws = f->sandbox ? f->sandbox->userdata : NULL;
	unsigned int n = f->proxy->prefork.n;	/* instances, which share what there may be */

	p->asked = true;
	if (!ws || ws->n_large * n >= LARGE_PER_SANDBOX || f->proxy->n_large * n >= LARGE_MAX || fcntl(p->fd[1], F_SETPIPE_SZ, RELAY_PIPE) < 0)
		return;
	p->large = true;
	ws->n_large++;
	f->proxy->n_large++;
}

static void pipe_close(struct proxy *proxy, struct flow_pipe *p)
{
	proxy->n_large -= p->large;
	p->fd[0] = fd_close(p->fd[0]);
	p->fd[1] = fd_close(p->fd[1]);
}

void flows_sweep(struct proxy *p)
{
	struct flow *f;

	while ((f = list_first(&p->over, struct flow, link))) {
		list_unlink(&f->link);
		pipe_close(p, &f->up);
		pipe_close(p, &f->down);
		hello_free(f->hello);
		request_parser_free(f->http);
		free(f->buf);
		free(f);
		p->n_flows--;
	}
}

void flows_expire(struct proxy *p)
{
	uint64_t now = clock_monotonic();
	struct flow *f;

	/* LOOK and DIAL have different limits: the list is short, and both are looked at */
	list_foreach(&p->waiting, f, struct flow, link) {
		if (now < f->deadline)
			continue;
		audit(f, CHAN_BLOCK, proto_of(f), f->phase == FLOW_LOOK ? "no_name" : "unreachable", "timeout");
		flow_cut(f);
	}
}

static void deny(struct flow *f, const char *rule, const char *detail)
{
	audit(f, CHAN_BLOCK, proto_of(f), rule, detail);
	flow_cut(f);
}

/* --- judging --- */

/* Allowed by the policy, and the address is one that our resolver gave out for it. */
static bool judge_name(struct flow *f, const char *name, const char **ret_rule)
{
	struct chan_client *c = f->proxy->client;

	*ret_rule = "closed";
	if (!f->sandbox || !chan_client_synced(c))
		return false;
	if (!policy_allows_name(f->sandbox->policy, name, ret_rule))
		return false;
	if (chan_client_pinned(c, f->sandbox, name, f->dst.sin_addr))
		return true;
	/* The news may be in the socket still; reading it may also end this flow */
	f->proxy->told = true;
	chan_client_poll(c);
	if (f->phase == FLOW_OVER || !f->sandbox || !policy_allows_name(f->sandbox->policy, name, ret_rule))
		return false;
	if (chan_client_pinned(c, f->sandbox, name, f->dst.sin_addr))
		return true;
	*ret_rule = "address_of_another_name";
	return false;
}

void flow_judge_again(struct flow *f)
{
	const char *rule;

	if (f->phase == FLOW_LOOK || f->phase == FLOW_OVER)
		return;
	if (!f->sandbox || !policy_name_checked(f->sandbox->policy) || !policy_allows_name(f->sandbox->policy, f->name, &rule))
		deny(f, "policy_changed", "");
}

static void dial(struct flow *f, const char *rule)
{
	int one = 1, zero = 0, r;

	audit(f, CHAN_ALLOW, proto_of(f), rule, "");
	f->hello = hello_free(f->hello);
	f->server.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	r = f->server.fd < 0 ? -errno : 0;
	if (r == 0) {
		setsockopt(f->server.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		/* there is something to say at once: the handshake's last packet is the one that carries it */
		setsockopt(f->server.fd, IPPROTO_TCP, TCP_QUICKACK, &zero, sizeof(zero));
		if (connect(f->server.fd, (const struct sockaddr *)&f->dst, sizeof(f->dst)) < 0 && errno != EINPROGRESS)
			r = -errno;
	}
	if (r == 0)
		r = relay_watch(f->proxy->epoll, &f->server);
	if (r < 0) {
		log_debug("dialling: %s", strerror(-r));
		deny(f, "unreachable", strerror(-r));
		return;
	}
	f->phase = FLOW_DIAL;
	f->deadline = clock_monotonic() + DIAL_USEC;
}

static void judge(struct flow *f, const char *name)
{
	const char *rule;

	memcpy(f->name, name, sizeof(f->name));
	if (judge_name(f, name, &rule))
		dial(f, rule);
	else if (f->phase != FLOW_OVER)
		deny(f, rule, "");
}

/* --- looking --- */

static void look_tls(struct flow *f, size_t fresh)
{
	char name[POLICY_NAME_MAX] = "";

	if (!f->hello && hello_new(&f->hello) < 0) {
		deny(f, "no_memory", "");
		return;
	}
	switch (hello_feed(f->hello, f->buf + f->len - fresh, fresh, name)) {
	case HELLO_MORE:
		return;
	case HELLO_NAME:
		f->judged = f->len;
		judge(f, name);
		return;
	case HELLO_NO_NAME:
		deny(f, "no_name", "TLS without a server name");
		return;
	case HELLO_ENCRYPTED:
		deny(f, "encrypted_client_hello", "");
		return;
	case HELLO_BAD:
		deny(f, "protocol", "not a TLS ClientHello");
		return;
	}
}

bool flow_http(struct flow *f)
{
	while (f->judged < f->len && !f->upgrading && f->phase != FLOW_OVER) {
		bool head = request_in_head(f->http);
		char name[POLICY_NAME_MAX];
		const char *why = "", *rule;
		size_t used = 0;

		switch (request_feed(f->http, f->buf + f->parsed, f->len - f->parsed, &used, name, &why)) {
		case REQUEST_MORE:
			f->parsed += used;
			if (!head)
				f->judged = f->parsed;
			if (f->parsed == f->len)
				return true;
			break;
		case REQUEST_UPGRADE:
			f->upgrading = true;
			/* fall through */
		case REQUEST_HEAD:
			f->parsed += used;
			f->judged = f->parsed;
			if (f->phase == FLOW_LOOK) {
				judge(f, name);
				break;
			}
			/* a later request of the same connection: to the same server, for a name that may go there */
			if (str_eq(name, f->name))
				break;
			if (!judge_name(f, name, &rule)) {
				memcpy(f->name, name, sizeof(f->name));
				if (f->phase != FLOW_OVER)
					deny(f, rule, "another host on a connection that was open");
				return false;
			}
			memcpy(f->name, name, sizeof(f->name));
			audit(f, CHAN_ALLOW, CHAN_PROTO_HTTP, rule, "");
			break;
		case REQUEST_BAD:
			deny(f, "http", why);
			return false;
		}
	}
	return f->phase != FLOW_OVER;
}

/* Who connects and says nothing costs nothing; the others what they said, twice at most */
bool flow_room(struct flow *f)
{
	size_t size = f->size ? f->size * 2 : FLOW_BUF_MIN;
	char *buf;

	if (f->len < f->size)
		return true;
	if (f->size >= RELAY_BUF_MAX)
		return false;
	size = MIN_OF(size, RELAY_BUF_MAX);
	buf = realloc(f->buf, size);
	if (!buf)
		return false;
	f->buf = buf;
	f->size = size;
	return true;
}

static void look(struct flow *f)
{
	while (f->phase == FLOW_LOOK && f->guest.in) {
		ssize_t n = flow_room(f) ? recv(f->guest.fd, f->buf + f->len, f->size - f->len, 0) : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			f->guest.in = false;
			return;
		}
		if (n <= 0) {
			/* nobody is told who came and said nothing: port scanners and health checks do */
			if (f->len > 0)
				audit(f, CHAN_BLOCK, proto_of(f), "no_name", "ended before it was complete");
			flow_cut(f);
			return;
		}
		f->len += (size_t)n;
		/* there was no more, and what comes is told, but for an end that was told already */
		if (f->len < f->size && !f->guest.ending)
			f->guest.in = false;
		if (f->buf[0] == 0x16) {
			look_tls(f, (size_t)n);
		} else if (f->buf[0] >= 'A' && f->buf[0] <= 'Z') {
			if (!f->http)
				f->http = request_parser_new();
			if (!f->http)
				deny(f, "no_memory", "");
			else
				flow_http(f);
		} else {
			deny(f, "protocol", "neither TLS nor HTTP");
		}
	}
}

/* --- dialling and relaying --- */

static void dialled(struct flow *f, bool failed)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (failed && getsockopt(f->server.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error) {
		deny(f, "unreachable", strerror(error));
		return;
	}
	f->phase = FLOW_RELAY;
	list_unlink(&f->link);
	list_append(&f->proxy->running, &f->link);
}

void flow_event(struct flow_end *end, uint32_t events)
{
	struct flow *f = end->flow;

	if (f->phase == FLOW_OVER)
		return;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		end->in = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		end->ending = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		end->out = true;
	if (f->phase == FLOW_LOOK && f->guest.in)
		look(f);
	if (f->phase == FLOW_DIAL && end == &f->server && events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
		dialled(f, events & (EPOLLERR | EPOLLHUP));
	if (f->phase == FLOW_RELAY && !relay(f)) {
		if (f->broken)
			flow_cut(f);
		else
			flow_over(f);
	}
}

/* --- accepting --- */

static bool destination(int fd, struct sockaddr_in *ret)
{
	struct sockaddr_in self;
	socklen_t len = sizeof(*ret), self_len = sizeof(self);

	if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, ret, &len) < 0 || getsockname(fd, (struct sockaddr *)&self, &self_len) < 0)
		return false;
	/* Nobody was redirected here: somebody speaks to the proxy itself */
	return ret->sin_addr.s_addr != self.sin_addr.s_addr;
}

void flow_accept(struct proxy *p, int fd, const struct sockaddr_in *peer)
{
	struct chan_sandbox *sb = chan_client_find(p->client, peer->sin_addr);
	struct worker_sandbox *ws = sb ? sb->userdata : NULL;
	struct flow_end stranger = { .fd = fd };
	struct flow *f = NULL;

	if (!sb) {
		/* the news of a new sandbox may be in the socket still */
		p->told = true;
		chan_client_poll(p->client);
		sb = chan_client_find(p->client, peer->sin_addr);
		ws = sb ? sb->userdata : NULL;
	}
	if (ws && ws->n < FLOWS_PER_SANDBOX && p->n_flows < FLOWS_MAX)
		f = calloc(1, sizeof(*f));
	if (!f || !destination(fd, &f->dst)) {
		end_reset(&stranger);
		free(f);
		return;
	}
	f->proxy = p;
	f->sandbox = sb;
	f->guest = (struct flow_end){ .flow = f, .fd = fd };
	f->server = (struct flow_end){ .flow = f, .fd = -EBADF };
	f->up = f->down = (struct flow_pipe){ .fd = { -EBADF, -EBADF } };
	f->deadline = clock_monotonic() + LOOK_USEC;
	list_init(&f->link);
	list_init(&f->sandbox_link);
	list_append(&p->waiting, &f->link);
	list_append(&ws->flows, &f->sandbox_link);
	ws->n++;
	p->n_flows++;
	if (relay_watch_in(p->epoll, &f->guest) < 0)
		flow_cut(f);
}
