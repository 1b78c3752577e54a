/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop/workers: order within strands, caps of lanes, overtaking, cancelling, and a clean end, with real threads.
 *
 * A job under test waits on a gate, so that the order of things is decided by the test and not by the scheduler.
 * Plain program (ThreadSanitizer).
 */
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "lib/tap.h"
#include "loop/workers.h"
#include "util/macro.h"

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool open;
	int waiting, running, most, by_lane[WORK_LANE_MAX], most_by_lane[WORK_LANE_MAX];
	char order[64];		/* names of jobs as they ran */
};

#define GATE_INIT { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER }

struct task {
	struct gate *gate;
	enum work_lane lane;
	bool wait;
	char name;
	bool ran, done, cancelled;
	pthread_t thread;
};

static void task_run(void *arg)
{
	struct task *t = arg;
	struct gate *g = t->gate;

	pthread_mutex_lock(&g->lock);
	t->ran = true;
	t->thread = pthread_self();
	if (t->name)
		g->order[strlen(g->order)] = t->name;
	g->running++;
	g->by_lane[t->lane]++;
	g->most = MAX_OF(g->most, g->running);
	g->most_by_lane[t->lane] = MAX_OF(g->most_by_lane[t->lane], g->by_lane[t->lane]);
	g->waiting++;
	pthread_cond_broadcast(&g->cond);
	while (t->wait && !g->open)
		pthread_cond_wait(&g->cond, &g->lock);
	g->running--;
	g->by_lane[t->lane]--;
	pthread_mutex_unlock(&g->lock);
}

static int n_done;

static void task_done(void *arg, bool cancelled)
{
	struct task *t = arg;

	t->done = true;
	t->cancelled = cancelled;
	n_done++;
}

static void gate_open(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	g->open = true;
	pthread_cond_broadcast(&g->cond);
	pthread_mutex_unlock(&g->lock);
}

