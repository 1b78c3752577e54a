/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Creating a sandbox: ordered asynchronous steps.
 *
 *	slot    wait for one of boots_at_once                              (bootqueue.c)
 *	files   state directory, run directory, sandbox.json (state creating)
 *	disk    overlay over the template                                  (worker)
 *	rules   tap, then the rules of its network policy                  (loop, worker)
 *	domain  libvirt starts QEMU with the vCPUs stopped; a clone is fed (worker)
 *	scope   QEMU's process moves into declaw-sbx-....scope             (bus)
 *	run     the vCPUs go; until here not one guest instruction ran     (worker)
 *	agent   the guest answers HELLO within boot_timeout
 *	ident   hostname, machine id, clock, entropy
 *
 * Boots and forks (fork.h) take the same steps. A step marks what it will hold before it asks for it. Undo is not written twice: every failure ends in
 * sandbox_destroy(), which removes what is marked. While a step is under way (step_pending) destroy waits for its
 * callback, so that nothing is made behind its back.
 */
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "core/bootqueue.h"
#include "core/clockset.h"
#include "core/console.h"
#include "core/create.h"
#include "core/disk.h"
#include "core/domain.h"
#include "core/egress.h"
#include "core/ends.h"
#include "core/fork.h"
#include "core/manager.h"
#include "core/memsnap.h"
#include "core/pause.h"
#include "core/pool.h"
#include "core/proc.h"
#include "core/snapshot.h"
#include "core/tier.h"
#include "core/warm.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

void create_fail(struct sandbox *sb, enum fault fault, const char *detail)
{
	_cleanup_free_ char *console = NULL;

	if (fork_fall_back(sb, detail))
		return;
	console = console_tail(sb->console);
	log_sandbox(LOG_ERR, sb->id, MSG_SANDBOX_FAILED, 0, "Sandbox %s could not be created: %s%s%s", sb->id,
		    detail ?: "no detail", console ? "; end of its console: " : "", console ?: "");
	sandbox_wake(&sb->create_waiters, fault, detail);
	sandbox_destroy(sb, SANDBOX_END_CREATE_FAILED, NULL, NULL);
}

void sandbox_step_begin(struct sandbox *sb)
{
	sandbox_ref(sb);
	sb->step_pending++;
}

bool sandbox_step_end(struct sandbox *sb)
{
	sb->step_pending--;
	if (sb->destroying || sb->manager->stopping) {
		if (sb->destroying)
			sandbox_destroy_resume(sb);
		sandbox_unref(sb);
		return false;
	}
	/* The manager's reference keeps it until the sweep */
	sandbox_unref(sb);
	return true;
}

/* The step went well, but the domain has stopped meanwhile */
static bool step_was_late(struct sandbox *sb)
{
	if (sb->stopped)
		create_fail(sb, FAULT_START_FAILED, "the virtual machine stopped while it was being started");
	return sb->stopped;
}

static enum fault fault_from_errno(int error, enum fault otherwise)
{
	switch (-error) {
	case ENOSPC:
	case EDQUOT:
		return FAULT_NO_SPACE;
	default:
		return otherwise;
	}
}

static void fd_store_push(struct sandbox *sb)
{
	_cleanup_free_ char *text = str_format("FDSTORE=1\nFDNAME=agent-%s", sb->id);
	int fd = agent_fd(sb->agent);

	if (text && fd >= 0)
		sd_pid_notify_with_fds(0, 0, text, &fd, 1);
}

/* --- ident --- */

