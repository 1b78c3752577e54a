/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clones, see fork.h. */
#include "core/fork.h"

#include <string.h>

#include "core/console.h"
#include "core/create.h"
#include "core/domain.h"
#include "core/manager.h"
#include "core/memsnap.h"
#include "util/clock.h"
#include "util/log.h"

/* From the clone's first instruction to its identity; measured at 100 to 300 ms */
#define ANSWER_MAX_USEC (15 * USEC_PER_SEC)

void fork_choose(struct sandbox *sb)
{
	const struct memsnap *ms;

	sb->path = CREATE_COLD;
	if (sb->role == SANDBOX_FOR_SNAPSHOT || sb->role == SANDBOX_FOR_COPY)
		return;
	if (*sb->from) {
		sb->path = CREATE_FORK;
		return;
	}
	sb->snapshot[0] = '\0';
	ms = memsnap_ready(sb->manager, sb->options.template);
	if (!ms)
		return;
	sb->path = CREATE_FORK;
	memcpy(sb->snapshot, ms->key, sizeof(sb->snapshot));
}

static int on_silence(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct sandbox *sb = userdata;

	fork_disarm(sb);
	create_fail(sb, FAULT_BOOT_TIMEOUT, "the clone does not answer");
	return 0;
}

void fork_disarm(struct sandbox *sb)
{
	sb->fork_timer = sd_event_source_disable_unref(sb->fork_timer);
}

void fork_arm(struct sandbox *sb)
{
	fork_disarm(sb);
	if (sb->path == CREATE_COLD)
		return;
	if (sd_event_add_time_relative(sb->manager->event, &sb->fork_timer, CLOCK_MONOTONIC, ANSWER_MAX_USEC, 0, on_silence, sb) < 0)
		log_sandbox(LOG_WARNING, sb->id, NULL, 0, "No timer for the clone %s", sb->id);
}

/* --- back to a boot --- */

static void retry(struct sandbox *sb)
{
	_cleanup_free_ char *disk = domain_disk(sb);

	sb->falling_back = false;
	sb->stopped = sb->ident_asked = false;
	sb->pid = 0;
	sb->agent_id = 0;
	sb->path = CREATE_COLD;
	sb->snapshot[0] = '\0';
	if (!disk || (unlink(disk) < 0 && errno != ENOENT))
		create_fail(sb, FAULT_INTERNAL, "the clone's disk cannot be removed");
	else
		create_disk(sb);
}

static void clone_scope_gone(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb))
		return;
	if (error == 0)
		sb->held &= ~(unsigned int)HELD_SCOPE;
	sb->path = CREATE_COLD;
	if (error < 0)
		create_fail(sb, FAULT_START_FAILED, message);
	else
		retry(sb);
}

static void clone_gone(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb))
		return;
	if (error < 0) {
		sb->falling_back = false;
		sb->path = CREATE_COLD;
		create_fail(sb, error == -ENOTCONN ? FAULT_NO_LIBVIRT : FAULT_START_FAILED, message);
		return;
	}
	sb->held &= ~(unsigned int)HELD_DOMAIN;
	sandbox_step_begin(sb);
	bus_unit_stop(sb->manager->bus, sb->unit, clone_scope_gone, sb);
}

bool fork_fall_back(struct sandbox *sb, const char *why)
{
	struct manager *m = sb->manager;

	if (sb->falling_back)
		return true;
	if (sb->path == CREATE_COLD || sb->role != SANDBOX_FOR_USER || sb->destroying || m->stopping)
		return false;
	/* A boot would be another sandbox than the one that was asked for */
	if (*sb->from)
		return false;
	/* The tap and its rules are not the clone's fault */
	if (sb->held & HELD_TAP && !(sb->held & HELD_DOMAIN))
		return false;
	sb->falling_back = true;
	m->creates.fell_back++;
	log_sandbox(LOG_WARNING, sb->id, MSG_FORK_FAILED, 0, "Sandbox %s boots, its clone was of no use: %s", sb->id, why ?: "no detail");
	if (sb->held & HELD_DOMAIN)
		memsnap_distrust(m, sb->snapshot);
	fork_disarm(sb);
	sb->claim_left = 0;
	sb->console = console_free(sb->console);
	agent_abort(sb->agent, -ECANCELED);
	sb->agent = agent_free(sb->agent);
	sb->agent_up = false;
	sandbox_step_begin(sb);
	virt_domain_destroy(m->virt, sb->id, clone_gone, sb);
	return true;
}
