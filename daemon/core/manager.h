/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The manager owns the loop's adapters and all sandboxes, and is what the API talks to.
 *
 * Order of life: manager_new() builds everything, manager_start() sets the firewall's base up, opens libvirt and the
 * bus; when both are there recover.c reconciles, accel.c proves the accelerator, and on_ready is called once. Requests
 * that need a virtual machine before that get a typed fault, never a hang.
 */
#ifndef DECLAW_MANAGER_H
#define DECLAW_MANAGER_H

#include "agent/agent.h"
#include "bus/bus.h"
#include "core/accel.h"
#include "core/limits.h"
#include "core/sandbox.h"
#include "core/settings.h"
#include "core/template.h"
#include "loop/virtloop.h"
#include "loop/workers.h"
#include "net/firewall.h"
#include "net/tap.h"
#include "util/keyfile.h"
#include "util/map.h"
#include "virt/virt.h"

struct audit;
struct control;
struct nflog;

struct manager {
	struct settings settings;
	sd_event *event;
	struct workers *workers;
	struct virtloop *virtloop;
	struct virt *virt;
	struct bus *bus;
	struct firewall *firewall;
	struct control *control;	/* egressctl.c */
	struct audit *audit;		/* verdict.c */
	struct nflog *nflog;
	uint64_t policy_gen;		/* the last policy's number */
	struct template_set templates;
	struct keyfile *keys;
	gid_t vm_gid;
	unsigned int tsc_khz;

	struct list sandboxes;		/* newest first, killed ones included */
	struct map *by_id;
	struct map *by_key;		/* idem.c */
	unsigned int n_live;		/* not killed, not hidden */
	unsigned int n_booting;
	struct list buckets;		/* tier.c */
	struct list probes;		/* metrics.c */
	struct list boot_queue;		/* sandboxes waiting for a boot slot, first come first served */

	struct list memsnaps;		/* memsnap.c */
	struct list snapshots;		/* snapshot.c, newest first */
	char *cpu_id;
	sd_event_source *pool_defer, *pool_timer;	/* pool.c */
	uint64_t pool_not_before;	/* monotonic */
	struct {
		uint64_t by_path[CREATE_PATH_MAX], fell_back;
	} creates;			/* since the start */

	struct accel accel;
	bool firewall_ready, recovered, ready, stopping;
	bool closing;			/* asked to stop: nothing new begins, what is under way may end */
	uint64_t closing_usec, closing_mono;
	bool recovering, recover_again;	/* under way; asked for meanwhile */
	unsigned int stray_rounds;	/* recoveries in a row that found something of nobody */
	sd_event_source *sweep_timer, *sweep_defer, *boot_defer, *recover_timer, *closing_timer, *room_timer, *metrics_timer;
	void (*on_ready)(void *userdata);
	void *ready_userdata;
	struct stored_fd { char id[SANDBOX_ID_MAX]; int fd; } *stored;
	size_t n_stored;
};

/* Takes settings. */
int manager_new(sd_event *event, struct settings *settings, struct manager **ret);
/* Leaves the sandboxes running: the next daemon adopts them. */
struct manager *manager_free(struct manager *m);
int manager_start(struct manager *m, void (*on_ready)(void *userdata), void *userdata);
/* The keys again; the old ones stay on error. Templates are read at start only: restarting keeps sandboxes. */
int manager_reload(struct manager *m);

/* shutdown.c: ends the loop, at once or when paused sandboxes are safe from a machine that goes down. */
void manager_shutdown(struct manager *m);

