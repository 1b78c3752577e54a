/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parked sandboxes, see pool.h. */
#include "core/pool.h"

#include <string.h>

#include "core/clockset.h"
#include "core/create.h"
#include "core/egress.h"
#include "core/fork.h"
#include "core/idem.h"
#include "core/manager.h"
#include "core/memsnap.h"
#include "core/warm.h"
#include "util/clock.h"
#include "util/log.h"

/* Creations within this time count as asked for at once */
#define BURST_USEC (3 * USEC_PER_SEC)
/* Without demand one fewer is kept every so often */
#define DECAY_USEC (60 * USEC_PER_SEC)
/* systemd's default; while parked it is the least there is */
#define CPU_WEIGHT 100
#define RETRY_USEC (10 * USEC_PER_SEC)

static bool mine(const struct sandbox *sb, const struct template *t)
{
	return sb->role == SANDBOX_FOR_POOL && !sb->destroying && (!t || sb->options.template == t);
}

unsigned int pool_count(const struct manager *m, const struct template *t, bool prestart)
{
	const struct sandbox *sb;
	unsigned int n = 0;

	list_foreach((struct list *)(uintptr_t)&m->sandboxes, sb, struct sandbox, link)
		n += mine(sb, t) && sb->parked && sb->prestart == prestart;
	return n;
}

/* Those under way too */
static unsigned int pool_size(const struct manager *m, const struct template *t, bool prestart)
{
	const struct sandbox *sb;
	unsigned int n = 0;

	list_foreach((struct list *)(uintptr_t)&m->sandboxes, sb, struct sandbox, link)
		n += mine(sb, t) && sb->prestart == prestart;
	return n;
}

/* --- demand --- */

static void demand_note(struct memsnap *ms)
{
	uint64_t now = clock_monotonic();

	if (now >= ms->burst_usec + BURST_USEC) {
		ms->burst_usec = now;
		ms->burst = 0;
	}
	ms->burst++;
	ms->wanted = MAX_OF(ms->wanted, ms->burst);
	ms->demand_usec = now;
}

/* What parked ones do not cover is kept prestarted */
static uint64_t target(struct manager *m, struct memsnap *ms, bool prestart)
{
	const struct settings *c = &m->settings;
	uint64_t now = clock_monotonic(), parked;

	while (ms->wanted > 0 && now >= ms->demand_usec + DECAY_USEC) {
		ms->wanted--;
		ms->demand_usec += DECAY_USEC;
	}
	parked = MIN_OF(MAX_OF((uint64_t)ms->wanted, c->parked_min), c->parked_max);
	if (!prestart)
		return parked;
	return MIN_OF(MAX_OF(ms->wanted > parked ? ms->wanted - parked : 0, c->prestarted_min), c->prestarted_max);
}

/* --- parking --- */

static void parked(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb))
		return;
	if (error < 0) {
		create_fail(sb, FAULT_START_FAILED, message);
		return;
	}
	fork_disarm(sb);
	memsnap_trust(sb->manager, sb->snapshot);
	agent_hold(sb->agent, true);
	sb->parked = true;
	log_sandbox(LOG_DEBUG, sb->id, NULL, 0, "Sandbox %s is parked for template %s", sb->id, sb->options.name);
	sandbox_unwait(&sb->create_waiters, sb->manager);
	create_slot_release(sb);
	pool_kick(sb->manager);
}

static void warmed(struct sandbox *sb, bool ok)
{
	if (!ok) {
		create_fail(sb, FAULT_START_FAILED, "no command runs in it");
		return;
	}
	sandbox_step_begin(sb);
	virt_domain_suspend(sb->manager->virt, sb->id, parked, sb);
}

void pool_identified(struct sandbox *sb)
{
	/* Twice: what the first one translates the second one runs */
	warm_run(sb, "python3 -c pass; true", 2, warmed);
}

void pool_prestarted(struct sandbox *sb)
{
	if (sb->path == CREATE_COLD) {
		create_fail(sb, FAULT_START_FAILED, "its template cannot be cloned any more");
		return;
	}
	sb->parked = true;
	log_sandbox(LOG_DEBUG, sb->id, NULL, 0, "Sandbox %s is started ahead for template %s", sb->id, sb->options.name);
	sandbox_unwait(&sb->create_waiters, sb->manager);
	create_slot_release(sb);
	pool_kick(sb->manager);
}

