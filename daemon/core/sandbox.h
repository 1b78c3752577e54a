/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sandbox object: identity, what the user asked for, state, and what of the host it holds.
 *
 * State (what the API shows) and what moves it on:
 *
 *	creating   create.c's steps are under way. -> running when the agent answered and the identity is set;
 *	           -> killed on any failure or request (the steps notice and undo).
 *	running    -> paused by request or deadline; -> killed by request, deadline, or the death of any part.
 *	paused     vCPUs stopped, memory held or on disk. -> running by resume; -> killed.
 *	           Both -> creating by restore: the same sandbox, made anew out of a snapshot of its.
 *	killed     For ever; kept readable for killed_retention. destroy.c removes what is held, in any order of failure.
 *
 * Pausing, resuming and copying (a snapshot) take several asynchronous steps; while they last, `moving` says which, and
 * the state is still the old one. Whoever needs the sandbox at rest waits in move_waiters (pause.c, hibernate.c).
 *
 * sandbox_set_state() is the only writer and asserts the table. What is held (`held`) is a set of bits that create.c
 * sets *before* it asks for the thing and destroy.c clears after it is gone. Records are not written at each of these, so
 * what lives counts as holding everything when it is read from disk: removing something that does not exist is no error.
 *
 * Loop thread only. Objects are owned by the manager and freed from its sweep, never inside one of their callbacks;
 * API code pins one across an asynchronous call with sandbox_ref().
 */
#ifndef DECLAW_SANDBOX_H
#define DECLAW_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "core/fault.h"
#include "util/ident.h"
#include "util/json.h"
#include "util/list.h"

struct manager;
struct agent;
struct console;
struct metrics;
struct pins;
struct policy;
struct template;

enum sandbox_state {
	SANDBOX_CREATING,
	SANDBOX_RUNNING,
	SANDBOX_PAUSED,
	SANDBOX_KILLED,
	SANDBOX_STATE_MAX,
	SANDBOX_STATE_INVALID = -EINVAL,
};

enum sandbox_end {
	SANDBOX_END_NONE,
	SANDBOX_END_REQUEST,
	SANDBOX_END_TIMEOUT,
	SANDBOX_END_GUEST_EXIT,
	SANDBOX_END_OOM,
	SANDBOX_END_HOST_SHUTDOWN,
	SANDBOX_END_CRASH,
	SANDBOX_END_CREATE_FAILED,
	SANDBOX_END_MAX,
};

/* Whose it is. All but the first are hidden from the API and end with the daemon. */
enum sandbox_role {
	SANDBOX_FOR_USER,
	SANDBOX_FOR_SNAPSHOT,	/* memsnap.c: boots to be forked from */
	SANDBOX_FOR_POOL,	/* pool.c: ready, for the next one who asks */
	SANDBOX_FOR_COPY,	/* snaptake.c: a user's snapshot is copied into it; it never runs */
	SANDBOX_ROLE_MAX,
};

/* How it came to be */
enum create_path {
	CREATE_COLD,		/* booted */
	CREATE_FORK,		/* a clone of its template's memory snapshot */
	CREATE_PRESTARTED,	/* a clone whose QEMU was started before it was asked for */
	CREATE_PARKED,		/* a clone made, run and stopped before it was asked for */
	CREATE_PATH_MAX,
};

enum sandbox_move {
	SANDBOX_MOVE_NONE,
	SANDBOX_MOVE_PAUSING,
	SANDBOX_MOVE_RESUMING,
	SANDBOX_MOVE_SAVING,	/* paused, and its memory is being written to disk */
	SANDBOX_MOVE_COPYING,	/* running, and a snapshot of it is being made; used as ever meanwhile */
	SANDBOX_MOVE_MAX,
	SANDBOX_MOVE_INVALID = -EINVAL,
};

/* What of the host a sandbox holds */
enum sandbox_held {
	HELD_DIR = 1 << 0,	/* <state>/sandboxes/<id>, <run>/vm/<id> */
	HELD_TAP = 1 << 1,
	HELD_RULES = 1 << 2,
	HELD_DOMAIN = 1 << 3,
	HELD_SCOPE = 1 << 4,
	HELD_TIMER = 1 << 5,
	HELD_ALL = (1 << 6) - 1,
};

