/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host made of variables: doubles of virt.h, bus.h, firewall.h, tap.h, disk.h, workers.h and virtloop.h that core is
 * linked against instead of libadapt.a (fake-host.c, fake-net.c, fake-pause.c), and of agent.h (fake-agent.c).
 *
 * The world (`fake.things`) outlives managers, as a real one does: a new manager over the same directories finds what
 * the last one left. Every asynchronous call is queued; fake_settle() runs the event loop and answers calls until
 * nothing is left to do. Operations are counted from fake_script(): the n-th can be made to fail (before or after it
 * took effect) or be held unanswered (before or after), and all can be answered in the opposite order. The doubles also
 * check what must never happen: a guest that runs outside its scope or without rules, rules that go before their tap,
 * a tap that goes while its QEMU lives, calls on an adapter that is being freed.
 */
#ifndef DECLAW_TESTS_FAKE_HOST_H
#define DECLAW_TESTS_FAKE_HOST_H

#include "core/manager.h"
#include "util/list.h"

enum fake_op {
	/* the life of a sandbox */
	FAKE_DISK_CREATE, FAKE_TAP_CREATE, FAKE_RULES_CLOSE, FAKE_DOMAIN_CREATE, FAKE_SCOPE_START, FAKE_DOMAIN_RESUME,
	FAKE_AGENT_UP, FAKE_IDENTITY, FAKE_TIMER_SET,
	/* its end */
	FAKE_UNIT_KILL, FAKE_UNIT_STOP, FAKE_DOMAIN_DESTROY, FAKE_TIMER_CLEAR, FAKE_TAP_REMOVE, FAKE_RULES_REMOVE,
	FAKE_TREE_REMOVE,
	/* recovery */
	FAKE_RULES_SETUP, FAKE_DOMAIN_LIST, FAKE_RULES_LIST, FAKE_UNITS_LIST, FAKE_RULES_PIN,
	/* processes */
	FAKE_PROC_START, FAKE_PROC_SIGNAL, FAKE_PROC_LIST,
	/* pausing */
	FAKE_FREEZE, FAKE_THAW, FAKE_TIME, FAKE_DOMAIN_SUSPEND, FAKE_DOMAIN_SAVE, FAKE_DOMAIN_RESTORE, FAKE_SYNC, FAKE_STATS,
	/* forking */
	FAKE_DOMAIN_FORK, FAKE_DOMAIN_EXPORT, FAKE_SCOPE_WEIGHT,
	/* snapshots */
	FAKE_LAYER, FAKE_COPY, FAKE_COPY_FINISH, FAKE_SETTLE,
	/* what the world does by itself: never counted, failed or held */
	FAKE_EVENT,
	FAKE_OP_MAX,
};

enum fake_owner { FAKE_VIRT, FAKE_BUS, FAKE_FIREWALL, FAKE_WORKERS, FAKE_AGENT };
enum fake_kind { FAKE_NOTHING, FAKE_DOMAIN, FAKE_UNIT, FAKE_CHAIN, FAKE_TAP };

struct fake_thing {
	enum fake_kind kind;
	char name[64];
	bool running;		/* domain: its vCPUs */
	bool exported;		/* domain: its device state is out, it cannot go on */
	bool stands;		/* domain: it is at the instant of a copy */
	char overlay[256];	/* domain: what its disk was changed to while it ran */
	pid_t pid;		/* domain, scope */
	uint64_t after_usec;	/* timer */
};

typedef void (*fake_done_fn)(void *userdata, int error, const char *message);

