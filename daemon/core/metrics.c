/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/metrics.h"

#include <string.h>
#include <sys/stat.h>

#include "core/domain.h"
#include "core/manager.h"
#include "core/metricsfile.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

#define MIB (1024.0 * 1024.0)
/* A guest that does not tell its memory in that time is not waited for. */
#define GUEST_MAX (2 * USEC_PER_SEC)
/* Questions a guest may leave open before it is asked no more */
#define ASKED_MAX 4u
/* Rates over less than this are noise */
#define BASE_MIN (200 * USEC_PER_MSEC)

struct metrics {
	uint64_t base_usec, base_ticks;		/* monotonic; of QEMU's processor time */
	uint64_t older_usec, older_ticks;	/* the base before */
	pid_t pid;
	double memory_mb;			/* last known */
	unsigned int asked;			/* of the guest, and not answered yet */
	size_t size, n, next;
	struct metrics_sample ring[];
};

/* One sample under way */
struct probe {
	struct list link;
	struct sandbox *sb;
	bool keep, answered;		/* goes into the ring; fn was called */
	metrics_fn fn;
	void *userdata;
	sd_event_source *timer;
};

static struct metrics *metrics_of(struct sandbox *sb)
{
	size_t size = sb->manager->settings.metrics_kept;

	if (sb->metrics)
		return sb->metrics;
	sb->metrics = calloc(1, sizeof(*sb->metrics) + size * sizeof(struct metrics_sample));
	if (!sb->metrics)
		return NULL;
	sb->metrics->size = size;
	sb->metrics->n = metricsfile_load(sb, sb->metrics->ring, size);
	sb->metrics->next = size ? sb->metrics->n % size : 0;
	return sb->metrics;
}

void metrics_free(struct sandbox *sb)
{
	free(sb->metrics);
	sb->metrics = NULL;
}

/* --- of the host --- */