/* Until n jobs have begun since the gate was made. */
static void gate_await(struct gate *g, int n)
{
	pthread_mutex_lock(&g->lock);
	while (g->waiting < n)
		pthread_cond_wait(&g->cond, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

static struct task task(struct gate *g, enum work_lane lane, char name, bool wait)
{
	return (struct task) { .gate = g, .lane = lane, .name = name, .wait = wait };
}

static int submit(struct workers *w, struct task *t, enum work_class cls, uint64_t strand, struct job **ret)
{
	return workers_submit(w, t->lane, cls, strand, task_run, task_done, t, ret);
}

static void test_strand_order(sd_event *e, struct workers *w)
{
	struct gate g = GATE_INIT;
	struct task v[26];

	n_done = 0;
	for (int i = 0; i < 26; i++) {
		v[i] = task(&g, (enum work_lane)(i % WORK_LANE_MAX), (char)('a' + i), false);
		submit(w, &v[i], WORK_NORMAL, 7, NULL);
	}
	ok(tap_wait(e, 10, n_done == 26), "26 jobs of one strand are done");
	ok(strcmp(g.order, "abcdefghijklmnopqrstuvwxyz") == 0, "in order, across lanes: %s", g.order);
	ok(g.most == 1, "never two at a time");
}

static void test_caps(sd_event *e, struct workers *w)
{
	static const int cap[WORK_LANE_MAX] = { 4, 4, 4, 1, 2, 1 };
	struct gate g = GATE_INIT;
	struct task v[WORK_LANE_MAX * 8];
	int n = 0;

	n_done = 0;
	for (int lane = 0; lane < WORK_LANE_MAX; lane++)
		for (int i = 0; i < 8; i++, n++) {
			v[n] = task(&g, (enum work_lane)lane, 0, true);
			submit(w, &v[n], WORK_NORMAL, 0, NULL);
		}
	gate_await(&g, 16);
	gate_open(&g);
	ok(tap_wait(e, 10, n_done == n), "%d jobs in six lanes are done", n);
	for (int lane = 0; lane < WORK_LANE_MAX; lane++)
		ok(g.most_by_lane[lane] == cap[lane], "lane %d ran %d at once", lane, g.most_by_lane[lane]);
}

static void test_urgent(sd_event *e, struct workers *w)
{
	struct gate g = GATE_INIT;
	struct task first = task(&g, WORK_LANE_NFT, 'a', true), b = task(&g, WORK_LANE_NFT, 'b', false);
	struct task c = task(&g, WORK_LANE_NFT, 'c', false), u = task(&g, WORK_LANE_NFT, 'U', false);
	struct task v = task(&g, WORK_LANE_NFT, 'V', false);

	n_done = 0;
	submit(w, &first, WORK_NORMAL, 9, NULL);
	gate_await(&g, 1);
	submit(w, &b, WORK_NORMAL, 9, NULL);
	submit(w, &c, WORK_NORMAL, 0, NULL);
	submit(w, &u, WORK_URGENT, 9, NULL);
	submit(w, &v, WORK_URGENT, 9, NULL);
	gate_open(&g);
	ok(tap_wait(e, 10, n_done == 5), "all are done");
	/* When a ends, U is offered; c was offered all the time, but is not urgent. */
	ok(strcmp(g.order, "aUVcb") == 0 || strcmp(g.order, "aUVbc") == 0, "urgent ones overtook the queued: %s", g.order);
}

/* A strand's offered but not running job gives way to an urgent one of the same strand. */
static void test_urgent_unoffers(sd_event *e, struct workers *w)
{
	struct gate g = GATE_INIT;
	struct task blocker = task(&g, WORK_LANE_NFT, '.', true), n = task(&g, WORK_LANE_NFT, 'n', false);
	struct task u = task(&g, WORK_LANE_NFT, 'U', false);

	n_done = 0;
	submit(w, &blocker, WORK_NORMAL, 1, NULL);
	gate_await(&g, 1);
	submit(w, &n, WORK_NORMAL, 2, NULL);
	submit(w, &u, WORK_URGENT, 2, NULL);
	gate_open(&g);
	ok(tap_wait(e, 10, n_done == 3), "all are done");
	ok(strcmp(g.order, ".Un") == 0, "the urgent one went first: %s", g.order);
}

static void test_cancel(sd_event *e, struct workers *w)
{
	struct gate g = GATE_INIT;
	struct task a = task(&g, WORK_LANE_NFT, 'a', true), b = task(&g, WORK_LANE_NFT, 'b', false);
	struct task c = task(&g, WORK_LANE_FILE, 'c', false);
	struct job *ja = NULL, *jb = NULL;

	n_done = 0;
	submit(w, &a, WORK_NORMAL, 5, &ja);
	gate_await(&g, 1);
	submit(w, &b, WORK_NORMAL, 5, &jb);
	submit(w, &c, WORK_NORMAL, 5, NULL);
	ok(!workers_cancel(w, ja), "a running job cannot be cancelled");
	ok(workers_cancel(w, jb), "a queued one can");
	ok(!workers_cancel(w, jb), "once");
	ok(!b.done, "its done() comes from the loop");
	gate_open(&g);
	ok(tap_wait(e, 10, n_done == 3), "all are answered");
	ok(b.cancelled && !b.ran && !a.cancelled && !c.cancelled, "only the cancelled one says so, and it never ran");
	ok(strcmp(g.order, "ac") == 0, "the strand went on behind it: %s", g.order);
}

struct chain {
	struct workers *w;
	int left;
	bool on_loop;
	pthread_t loop;
};

static void nothing(void *arg _unused_)
{
}

static void chain_done(void *arg, bool cancelled _unused_)
{
	struct chain *c = arg;

	c->on_loop = pthread_equal(pthread_self(), c->loop);
	if (--c->left > 0)
		workers_submit(c->w, WORK_LANE_FILE, WORK_NORMAL, 3, nothing, chain_done, c, NULL);
}

static void test_submit_from_done(sd_event *e, struct workers *w)
{
	struct chain c = { .w = w, .left = 100, .loop = pthread_self() };

	workers_submit(w, WORK_LANE_FILE, WORK_NORMAL, 3, nothing, chain_done, &c, NULL);
	ok(tap_wait(e, 10, c.left == 0), "done() may submit the next job, a hundred times");
	ok(c.on_loop, "done() runs on the loop's thread");
}

/* What runs is waited for, what is queued is answered as cancelled, nothing is lost. */
static void test_free(sd_event *e)
{
	struct gate g = GATE_INIT;
	struct workers *w = NULL;
	struct task v[20];
	int cancelled = 0, ran = 0;

	n_done = 0;
	ok(workers_new(e, 3, &w) == 0, "a pool of three threads");
	for (int i = 0; i < 20; i++) {
		v[i] = task(&g, WORK_LANE_VIRT, 0, i == 0);
		submit(w, &v[i], WORK_NORMAL, 1 + (uint64_t)i % 2, NULL);
	}
	gate_await(&g, 1);
	gate_open(&g);
	w = workers_free(w);
	for (int i = 0; i < 20; i++) {
		cancelled += v[i].cancelled;
		ran += v[i].ran;
	}
	ok(n_done == 20 && cancelled + ran == 20, "20 answers: %d ran, %d were cancelled", ran, cancelled);
	ok(v[0].ran && !v[0].cancelled, "the running one was waited for");
	ok(workers_free(NULL) == NULL, "freeing nothing");
}

static void submit_late(void *arg, bool cancelled _unused_)
{
	struct chain *c = arg;

	c->left = workers_submit(c->w, WORK_LANE_FILE, WORK_NORMAL, 0, nothing, submit_late, c, NULL);
}

static void test_submit_while_freed(sd_event *e)
{
	struct chain c = { .left = 1 };

	if (workers_new(e, 1, &c.w) < 0)
		return;
	workers_submit(c.w, WORK_LANE_FILE, WORK_NORMAL, 0, nothing, submit_late, &c, NULL);
	workers_free(c.w);
	ok(c.left == -ESHUTDOWN, "a pool that is being freed takes no jobs");
}

static void test_many(sd_event *e, struct workers *w)
{
	enum { N = 20000 };
	struct gate g = GATE_INIT;
	struct task *v = calloc(N, sizeof(*v));
	double t = tap_seconds();
	int ran = 0;

	n_done = 0;
	for (int i = 0; v && i < N; i++) {
		v[i] = task(&g, (enum work_lane)(i % WORK_LANE_MAX), 0, false);
		submit(w, &v[i], i % 7 ? WORK_NORMAL : WORK_URGENT, (uint64_t)i % 100, NULL);
	}
	ok(tap_wait(e, 60, n_done == N), "%d jobs in 99 strands in %.2f s", N, tap_seconds() - t);
	for (int i = 0; v && i < N; i++)
		ran += v[i].ran;
	ok(ran == N, "each ran");
	free(v);
}

static void measure_round_trip(sd_event *e, struct workers *w)
{
	struct chain c = { .w = w, .left = 2000, .loop = pthread_self() };
	double t = tap_seconds();

	workers_submit(w, WORK_LANE_FILE, WORK_NORMAL, 3, nothing, chain_done, &c, NULL);
	tap_wait(e, 30, c.left == 0);
	ok(c.left == 0, "round trip submit to done(): %.1f us", (tap_seconds() - t) * 1e6 / 2000);
}

int main(void)
{
	struct workers *w = NULL;
	sd_event *e = NULL;

	if (sd_event_new(&e) < 0 || workers_new(e, 0, &w) < 0)
		return EXIT_FAILURE;
	test_strand_order(e, w);
	test_caps(e, w);
	test_urgent(e, w);
	test_urgent_unoffers(e, w);
	test_cancel(e, w);
	test_submit_from_done(e, w);
	test_many(e, w);
	measure_round_trip(e, w);
	workers_free(w);
	test_free(e);
	test_submit_while_freed(e);
	ok(workers_strand("sbx-a") != workers_strand("sbx-b") && workers_strand("") != 0, "strand numbers");
	sd_event_unref(e);
	return tap_done();
}