/* A hidden creation ends well without a word, see pool_identified() */
static void fill_failed(void *userdata, enum fault fault _unused_, const char *detail)
{
	struct manager *m = userdata;

	if (m->stopping)
		return;
	m->pool_not_before = clock_monotonic() + RETRY_USEC;
	log_debug("No sandbox could be parked: %s", detail ?: "no detail");
	pool_kick(m);
}

static void fill(struct manager *m, struct memsnap *ms, bool prestart)
{
	_cleanup_(cleanup_sandbox_unref) struct sandbox *sb = NULL;

	if (create_hidden(m, SANDBOX_FOR_POOL, ms->template, "", fill_failed, m, &sb) < 0)
		m->pool_not_before = clock_monotonic() + RETRY_USEC;
	else
		sb->prestart = prestart;
}

/* --- claiming --- */

void pool_joined(struct sandbox *sb)
{
	if (--sb->claim_left == 0 && !sb->falling_back && sb->state == SANDBOX_CREATING)
		create_running(sb);
}

static void claim_identified(void *userdata, int error)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb))
		return;
	if (error)
		create_fail(sb, FAULT_START_FAILED, "the guest could not be given its identity");
	else
		clockset_run(sb, pool_joined);
}

static void claim_identify(struct sandbox *sb)
{
	uint8_t entropy[64];
	const struct agent_identity ident = {
		.entropy = entropy,
		.entropy_len = sizeof(entropy),
		.time_nsec = clock_realtime() * NSEC_PER_USEC,
	};

	random_bytes(entropy, sizeof(entropy));
	sandbox_step_begin(sb);
	if (agent_set_identity(sb->agent, &ident, claim_identified, sb) < 0 && sandbox_step_end(sb))
		create_fail(sb, FAULT_INTERNAL, "the identity could not be sent");
}

static void claim_runs(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb) || sb->falling_back)
		return;
	if (error < 0) {
		create_fail(sb, FAULT_START_FAILED, message);
		return;
	}
	agent_hold(sb->agent, false);
	claim_identify(sb);
}

static void claim_ruled(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb) || sb->falling_back)
		return;
	if (error < 0)
		create_fail(sb, FAULT_NO_FIREWALL, message);
	else
		pool_joined(sb);
}

static void claim_begin(struct sandbox *sb)
{
	struct manager *m = sb->manager;

	/* Until its rules are its own they are closed; nobody is answered before both are done */
	sb->claim_left = 2;
	bus_scope_weight(m->bus, sb->unit, CPU_WEIGHT, NULL, NULL);
	if (sb->path == CREATE_PRESTARTED) {
		create_go_on(sb);
		if (sb->falling_back || sb->destroying)
			return;
	} else {
		fork_arm(sb);
		sandbox_step_begin(sb);
		virt_domain_resume(m->virt, sb->id, claim_runs, sb);
	}
	sandbox_step_begin(sb);
	egress_rules(sb, claim_ruled, sb);
}

/* It waits as long as any of its template: who was parked first goes first */
static struct sandbox *oldest(struct manager *m, const struct template *t, const char *key, bool prestart)
{
	struct sandbox *sb, *found = NULL;

	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (mine(sb, t) && sb->parked && sb->prestart == prestart && (!key || str_eq(sb->snapshot, key)) &&
		    (prestart || agent_is_up(sb->agent)))
			found = sb;
	return found;
}

bool pool_claim(struct manager *m, const char *owner, struct sandbox_options *options, sandbox_done_fn fn, void *userdata,
		struct sandbox **ret)
{
	struct memsnap *ms = memsnap_get(m, options->template);
	struct sandbox *sb;
	char *name;

	if (!ms || !(m->settings.parked_max || m->settings.prestarted_max))
		return false;
	demand_note(ms);
	pool_kick(m);
	sb = memsnap_ready(m, options->template) ? oldest(m, options->template, ms->key, false) ?:
						   oldest(m, options->template, ms->key, true) : NULL;
	name = sb ? strdup(owner) : NULL;
	if (!name || sandbox_wait(&sb->create_waiters, fn, userdata) < 0) {
		free(name);
		return false;
	}
	free(sb->owner);
	sb->owner = name;
	sandbox_options_done(&sb->options);
	sb->options = *options;
	memset(options, 0, sizeof(*options));
	sb->role = SANDBOX_FOR_USER;
	sb->path = sb->prestart ? CREATE_PRESTARTED : CREATE_PARKED;
	sb->parked = sb->prestart = false;
	sb->claimed = true;
	sb->created_usec = clock_realtime();
	m->n_live++;
	list_unlink(&sb->link);
	list_prepend(&m->sandboxes, &sb->link);
	if (idem_add(sb) < 0 || egress_prepare(sb) < 0)
		log_sandbox(LOG_ERR, sb->id, NULL, -ENOMEM, "Claiming %s: %m", sb->id);
	*ret = sb;
	return true;
}