/* recover.c is through (every time it is) */
void manager_recovered(struct manager *m);
/* It is not, and no connection has to come back first */
void manager_recover_later(struct manager *m);
/* Newest first, after records came from disk in directory order */
void manager_sort(struct manager *m);
/* The agent socket the service manager kept for that sandbox, once; -EBADF when it has none. The caller owns it. */
int manager_take_stored_fd(struct manager *m, const char *id);
struct sandbox *manager_find(struct manager *m, const char *id);
/* Why no sandbox could be created right now, or FAULT_NONE. */
enum fault manager_blocked(const struct manager *m, const char **ret_detail);
/* Takes the object's first reference. */
int manager_add(struct manager *m, struct sandbox *sb);
/* Forget killed sandboxes past their retention, from the loop. */
void manager_sweep_later(struct manager *m);

/*
 * create.c: on FAULT_NONE *ret is the new sandbox in state creating; fn is called once from the loop when it
 * runs or has failed (the sandbox is then killed and being removed). Takes options when it succeeds.
 */
enum fault sandbox_create(struct manager *m, const char *owner, struct sandbox_options *options, sandbox_done_fn fn,
			  void *userdata, struct sandbox **ret, const char **ret_detail);
/*
 * Around an asynchronous step that makes something: while one is under way, destroying waits for it, so that nothing is
 * made behind its back. Begin takes a reference, end drops it. True: go on. False: the sandbox is being destroyed, or
 * the daemon stops and its successor will do that; the caller returns at once.
 */
void sandbox_step_begin(struct sandbox *sb);
bool sandbox_step_end(struct sandbox *sb);
/* The agent object, doing nothing yet; 0 also when there is one. */
int sandbox_make_agent(struct sandbox *sb);
/* State and run directory */
int sandbox_make_dirs(struct sandbox *sb);
/* QEMU (sb->pid) into its scope; fn gets sb as userdata. */
void sandbox_scope_start(struct sandbox *sb, bus_done_fn fn);
/* Connect (again) to a running domain's agent: recovery and resume. fd: from the fd store, or -EBADF. */
int sandbox_attach_agent(struct sandbox *sb, int fd);
/* The boot queue lets the next one in. */
void create_slot_release(struct sandbox *sb);

/*
 * destroy.c: moves to killed at once, then removes everything held. fn (may be NULL) is called from the loop when
 * nothing is left. Calling it again only adds a waiter.
 */
void sandbox_destroy(struct sandbox *sb, enum sandbox_end end, sandbox_done_fn fn, void *userdata);
/* Removes what a dead sandbox still holds, found at start. */
void sandbox_destroy_resume(struct sandbox *sb);

/* recover.c: the records, once and before anybody asks: a sandbox is never unknown because its daemon is new */
void recover_load(struct manager *m);
/* One at a time; asked for meanwhile it runs again */
void recover_run(struct manager *m);

#define SCOPE_FORMAT "declaw-%s.scope"
#define TIMER_FORMAT "declaw-expire@%s.timer"
#define WAKE_TIMER "declaw-expire@next.timer"
/* The sandbox id in the name of a scope or timer of ours; false: it is none. */
bool unit_sandbox_id(const char *unit, char ret[SANDBOX_ID_MAX]);

/* deadline.c: (re)arm or clear the timer unit from deadline_usec; end what is overdue. */
void sandbox_arm_deadline(struct sandbox *sb);
/* No sooner than that: what is overdue is tried again */
void sandbox_arm_deadline_in(struct sandbox *sb, uint64_t least_usec);
/* A new run begins: the deadline from the timeout. */
void sandbox_begin_window(struct sandbox *sb, uint64_t now);
void sandbox_deadline_elapsed(struct sandbox *sb);
/* The daemon is about to end: systemd starts it again shortly before the first deadline. fn is called when that is arranged. */
void deadlines_wake_later(struct manager *m, bus_done_fn fn, void *userdata);
/* It is up. */
void deadlines_awake(struct manager *m);
/* From now; 0 = none. FAULT_TIER_DURATION changes nothing. */
enum fault sandbox_set_timeout(struct sandbox *sb, uint64_t seconds);

/* store.c: every sandbox.json below the state directory */
int store_save(const struct sandbox *sb, bool sync);
int store_load(struct manager *m, const char *id, struct sandbox **ret);

#endif
