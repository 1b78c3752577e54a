/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may boot next, see bootqueue.h. */
#include "core/bootqueue.h"

#include "core/admission.h"
#include "core/create.h"
#include "core/hibernate.h"
#include "core/manager.h"
#include "core/pool.h"
#include "util/clock.h"
#include "util/log.h"

#define ROOM_INTERVAL_USEC (250 * USEC_PER_MSEC)	/* how often a creation looks whether there is memory for it */

static int on_room_timer(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	boot_queue_wake(userdata);
	return 0;
}

/* Who is first waits until there is room for it; who is behind waits too, or large guests would never start. */
static bool boot_has_room(struct sandbox *sb)
{
	struct manager *m = sb->manager;
	enum admission a = admission_memory(m, sb);
	uint64_t now = clock_monotonic();

	if (a == ADMISSION_NOW)
		return true;
	if (!sandbox_awaited(sb)) {
		list_unlink(&sb->boot_link);
		create_fail(sb, FAULT_NO_MEMORY, "memory is wanted for others");
		boot_queue_wake(m);
		return false;
	}
	sb->no_room_usec = sb->no_room_usec ?: now;
	if (a == ADMISSION_NEVER || now >= sb->no_room_usec + m->settings.boot_queue_usec) {
		list_unlink(&sb->boot_link);
		create_fail(sb, FAULT_NO_MEMORY, a == ADMISSION_NEVER ? "it never will" : "others did not end in time");
		boot_queue_wake(m);
		return false;
	}
	pool_yield(m);
	hibernate_next(m, clock_realtime() - HIBERNATE_RETRY_USEC);
	m->room_timer = sd_event_source_disable_unref(m->room_timer);
	if (sd_event_add_time_relative(m->event, &m->room_timer, CLOCK_MONOTONIC, ROOM_INTERVAL_USEC, 0, on_room_timer, m) < 0)
		log_error("No timer to wait for memory");
	return false;
}

/* Users first; what is hidden waits until nobody else boots */
static struct sandbox *boot_next(struct manager *m)
{
	struct sandbox *sb, *hidden = NULL;

	list_foreach(&m->boot_queue, sb, struct sandbox, boot_link)
		if (sandbox_awaited(sb))
			return sb;
		else if (!hidden)
			hidden = sb;
	return m->n_booting == 0 ? hidden : NULL;
}

static int boot_queue_run(sd_event_source *source, void *userdata)
{
	struct manager *m = userdata;
	struct sandbox *sb;

	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	/* What is restored may wait since before the accelerator is known */
	while (m->ready && m->n_booting < m->settings.boots_at_once &&
	       (sb = boot_next(m))) {
		if (!boot_has_room(sb))
			break;
		list_unlink(&sb->boot_link);
		sb->boot_slot = true;
		m->n_booting++;
		if (admission_crowded(m))
			pool_yield(m);
		create_begin(sb);
	}
	return 0;
}

/* From a clean stack: a first step that fails calls back into the API */
void boot_queue_wake(struct manager *m)
{
	int r = 0;

	if (!m->boot_defer)
		r = sd_event_add_defer(m->event, &m->boot_defer, boot_queue_run, m);
	if (r == 0)
		r = sd_event_source_set_enabled(m->boot_defer, SD_EVENT_ON);
	if (r < 0)
		log_error_errno(r, "The boot queue cannot be run: %m");
}

void create_slot_release(struct sandbox *sb)
{
	list_unlink(&sb->boot_link);
	if (!sb->boot_slot)
		return;
	sb->boot_slot = false;
	sb->manager->n_booting--;
	boot_queue_wake(sb->manager);
}

void boot_queue_add(struct sandbox *sb)
{
	list_append(&sb->manager->boot_queue, &sb->boot_link);
	boot_queue_wake(sb->manager);
}

bool boot_queue_full(const struct manager *m)
{
	uint64_t n = 0;

	const struct sandbox *sb;

	list_foreach((struct list *)(uintptr_t)&m->boot_queue, sb, struct sandbox, boot_link)
		n += sb->role == SANDBOX_FOR_USER;
	return n >= m->settings.boots_at_once - MIN_OF(m->n_booting, m->settings.boots_at_once) + m->settings.boot_queue_max;
}
