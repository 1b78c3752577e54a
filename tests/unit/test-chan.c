/* SPDX-License-Identifier: GPL-2.0-or-later */
/* chan/: messages there and back, what is no message, lines in pieces, pins and their end, the workers' table. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "chan/client.h"
#include "chan/line.h"
#include "tap.h"
#include "util/clock.h"

#define ID "sbx-aaaaaaaaaa"

static struct in_addr ip(const char *s)
{
	struct in_addr a;

	cr_assert_eq(inet_pton(AF_INET, s, &a), 1);
	return a;
}

/* --- messages --- */

static json_object *parsed(const char *text)
{
	json_object *o = NULL;
	const char *why;

	cr_assert_eq(json_parse(text, strlen(text), &o, &why), 0, "%s", text);
	return o;
}

Test(chan, messages_come_back)
{
	static const char *const good[] = {
		"{\"t\":\"hello\",\"role\":\"proxy\",\"version\":2,\"instance\":0}",
		"{\"t\":\"hello\",\"role\":\"proxy\",\"version\":2,\"instance\":31}",
		"{\"t\":\"config\",\"upstream\":[\"192.0.2.1\"],\"opened\":[]}",
		"{\"t\":\"policy\",\"id\":\"" ID "\",\"addr\":\"10.214.0.5\",\"gen\":7,\"policy\":{\"a\":1}}",
		"{\"t\":\"gone\",\"id\":\"" ID "\"}",
		"{\"t\":\"synced\"}",
		"{\"t\":\"pin\",\"addrs\":[\"1.2.3.4\",\"1.2.3.5\"],\"seq\":3,\"id\":\"" ID "\",\"gen\":7,\"name\":\"a.b\",\"ttl\":60}",
		"{\"t\":\"pinned\",\"seq\":3,\"ok\":true}",
		"{\"t\":\"audit\",\"id\":\"" ID "\",\"verdict\":\"block\",\"proto\":\"tls\",\"name\":\"x.y\",\"addr\":\"1.2.3.4\","
		"\"port\":443,\"rule\":\"default\",\"detail\":\"d\"}",
		"{\"t\":\"audit\",\"id\":\"" ID "\",\"verdict\":\"allow\",\"proto\":\"dns\"}",
		"{\"t\":\"lost\",\"id\":\"" ID "\",\"n\":12}",
	};

	for (size_t i = 0; i < ELEMENTSOF(good); i++) {
		_cleanup_json_ json_object *o = parsed(good[i]), *back = NULL;
		struct chan_msg m;

		cr_assert_eq(chan_msg_parse(o, &m), 0, "%s", good[i]);
		back = chan_msg_json(&m);
		cr_assert_str_eq(json_text(back, NULL), good[i]);
	}
}

Test(chan, what_is_no_message)
{
	static const char *const bad[] = {
		"[]", "{}", "{\"t\":\"what\"}", "{\"t\":7}", "{\"t\":\"hello\",\"role\":\"cook\",\"version\":2,\"instance\":0}",
		"{\"t\":\"hello\",\"role\":\"proxy\",\"version\":2}", "{\"t\":\"hello\",\"role\":\"proxy\",\"version\":2,\"instance\":32}",
		"{\"t\":\"gone\",\"id\":\"../../etc\"}", "{\"t\":\"gone\"}",
		"{\"t\":\"pin\",\"addrs\":[],\"seq\":3,\"id\":\"" ID "\",\"gen\":7,\"name\":\"a.b\",\"ttl\":60}",
		"{\"t\":\"pin\",\"addrs\":[\"::1\"],\"seq\":3,\"id\":\"" ID "\",\"gen\":7,\"name\":\"a.b\",\"ttl\":60}",
		"{\"t\":\"pin\",\"addrs\":[\"1.2.3.4\"],\"seq\":-3,\"id\":\"" ID "\",\"gen\":7,\"name\":\"a.b\",\"ttl\":60}",
		"{\"t\":\"pin\",\"addrs\":[\"1.2.3.4\"],\"seq\":3,\"id\":\"" ID "\",\"gen\":7,\"name\":\"\",\"ttl\":60}",
		"{\"t\":\"policy\",\"id\":\"" ID "\",\"addr\":\"10.214.0.5\",\"gen\":7,\"policy\":[]}",
		"{\"t\":\"audit\",\"id\":\"" ID "\",\"verdict\":\"maybe\",\"proto\":\"dns\"}",
		"{\"t\":\"audit\",\"id\":\"" ID "\",\"verdict\":\"allow\",\"proto\":\"dns\",\"port\":70000}",
		"{\"t\":\"config\",\"upstream\":[1],\"opened\":[]}",
	};

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		_cleanup_json_ json_object *o = parsed(bad[i]);
		struct chan_msg m;

		cr_assert_eq(chan_msg_parse(o, &m), -EPROTO, "%s", bad[i]);
	}
}