void create_running(struct sandbox *sb)
{
	uint64_t now = clock_realtime();

	sb->console = console_free(sb->console);
	fork_disarm(sb);
	if (sb->path == CREATE_PARKED)
		fd_store_push(sb);
	if (sb->path != CREATE_COLD && !*sb->from)
		memsnap_trust(sb->manager, sb->snapshot);
	if (*sb->from)
		proc_reconcile(sb);
	if (sb->restoring)
		snapshot_restored(sb);
	else
		sb->manager->creates.by_path[sb->path]++;
	sandbox_set_state(sb, SANDBOX_RUNNING);
	sb->started_usec = now;
	sandbox_begin_window(sb, now);
	create_slot_release(sb);
	sandbox_arm_deadline(sb);
	sandbox_save(sb);
	log_sandbox(LOG_INFO, sb->id, MSG_SANDBOX_CREATED, 0, "Sandbox %s runs (template %s, %s, %s, pid %d) after %llu ms",
		    sb->id, sb->options.name, accel_name(&sb->manager->accel), create_path_name(sb->path), (int)sb->pid,
		    (unsigned long long)((now - sb->created_usec) / USEC_PER_MSEC));
	sandbox_wake(&sb->create_waiters, FAULT_NONE, NULL);
}

static void ident_done(void *userdata, int error)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb))
		return;
	if (error) {
		create_fail(sb, FAULT_START_FAILED, "the guest could not be given its identity");
		return;
	}
	if (step_was_late(sb))
		return;
	if (sb->role == SANDBOX_FOR_SNAPSHOT)
		memsnap_booted(sb);
	else if (sb->role == SANDBOX_FOR_POOL)
		pool_identified(sb);
	else if (sb->path != CREATE_COLD)
		clockset_run(sb, sb->claim_left ? pool_joined : create_running);
	else
		create_running(sb);
}

static void create_ident(struct sandbox *sb)
{
	uint8_t entropy[64], mid[16];
	char machine_id[33], address[EGRESS_ADDRESS_MAX];
	struct agent_identity ident = {
		.hostname = sb->id,
		.machine_id = machine_id,
		.entropy = entropy,
		.entropy_len = sizeof(entropy),
		.time_nsec = clock_realtime() * NSEC_PER_USEC,
	};

	egress_identity(sb, address, &ident);
	random_bytes(entropy, sizeof(entropy));
	random_bytes(mid, sizeof(mid));
	hex_encode(mid, sizeof(mid), machine_id);
	sb->ident_asked = true;
	sandbox_step_begin(sb);
	if (agent_set_identity(sb->agent, &ident, ident_done, sb) < 0) {
		if (sandbox_step_end(sb))
			create_fail(sb, FAULT_INTERNAL, "the identity could not be sent");
	}
}

/* --- agent --- */

static void on_agent_up(void *userdata, const struct agent_peer *peer)
{
	struct sandbox *sb = userdata;

	if (sb->destroying)
		return;
	/* A connection that stays open beside ours would be part of what clones inherit */
	if (sb->role == SANDBOX_FOR_USER)
		fd_store_push(sb);
	sb->agent_up = true;
	if (sb->agent_id && sb->agent_id != peer->agent_id)
		proc_agent_restarted(sb);
	sb->agent_id = peer->agent_id;
	/* A guest that comes up a second time still has the first request, or has failed it */
	if (sb->state == SANDBOX_CREATING && !sb->ident_asked)
		create_ident(sb);
	else if (sb->adopted)
		proc_reconcile(sb);
	sb->adopted = false;
	if (sb->moving == SANDBOX_MOVE_RESUMING)
		pause_agent_up(sb);
}

static void on_agent_lost(void *userdata, int reason)
{
	struct sandbox *sb = userdata;

	sb->agent_up = false;
	if (sb->destroying || sb->manager->stopping || !sb->agent)
		return;
	if (sb->state == SANDBOX_CREATING) {
		create_fail(sb, reason == -ETIMEDOUT ? FAULT_BOOT_TIMEOUT : FAULT_START_FAILED,
			    reason == -ETIMEDOUT ? "the guest did not answer in time" : "the guest's channel broke");
		return;
	}
	ends_agent_lost(sb, reason);
}

static void on_proc_exit(void *userdata, const struct agent_exit *ex)
{
	struct sandbox *sb = userdata;

	if (sb->role == SANDBOX_FOR_USER)
		proc_exited(sb, ex);
	else
		warm_exited(sb, ex);
}

static void on_oom(void *userdata)
{
	ends_oom(userdata);
}

static const struct agent_ops agent_ops = {
	.up = on_agent_up,
	.lost = on_agent_lost,
	.proc_exit = on_proc_exit,
	.oom = on_oom,
};

