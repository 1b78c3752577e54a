/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Deadlines are systemd timers, one per sandbox: declaw-expire@<id>.timer, which starts the service of that name.
 *
 * While the daemon does not run, the service asks systemd to start it, and recovery ends what is overdue. While it runs
 * it looks at its own clock, since systemd has more to do than to tell us (on a busy machine its word came up to 300 ms
 * late), and once more when it hears of the elapsed timer by the unit's removal (RemainAfterElapse is off). Both say
 * *when to look*; whether something is due is decided by deadline_usec alone.
 *
 * Starting takes systemd and the daemon 100 to 300 ms, which would be the lateness of a deadline. So a daemon that is
 * stopped leaves one more timer, declaw-expire@next.timer, which starts it somewhat before the first of them; for one
 * that crashed Restart= does that.
 */
#include <syslog.h>

#include "core/manager.h"
#include "core/pause.h"
#include "core/tier.h"
#include "util/clock.h"
#include "util/log.h"

#define WAKE_AHEAD_USEC USEC_PER_SEC
/* Earlier it is still being stopped, and the start is refused and has to be asked for again */
#define WAKE_LEAST_USEC (200 * USEC_PER_MSEC)

static void timer_set(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (error < 0 && !sb->destroying)
		log_sandbox(LOG_ERR, sb->id, NULL, error, "No timer for %s: %s: %m", sb->id, message);
	sandbox_unref(sb);
}

static int on_deadline(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	sandbox_deadline_elapsed(userdata);
	return 0;
}

static void look_in(struct sandbox *sb, uint64_t usec)
{
	sb->deadline_timer = sd_event_source_disable_unref(sb->deadline_timer);
	if (sd_event_add_time_relative(sb->manager->event, &sb->deadline_timer, CLOCK_MONOTONIC, usec, USEC_PER_MSEC, on_deadline, sb) < 0)
		log_sandbox(LOG_WARNING, sb->id, NULL, 0, "Only systemd knows when %s is due", sb->id);
}

void sandbox_arm_deadline(struct sandbox *sb)
{
	sandbox_arm_deadline_in(sb, 1);
}

void sandbox_arm_deadline_in(struct sandbox *sb, uint64_t least_usec)
{
	_cleanup_free_ char *unit = str_format(TIMER_FORMAT, sb->id);
	_cleanup_free_ char *description = str_format("Deadline of Declaw sandbox %s", sb->id);
	uint64_t now = clock_realtime();
	struct bus_timer_spec spec;

	if (!unit || !description)
		return;
	if (!sb->deadline_usec || sb->state != SANDBOX_RUNNING) {
		sb->deadline_timer = sd_event_source_disable_unref(sb->deadline_timer);
		if (sb->held & HELD_TIMER) {
			sb->held &= ~(unsigned int)HELD_TIMER;
			sandbox_ref(sb);
			bus_timer_clear(sb->manager->bus, unit, timer_set, sb);
		}
		return;
	}
	spec = (struct bus_timer_spec){
		.unit = unit,
		.description = description,
		.after_usec = MAX_OF(sb->deadline_usec > now ? sb->deadline_usec - now : 0, least_usec),
	};
	sb->held |= HELD_TIMER;
	look_in(sb, spec.after_usec);
	sandbox_ref(sb);
	bus_timer_set(sb->manager->bus, &spec, timer_set, sb);
}

void sandbox_deadline_elapsed(struct sandbox *sb)
{
	uint64_t now = clock_realtime();

	if (sb->destroying || sb->state != SANDBOX_RUNNING || !sb->deadline_usec)
		return;
	if (sb->deadline_usec > now) {
		/*
		 * The timer we replaced was removed, the wall clock moved, or the wait was counted from the loop's "now"
		 * when that was old: what counts is what is left.
		 */
		look_in(sb, sb->deadline_usec - now);
		return;
	}
	if (!sb->options.pause_on_timeout)
		sandbox_destroy(sb, SANDBOX_END_TIMEOUT, NULL, NULL);
	else if (sb->moving == SANDBOX_MOVE_NONE)
		sandbox_pause(sb, NULL, NULL);
}

/* The run's end by timeout or tier, whichever comes first; 0 = none */
static uint64_t deadline_from(const struct sandbox *sb, uint64_t now)
{
	uint64_t most = tier_runtime_max(sb), own = sb->options.timeout_sec * USEC_PER_SEC;

	if (!own)
		return most ? sb->window_usec + most : 0;
	return most ? MIN_OF(now + own, sb->window_usec + most) : now + own;
}

void sandbox_begin_window(struct sandbox *sb, uint64_t now)
{
	sb->window_usec = now;
	sb->deadline_usec = deadline_from(sb, now);
}

enum fault sandbox_set_timeout(struct sandbox *sb, uint64_t seconds)
{
	uint64_t now = clock_realtime(), most = tier_runtime_max(sb), from = sb->state == SANDBOX_RUNNING ? sb->window_usec : now;

	if (most && now + seconds * USEC_PER_SEC > from + most)
		return FAULT_TIER_DURATION;
	sb->options.timeout_sec = seconds;
	/* Of a paused one it begins to count when it goes on */
	if (sb->state == SANDBOX_RUNNING)
		sb->deadline_usec = deadline_from(sb, now);
	sandbox_arm_deadline(sb);
	sandbox_save(sb);
	return FAULT_NONE;
}

void deadlines_wake_later(struct manager *m, bus_done_fn fn, void *userdata)
{
	const struct sandbox *sb;
	uint64_t first = UINT64_MAX, now = clock_realtime();
	struct bus_timer_spec spec = { .unit = WAKE_TIMER, .description = "Start of declawd for a deadline of a sandbox" };

	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (sb->state == SANDBOX_RUNNING && sb->deadline_usec)
			first = MIN_OF(first, sb->deadline_usec);
	if (first == UINT64_MAX) {
		fn(userdata, 0, NULL);
		return;
	}
	spec.after_usec = MAX_OF(first > now + WAKE_AHEAD_USEC ? first - now - WAKE_AHEAD_USEC : 0, WAKE_LEAST_USEC);
	bus_timer_set(m->bus, &spec, fn, userdata);
}

static void wake_cleared(void *userdata _unused_, int error, const char *message)
{
	if (error < 0)
		log_full(LOG_WARNING, NULL, NULL, error, __FILE__, __LINE__, "%s stays: %s: %m", WAKE_TIMER, message ?: "");
}

void deadlines_awake(struct manager *m)
{
	bus_timer_clear(m->bus, WAKE_TIMER, wake_cleared, m);
}
