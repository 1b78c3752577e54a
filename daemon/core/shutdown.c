/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon is asked to stop. Sandboxes outlive it (their deadlines too: deadline.c), unless the machine goes down
 * as well (systemd has a job for shutdown.target): then those that are paused in memory go to disk first. Their scopes
 * are ordered before declawd.service, so systemd stops no QEMU before this is through.
 */
#include "core/hibernate.h"
#include "core/manager.h"
#include "util/clock.h"
#include "util/log.h"

#include <systemd/sd-daemon.h>

#define CHECK_USEC (200 * USEC_PER_MSEC)
#define SAVES_AT_ONCE 2u
/* systemd waits for as long as it is asked to; a disk that does not take the memory must not hold up the machine. */
#define SHUTDOWN_MAX (10 * 60 * USEC_PER_SEC)

static unsigned int saving(const struct manager *m)
{
	const struct sandbox *sb;
	unsigned int n = 0;

	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		n += sb->moving == SANDBOX_MOVE_SAVING || sb->moving == SANDBOX_MOVE_PAUSING;
	return n;
}

static int on_check(sd_event_source *s, uint64_t usec _unused_, void *userdata)
{
	struct manager *m = userdata;
	bool more = true;

	while (more && saving(m) < SAVES_AT_ONCE)
		more = hibernate_next(m, m->closing_usec);
	if (saving(m) == 0 || clock_monotonic() > m->closing_mono + SHUTDOWN_MAX) {
		sd_event_exit(m->event, 0);
		return 0;
	}
	sd_notify(0, "EXTEND_TIMEOUT_USEC=15000000\nSTATUS=Writing paused sandboxes to disk");
	sd_event_source_set_time_relative(s, CHECK_USEC);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static void wake_arranged(void *userdata, int error, const char *message)
{
	struct manager *m = userdata;

	if (m->stopping)
		return;
	if (error < 0)
		log_full(LOG_WARNING, NULL, NULL, error, __FILE__, __LINE__, "Nothing starts declawd ahead of the next deadline: %s: %m",
			 message ?: "");
	sd_event_exit(m->event, 0);
}

static void have_jobs(void *userdata, int error, const struct bus_unit *v, size_t n)
{
	struct manager *m = userdata;

	if (m->stopping)
		return;
	if (error < 0 || n == 0 || !v[0].job) {
		deadlines_wake_later(m, wake_arranged, m);
		return;
	}
	if (!virt_is_connected(m->virt)) {
		sd_event_exit(m->event, 0);
		return;
	}
	log_info("The machine goes down: paused sandboxes go to disk");
	if (sd_event_add_time_relative(m->event, &m->closing_timer, CLOCK_MONOTONIC, 0, 0, on_check, m) < 0)
		sd_event_exit(m->event, 0);
}

void manager_shutdown(struct manager *m)
{
	if (m->closing || !m->bus || !bus_is_connected(m->bus)) {
		sd_event_exit(m->event, 0);
		return;
	}
	m->closing = true;
	m->closing_usec = clock_realtime();
	m->closing_mono = clock_monotonic();
	bus_units_list(m->bus, "shutdown.target", have_jobs, m);
}