/* What the user asked for. JSON members are owned; NULL = not given. */
struct sandbox_options {
	const struct template *template;
	char *name;			/* the template name as requested */
	uint64_t timeout_sec;		/* 0 = none */
	json_object *metadata, *envs;	/* {str: str}, never NULL after parsing */
	json_object *network, *security, *lifecycle;	/* as received */
	struct policy *policy;		/* network and inspection, parsed; NULL: egress.c closes */
	char *tier;			/* of the key it was created with; NULL = without limits */
	char *idem_key, *idem_hash;	/* of the request; NULL = without */
	char *snapshot_id;		/* of the user's snapshot it is made of; NULL = of its template */
	char *policy_text;		/* JSON text for DECLAW_SECURITY_POLICY, "{}" without a policy */
	bool inspection;		/* the policy needs traffic inspection */
	bool pause_on_timeout, auto_resume;
	bool secure;
};

typedef void (*sandbox_done_fn)(void *userdata, enum fault fault, const char *detail);

struct sandbox_waiter {
	struct list link;
	sandbox_done_fn fn;
	void *userdata;
	bool due;
};

struct sandbox {
	struct list link;		/* manager, newest first */
	struct manager *manager;
	unsigned int refs;
	char id[SANDBOX_ID_MAX];
	char *owner;
	struct sandbox_options options;
	char *template_id;
	char *image;			/* what its disk is built on; its template may have another by now */
	char *idem_name, *idem_reply;	/* idem.c; the answer its creation was given, for repetitions */
	uint64_t vcpus, memory_mb, disk_mb;

	enum sandbox_state state;
	enum sandbox_end end;
	uint64_t created_usec, started_usec, deadline_usec, ended_usec;	/* realtime; 0 = none */
	uint64_t window_usec;		/* realtime when the present run began: creation or the last resume */
	char envd_token[48], traffic_token[48];

	unsigned int held;		/* enum sandbox_held bits */
	enum sandbox_move moving;
	bool on_disk;			/* paused, and nothing of it is in memory */
	bool releasing;			/* hibernate_adopt(): what it held on the host is being removed */
	bool fetched;			/* paused, and somebody has connected to it (GET) since */
	bool asked;			/* the present step of a move has been asked for */
	uint64_t moved_usec;		/* realtime of the last move's end: what was seen before counts no more */
	uint64_t saved_usec;		/* realtime of the last attempt to write it to disk */
	uint64_t paused_usec;		/* realtime; 0 = not paused */
	int paused_fd;			/* the agent's connection while paused, -EBADF without */
	sd_event_source *move_timer;	/* a step's limit; while paused: when it goes to disk */

	enum sandbox_role role;
	enum create_path path;
	char snapshot[33];		/* memsnap.h: the key of the one it is made of, or (FOR_SNAPSHOT) makes; "" = none */
	char from[SNAPSHOT_ID_MAX];	/* snapshot.h: the user's snapshot it was made of last; "" = none */
	uint64_t from_usec;		/* realtime, when that one was taken; while creating */
	unsigned int layers;		/* overlays of its own that it writes no more, below the one it writes */
	bool restoring;			/* creating again, from that one (snaprestore.c) */
	enum create_path made;		/* while restoring: how it was made at first */
	bool settled;			/* what a cut-off MOVE_COPYING left on the host has been put in order */
	bool falling_back;		/* fork.c: its clone is being removed, then it boots */
	bool parked;			/* FOR_POOL: ready, its vCPUs are stopped */
	bool prestart;			/* ... and not one instruction of its guest has run; until it is claimed */
	bool claimed;			/* it has a user; its claim begins from the loop */
	unsigned int claim_left;	/* its rules, its identity */
	sd_event_source *fork_timer;
	struct {
		void (*fn)(struct sandbox *sb, bool ok);
		const char *script;
		unsigned int left;
		uint64_t token;
	} warm;				/* warm.c */
	struct {
		void (*fn)(struct sandbox *sb);
		unsigned int tries;
		uint64_t asked_usec;	/* monotonic */
	} clock;			/* clockset.c */

