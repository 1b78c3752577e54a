/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fixed pool of threads; completions come back to the loop through one eventfd.
 *
 * One mutex guards the queue (strands.c), the list of finished jobs and the stop flag. A thread takes the next job,
 * runs it without the mutex, puts it on the finished list and kicks the eventfd; the loop takes the whole list at
 * once and calls done() on each without the mutex, so done() may submit. With as many threads as the lanes' caps
 * add up to (threads = 0), no lane can be kept waiting by another one's slow calls.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

#include "loop/strands.h"
#include "util/fnv.h"

#define WORKERS_MAX 64
#define WORKERS_DEFAULT 16	/* the sum of the caps in strands.c */

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct strands queue;
	struct list finished;
	bool stopping;
	int efd;
	sd_event_source *source;
	unsigned int n_threads;
	pthread_t threads[WORKERS_MAX];
};

static void kick(struct workers *w)
{
	uint64_t one = 1;

	/* Can only fail with EAGAIN at 2^64-1, when the loop is awake anyway. */
	if (write(w->efd, &one, sizeof(one)) < 0)
		return;
}

static void finished_add(struct workers *w, struct job *j)
{
	bool was_empty = list_empty(&w->finished);

	list_append(&w->finished, &j->link);
	if (was_empty)
		kick(w);
}

static void *worker(void *userdata)
{
	struct workers *w = userdata;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct job *j = strands_next(&w->queue);

		if (j) {
			pthread_mutex_unlock(&w->lock);
			j->run(j->arg);
			pthread_mutex_lock(&w->lock);
			strands_finish(&w->queue, j);
			/* This thread takes one of the jobs that just became possible, another thread the next. */
			pthread_cond_signal(&w->more);
			finished_add(w, j);
			continue;
		}
		if (w->stopping)
			break;
		pthread_cond_wait(&w->more, &w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void deliver(struct workers *w)
{
	struct list batch = LIST_INIT(batch);
	struct job *j;

	pthread_mutex_lock(&w->lock);
	while ((j = list_first(&w->finished, struct job, link))) {
		list_unlink(&j->link);
		list_append(&batch, &j->link);
	}
	pthread_mutex_unlock(&w->lock);

	while ((j = list_first(&batch, struct job, link))) {
		list_unlink(&j->link);
		j->done(j->arg, j->cancelled);
		free(j);
	}
}

static int on_finished(sd_event_source *s _unused_, int fd, uint32_t revents _unused_, void *userdata)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		return -errno;
	deliver(userdata);
	return 0;
}

/* Signals belong to the loop's signalfd: the threads block all of them. */
static int threads_start(struct workers *w, unsigned int n)
{
	sigset_t all, old;
	int r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (w->n_threads < n && r == 0) {
		r = -pthread_create(&w->threads[w->n_threads], NULL, worker, w);
		if (r == 0)
			pthread_setname_np(w->threads[w->n_threads++], "declawd-worker");
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int workers_new(sd_event *event, unsigned int threads, struct workers **ret)
{
	struct workers *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->more, NULL);
	strands_init(&w->queue);
	list_init(&w->finished);
	w->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = w->efd < 0 ? -errno : sd_event_add_io(event, &w->source, w->efd, EPOLLIN, on_finished, w);
	if (r >= 0)
		r = threads_start(w, threads ? MIN_OF(threads, (unsigned int)WORKERS_MAX) : WORKERS_DEFAULT);
	if (r < 0) {
		workers_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

static void stop(struct workers *w)
{
	struct job *j;

	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	while ((j = strands_first(&w->queue))) {
		strands_withdraw(&w->queue, j);
		finished_add(w, j);
	}
	pthread_cond_broadcast(&w->more);
	pthread_mutex_unlock(&w->lock);
}

struct workers *workers_free(struct workers *w)
{
	if (!w)
		return NULL;
	stop(w);
	for (unsigned int i = 0; i < w->n_threads; i++)
		pthread_join(w->threads[i], NULL);
	deliver(w);
	sd_event_source_disable_unref(w->source);
	fd_close(w->efd);
	pthread_cond_destroy(&w->more);
	pthread_mutex_destroy(&w->lock);
	free(w);
	return NULL;
}

int workers_submit(struct workers *w, enum work_lane lane, enum work_class cls, uint64_t strand,
		   work_run_fn run, work_done_fn done, void *arg, struct job **ret)
{
	struct job *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	*j = (struct job) { .lane = lane, .cls = cls, .run = run, .done = done, .arg = arg };
	list_init(&j->link);
	/* Before the job can finish: done() may run as soon as the mutex is free. */
	if (ret)
		*ret = j;
	pthread_mutex_lock(&w->lock);
	r = w->stopping ? -ESHUTDOWN : strands_add(&w->queue, j, strand);
	if (r == 0)
		pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
	if (r < 0) {
		if (ret)
			*ret = NULL;
		free(j);
	}
	return r;
}

bool workers_cancel(struct workers *w, struct job *j)
{
	bool queued;

	pthread_mutex_lock(&w->lock);
	queued = j->state == JOB_WAITING || j->state == JOB_OFFERED;
	if (queued) {
		strands_withdraw(&w->queue, j);
		/* The next job of that strand may have been offered. */
		pthread_cond_signal(&w->more);
		finished_add(w, j);
	}
	pthread_mutex_unlock(&w->lock);
	return queued;
}

uint64_t workers_strand(const char *name)
{
	uint64_t h = fnv(FNV_BEGIN, name, strlen(name));

	return h ? h : 1;
}
