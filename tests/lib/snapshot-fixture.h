/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of snapshots share: a manager over a small template, taking one, a sandbox made of it. */
#ifndef DECLAW_TESTS_SNAPSHOT_FIXTURE_H
#define DECLAW_TESTS_SNAPSHOT_FIXTURE_H

#include "core/snapshot.h"
#include "lib/fake-agent.h"
#include "util-test.h"
#include "util/fileio.h"

#define ON "[create]\nfork = no\nsnapshots_max = 3\n"

static struct manager *m;

struct taken {
	unsigned int calls;
	enum fault fault;
	char id[SNAPSHOT_ID_MAX], detail[300];
};

static inline void on_taken(void *userdata, enum fault fault, const char *detail, const struct snapshot *s)
{
	struct taken *t = userdata;

	t->calls++;
	t->fault = fault;
	snprintf(t->detail, sizeof(t->detail), "%s", detail ?: "");
	snprintf(t->id, sizeof(t->id), "%s", s ? s->id : "");
}

/* Small, for the sake of a /tmp in memory */
static inline void setup(void)
{
	static const char conf[] = "[template]\nname = base\nmemory_mb = 64\n";
	_cleanup_free_ char *path = NULL;

	fake_host_init();
	path = str_format("%s/state/templates/base/template.conf", fake.dir);
	cr_assert_eq(file_write_atomic(path, conf, sizeof(conf) - 1, 0644, false), 0);
	m = fake_manager(ON);
	fake_script();
}

static inline void teardown(void)
{
	manager_free(m);
	fake_host_done();
}

static inline void finish(void)
{
	m = manager_free(m);
	cr_assert_eq(guest.n_agents, 0);
	fake_host_done();
	fake_host_init();
	test_leaks();
}

static inline enum fault take(struct sandbox *sb, struct taken *t)
{
	const char *detail = NULL;
	enum fault fault;

	memset(t, 0, sizeof(*t));
	fault = snapshot_take(sb, on_taken, t, &detail);
	fake_settle();
	cr_assert_eq(t->calls, fault == FAULT_NONE, "%u answers", t->calls);
	return fault == FAULT_NONE ? t->fault : fault;
}

static inline struct snapshot *taken(struct sandbox *sb)
{
	struct taken t;
	struct snapshot *s;

	cr_assert_eq(take(sb, &t), FAULT_NONE, "%s", t.detail);
	s = snapshot_find(m, t.id);
	cr_assert_not_null(s);
	return s;
}

static inline struct sandbox *ask(const char *snapshot, struct fake_wait *w, enum fault *ret)
{
	struct sandbox_options options;
	struct sandbox *sb = NULL;
	const char *detail;

	memset(w, 0, sizeof(*w));
	fake_options(m, &options, 300);
	options.snapshot_id = strdup(snapshot);
	*ret = sandbox_create(m, "alice", &options, fake_waited, w, &sb, &detail);
	if (*ret != FAULT_NONE)
		sandbox_options_done(&options);
	return sb;
}

static inline struct sandbox *child_of(const char *snapshot)
{
	struct fake_wait w;
	enum fault fault;
	struct sandbox *sb = ask(snapshot, &w, &fault);

	cr_assert_eq(fault, FAULT_NONE);
	fake_settle();
	cr_assert_eq(w.fault, FAULT_NONE, "%s", w.detail);
	fake_assert_running(sb);
	cr_assert_eq(sb->path, CREATE_FORK);
	cr_assert_str_eq(sb->from, snapshot);
	return sb;
}

static inline void destroy(struct sandbox *sb)
{
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
	fake_settle();
	cr_assert_eq(sb->held, 0);
}

static inline void remove_all(void)
{
	struct snapshot *s;

	list_foreach(&m->snapshots, s, struct snapshot, link)
		snapshot_remove(s);
	fake_settle();
}

#endif