struct fake_call {
	struct list link;
	enum fake_op op;
	enum fake_owner owner;
	char name[128];
	unsigned int index;	/* 0 = not counted */
	bool held, applied;
	int refused;		/* the error it ends with instead of being carried out */
	/* What it does to the world: 0 or a negative errno */
	int (*apply)(struct fake_call *c);
	void (*answer)(struct fake_call *c, int error);
	union {
		fake_done_fn done;
		virt_create_fn create;
		virt_list_fn domains;
		virt_copied_fn copied;
		virt_settled_fn settled;
		bus_list_fn units;
		firewall_list_fn chains;
		agent_done_fn agent_done;
		agent_stats_fn agent_stats;
		agent_pid_fn agent_pid;
		agent_proc_fn agent_proc;
	} fn;
	void *userdata;
	struct agent *agent;
	char text[256];		/* a path, or the unit of an event */
	char paths[768];	/* what is to be removed, one in each line */
	char other[64];		/* the receiver of a copy */
	uint64_t number;
	int detail;
};

#define FAKE_THINGS 64

struct fake_host {
	sd_event *event;
	char dir[128];
	struct fake_thing things[FAKE_THINGS];
	struct list calls;
	bool libvirt_down, bus_down, freeing;
	bool backwards;			/* the newest call is answered first */
	unsigned int n_ops;
	unsigned int fail_at, hold_at;	/* 0 = none */
	int fail_error;
	bool fail_applied, hold_applied;
	enum fake_op failed_op;		/* what fail_at turned out to be; FAKE_OP_MAX = nothing yet */
	enum fake_op fail_op;		/* every one of these fails with fail_error; FAKE_OP_MAX = none */
	unsigned int counts[FAKE_OP_MAX];
	pid_t last_pid;
};
extern struct fake_host fake;

/* Temporary directories with a template and an event loop; an empty world. */
void fake_host_init(void);
void fake_host_done(void);
/* A manager that has recovered and is ready; NULL settings text = what the tests need. */
struct manager *fake_manager(const char *settings);
/* Not settled: recovery has been asked for, no more. */
struct manager *fake_manager_unsettled(const char *settings);

/* Forgets counts and the script. */
void fake_script(void);
bool fake_turn(void);
void fake_settle(void);
void fake_release(void);
/* The first held or queued call of that kind */
struct fake_call *fake_pending(enum fake_op op);

struct fake_thing *fake_find(enum fake_kind kind, const char *name);
struct fake_thing *fake_add(enum fake_kind kind, const char *name);
unsigned int fake_count(enum fake_kind kind);
/* Nothing at all, directories included */
void fake_assert_empty(void);
/* Everything a running sandbox holds, and its scope around its QEMU */
void fake_assert_running(const struct sandbox *sb);
bool fake_path_exists(const char *format, ...) _printf_(1, 2);

/* The world acts: QEMU dies (the domain stops, its scope empties), connections come and go, a timer elapses. */
void fake_qemu_dies(const char *id, enum virt_stop why);
void fake_libvirt(struct manager *m, bool up);
void fake_timer_elapses(const char *id);
void fake_domain_event(const char *id, enum virt_stop why);
void fake_unit_removed(const char *unit);

/* --- sandboxes --- */

struct fake_wait {
	unsigned int calls;
	enum fault fault;
	char detail[200];
};
void fake_waited(void *userdata, enum fault fault, const char *detail);
void fake_options(struct manager *m, struct sandbox_options *ret, uint64_t timeout_sec);
/* Asked for, not settled */
struct sandbox *fake_create(struct manager *m, struct fake_wait *w, uint64_t timeout_sec);
/* Settled and running */
struct sandbox *fake_running(struct manager *m);

/* --- for the doubles --- */
struct fake_call *fake_call_new(enum fake_owner owner, enum fake_op op, const char *name, void *userdata);
void fake_call_free(struct fake_call *c);
/* Answers all of one owner (and agent, unless NULL) without effect. */
void fake_cancel(enum fake_owner owner, struct agent *a, int error);
/* Counts a synchronous operation: 0, or the error it is to fail with */
int fake_sync(enum fake_op op);
void fake_answer_done(struct fake_call *c, int error);
void fake_agent_boot(const char *id);
void fake_agent_forget_all(void);

#endif