/* --- the right number --- */

static void evict(struct sandbox *sb)
{
	sandbox_unwait(&sb->create_waiters, sb->manager);
	sandbox_destroy(sb, SANDBOX_END_REQUEST, NULL, NULL);
}

bool pool_yield(struct manager *m)
{
	struct sandbox *sb = oldest(m, NULL, NULL, false) ?: oldest(m, NULL, NULL, true);

	if (!sb)
		return false;
	m->pool_not_before = clock_monotonic() + RETRY_USEC;
	evict(sb);
	return true;
}

static void evict_one(struct manager *m, const struct template *t, bool prestart)
{
	struct sandbox *sb = oldest(m, t, NULL, prestart);

	if (sb)
		evict(sb);
}

/* Of an image, kernel or agent that is no more */
static void evict_stale(struct manager *m, const struct memsnap *ms)
{
	struct sandbox *sb;

	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (mine(sb, ms->template) && sb->parked && !str_eq(sb->snapshot, ms->key))
			evict(sb);
}

static int on_timer(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct manager *m = userdata;

	m->pool_timer = sd_event_source_disable_unref(m->pool_timer);
	pool_kick(m);
	return 0;
}

static void look_again(struct manager *m, uint64_t at)
{
	m->pool_timer = sd_event_source_disable_unref(m->pool_timer);
	if (sd_event_add_time(m->event, &m->pool_timer, CLOCK_MONOTONIC, at, USEC_PER_SEC / 4, on_timer, m) < 0)
		log_error("No timer for parked sandboxes");
}

/* True: one is being made */
static bool adjust_kind(struct manager *m, struct memsnap *ms, bool prestart, bool *demand)
{
	unsigned int have = pool_size(m, ms->template, prestart);
	uint64_t want = target(m, ms, prestart);

	if (have > want && have == pool_count(m, ms->template, prestart)) {
		evict_one(m, ms->template, prestart);
	} else if (have < want && clock_monotonic() >= m->pool_not_before && memsnap_ready(m, ms->template)) {
		fill(m, ms, prestart);
		return true;
	} else if (have < want) {
		*demand = true;
	}
	return false;
}

static void adjust(struct manager *m)
{
	struct memsnap *ms;
	bool demand = false;

	list_foreach(&m->memsnaps, ms, struct memsnap, link) {
		demand |= ms->wanted > 0;
		evict_stale(m, ms);
		/* The next when this one is through */
		if (adjust_kind(m, ms, false, &demand) || adjust_kind(m, ms, true, &demand))
			return;
	}
	if (demand)
		look_again(m, MAX_OF(m->pool_not_before, clock_monotonic() + DECAY_USEC / 6));
}

static int on_defer(sd_event_source *s, void *userdata)
{
	struct manager *m = userdata;
	struct sandbox *sb;

	sd_event_source_set_enabled(s, SD_EVENT_OFF);
	/* From a clean stack: a step that fails at once calls back into the API */
	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (sb->claimed) {
			sb->claimed = false;
			if (!sb->destroying)
				claim_begin(sb);
		}
	if (m->ready && !m->stopping && !m->closing && virt_is_connected(m->virt) &&
	    (m->settings.parked_max || m->settings.prestarted_max))
		adjust(m);
	return 0;
}

void pool_kick(struct manager *m)
{
	int r = 0;

	if (!m->pool_defer)
		r = sd_event_add_defer(m->event, &m->pool_defer, on_defer, m);
	if (r >= 0)
		r = sd_event_source_set_enabled(m->pool_defer, SD_EVENT_ON);
	if (r < 0)
		log_error_errno(r, "Parked sandboxes cannot be looked after: %m");
}

void pool_stop(struct manager *m)
{
	m->pool_timer = sd_event_source_disable_unref(m->pool_timer);
	m->pool_defer = sd_event_source_disable_unref(m->pool_defer);
}