Test(chan, text_of_guests)
{
	char out[8];

	chan_text(out, sizeof(out), "a\n\x7f\xff" "bcdefgh");
	cr_assert_str_eq(out, "a???bcd");
	chan_text(out, sizeof(out), NULL);
	cr_assert_str_eq(out, "");
}

/* --- pins --- */

Test(pins, until)
{
	struct pins *p = pins_new();
	struct in_addr a[] = { ip("1.2.3.4"), ip("1.2.3.5") };

	cr_assert_eq(pins_add(p, "x.y", a, 2, 100, 1), 0);
	cr_assert(pins_has(p, "x.y", a[0], 99));
	cr_assert_not(pins_has(p, "x.y", a[0], 100));
	cr_assert_not(pins_has(p, "z.y", a[0], 1));
	cr_assert_eq(pins_add(p, "x.y", a, 1, 50, 1), 0);
	cr_assert_eq(pins_until(p, a[0]), 100, "never shorter");
	cr_assert_eq(pins_add(p, "x.y", a, 1, 200, 1), 0);
	cr_assert_eq(pins_count(p), 2);
	pins_expire(p, 150);
	cr_assert_eq(pins_count(p), 1);
	cr_assert_not(pins_has(p, "x.y", a[1], 1));
	pins_expire(p, 200);
	cr_assert_eq(pins_count(p), 0);
	pins_free(p);
}

Test(pins, bounds)
{
	struct pins *p = pins_new();
	char name[32];
	size_t n = 0;

	for (uint32_t i = 0; i < 2 * PINS_MAX; i++) {
		struct in_addr a = { htonl(0x01000000 + i) };

		snprintf(name, sizeof(name), "n%u.test", i / CHAN_ADDRS_MAX);
		n += pins_add(p, name, &a, 1, 100, 1) == 0;
	}
	cr_assert_eq(n, PINS_MAX);
	cr_assert_eq(pins_add(p, "late.test", &(struct in_addr){ 9 }, 1, 300, 100), 0, "the old ones are over");
	cr_assert_eq(pins_count(p), 1);
	for (uint32_t i = 0; i < CHAN_ADDRS_MAX - 1; i++)
		cr_assert_eq(pins_add(p, "late.test", &(struct in_addr){ 100 + i }, 1, 300, 100), 0);
	cr_assert_eq(pins_add(p, "late.test", &(struct in_addr){ 99 }, 1, 300, 100), -ENOSPC);
	pins_free(p);
}

/* --- lines --- */

struct side {
	int messages, closed, error;
	uint64_t last;
	struct chan *chan, *free_me;
};

static void on_message(void *userdata, const struct chan_msg *m)
{
	struct side *s = userdata;

	s->messages++;
	s->last = m->u.lost.n;
	s->free_me = chan_free(s->free_me);
}

static void on_closed(void *userdata, int error)
{
	struct side *s = userdata;

	s->closed++;
	s->error = error;
}

static const struct chan_ops ops = { .message = on_message, .closed = on_closed };
static sd_event *event;
static int pair[2];

