/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * core/egressctl and core/verdict with real workers' ends on the real socket: who is told what and when, which pins are
 * taken, in which order, and that what is judged is kept.
 */
#include <arpa/inet.h>
#include <pwd.h>

#include "chan/client.h"
#include "core/egress.h"
#include "core/egressctl.h"
#include "core/verdict.h"
#include "lib/fake-agent.h"
#include "tap.h"
#include "util-test.h"

#define POLICY "{\"allow_out\":[\"a.test\",\"*.wild.test\"]}"

static struct manager *m;
static struct chan_client *resolver, *proxy;
static int n_pinned, pin_error, n_gone, n_changed, n_seen;
static struct audit_event last;

static void on_policy(void *userdata _unused_, struct chan_sandbox *sb _unused_, bool fresh)
{
	n_changed += !fresh;
}

static void on_gone(void *userdata _unused_, struct chan_sandbox *sb _unused_)
{
	n_gone++;
}

static const struct chan_client_ops ops = { .policy = on_policy, .gone = on_gone };

static struct chan_client *worker(enum chan_role role)
{
	_cleanup_free_ char *path = str_format("%s/run/egress/control.sock", fake.dir);
	struct chan_client *c = NULL;

	cr_assert_eq(chan_client_new(fake.event, path, role, &ops, NULL, &c), 0);
	return c;
}

static void setup(void)
{
	_cleanup_free_ char *more = NULL;
	const struct passwd *me = getpwuid(getuid());

	cr_assert_not_null(me);
	fake_host_init();
	more = str_format("[egress]\nproxy_user = %s\nresolver_user = %s\naudit_max = 16\nallow_private = 10.9.0.0/16\n",
			  me->pw_name, me->pw_name);
	m = fake_manager(more);
	resolver = worker(CHAN_ROLE_RESOLVER);
	proxy = worker(CHAN_ROLE_PROXY);
	cr_assert(tap_wait(fake.event, 10, chan_client_synced(resolver) && chan_client_synced(proxy)));
}

static void teardown(void)
{
	chan_client_free(resolver);
	chan_client_free(proxy);
	manager_free(m);
	fake_host_done();
}

TestSuite(egressctl, .init = setup, .fini = teardown, .timeout = 120);

static json_object *parsed(const char *text)
{
	json_object *o = NULL;
	const char *why;

	cr_assert_eq(json_parse(text, strlen(text), &o, &why), 0);
	return o;
}

static struct sandbox *create(const char *network)
{
	struct sandbox_options options;
	struct fake_wait w = { 0 };
	struct sandbox *sb = NULL;
	const char *detail = NULL;

	fake_options(m, &options, 300);
	options.network = parsed(network);
	cr_assert_eq(sandbox_create(m, "alice", &options, fake_waited, &w, &sb, &detail), FAULT_NONE);
	fake_settle();
	cr_assert_eq(w.fault, FAULT_NONE);
	return sb;
}

static struct in_addr ip(const char *text)
{
	struct in_addr a;

	cr_assert_eq(inet_pton(AF_INET, text, &a), 1);
	return a;
}

static struct chan_sandbox *known(struct chan_client *c, const struct sandbox *sb)
{
	struct chan_sandbox *found = NULL;

	cr_assert(tap_wait(fake.event, 10, (found = chan_client_find(c, ip(sb->address)))));
	return found;
}

static void on_pinned(void *userdata _unused_, int error)
{
	n_pinned++;
	pin_error = error;
}

/* As the resolver does it; the kernel answers when the fake's calls are settled. */
static int pin(struct sandbox *sb, const char *name, const char *addr)
{
	struct in_addr a = ip(addr);

	n_pinned = 0;
	cr_assert_eq(chan_client_pin(resolver, known(resolver, sb), name, &a, 1, 10, on_pinned, NULL), 0);
	for (int i = 0; i < 500 && !n_pinned; i++) {
		sd_event_run(fake.event, 1000);
		fake_settle();
	}
	cr_assert_eq(n_pinned, 1);
	return pin_error;
}

static void see(void *userdata _unused_, const struct audit_event *e)
{
	n_seen++;
	last = *e;
}

static void newest(const struct sandbox *sb)
{
	const struct audit_filter all = AUDIT_FILTER_ALL;

	n_seen = 0;
	audit_read(m->audit, sb->id, &all, UINT64_MAX, true, 1, 100, see, NULL);
}

Test(egressctl, policies_are_told_and_pins_reach_the_proxy)
{
	struct sandbox *sb = create(POLICY);
	const char *rule;

	cr_assert(policy_allows_name(known(resolver, sb)->policy, "a.test", &rule));
	cr_assert_not(chan_client_pinned(proxy, known(proxy, sb), "a.test", ip("203.0.113.10")));
	cr_assert_eq(pin(sb, "a.test", "203.0.113.10"), 0);
	chan_client_poll(proxy);
	cr_assert(chan_client_pinned(proxy, known(proxy, sb), "a.test", ip("203.0.113.10")), "before the resolver was told");
	cr_assert_not(chan_client_pinned(proxy, known(proxy, sb), "b.wild.test", ip("203.0.113.10")));
	/* opened by the administrator */
	cr_assert_eq(pin(sb, "x.wild.test", "10.9.1.1"), 0);
	/* a proxy that comes back is told what holds */
	proxy = chan_client_free(proxy);
	n_gone = 0;
	proxy = worker(CHAN_ROLE_PROXY);
	cr_assert(tap_wait(fake.event, 10, chan_client_synced(proxy)));
	cr_assert(chan_client_pinned(proxy, known(proxy, sb), "a.test", ip("203.0.113.10")));
}