static uint64_t qemu_ticks(pid_t pid)
{
	_cleanup_free_ char *path = str_format("/proc/%d/stat", (int)pid);
	_cleanup_buf_ struct buf text = BUF_INIT(4096);
	unsigned long user = 0, system = 0;
	const char *p;

	if (pid <= 0 || !path || file_read(path, 4096, &text) < 0 || !text.data)
		return 0;
	/* The name in brackets may hold anything */
	p = strrchr(text.data, ')');
	if (!p || sscanf(p, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
		return 0;
	return user + system;
}

static double qemu_resident(pid_t pid)
{
	_cleanup_free_ char *path = str_format("/proc/%d/statm", (int)pid);
	_cleanup_buf_ struct buf text = BUF_INIT(4096);
	unsigned long pages = 0;

	if (pid <= 0 || !path || file_read(path, 4096, &text) < 0 || !text.data || sscanf(text.data, "%*u %lu", &pages) != 1)
		return 0;
	return (double)pages * (double)sysconf(_SC_PAGESIZE) / MIB;
}

static double overlay_size(const struct sandbox *sb)
{
	_cleanup_free_ char *path = domain_disk(sb);
	struct stat st;

	return path && stat(path, &st) == 0 ? (double)st.st_blocks * 512 / MIB : 0;
}

static double cpu_percent(const struct sandbox *sb, const struct metrics *t, uint64_t now, uint64_t ticks)
{
	bool young = now - t->base_usec < BASE_MIN && t->older_usec;
	uint64_t from = young ? t->older_usec : t->base_usec, then = young ? t->older_ticks : t->base_ticks;
	double percent, wall = (double)(now - from) / (double)USEC_PER_SEC;

	if (wall <= 0 || ticks < then || !sb->vcpus)
		return 0;
	percent = (double)(ticks - then) / (double)sysconf(_SC_CLK_TCK) / wall / (double)sb->vcpus * 100;
	return MIN_OF(percent, 100.0);
}

/* Another QEMU, or the first sight of this one: its time counts from its start */
static void base_check(struct sandbox *sb, struct metrics *t)
{
	if (t->pid == sb->pid)
		return;
	t->pid = sb->pid;
	t->base_usec = clock_monotonic();
	t->base_ticks = qemu_ticks(sb->pid);
	t->older_usec = t->older_ticks = 0;
}

static void sample(struct sandbox *sb, struct metrics *t, bool keep, struct metrics_sample *ret)
{
	uint64_t now = clock_monotonic(), ticks;

	memset(ret, 0, sizeof(*ret));
	ret->at_usec = clock_realtime();
	ret->disk_mb = overlay_size(sb);
	ret->memory_mb = sb->on_disk ? 0 : t->memory_mb;
	if (sb->on_disk)
		return;
	base_check(sb, t);
	ticks = qemu_ticks(sb->pid);
	ret->cpu_percent = cpu_percent(sb, t, now, ticks);
	if (!keep)
		return;
	t->older_usec = t->base_usec;
	t->older_ticks = t->base_ticks;
	t->base_usec = now;
	t->base_ticks = ticks;
}

static void ring_add(const struct sandbox *sb, struct metrics *t, const struct metrics_sample *s)
{
	if (t->size == 0)
		return;
	t->ring[t->next] = *s;
	metricsfile_put(sb, t->next, s);
	t->next = (t->next + 1) % t->size;
	t->n = MIN_OF(t->n + 1, t->size);
}

static const struct metrics_sample *ring_at(const struct metrics *t, size_t i)
{
	return &t->ring[(t->next + t->size - t->n + i) % t->size];
}

/* --- one sample --- */

static void probe_answer(struct probe *p)
{
	struct metrics *t = metrics_of(p->sb);
	struct metrics_sample s = { .at_usec = clock_realtime() };

	if (p->answered)
		return;
	p->answered = true;
	p->timer = sd_event_source_disable_unref(p->timer);
	if (p->sb->state == SANDBOX_KILLED) {
		s.at_usec = p->sb->ended_usec;
		if (t && t->n)
			s = *ring_at(t, t->n - 1);
	} else if (t) {
		sample(p->sb, t, p->keep, &s);
		if (p->keep)
			ring_add(p->sb, t, &s);
	}
	if (p->fn)
		p->fn(p->userdata, &s);
}

static void probe_free(struct probe *p)
{
	list_unlink(&p->link);
	p->timer = sd_event_source_disable_unref(p->timer);
	sandbox_unref(p->sb);
	free(p);
}

static void have_stats(void *userdata, int error, const struct agent_stats *st)
{
	struct probe *p = userdata;
	struct metrics *t = metrics_of(p->sb);

	if (t)
		t->asked--;
	if (t && error == 0 && st->mem_total >= st->mem_available)
		t->memory_mb = (double)(st->mem_total - st->mem_available) / MIB;
	probe_answer(p);
	probe_free(p);
}

/* Without the guest: its reply, should it come, finds nothing left to do */
static int on_guest_limit(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct probe *p = userdata;
	struct metrics *t = metrics_of(p->sb);

	if (t && !t->memory_mb)
		t->memory_mb = qemu_resident(p->sb->pid);
	probe_answer(p);
	return 0;
}

static int on_no_guest(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct probe *p = userdata;

	probe_answer(p);
	probe_free(p);
	return 0;
}

static int probe_start(struct sandbox *sb, bool keep, metrics_fn fn, void *userdata)
{
	struct probe *p = calloc(1, sizeof(*p));
	struct metrics *t = metrics_of(sb);
	bool ask = sb->state == SANDBOX_RUNNING && sb->agent_up && t && t->asked < ASKED_MAX;
	int r;

	if (!p || !t) {
		free(p);
		return -ENOMEM;
	}
	*p = (struct probe){ .sb = sandbox_ref(sb), .keep = keep, .fn = fn, .userdata = userdata };
	list_append(&sb->manager->probes, &p->link);
	r = sd_event_add_time_relative(sb->manager->event, &p->timer, CLOCK_MONOTONIC, ask ? GUEST_MAX : 0, 0,
				       ask ? on_guest_limit : on_no_guest, p);
	if (r >= 0 && ask)
		r = agent_get_stats(sb->agent, have_stats, p);
	if (r < 0) {
		probe_free(p);
		return r;
	}
	t->asked += ask;
	return 0;
}

int metrics_now(struct sandbox *sb, metrics_fn fn, void *userdata)
{
	return probe_start(sb, false, fn, userdata);
}

void metrics_forget(struct sandbox *sb, const void *userdata)
{
	struct probe *p;

	list_foreach(&sb->manager->probes, p, struct probe, link)
		if (p->sb == sb && p->userdata == userdata)
			p->fn = NULL;
}

void metrics_each(struct sandbox *sb, uint64_t from_usec, uint64_t to_usec, metrics_fn fn, void *userdata)
{
	const struct metrics *t = metrics_of(sb);

	for (size_t i = 0; t && i < t->n; i++) {
		const struct metrics_sample *s = ring_at(t, i);

		if (s->at_usec >= from_usec && s->at_usec <= to_usec)
			fn(userdata, s);
	}
}

/* --- all, every now and then --- */

static int on_interval(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct manager *m = userdata;
	uint64_t now = clock_monotonic();
	struct sandbox *sb;

	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (sb->state == SANDBOX_RUNNING || sb->state == SANDBOX_PAUSED)
			probe_start(sb, true, NULL, NULL);
	usec += m->settings.metrics_interval_usec;
	/* What a daemon that was held up has missed is not made up for */
	sd_event_source_set_time(s, usec > now ? usec : now + m->settings.metrics_interval_usec);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

void metrics_stop(struct manager *m)
{
	struct probe *p;

	list_foreach(&m->probes, p, struct probe, link)
		probe_free(p);
}

int metrics_start(struct manager *m)
{
	if (!m->settings.metrics_interval_usec || !m->settings.metrics_kept)
		return 0;
	return sd_event_add_time_relative(m->event, &m->metrics_timer, CLOCK_MONOTONIC, m->settings.metrics_interval_usec, 0,
					  on_interval, m);
}
