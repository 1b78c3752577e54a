/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress/control and egress/nflog: who may speak, what may be said, and packets from their first bytes. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "egress/control.h"
#include "egress/nflog.h"
#include "tap.h"
#include "util/macro.h"

#define ID "sbx-aaaaaaaaaa"

static sd_event *event;
static struct control *control;
static char path[64];
static int joins, messages;
static uint64_t last_peer;
static enum chan_role last_role;

static void joined(void *userdata _unused_, uint64_t peer, enum chan_role role)
{
	const struct chan_msg m = { .type = CHAN_SYNCED };

	joins++;
	last_peer = peer;
	last_role = role;
	control_send(control, peer, &m);
}

static void message(void *userdata _unused_, uint64_t peer _unused_, enum chan_role role _unused_,
		    const struct chan_msg *m _unused_)
{
	messages++;
}

static const struct control_ops ops = { .joined = joined, .message = message };

static void start(uid_t proxy, uid_t resolver)
{
	const uid_t uids[CHAN_ROLE_MAX] = { [CHAN_ROLE_PROXY] = proxy, [CHAN_ROLE_RESOLVER] = resolver };

	cr_assert_geq(sd_event_new(&event), 0);
	snprintf(path, sizeof(path), "/tmp/declaw-control-%d.sock", getpid());
	cr_assert_eq(control_new(event, path, uids, &ops, NULL, &control), 0);
}

static void stop(void)
{
	control_free(control);
	cr_assert_eq(access(path, F_OK), -1);
	sd_event_unref(event);
}

