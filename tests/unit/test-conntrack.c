/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net/conntrack in a kernel, in a network namespace of its own: whose entries go, and whose stay. Skipped without root
 * and where the kernel does not show its table.
 */
#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/cmd.h"
#include "lib/jail.h"
#include "lib/tap.h"
#include "loop/workers.h"
#include "net/conntrack.h"
#include "policy/policy.h"
#include "util/macro.h"
#include "util/str.h"

#define TABLE "/proc/net/nf_conntrack"
#define ONE "10.214.0.7"
#define OTHER "10.214.0.8"
#define NEAR "203.0.113.7"
#define FAR "198.51.100.7"

static uint32_t addr(const char *s)
{
	struct in_addr in = { 0 };

	inet_pton(AF_INET, s, &in);
	return ntohl(in.s_addr);
}

static void say(const char *from, const char *to, uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET }, b = { .sin_family = AF_INET, .sin_port = htons(port) };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, from, &a.sin_addr);
	inet_pton(AF_INET, to, &b.sin_addr);
	if (bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 || sendto(s, "x", 1, 0, (struct sockaddr *)&b, sizeof(b)) < 0)
		printf("# %s to %s: %m\n", from, to);
	close(s);
}

/* Entries that from opened to to (NULL: anybody) */
static int entries(const char *from, const char *to)
{
	_cleanup_free_ char *key = str_format("src=%s dst=%s", from, to ?: "");
	char line[512];
	FILE *f = fopen(TABLE, "re");
	int n = 0;

	while (f && fgets(line, sizeof(line), f)) {
		const char *first = strstr(line, "src=");

		n += first && str_starts(first, key);
	}
	if (f)
		fclose(f);
	return n;
}

static bool world(void)
{
	return CMD_OK("ip", "link", "set", "lo", "up") && CMD_OK("ip", "addr", "add", ONE "/32", "dev", "lo") &&
	       CMD_OK("ip", "addr", "add", OTHER "/32", "dev", "lo") && CMD_OK("ip", "addr", "add", NEAR "/32", "dev", "lo") &&
	       CMD_OK("ip", "addr", "add", FAR "/32", "dev", "lo") && CMD_OK("nft", "add table ip t") &&
	       CMD_OK("nft", "add chain ip t c { type nat hook output priority -100; }") &&
	       CMD_OK("nft", "add rule ip t c udp dport 53 redirect to :9053");
}

static void talk(void)
{
	for (int i = 0; i < 40; i++)
		say(ONE, i % 2 ? NEAR : FAR, 5000);
	say(ONE, FAR, 53);
	say(OTHER, FAR, 5000);
}

static int forget(const char *who, struct policy *keep)
{
	return conntrack_forget_now(&(struct conntrack_who){ addr(who), keep }, 1);
}

static void test_all(void)
{
	int n;

	talk();
	ok(entries(ONE, NULL) >= 40 && entries(OTHER, NULL) == 1, "%d and %d entries", entries(ONE, NULL), entries(OTHER, NULL));
	n = entries(ONE, NULL);
	ok(forget(ONE, NULL) == n, "all of them are forgotten");
	ok(entries(ONE, NULL) == 0, "none is left");
	ok(entries(OTHER, NULL) >= 1, "another one's stays");
	ok(forget(ONE, NULL) == 0, "forgotten again: nothing to do");
	ok(forget("10.214.9.9", NULL) == 0, "an address that never spoke");
}

static void test_policy(const char *network, bool near_stays, bool far_stays)
{
	json_object *o = json_tokener_parse(network);
	struct policy *p = NULL;
	char *detail = NULL;

	ok(policy_parse(o, false, &p, &detail) == 0, "%s", network);
	talk();
	ok(forget(ONE, p) >= 0, "the policy is in force");
	ok((entries(ONE, NEAR) > 0) == near_stays, "%d to " NEAR, entries(ONE, NEAR));
	/* one of them was redirected to the resolver, which judges for itself */
	ok(entries(ONE, FAR) == 1 || (far_stays && entries(ONE, FAR) > 1), "%d to " FAR, entries(ONE, FAR));
	ok(entries(OTHER, NULL) >= 1, "another one's stays");
	policy_free(p);
	json_object_put(o);
	forget(ONE, NULL);
}

/* What waits for a list is the next one together; the last word about an address counts */
static void test_together(void)
{
	json_object *o = json_tokener_parse("{'allow_out':['203.0.113.0/24']}");
	struct workers *w = NULL;
	sd_event *event = NULL;
	struct policy *p = NULL, *all = NULL;
	char *detail = NULL;

	ok(sd_event_new(&event) == 0 && workers_new(event, 0, &w) == 0 && policy_parse(o, false, &p, &detail) == 0 &&
	   policy_parse(NULL, false, &all, &detail) == 0, "a loop and a policy");
	talk();
	conntrack_forget(w, addr("10.214.9.9"), NULL);
	conntrack_forget(w, addr(OTHER), NULL);
	conntrack_forget(w, addr(ONE), all);
	conntrack_forget(w, addr(ONE), p);
	ok(tap_wait(event, 20, entries(OTHER, NULL) == 0 && entries(ONE, FAR) == 1), "both are forgotten");
	ok(entries(ONE, NEAR) > 0, "but for what the policy lets be");
	conntrack_forget(w, addr(ONE), NULL);
	conntrack_forget(w, addr(OTHER), NULL);
	workers_free(w);
	sd_event_unref(event);
	json_object_put(o);
}

int main(void)
{
	int r;

	if (geteuid() != 0)
		tap_skip("needs root");
	r = jail_enter();
	if (r < 0)
		tap_skip("namespaces: %s", strerror(-r));
	if (!world())
		tap_skip("no nftables here");
	if (access(TABLE, R_OK) < 0)
		tap_skip("no " TABLE);
	test_all();
	test_policy("{}", true, true);
	test_policy("{'allow_out':['203.0.113.0/24']}", true, false);
	test_policy("{'deny_out':['203.0.113.7']}", false, true);
	test_policy("{'deny_out':['*']}", false, false);
	test_policy("{'allow_out':['a.example.com','203.0.113.7']}", true, false);
	test_policy("{'deny_out':['a.example.com']}", false, false);
	test_together();
	return tap_done();
}