int sandbox_make_agent(struct sandbox *sb)
{
	const struct agent_config config = {
		.connect_timeout_usec = sb->manager->settings.boot_timeout_usec,
		.ping_interval_usec = 10 * USEC_PER_SEC,
		.ping_misses = 6,
	};
	_cleanup_free_ char *path = sandbox_run_path(sb, "agent.sock");
	int r = 0;

	if (!path)
		r = -ENOMEM;
	if (r == 0 && !sb->agent)
		r = agent_new(sb->manager->event, path, &config, &agent_ops, sb, &sb->agent);
	return r;
}

int sandbox_attach_agent(struct sandbox *sb, int fd)
{
	int r = sandbox_make_agent(sb);

	if (r < 0) {
		fd_close(fd);
		return r;
	}
	if (sb->agent_id)
		agent_expect(sb->agent, sb->agent_id);
	return fd >= 0 ? agent_start_fd(sb->agent, fd) : agent_start(sb->agent);
}

/* --- run, scope, domain --- */

static void run_done(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	/* The agent may have answered first; then the vCPUs run, whatever libvirt says */
	if (!sandbox_step_end(sb) || sb->state != SANDBOX_CREATING)
		return;
	if (error < 0 && !sb->agent_up)
		create_fail(sb, FAULT_START_FAILED, message);
	else
		step_was_late(sb);
	/* What follows is the agent's HELLO, or its absence: on_agent_up(), on_agent_lost() */
}

static void create_run(struct sandbox *sb)
{
	fork_arm(sb);
	sandbox_step_begin(sb);
	virt_domain_resume(sb->manager->virt, sb->id, run_done, sb);
}

/* False: it has failed */
static bool open_channels(struct sandbox *sb)
{
	_cleanup_free_ char *console = sandbox_run_path(sb, "console.sock");

	if (console)
		console_open(sb->manager->event, console, &sb->console);
	if (sandbox_attach_agent(sb, -EBADF) == 0)
		return true;
	create_fail(sb, FAULT_INTERNAL, "the agent's channel could not be opened");
	return false;
}

void create_go_on(struct sandbox *sb)
{
	if (open_channels(sb))
		create_run(sb);
}

static void scope_done(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb))
		return;
	if (error < 0) {
		create_fail(sb, error == -ENOTCONN ? FAULT_NO_SYSTEMD : FAULT_START_FAILED, message);
		return;
	}
	if (step_was_late(sb))
		return;
	if (sb->role == SANDBOX_FOR_COPY) {
		snapshot_receiver_ready(sb);
		return;
	}
	if (sb->prestart)
		pool_prestarted(sb);
	else
		create_run(sb);
}

void sandbox_scope_start(struct sandbox *sb, bus_done_fn fn)
{
	_cleanup_free_ char *description = str_format("Declaw sandbox %s (%s)", sb->id, sb->options.name);
	const struct bus_scope_spec spec = {
		.unit = sb->unit,
		.slice = sb->manager->settings.slice,
		.description = description ?: sb->id,
		.pid = sb->pid,
		/* the guest's RAM, and what QEMU needs beside it */
		.memory_max = (sb->memory_mb + 256) << 20,
		/* vCPU threads, the main loop, I/O threads: a QEMU that forks is not ours */
		.tasks_max = sb->options.template ? sb->options.template->tasks_max : 0,
		.cpu_quota_usec = sb->vcpus * USEC_PER_SEC + USEC_PER_SEC / 4,
		/* What nobody waits for is no burden to others */
		.cpu_weight = sandbox_awaited(sb) ? 0 : 1,
	};

	bus_scope_start(sb->manager->bus, &spec, fn, sb);
}

static void create_scope(struct sandbox *sb)
{
	sb->held |= HELD_SCOPE;
	sandbox_step_begin(sb);
	sandbox_scope_start(sb, scope_done);
}

