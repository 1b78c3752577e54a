/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pausing and resuming a sandbox.
 *
 *	pause    freeze the guest's file systems, stop the vCPUs, let go of the agent's channel (its descriptor is kept)
 *	resume   (from disk first: hibernate.c) run the vCPUs, greet the agent, set the clock, thaw, running
 *
 * The file systems are frozen at the pause, not at a later save: so a paused sandbox can be written to disk at any
 * moment without running it again. All is undone when a step fails: a sandbox that cannot be paused runs on, one that
 * cannot be resumed stays paused. Pausing ends the present run: no deadline counts while paused, and resuming begins
 * a new run with the whole timeout.
 */
#ifndef DECLAW_PAUSE_H
#define DECLAW_PAUSE_H

#include "core/sandbox.h"
#include "virt/virt.h"

/*
 * FAULT_NONE: under way; fn (may be NULL) is called once from the loop. Only from running or paused, at rest:
 * FAULT_SANDBOX_STATE otherwise.
 */
enum fault sandbox_pause(struct sandbox *sb, sandbox_done_fn fn, void *userdata);
enum fault sandbox_resume(struct sandbox *sb, sandbox_done_fn fn, void *userdata);
/* Called once when the present move is over, however it went. */
int sandbox_move_wait(struct sandbox *sb, sandbox_done_fn fn, void *userdata);

/* --- for core --- */
/* The agent answered while resuming. */
void pause_agent_up(struct sandbox *sb);
/* libvirt says the domain's vCPUs were stopped or started; true: nobody else needs to care. */
void pause_domain_event(struct sandbox *sb, enum virt_event ev);
/* The domain of a sandbox at rest was seen (not) to run, at that time. Brings the two together. */
void pause_reconcile(struct sandbox *sb, bool vcpus_stopped, uint64_t seen_usec);
/* The vCPUs may run: the second half of resuming */
void pause_run(struct sandbox *sb);
void pause_move_begin(struct sandbox *sb, enum sandbox_move mv);
void pause_move_end(struct sandbox *sb, enum fault fault, const char *detail);
/* A move of the last daemon is over, as far as it came. Who waits is told with the end of recovery. */
void pause_move_forget(struct sandbox *sb);
/* The sandbox ends: lets go of everything here. */
void pause_abandon(struct sandbox *sb);

#endif
