/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/ends.h"

#include "core/console.h"
#include "core/manager.h"
#include "util/clock.h"
#include "util/log.h"

/* libvirt hears of an ended QEMU within milliseconds; a guest that says goodbye still has to unmount and power off. */
#define SCOPE_GRACE_USEC (400 * USEC_PER_MSEC)
#define AGENT_GRACE_USEC (3 * USEC_PER_SEC)
#define OOM_RECENT_USEC (30 * USEC_PER_SEC)

static void end(struct sandbox *sb, enum sandbox_end why)
{
	if (sb->oom_usec && clock_monotonic() < sb->oom_usec + OOM_RECENT_USEC)
		why = SANDBOX_END_OOM;
	sb->end_timer = sd_event_source_disable_unref(sb->end_timer);
	sandbox_destroy(sb, why, NULL, NULL);
}

static int on_grace_over(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct sandbox *sb = userdata;

	end(sb, SANDBOX_END_CRASH);
	return 0;
}

/* The sooner of two graces counts. */
static void end_soon(struct sandbox *sb, uint64_t usec)
{
	uint64_t at = clock_monotonic() + usec, already;

	if (sb->end_timer && sd_event_source_get_time(sb->end_timer, &already) >= 0 && already <= at)
		return;
	sb->end_timer = sd_event_source_disable_unref(sb->end_timer);
	if (sd_event_add_time(sb->manager->event, &sb->end_timer, CLOCK_MONOTONIC, at, USEC_PER_MSEC, on_grace_over, sb) < 0)
		end(sb, SANDBOX_END_CRASH);
}

void ends_domain_event(struct sandbox *sb, enum virt_event ev, int detail)
{
	_cleanup_free_ char *console = NULL;

	if (ev == VIRT_EVENT_SHUTDOWN) {
		sb->host_ended = detail == VIRT_SHUTDOWN_HOST;
		return;
	}
	console = console_tail(sb->console);	/* only while it is being created */
	log_sandbox(LOG_WARNING, sb->id, NULL, 0, "The domain of %s has stopped by itself%s%s", sb->id,
		    console ? "; end of its console: " : "", console ?: "");
	end(sb, detail == VIRT_STOP_SHUTDOWN && !sb->host_ended ? SANDBOX_END_GUEST_EXIT : SANDBOX_END_CRASH);
}

static void have_scope(void *userdata, int error, const struct bus_unit *v, size_t n)
{
	struct sandbox *sb = userdata;
	bool there = false;

	for (size_t i = 0; i < n; i++)
		there = there || (str_eq(v[i].name, sb->unit) && !str_eq(v[i].active, "inactive") && !str_eq(v[i].active, "failed"));
	/* Without an answer: recover.c looks when the bus is back */
	if (error >= 0 && !there && !sb->destroying && sb->state != SANDBOX_KILLED && !sb->manager->stopping) {
		log_sandbox(LOG_WARNING, sb->id, NULL, 0, "The scope of %s is gone: QEMU died or somebody stopped it", sb->id);
		end_soon(sb, SCOPE_GRACE_USEC);
	}
	sandbox_unref(sb);
}

/*
 * systemd says that a unit is removed also when it reloads (systemctl daemon-reload), where it forgets all and reads them
 * again. It answers only after that, so what it lists then is the truth.
 */
void ends_scope_gone(struct sandbox *sb)
{
	bus_units_list(sb->manager->bus, sb->unit, have_scope, sandbox_ref(sb));
}

void ends_agent_lost(struct sandbox *sb, int reason)
{
	log_sandbox(LOG_WARNING, sb->id, NULL, reason, "The agent of %s is lost: %m", sb->id);
	if (reason == -ECONNRESET)
		end_soon(sb, AGENT_GRACE_USEC);
	else
		end(sb, SANDBOX_END_CRASH);
}

void ends_oom(struct sandbox *sb)
{
	log_sandbox(LOG_NOTICE, sb->id, NULL, 0, "The guest of %s ran out of memory and killed a process", sb->id);
	sb->oom_usec = clock_monotonic();
}