static void domain_done(void *userdata, int error, const char *message, pid_t pid)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb))
		return;
	if (error < 0) {
		create_fail(sb, error == -ENOTCONN ? FAULT_NO_LIBVIRT : FAULT_START_FAILED, message);
		return;
	}
	if (step_was_late(sb))
		return;
	sb->pid = pid;
	if (sb->role == SANDBOX_FOR_COPY || sb->prestart) {
		create_scope(sb);	/* it never says a word, or not yet */
		return;
	}
	if (*sb->from && snapshot_adopt_processes(sb) < 0) {
		create_fail(sb, FAULT_INTERNAL, "the snapshot's processes cannot be taken over");
		return;
	}
	if (open_channels(sb))
		create_scope(sb);
}

static void create_domain(struct sandbox *sb)
{
	struct manager *m = sb->manager;
	const bool clone = sb->path != CREATE_COLD;
	_cleanup_free_ char *state = !clone ? NULL : *sb->from ? sandbox_path(sb, SNAPSHOT_STATE) :
				     memsnap_path(m, sb->snapshot, MEMSNAP_STATE);
	_cleanup_free_ char *xml = domain_xml(sb, clone ? DOM_MEMORY_CLONE :
					      sb->role == SANDBOX_FOR_SNAPSHOT ? DOM_MEMORY_TEMPLATE :
					      sb->role == SANDBOX_FOR_COPY ? DOM_MEMORY_RECEIVER : DOM_MEMORY_PLAIN);

	if (!xml || (clone && !state)) {
		create_fail(sb, FAULT_INTERNAL, "out of memory");
		return;
	}
	sb->held |= HELD_DOMAIN;
	sandbox_step_begin(sb);
	if (clone)
		virt_domain_fork(m->virt, sb->id, xml, state, domain_done, sb);
	else
		virt_domain_create(m->virt, sb->id, xml, domain_done, sb);
}

/* --- rules, disk, files --- */

static void rules_done(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (!sandbox_step_end(sb))
		return;
	if (error < 0) {
		create_fail(sb, FAULT_NO_FIREWALL, message);
		return;
	}
	create_domain(sb);
}

static void disk_made(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;
	_cleanup_free_ char *detail = NULL;
	int r;

	if (!sandbox_step_end(sb))
		return;
	if (error < 0) {
		detail = str_format("%s: %s", message, strerror(-error));
		create_fail(sb, fault_from_errno(error, FAULT_START_FAILED), detail);
		return;
	}
	/* What is restored may have kept it, or lost it with the host's last boot */
	r = sb->held & HELD_TAP && !sb->restoring ? 0 : tap_create(sb->tap, sb->manager->vm_gid);
	sb->held |= HELD_TAP;
	if (r < 0) {
		detail = str_format("creating the tap: %s", strerror(-r));
		create_fail(sb, FAULT_NO_FIREWALL, detail);
		return;
	}
	sb->held |= HELD_RULES;
	sandbox_step_begin(sb);
	egress_rules(sb, rules_done, sb);
}

int sandbox_make_dirs(struct sandbox *sb)
{
	_cleanup_free_ char *state = sandbox_path(sb, NULL), *run = sandbox_run_path(sb, NULL);
	gid_t gid = sb->manager->vm_gid;
	int r;

	if (!state || !run)
		return -ENOMEM;
	r = dir_make(state, 0710);
	if (r == 0 && chown(state, (uid_t)-1, gid) < 0)
		r = -errno;
	if (r == 0)
		r = dir_make(run, 0770);
	if (r == 0 && (chown(run, (uid_t)-1, gid) < 0 || chmod(run, 02770) < 0))
		r = -errno;
	return r;
}

void create_disk(struct sandbox *sb)
{
	struct manager *m = sb->manager;
	const bool clone = sb->path != CREATE_COLD, own = *sb->from && sb->layers > 0;
	_cleanup_free_ char *lower = own ? domain_layer(sb, sb->layers - 1) : NULL;
	_cleanup_free_ char *cache = str_format("%s/cache", m->settings.state_dir), *disk = domain_disk(sb);
	_cleanup_free_ char *frozen = clone ? memsnap_path(m, sb->snapshot, MEMSNAP_DISK) : NULL;
	int r = cache && disk && (!clone || frozen) && (!own || lower) ? 0 : -ENOMEM;

	if (r == 0) {
		sandbox_step_begin(sb);
		r = own ? disk_layer(m->workers, lower, disk, m->vm_gid, disk_made, sb) :
			  disk_create(m->workers, clone ? frozen : sb->image, clone ? "qcow2" : "raw", cache, disk,
				      m->vm_gid, disk_made, sb);
		if (r < 0 && !sandbox_step_end(sb))
			return;
	}
	if (r < 0)
		create_fail(sb, fault_from_errno(r, FAULT_INTERNAL), strerror(-r));
}

