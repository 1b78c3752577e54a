/* SPDX-License-Identifier: GPL-2.0-or-later */
/* egress/audit: paging both ways, filters, a ring that goes round, a daemon that dies, damage, and the bound over all. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>

#include "egress/audit.h"
#include "util/fileio.h"
#include "util/macro.h"

#define A "sbx-aaaaaaaaaa"
#define B "sbx-bbbbbbbbbb"

static char dir[] = "/tmp/declaw-audit-XXXXXX";
static struct audit *audit;
static uint64_t seen[64];
static size_t n_seen;
static struct audit_event last;

static bool keep_a(void *userdata _unused_, const char *id)
{
	return str_eq(id, A);
}

static void reopen(uint64_t slots, uint64_t total)
{
	audit_close(audit);
	cr_assert_eq(audit_open(dir, slots, total, keep_a, NULL, &audit), 0);
}

static void setup(void)
{
	cr_assert_not_null(mkdtemp(dir));
	reopen(10, 1 << 20);
}

static void teardown(void)
{
	audit_close(audit);
	dir_remove_tree(dir);
}

TestSuite(audit, .init = setup, .fini = teardown);

static int add(const char *id, uint64_t at, enum chan_verdict v, const char *name)
{
	struct chan_audit e = { .verdict = v, .proto = CHAN_PROTO_TLS, .port = 443, .rule = "default" };

	inet_pton(AF_INET, "203.0.113.7", &e.addr);
	snprintf(e.name, sizeof(e.name), "%s", name);
	return audit_add(audit, id, at, AUDIT_PROXY, &e);
}

static void see(void *userdata _unused_, const struct audit_event *e)
{
	cr_assert_lt(n_seen, ELEMENTSOF(seen));
	seen[n_seen++] = e->seq;
	last = *e;
}

static uint64_t page(const struct audit_filter *f, uint64_t from, bool down, size_t limit)
{
	n_seen = 0;
	return audit_read(audit, A, f, from, down, limit, 1000, see, NULL);
}

static const struct audit_filter all = AUDIT_FILTER_ALL;

Test(audit, an_event_comes_back_whole)
{
	struct audit_span s;

	audit_span(audit, A, &s);
	cr_assert_eq(s.first, s.next);
	cr_assert_eq(page(&all, 1, false, 10), 0);
	cr_assert_eq(add(A, 77, CHAN_BLOCK, "x.test"), 0);
	cr_assert_eq(page(&all, 1, false, 10), 0);
	cr_assert_eq(n_seen, 1);
	cr_assert_eq(last.at_usec, 77);
	cr_assert_eq(last.source, AUDIT_PROXY);
	cr_assert_eq(last.a.verdict, CHAN_BLOCK);
	cr_assert_eq(last.a.proto, CHAN_PROTO_TLS);
	cr_assert_eq(last.a.port, 443);
	cr_assert_str_eq(last.a.name, "x.test");
	cr_assert_str_eq(last.a.rule, "default");
	cr_assert_eq(last.a.addr.s_addr, inet_addr("203.0.113.7"));
}

Test(audit, pages_both_ways)
{
	uint64_t next;

	for (uint64_t i = 1; i <= 7; i++)
		cr_assert_eq(add(A, i, CHAN_ALLOW, "x.test"), 0);
	next = page(&all, 1, false, 3);
	cr_assert_eq(next, 4);
	cr_assert_eq(seen[0], 1);
	next = page(&all, next, false, 3);
	cr_assert_eq(seen[0], 4);
	cr_assert_eq(page(&all, next, false, 3), 0);
	cr_assert_eq(n_seen, 1);
	next = page(&all, UINT64_MAX, true, 4);
	cr_assert_eq(seen[0], 7);
	cr_assert_eq(seen[3], 4);
	cr_assert_eq(page(&all, next, true, 4), 0);
	cr_assert_eq(seen[2], 1);
}

Test(audit, filters)
{
	struct audit_filter f = AUDIT_FILTER_ALL;

	add(A, 10, CHAN_ALLOW, "a.test");
	add(A, 20, CHAN_BLOCK, "b.a.test");
	add(A, 30, CHAN_BLOCK, "c.test");
	f.verdict = CHAN_BLOCK;
	page(&f, 1, false, 10);
	cr_assert_eq(n_seen, 2);
	f.name = "*.a.test";
	page(&f, 1, false, 10);
	cr_assert_eq(n_seen, 1);
	cr_assert_eq(seen[0], 2);
	f = (struct audit_filter)AUDIT_FILTER_ALL;
	f.since_usec = 20;
	f.until_usec = 20;
	page(&f, 1, false, 10);
	cr_assert_eq(n_seen, 1);
	f = (struct audit_filter)AUDIT_FILTER_ALL;
	f.proto = CHAN_PROTO_DNS;
	page(&f, 1, false, 10);
	cr_assert_eq(n_seen, 0);
	f = (struct audit_filter)AUDIT_FILTER_ALL;
	f.rule = "default";
	page(&f, 1, false, 10);
	cr_assert_eq(n_seen, 3);
	/* no more than that many records are looked at, and the caller can go on */
	n_seen = 0;
	f.rule = "none";
	cr_assert_eq(audit_read(audit, A, &f, 1, false, 10, 2, see, NULL), 3);
}

