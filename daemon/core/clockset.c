/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/clockset.h"

#include "core/create.h"
#include "core/manager.h"
#include "util/clock.h"

#define CLOCK_ERROR_USEC (8 * USEC_PER_MSEC)
#define TRIES 12

static void ask(struct sandbox *sb);

static void told(void *userdata, int error)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb) || sb->falling_back)
		return;
	if (error)
		create_fail(sb, FAULT_START_FAILED, "the guest's clock could not be set");
	else if (clock_monotonic() - sb->clock.asked_usec > CLOCK_ERROR_USEC && --sb->clock.tries > 0)
		ask(sb);
	else
		sb->clock.fn(sb);
}

static void ask(struct sandbox *sb)
{
	sb->clock.asked_usec = clock_monotonic();
	sandbox_step_begin(sb);
	if (agent_set_time(sb->agent, clock_realtime() * NSEC_PER_USEC, told, sb) < 0 && sandbox_step_end(sb))
		create_fail(sb, FAULT_INTERNAL, "the time could not be sent");
}

void clockset_run(struct sandbox *sb, void (*fn)(struct sandbox *sb))
{
	sb->clock.fn = fn;
	sb->clock.tries = TRIES;
	ask(sb);
}