void create_begin(struct sandbox *sb)
{
	int r;

	fork_choose(sb);
	sb->held |= HELD_DIR;
	r = sandbox_make_dirs(sb);
	if (r == 0)
		r = sandbox_save(sb);
	if (r == 0 && *sb->from && sb->role == SANDBOX_FOR_USER)
		r = snapshot_adopt_files(sb);
	if (r < 0)
		create_fail(sb, fault_from_errno(r, r == -ENOENT ? FAULT_SNAPSHOT_UNKNOWN : FAULT_INTERNAL), strerror(-r));
	else
		create_disk(sb);
}

/* --- the request --- */

static int create_object(struct manager *m, const char *owner, struct sandbox_options *options, enum sandbox_role role,
			 sandbox_done_fn fn, void *userdata, struct sandbox **ret)
{
	_cleanup_(cleanup_sandbox_unref) struct sandbox *sb = NULL;
	char id[SANDBOX_ID_MAX];
	int r;

	do
		ident_sandbox(id);
	while (manager_find(m, id));
	r = sandbox_new(m, id, owner, options, &sb);
	if (r < 0)
		return r;
	sb->role = role;
	sb->created_usec = clock_realtime();
	r = sb->options.snapshot_id ? snapshot_assign(sb) : 0;
	if (r == 0)
		r = egress_prepare(sb);
	if (r == 0)
		r = sandbox_wait(&sb->create_waiters, fn, userdata);
	if (r < 0)
		return r;
	r = manager_add(m, sb);
	if (r < 0) {
		sandbox_unwait(&sb->create_waiters, userdata);
		return r;
	}
	*ret = TAKE_PTR(sb);	/* the manager's reference */
	return 0;
}

int create_hidden(struct manager *m, enum sandbox_role role, const struct template *t, const char *snapshot,
		  sandbox_done_fn fn, void *userdata, struct sandbox **ret)
{
	struct sandbox_options options = { .template = t, .name = strdup(t->name), .policy_text = strdup("{}") };
	const char *detail;
	int r = options.name && options.policy_text ? 0 : -ENOMEM;

	if (r == 0 && manager_blocked(m, &detail) != FAULT_NONE)
		r = -EAGAIN;
	/* Its record needs an owner; none of the keys' is written like this */
	if (r == 0)
		r = create_object(m, "(declawd)", &options, role, fn, userdata, ret);
	sandbox_options_done(&options);
	if (r < 0)
		return r;
	snprintf((*ret)->snapshot, sizeof((*ret)->snapshot), "%s", snapshot);
	boot_queue_add(sandbox_ref(*ret));
	return 0;
}

enum fault sandbox_create(struct manager *m, const char *owner, struct sandbox_options *options, sandbox_done_fn fn,
			  void *userdata, struct sandbox **ret, const char **ret_detail)
{
	enum fault fault;

	fault = manager_blocked(m, ret_detail);
	if (fault == FAULT_NONE && boot_queue_full(m))
		fault = FAULT_QUEUE_FULL;
	if (fault == FAULT_NONE && options->snapshot_id)
		fault = snapshot_admit(m, options, ret_detail);
	if (fault == FAULT_NONE)
		fault = tier_admit(m, owner, options, ret_detail);
	if (fault != FAULT_NONE)
		return fault;
	if (!options->snapshot_id && pool_claim(m, owner, options, fn, userdata, ret))
		return FAULT_NONE;
	if (create_object(m, owner, options, SANDBOX_FOR_USER, fn, userdata, ret) < 0)
		return FAULT_INTERNAL;
	boot_queue_add(*ret);
	return FAULT_NONE;
}