static int client(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static bool ended(int fd)
{
	char c[256];
	ssize_t n = -1;

	return tap_wait(event, 10, n == 0 || (n = recv(fd, c, sizeof(c), 0)) == 0 || (n < 0 && errno == ECONNRESET && (n = 0) == 0));
}

#define HELLO_AS(role, instance) "{\"t\":\"hello\",\"role\":\"" role "\",\"version\":2,\"instance\":" instance "}\n"
#define HELLO(role) HELLO_AS(role, "0")
#define AUDIT "{\"t\":\"audit\",\"id\":\"" ID "\",\"verdict\":\"allow\",\"proto\":\"dns\"}\n"
#define PIN "{\"t\":\"pin\",\"addrs\":[\"1.2.3.4\"],\"seq\":1,\"id\":\"" ID "\",\"gen\":1,\"name\":\"a.b\",\"ttl\":60}\n"

Test(control, takes_workers_and_answers)
{
	char text[64] = "";
	ssize_t n = -1;
	int fd;

	start(getuid(), getuid());
	fd = client();
	say(fd, HELLO("resolver") AUDIT PIN);
	cr_assert(tap_wait(event, 10, messages == 2));
	cr_assert_eq(joins, 1);
	cr_assert_eq(last_role, CHAN_ROLE_RESOLVER);
	cr_assert(control_has(control, CHAN_ROLE_RESOLVER));
	cr_assert_not(control_has(control, CHAN_ROLE_PROXY));
	cr_assert(tap_wait(event, 10, n > 0 || (n = recv(fd, text, sizeof(text) - 1, 0)) > 0));
	cr_assert_str_eq(text, "{\"t\":\"synced\"}\n");
	close(fd);
	cr_assert(tap_wait(event, 10, !control_has(control, CHAN_ROLE_RESOLVER)));
	stop();
}

Test(control, strangers_are_not_heard)
{
	int fd;

	start(getuid() + 1, getuid() + 2);
	fd = client();
	cr_assert(ended(fd));
	cr_assert_eq(joins, 0);
	close(fd);
	stop();
}

Test(control, a_role_belongs_to_its_user)
{
	int fd;

	start(getuid() + 1, getuid());
	fd = client();
	say(fd, HELLO("proxy"));
	cr_assert(ended(fd));
	cr_assert_eq(joins, 0);
	close(fd);
	stop();
}

Test(control, only_the_resolver_pins_and_hello_comes_first)
{
	int a, b;

	start(getuid(), getuid());
	a = client();
	say(a, HELLO("proxy") PIN);
	cr_assert(ended(a));
	b = client();
	say(b, AUDIT);
	cr_assert(ended(b));
	cr_assert_eq(messages, 0);
	close(a);
	close(b);
	stop();
}

Test(control, the_newest_of_a_role_stays)
{
	const struct chan_msg m = { .type = CHAN_SYNCED };
	uint64_t first;
	int a, b;

	start(getuid(), getuid());
	a = client();
	say(a, HELLO("proxy"));
	cr_assert(tap_wait(event, 10, joins == 1));
	first = last_peer;
	b = client();
	say(b, HELLO("proxy"));
	cr_assert(tap_wait(event, 10, joins == 2));
	cr_assert(ended(a));
	control_send(control, first, &m);	/* who is gone gets nothing, and nobody else does */
	say(b, AUDIT);
	cr_assert(tap_wait(event, 10, messages == 1));
	close(a);
	close(b);
	stop();
}

/* Something was said, and it was that */
static void hears_synced(int fd)
{
	char text[64] = "";
	ssize_t n = -1;

	cr_assert(tap_wait(event, 10, n > 0 || (n = recv(fd, text, sizeof(text) - 1, 0)) > 0));
	cr_assert_str_eq(text, "{\"t\":\"synced\"}\n");
}

Test(control, instances_of_a_role_stay_side_by_side)
{
	const struct chan_msg m = { .type = CHAN_SYNCED };
	int fd[3];

	start(getuid(), getuid());
	for (int i = 0; i < 2; i++) {
		fd[i] = client();
		say(fd[i], i ? HELLO_AS("proxy", "1") : HELLO("proxy"));
		cr_assert(tap_wait(event, 10, joins == i + 1));
		hears_synced(fd[i]);	/* by joined() */
	}
	control_send_role(control, CHAN_ROLE_PROXY, &m);
	for (int i = 0; i < 2; i++)
		hears_synced(fd[i]);
	fd[2] = client();
	say(fd[2], HELLO_AS("proxy", "1"));
	cr_assert(tap_wait(event, 10, joins == 3));
	cr_assert(ended(fd[1]), "replaced by the same instance");
	say(fd[0], AUDIT);
	cr_assert(tap_wait(event, 10, messages == 1), "the other one is still heard");
	for (int i = 0; i < 3; i++)
		close(fd[i]);
	stop();
}

Test(nflog, packets)
{
	static const uint8_t syn[] = {
		0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 214, 0, 5, 1, 2, 3, 4, 0x30, 0x39, 0x01, 0xbb,
	};
	uint8_t copy[sizeof(syn)];
	struct nflog_packet p;

	cr_assert_eq(nflog_packet_parse(syn, sizeof(syn), &p), 0);
	cr_assert_eq(p.proto, CHAN_PROTO_TCP);
	cr_assert_eq(p.port, 443);
	cr_assert_eq(p.from.s_addr, inet_addr("10.214.0.5"));
	cr_assert_eq(p.to.s_addr, inet_addr("1.2.3.4"));
	for (size_t n = 0; n < 20; n++)
		cr_assert_eq(nflog_packet_parse(syn, n, &p), -EINVAL);
	cr_assert_eq(nflog_packet_parse(syn, 22, &p), 0);
	cr_assert_eq(p.port, 0);
	memcpy(copy, syn, sizeof(syn));
	copy[7] = 1;	/* a later fragment has no ports */
	cr_assert_eq(nflog_packet_parse(copy, sizeof(copy), &p), 0);
	cr_assert_eq(p.port, 0);
	copy[0] = 0x60;
	cr_assert_eq(nflog_packet_parse(copy, sizeof(copy), &p), -EINVAL);
}