Test(egressctl, pins_are_judged_anew)
{
	static const struct { const char *name, *addr, *rule; } bad[] = {
		{ "evil.test", "203.0.113.10", "default" }, { "wild.test", "203.0.113.10", "wildcard_apex" },
		{ "A.test", "203.0.113.10", "name" }, { "a.test", "10.0.0.1", "rebind" }, { "a.test", "169.254.169.254", "rebind" },
		{ "a.test", "127.0.0.1", "rebind" }, { "a.test", "10.214.0.9", "rebind" }, { "a.test", "0.0.0.0", "rebind" },
		{ "a.test", "224.0.0.1", "rebind" },
	};
	struct sandbox *sb = create(POLICY);

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		cr_assert_eq(pin(sb, bad[i].name, bad[i].addr), -EACCES, "%s %s", bad[i].name, bad[i].addr);
		newest(sb);
		cr_assert_eq(n_seen, 1);
		cr_assert_str_eq(last.a.rule, bad[i].rule, "%s %s", bad[i].name, bad[i].addr);
		cr_assert_eq(last.a.verdict, CHAN_BLOCK);
	}
	cr_assert_eq(sb->pins ? pins_count(sb->pins) : 0, 0);
}

Test(egressctl, pins_of_another_policy_are_refused)
{
	struct sandbox *sb = create(POLICY);
	struct in_addr a = ip("203.0.113.10");
	struct chan_sandbox *told = known(resolver, sb);

	told->gen--;
	n_pinned = 0;
	cr_assert_eq(chan_client_pin(resolver, told, "a.test", &a, 1, 10, on_pinned, NULL), 0);
	cr_assert(tap_wait(fake.event, 10, n_pinned));
	cr_assert_eq(pin_error, -EACCES);
}

static void changed(void *userdata, enum fault fault, const char *detail _unused_)
{
	*(int *)userdata = fault == FAULT_NONE ? 1 : -1;
}

Test(egressctl, another_policy_has_another_number)
{
	struct sandbox *sb = create(POLICY);
	struct egress_change change = { .network = parsed("{\"allow_out\":[\"b.test\"]}") };
	_cleanup_free_ char *detail = NULL;
	uint64_t before = sb->policy_gen;
	int done = 0;
	size_t n;

	cr_assert_eq(pin(sb, "a.test", "203.0.113.10"), 0);
	free(egressctl_pins(sb, &n));
	cr_assert_eq(n, 1);
	n_changed = 0;
	cr_assert_eq(policy_parse(change.network, false, &change.policy, &detail), 0);
	cr_assert_eq(egress_change(sb, &change, changed, &done), FAULT_NONE);
	fake_settle();
	cr_assert_eq(done, 1);
	cr_assert_gt(sb->policy_gen, before);
	cr_assert(tap_wait(fake.event, 10, n_changed == 2));
	cr_assert_eq(pin(sb, "a.test", "203.0.113.10"), -EACCES);
	cr_assert_eq(pin(sb, "b.test", "203.0.113.11"), 0);
	free(egressctl_pins(sb, &n));
	cr_assert_eq(n, 1, "what is not allowed any more does not stay");
}

Test(egressctl, the_end)
{
	struct sandbox *sb = create(POLICY);
	struct fake_wait w = { 0 };

	known(resolver, sb);
	known(proxy, sb);
	n_gone = 0;
	sandbox_destroy(sb, SANDBOX_END_REQUEST, fake_waited, &w);
	cr_assert(tap_wait(fake.event, 10, n_gone == 2));
	fake_settle();
	cr_assert_eq(w.fault, FAULT_NONE);
}

Test(egressctl, verdicts_are_kept)
{
	struct sandbox *sb = create(POLICY);
	struct chan_audit a = {
		.verdict = CHAN_BLOCK, .proto = CHAN_PROTO_TLS, .name = "evil.test", .port = 443, .rule = "default",
	};
	struct audit_span s;

	known(proxy, sb);
	a.addr = ip("203.0.113.66");
	chan_client_audit(proxy, known(proxy, sb), &a);
	cr_assert(tap_wait(fake.event, 10, (newest(sb), n_seen) == 1));
	cr_assert_str_eq(last.a.name, "evil.test");
	cr_assert_eq(last.source, AUDIT_PROXY);
	for (int i = 0; i < 300; i++)
		chan_client_audit(resolver, known(resolver, sb), &a);
	cr_assert(tap_wait(fake.event, 10, (audit_span(m->audit, sb->id, &s), s.next) >= 200));
	cr_assert_eq(s.next - s.first, 16, "bounded");
}