static void setup(void)
{
	cr_assert_geq(sd_event_new(&event), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
}

static void teardown(void)
{
	sd_event_unref(event);
}

TestSuite(lines, .init = setup, .fini = teardown);

static const char line[] = "{\"t\":\"lost\",\"id\":\"" ID "\",\"n\":12}\n";

Test(lines, in_pieces_and_many_at_once)
{
	struct side s = { 0 };

	cr_assert_eq(chan_new(event, pair[0], 1 << 20, &ops, &s, &s.chan), 0);
	for (size_t i = 0; i < sizeof(line) - 1; i++) {
		cr_assert_eq(write(pair[1], line + i, 1), 1);
		sd_event_run(event, 0);
	}
	cr_assert_eq(s.messages, 1);
	for (int i = 0; i < 100; i++)
		cr_assert_eq(write(pair[1], line, sizeof(line) - 1), sizeof(line) - 1);
	cr_assert(chan_poll(s.chan));
	cr_assert_eq(s.messages, 101);
	cr_assert_eq(s.last, 12);
	close(pair[1]);
	cr_assert(tap_wait(event, 10, s.closed));
	cr_assert_eq(s.error, 0);
	chan_free(s.chan);
}

Test(lines, freed_by_a_message)
{
	struct side s = { 0 };

	cr_assert_eq(chan_new(event, pair[0], 1 << 20, &ops, &s, &s.free_me), 0);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(write(pair[1], line, sizeof(line) - 1), sizeof(line) - 1);
	cr_assert_not(chan_poll(s.free_me));
	cr_assert_eq(s.messages, 1);
	close(pair[1]);
}

Test(lines, garbage_ends_it)
{
	struct side s = { 0 };

	cr_assert_eq(chan_new(event, pair[0], 1 << 20, &ops, &s, &s.chan), 0);
	cr_assert_eq(write(pair[1], "{}\n", 3), 3);
	cr_assert(tap_wait(event, 10, s.closed));
	cr_assert_eq(s.error, -EPROTO);
	cr_assert_eq(s.closed, 1);
	chan_free(s.chan);
	close(pair[1]);
}

Test(lines, an_endless_line_ends_it)
{
	struct side s = { 0 };
	char junk[4096];

	memset(junk, 'x', sizeof(junk));
	cr_assert_eq(chan_new(event, pair[0], 1 << 20, &ops, &s, &s.chan), 0);
	for (int i = 0; i < 1024 && !s.closed; i++) {
		if (send(pair[1], junk, sizeof(junk), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			break;
		sd_event_run(event, 0);
	}
	cr_assert(tap_wait(event, 10, s.closed));
	cr_assert_eq(s.error, -EPROTO);
	chan_free(s.chan);
	close(pair[1]);
}

Test(lines, who_does_not_read_is_let_go)
{
	struct chan_msg m = { .type = CHAN_LOST, .u.lost = { ID, 1 } };
	struct side s = { 0 };
	int r = 0;

	cr_assert_eq(chan_new(event, pair[0], 4096, &ops, &s, &s.chan), 0);
	for (int i = 0; i < 1000000 && r == 0; i++)
		r = chan_send(s.chan, &m);
	cr_assert_eq(r, -ENOBUFS);
	cr_assert_eq(s.closed, 0, "not from inside");
	cr_assert_eq(chan_send(s.chan, &m), -ENOTCONN);
	cr_assert(tap_wait(event, 10, s.closed));
	chan_free(s.chan);
	close(pair[1]);
}

/* --- the client --- */

struct worker {
	struct chan_client *client;
	int fresh, changed, gone, synced, lost, configs, pins, pin_error;
};

static void w_config(void *u, json_object *upstream _unused_, json_object *opened _unused_)
{
	((struct worker *)u)->configs++;
}

static void w_policy(void *u, struct chan_sandbox *sb _unused_, bool fresh)
{
	struct worker *w = u;

	w->fresh += fresh;
	w->changed += !fresh;
}

static void w_gone(void *u, struct chan_sandbox *sb _unused_)
{
	((struct worker *)u)->gone++;
}

static void w_synced(void *u)
{
	((struct worker *)u)->synced++;
}

static void w_lost(void *u)
{
	((struct worker *)u)->lost++;
}

static void w_pinned(void *u, int error)
{
	struct worker *w = u;

	w->pins++;
	w->pin_error = error;
}

static const struct chan_client_ops client_ops = {
	.config = w_config, .policy = w_policy, .gone = w_gone, .synced = w_synced, .lost = w_lost,
};
static char sock_path[64];
static int listener;

static void client_setup(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	cr_assert_geq(sd_event_new(&event), 0);
	snprintf(sock_path, sizeof(sock_path), "/tmp/declaw-chan-%d.sock", getpid());
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", sock_path);
	unlink(sock_path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	cr_assert_eq(bind(listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(listen(listener, 4), 0);
}

static void client_teardown(void)
{
	unlink(sock_path);
	close(listener);
	sd_event_unref(event);
}

TestSuite(client, .init = client_setup, .fini = client_teardown);

static int accepted(void)
{
	int fd = -1;

	cr_assert(tap_wait(event, 10, fd >= 0 || (fd = accept(listener, NULL, NULL)) >= 0));
	return fd;
}

static void say(int fd, const char *text)
{
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

#define POLICY(names, gen) "{\"t\":\"policy\",\"id\":\"" ID "\",\"addr\":\"10.214.0.5\",\"gen\":" gen ",\"policy\":{\"closed\":false," \
	"\"inspection\":false,\"deny_default\":true,\"allow_nets\":[],\"deny_nets\":[],\"allow_names\":[" names "],\"deny_names\":[]}}\n"
#define SYNCED "{\"t\":\"synced\"}\n"
#define CONFIG "{\"t\":\"config\",\"upstream\":[],\"opened\":[]}\n"

Test(client, learns_forgets_and_refuses)
{
	struct worker w = { 0 };
	const char *rule;
	int fd;

	cr_assert_eq(chan_client_new(event, sock_path, CHAN_ROLE_PROXY, &client_ops, &w, &w.client), 0);
	fd = accepted();
	say(fd, CONFIG POLICY("\"x.test\"", "1"));
	cr_assert(tap_wait(event, 10, w.fresh));
	cr_assert_null(chan_client_find(w.client, ip("10.214.0.5")), "not synced yet");
	say(fd, SYNCED "{\"t\":\"pin\",\"addrs\":[\"1.2.3.4\"],\"seq\":0,\"id\":\"" ID "\",\"gen\":1,\"name\":\"x.test\",\"ttl\":60}\n");
	cr_assert(tap_wait(event, 10, w.synced));
	chan_client_poll(w.client);
	struct chan_sandbox *sb = chan_client_find(w.client, ip("10.214.0.5"));
	cr_assert_not_null(sb);
	cr_assert(policy_allows_name(sb->policy, "x.test", &rule));
	cr_assert(chan_client_pinned(w.client, sb, "x.test", ip("1.2.3.4")));
	cr_assert_not(chan_client_pinned(w.client, sb, "x.test", ip("1.2.3.5")));
	cr_assert_null(chan_client_find(w.client, ip("10.214.0.6")));

	/* the same text under another number is no change; another text is */
	say(fd, POLICY("\"x.test\"", "2") POLICY("\"y.test\"", "3"));
	cr_assert(tap_wait(event, 10, w.changed));
	cr_assert_eq(w.changed, 1);
	cr_assert_eq(sb->gen, 3);
	cr_assert_not(policy_allows_name(sb->policy, "x.test", &rule));

	/* the daemon dies and comes back without the sandbox */
	close(fd);
	cr_assert(tap_wait(event, 10, !chan_client_synced(w.client)));
	cr_assert_null(chan_client_find(w.client, ip("10.214.0.5")));
	cr_assert_eq(w.gone, 0);
	fd = accepted();
	say(fd, CONFIG SYNCED);
	cr_assert(tap_wait(event, 10, w.synced == 2));
	cr_assert_eq(w.gone, 1);
	cr_assert_eq(w.configs, 1);
	cr_assert_eq(w.lost, 0);
	chan_client_free(w.client);
	close(fd);
}

/* The client is connected and knows one sandbox */
static int served(struct worker *w)
{
	int fd = accepted();

	say(fd, POLICY("\"x.test\"", "1") SYNCED);
	cr_assert(tap_wait(event, 10, w->synced));
	return fd;
}

Test(client, asks_for_pins)
{
	struct worker w = { 0 };
	struct in_addr a = ip("1.2.3.4");
	struct chan_sandbox *sb;
	int fd;

	cr_assert_eq(chan_client_new(event, sock_path, CHAN_ROLE_RESOLVER, &client_ops, &w, &w.client), 0);
	fd = served(&w);
	sb = chan_client_find(w.client, ip("10.214.0.5"));
	cr_assert_eq(chan_client_pin(w.client, sb, "x.test", &a, 1, 60, w_pinned, &w), 0);
	cr_assert_eq(chan_client_pin(w.client, sb, "x.test", &a, 1, 60, w_pinned, &w), 0);
	cr_assert_eq(chan_client_pin(w.client, sb, "x.test", &a, 1, 60, w_pinned, &w), 0);
	say(fd, "{\"t\":\"pinned\",\"seq\":2,\"ok\":false}\n");
	cr_assert(tap_wait(event, 10, w.pins == 1));
	cr_assert_eq(w.pin_error, -EACCES);
	say(fd, "{\"t\":\"pinned\",\"seq\":1,\"ok\":true}\n{\"t\":\"pinned\",\"seq\":1,\"ok\":true}\n");
	cr_assert(tap_wait(event, 10, w.pins == 2));
	cr_assert_eq(w.pin_error, 0);
	close(fd);
	cr_assert(tap_wait(event, 10, w.pins == 3));
	cr_assert_eq(w.pin_error, -ECANCELED);
	cr_assert_eq(chan_client_pin(w.client, sb, "x.test", &a, 1, 60, w_pinned, &w), -ENOTCONN);
	chan_client_free(w.client);
	cr_assert_eq(w.gone, 1);
}

Test(client, says_when_it_is_lost_for_good, .timeout = 60)
{
	struct worker w = { 0 };
	int fd;

	cr_assert_eq(chan_client_new(event, sock_path, CHAN_ROLE_PROXY, &client_ops, &w, &w.client), 0);
	fd = served(&w);
	close(listener);
	unlink(sock_path);
	close(fd);
	cr_assert(tap_wait(event, 30, w.lost));
	cr_assert_eq(w.gone, 0);
	chan_client_free(w.client);
}

static size_t lines_at(int fd)
{
	static char data[8192];
	ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
	size_t lines = 0;

	for (ssize_t i = 0; i < n; i++)
		lines += data[i] == '\n';
	return lines;
}

Test(client, audits_are_gathered)
{
	struct worker w = { 0 };
	struct chan_audit a = { .verdict = CHAN_ALLOW, .proto = CHAN_PROTO_TLS, .name = "x.test" };
	struct chan_sandbox *sb;
	int fd;

	cr_assert_eq(chan_client_new(event, sock_path, CHAN_ROLE_PROXY, &client_ops, &w, &w.client), 0);
	chan_client_gather(w.client);
	cr_assert_eq(chan_client_flush(w.client), 0, "before there is a channel");
	fd = served(&w);
	lines_at(fd);
	sb = chan_client_find(w.client, ip("10.214.0.5"));
	for (int i = 0; i < 3; i++)
		chan_client_audit(w.client, sb, &a);
	cr_assert_eq(lines_at(fd), 0, "not yet");
	cr_assert_eq(chan_client_flush(w.client), 0);
	cr_assert_eq(lines_at(fd), 3, "together");
	cr_assert_eq(chan_client_flush(w.client), 0);
	cr_assert_eq(lines_at(fd), 0, "once");
	close(fd);
	chan_client_audit(w.client, sb, &a);
	cr_assert_lt(chan_client_flush(w.client), 0, "nobody is there");
	chan_client_free(w.client);
}

/* The first one after a pause goes at once, the next ones when the time says so, however fast or slow this runs */
Test(client, audits_are_told_now_and_then)
{
	struct worker w = { 0 };
	struct chan_audit a = { .verdict = CHAN_ALLOW, .proto = CHAN_PROTO_TLS, .name = "x.test" };
	struct chan_sandbox *sb;
	int fd, msec = 0;
	size_t got = 0;

	cr_assert_eq(chan_client_new(event, sock_path, CHAN_ROLE_PROXY, &client_ops, &w, &w.client), 0);
	chan_client_gather(w.client);
	fd = served(&w);
	lines_at(fd);
	cr_assert_eq(chan_client_tell(w.client, &msec), 0);
	cr_assert_eq(msec, -1, "nothing waits");
	sb = chan_client_find(w.client, ip("10.214.0.5"));
	chan_client_audit(w.client, sb, &a);
	cr_assert_eq(chan_client_tell(w.client, &msec), 0);
	cr_assert_eq(msec, -1);
	cr_assert_eq(lines_at(fd), 1, "at once");
	for (int i = 0; i < 3; i++)
		chan_client_audit(w.client, sb, &a);
	do {
		cr_assert_eq(chan_client_tell(w.client, &msec), 0);
		got = lines_at(fd);
		cr_assert_eq(got, msec < 0 ? 3 : 0, "all of them when it is time: %zu, %d ms", got, msec);
		cr_assert_leq(msec, CHAN_TELL_MSEC);
		if (msec > 0)
			usleep((useconds_t)msec * 1000);
	} while (msec >= 0);
	cr_assert_eq(chan_client_tell(w.client, &msec), 0);
	cr_assert_eq(msec, -1, "and once");
	cr_assert_eq(lines_at(fd), 0);
	close(fd);
	chan_client_free(w.client);
}

Test(client, audits_are_bounded)
{
	struct worker w = { 0 };
	struct chan_audit a = { .verdict = CHAN_BLOCK, .proto = CHAN_PROTO_DNS, .name = "x.test" };
	struct chan_sandbox *sb;
	int fd;

	cr_assert_eq(chan_client_new(event, sock_path, CHAN_ROLE_RESOLVER, &client_ops, &w, &w.client), 0);
	fd = served(&w);
	sb = chan_client_find(w.client, ip("10.214.0.5"));
	for (int i = 0; i < 1000; i++)
		chan_client_audit(w.client, sb, &a);
	cr_assert_gt(sb->audit_lost, 0);
	cr_assert_leq(sb->audit_lost, 800);
	chan_client_free(w.client);
	close(fd);
}