Test(audit, the_ring_goes_round_and_survives)
{
	struct audit_span s;

	for (uint64_t i = 1; i <= 25; i++)
		add(A, i, CHAN_ALLOW, "x.test");
	audit_lose(audit, A, 5);
	for (int round = 0; round < 2; round++) {
		audit_span(audit, A, &s);
		cr_assert_eq(s.first, 16);
		cr_assert_eq(s.next, 26);
		cr_assert_eq(s.lost, 5);
		page(&all, 1, false, 50);
		cr_assert_eq(n_seen, 10);
		cr_assert_eq(seen[0], 16);
		reopen(round ? 10 : 50, 1 << 20);	/* a ring keeps the size it was made with */
	}
	add(A, 26, CHAN_ALLOW, "x.test");
	page(&all, UINT64_MAX, true, 50);
	cr_assert_eq(n_seen, 10);
	cr_assert_eq(seen[0], 26);
}

static void scribble(const char *name, off_t at)
{
	_cleanup_free_ char *path = str_format("%s/%s", dir, name);
	int fd = open(path, O_WRONLY);

	cr_assert_geq(fd, 0);
	cr_assert_eq(pwrite(fd, "\xff\xfe\xfd", 3, at), 3);
	close(fd);
}

Test(audit, damage_costs_a_record)
{
	for (uint64_t i = 1; i <= 5; i++)
		add(A, i, CHAN_ALLOW, "x.test");
	scribble(A ".ring", 512 * 3 + 100);
	reopen(10, 1 << 20);
	page(&all, 1, false, 50);
	cr_assert_eq(n_seen, 4);
	cr_assert_eq(seen[2], 4);
	/* a head that is none: the ring begins anew */
	scribble(A ".ring", 0);
	reopen(10, 1 << 20);
	page(&all, 1, false, 50);
	cr_assert_eq(n_seen, 0);
	cr_assert_eq(add(A, 1, CHAN_ALLOW, "x.test"), 0);
}

Test(audit, rings_of_nobody_go)
{
	_cleanup_free_ char *path = str_format("%s/%s.ring", dir, B);

	add(A, 1, CHAN_ALLOW, "x.test");
	add(B, 1, CHAN_ALLOW, "x.test");
	cr_assert_eq(access(path, F_OK), 0);
	reopen(10, 1 << 20);
	cr_assert_eq(access(path, F_OK), -1);
	audit_remove(audit, A);
	page(&all, 1, false, 50);
	cr_assert_eq(n_seen, 0);
	cr_assert_eq(add("../../../etc/x", 1, CHAN_ALLOW, "x"), -EIO);
}

Test(audit, the_quietest_makes_room)
{
	_cleanup_free_ char *path = str_format("%s/%s.ring", dir, B);

	reopen(10, 512 * 8);
	for (uint64_t i = 1; i <= 3; i++)
		cr_assert_eq(add(B, i, CHAN_ALLOW, "x.test"), 0);
	for (uint64_t i = 1; i <= 3; i++)
		cr_assert_eq(add(A, i, CHAN_ALLOW, "x.test"), 0);
	cr_assert_eq(access(path, F_OK), 0);
	cr_assert_eq(add(A, 4, CHAN_ALLOW, "x.test"), 0);
	cr_assert_eq(access(path, F_OK), -1);
	for (uint64_t i = 0; i < 20; i++)
		add(A, i, CHAN_ALLOW, "x.test");
	page(&all, 1, false, 50);
	cr_assert_leq(n_seen, 7);
	cr_assert_gt(n_seen, 0);
}