	bool host_ended;		/* libvirt: somebody on the host is ending it */
	uint64_t oom_usec;		/* monotonic: the guest ran out of memory */
	sd_event_source *end_timer;	/* ends.c: waits for libvirt's word */
	sd_event_source *deadline_timer;	/* deadline.c; NULL = none */
	bool destroying;
	bool scope_empty;		/* killed, and no process of it is left; destroy.c */
	bool boot_slot;			/* holds one of boots_at_once */
	struct list boot_link;		/* waits for one */
	uint64_t no_room_usec;		/* monotonic: waits for memory since; 0 = does not */
	unsigned int step_pending;	/* asynchronous steps of create.c that will still call back */
	bool ident_asked;		/* the last of them has begun */
	bool stopped;			/* the domain's end was heard while a step was under way */
	bool destroy_running;		/* between sandbox_destroy_resume() and its end, successful or not */
	unsigned int destroy_pending;	/* parts of destroy.c under way */
	pid_t pid;
	char tap[16];
	char mac[18];
	char address[16], gateway[16];	/* egress.c */
	uint64_t policy_gen;		/* number of the policy the workers know; 0 = none, egressctl.c */
	struct pins *pins;		/* what the resolver gave out; NULL = nothing yet */
	char uuid[37];
	char unit[64];			/* declaw-sbx-xxxxxxxxxx.scope */
	struct agent *agent;
	bool agent_up;
	bool egress_changing;		/* another policy is on its way into the kernel */
	bool adopted;			/* found at start; its processes are not compared with the guest's yet */
	struct console *console;	/* while booting */
	uint64_t agent_id;

	struct metrics *metrics;	/* NULL before the first sample */
	struct list procs;		/* struct proc */
	struct list create_waiters, destroy_waiters, move_waiters;	/* struct sandbox_waiter */
};

const char *sandbox_state_name(enum sandbox_state s);
enum sandbox_state sandbox_state_from_name(const char *name);
const char *create_path_name(enum create_path path);
enum create_path create_path_from_name(const char *name);
const char *sandbox_move_name(enum sandbox_move mv);
enum sandbox_move sandbox_move_from_name(const char *name);
const char *sandbox_end_name(enum sandbox_end e);
enum sandbox_end sandbox_end_from_name(const char *name);

void sandbox_options_done(struct sandbox_options *o);

/* A user's, or somebody waits for what it is made for */
static inline bool sandbox_awaited(const struct sandbox *sb)
{
	return sb->role == SANDBOX_FOR_USER || sb->role == SANDBOX_FOR_COPY;
}

struct sandbox *sandbox_ref(struct sandbox *sb);
struct sandbox *sandbox_unref(struct sandbox *sb);
DEFINE_CLEANUP(struct sandbox *, sandbox_unref)

void sandbox_set_state(struct sandbox *sb, enum sandbox_state state);
/* Writes sandbox.json; a failure is logged and returned. */
int sandbox_save(struct sandbox *sb);
/* Creates an object that is linked nowhere; fills ids, tokens and names. Takes options. */
int sandbox_new(struct manager *m, const char *id, const char *owner, struct sandbox_options *options, struct sandbox **ret);

/* <state>/sandboxes/<id>/<file>, malloc'ed; file NULL = the directory */
char *sandbox_path(const struct sandbox *sb, const char *file);
char *sandbox_run_path(const struct sandbox *sb, const char *file);

int sandbox_wait(struct list *waiters, sandbox_done_fn fn, void *userdata);
void sandbox_wake(struct list *waiters, enum fault fault, const char *detail);
/* Drops the waiter of that userdata: its caller went away. */
void sandbox_unwait(struct list *waiters, const void *userdata);

/* NAME=value strings for a process: session < command < DECLAW_*. extra: {str: str} or NULL. */
int sandbox_env(const struct sandbox *sb, json_object *extra, char ***ret);

#endif
