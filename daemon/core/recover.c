/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Start-up reconciliation: the store against libvirt, systemd, nftables, taps and run directories.
 *
 * The world is asked first (four lists), then everything is decided in one go on the loop:
 *	record, domain alive		adopt: agent again, rules again (idempotent), deadline again
 *	record "paused", no domain	its memory is on disk: adopt; else as below
 *	record "creating"		the create died with the daemon: destroy; a restore begins again
 *	record, no domain		the sandbox died meanwhile: destroy what is left of it
 *	record "killed", parts held	the destroy died with the daemon: go on with it
 *	no record			domain, scope, timer, chain, tap, directory belong to nobody: remove
 * It runs at every start and whenever libvirt's connection comes back; running it twice changes nothing.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "core/egress.h"
#include "core/hibernate.h"
#include "core/manager.h"
#include "core/pause.h"
#include "core/proc.h"
#include "core/snapshot.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

#define STRAY_ROUNDS_MAX 5

struct recovery {
	struct manager *m;
	struct virt_domain *domains;
	size_t n_domains;
	char (*chains)[16];
	size_t n_chains;
	struct bus_unit *units;
	size_t n_units;
	unsigned int adopted, ended, strays;
	uint64_t began;
};

static void recovery_free(struct recovery *rc)
{
	free(rc->domains);
	free(rc->chains);
	free(rc->units);
	free(rc);
}

static void stray_done(void *userdata _unused_, int error, const char *message)
{
	if (error < 0)
		log_full(LOG_WARNING, NULL, NULL, error, __FILE__, __LINE__, "Removing what belongs to nobody: %s: %m", message);
}

static const struct virt_domain *find_domain(const struct recovery *rc, const char *name)
{
	for (size_t i = 0; i < rc->n_domains; i++)
		if (str_eq(rc->domains[i].name, name))
			return &rc->domains[i];
	return NULL;
}

/* The sandbox that things of that id belong to: live, or killed and still being removed */
static struct sandbox *owner_of(const struct recovery *rc, const char *id)
{
	struct sandbox *sb = manager_find(rc->m, id);

	return sb && (sb->state != SANDBOX_KILLED || sb->held) ? sb : NULL;
}

/* --- records --- */

static void rules_again(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (error < 0 && !sb->destroying && !sb->manager->stopping) {
		log_sandbox(LOG_ERR, sb->id, NULL, error, "The rules of %s cannot be set: %s: %m", sb->id, message);
		sandbox_destroy(sb, SANDBOX_END_CRASH, NULL, NULL);
	}
	sandbox_unref(sb);
}

static void scope_again(void *userdata, int error, const char *message)
{
	struct sandbox *sb = userdata;

	if (error < 0 && error != -EEXIST && !sb->destroying) {
		log_sandbox(LOG_ERR, sb->id, NULL, error, "The scope of %s cannot be made: %s: %m", sb->id, message);
		sandbox_destroy(sb, SANDBOX_END_CRASH, NULL, NULL);
	}
	sandbox_unref(sb);
}

/* A restore may have been cut off before the scope */
static void adopt_scope(struct recovery *rc, struct sandbox *sb)
{
	for (size_t i = 0; i < rc->n_units; i++)
		if (str_eq(rc->units[i].name, sb->unit))
			return;
	sb->held |= HELD_SCOPE;
	sandbox_ref(sb);
	sandbox_scope_start(sb, scope_again);
}

/* The daemon died at any step of a move: what the domain does decides, with the move's own record as a hint. */
static void adopt_paused(struct recovery *rc, struct sandbox *sb, const struct virt_domain *d)
{
	bool saving = sb->moving == SANDBOX_MOVE_SAVING;

	pause_move_forget(sb);
	if (sb->on_disk) {
		/* Restored, so the image is of the past */
		sb->on_disk = false;
		sandbox_save(sb);
		hibernate_forget_image(sb);
		adopt_scope(rc, sb);
	}
	pause_reconcile(sb, d->paused, rc->began);
	if (!d->paused)
		return;
	if (saving) {
		/* libvirt may still be at it, and opens the file by its name again: another one must not take its place */
		sb->moving = SANDBOX_MOVE_SAVING;
		hibernate_save(sb);
	} else {
		hibernate_schedule(sb);
	}
}

static void adopt_thawed(void *userdata _unused_, int error _unused_)
{
}

static void adopt_running(struct sandbox *sb, int fd)
{
	int r = sandbox_attach_agent(sb, fd);

	if (r < 0) {
		log_sandbox(LOG_ERR, sb->id, NULL, r, "The agent of %s cannot be reached: %m", sb->id);
		sandbox_destroy(sb, SANDBOX_END_CRASH, NULL, NULL);
		return;
	}
	proc_resume_streams(sb);
	if (sb->moving == SANDBOX_MOVE_PAUSING) {
		/* Cut off between freezing and stopping */
		pause_move_forget(sb);
		agent_fs_thaw(sb->agent, adopt_thawed, sb);
	}
	sandbox_arm_deadline(sb);
	sandbox_deadline_elapsed(sb);
}

/* Its processes, and an agent object to go on with one day */
static bool adopt_agent(struct sandbox *sb)
{
	proc_recover(sb);
	sb->adopted = true;
	return sandbox_make_agent(sb) == 0;
}

static void adopt(struct recovery *rc, struct sandbox *sb, const struct virt_domain *d)
{
	rc->adopted++;
	if (d->pid > 0)
		sb->pid = d->pid;
	if (sb->moving == SANDBOX_MOVE_COPYING && !sb->settled) {
		snapshot_settle(sb);
		return;
	}
	sb->settled = false;
	if (sb->agent && sb->moving == SANDBOX_MOVE_COPYING)
		pause_move_end(sb, FAULT_NONE, NULL);
	else if (sb->moving == SANDBOX_MOVE_COPYING)
		pause_move_forget(sb);
	if (sb->agent) {
		/* Only libvirt was away */
		if (sb->moving == SANDBOX_MOVE_SAVING)
			hibernate_save(sb);
		else
			pause_reconcile(sb, d->paused, rc->began);
		return;
	}
	sandbox_ref(sb);
	egress_rules(sb, rules_again, sb);
	if (!adopt_agent(sb)) {
		sandbox_destroy(sb, SANDBOX_END_CRASH, NULL, NULL);
	} else if (sb->state == SANDBOX_RUNNING && !d->paused) {
		adopt_running(sb, manager_take_stored_fd(rc->m, sb->id));
	} else {
		proc_resume_streams(sb);
		sb->paused_fd = manager_take_stored_fd(rc->m, sb->id);
		adopt_paused(rc, sb, d);
	}
}

/* Paused, and without a domain */
static bool adopt_saved(struct recovery *rc, struct sandbox *sb)
{
	bool known = sb->agent;

	if (known && sb->moving == SANDBOX_MOVE_RESUMING)
		return true;	/* being restored */
	if (!hibernate_adopt(sb))
		return false;
	rc->adopted++;
	if (!known && adopt_agent(sb))
		proc_resume_streams(sb);
	return true;
}

static void reconcile_record(struct recovery *rc, struct sandbox *sb)
{
	const struct virt_domain *d = find_domain(rc, sb->id);
	_cleanup_free_ char *run = sandbox_run_path(sb, NULL);

	if (sb->state == SANDBOX_KILLED) {
		if (sb->held)
			sandbox_destroy_resume(sb);
		return;
	}
	if (sb->state == SANDBOX_CREATING) {
		if (!rc->m->recovered && sb->restoring) {
			rc->adopted++;
			snapshot_restore_again(sb);
		} else if (!rc->m->recovered) {
			rc->ended++;
			sandbox_destroy(sb, SANDBOX_END_CREATE_FAILED, NULL, NULL);
		}
		return;
	}
	if (d && sb->options.template) {
		adopt(rc, sb, d);
		return;
	}
	if (sb->state == SANDBOX_PAUSED && adopt_saved(rc, sb))
		return;
	/* It began to run after the domains were listed */
	if (sb->started_usec >= rc->began)
		return;
	rc->ended++;
	/* /run is empty after a host boot: then nobody crashed */
	sandbox_destroy(sb, run && access(run, F_OK) < 0 ? SANDBOX_END_HOST_SHUTDOWN : SANDBOX_END_CRASH, NULL, NULL);
}

/* --- strays --- */

static void remove_stray_tap(void *userdata, const char *name)
{
	struct recovery *rc = userdata;
	char id[SANDBOX_ID_MAX];

	snprintf(id, sizeof(id), "sbx-%.10s", name + 3);
	if (!ident_sandbox_valid(id) || owner_of(rc, id))
		return;
	rc->strays++;
	tap_remove_async(rc->m->workers, name, NULL, NULL);
}

static void remove_stray_units(struct recovery *rc)
{
	for (size_t i = 0; i < rc->n_units; i++) {
		const char *name = rc->units[i].name;
		char id[SANDBOX_ID_MAX];

		if (!unit_sandbox_id(name, id) || owner_of(rc, id))
			continue;
		rc->strays++;
		if (str_ends(name, ".scope"))
			bus_unit_kill(rc->m->bus, name, stray_done, NULL);
		bus_unit_stop(rc->m->bus, name, stray_done, NULL);
	}
}

static void remove_stray_dirs(struct recovery *rc)
{
	_cleanup_free_ char *dir = str_format("%s/vm", rc->m->settings.run_dir);
	DIR *d = dir ? opendir(dir) : NULL;
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		_cleanup_free_ char *path = NULL;

		if (e->d_name[0] == '.' || (ident_sandbox_valid(e->d_name) && owner_of(rc, e->d_name)) ||
		    str_eq(e->d_name, ACCEL_PROBE_NAME))
			continue;
		path = str_format("%s/%s", dir, e->d_name);
		rc->strays++;
		if (path)
			dir_remove_tree(path);
	}
	if (d)
		closedir(d);
}

static void remove_strays(struct recovery *rc)
{
	for (size_t i = 0; i < rc->n_domains; i++)
		if ((ident_sandbox_valid(rc->domains[i].name) && !owner_of(rc, rc->domains[i].name)) ||
		    (str_eq(rc->domains[i].name, ACCEL_PROBE_NAME) && !rc->m->accel.agent)) {
			rc->strays++;
			virt_domain_destroy(rc->m->virt, rc->domains[i].name, stray_done, NULL);
		}
	for (size_t i = 0; i < rc->n_chains; i++) {
		char id[SANDBOX_ID_MAX], tap[16];

		snprintf(id, sizeof(id), "sbx-%.10s", rc->chains[i]);
		snprintf(tap, sizeof(tap), "dcl%.10s", rc->chains[i]);
		if (owner_of(rc, id))
			continue;
		rc->strays++;
		firewall_sandbox_remove(rc->m->firewall, rc->chains[i], tap, stray_done, NULL);
	}
	remove_stray_units(rc);
	tap_foreach("dcl", remove_stray_tap, rc);
	remove_stray_dirs(rc);
}

/* --- asking --- */

static void run_again(struct manager *m)
{
	bool again = m->recover_again;

	m->recovering = m->recover_again = false;
	if (again)
		recover_run(m);
}

static void reconcile(struct recovery *rc)
{
	struct manager *m = rc->m;
	struct sandbox *sb;

	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		reconcile_record(rc, sb);
	remove_strays(rc);
	if (rc->adopted || rc->ended || rc->strays)
		log_full(LOG_NOTICE, NULL, MSG_RECOVERED, 0, __FILE__, __LINE__,
			 "Recovered: %u sandboxes adopted, %u ended, %u strays removed", rc->adopted, rc->ended, rc->strays);
	/* What holds another (QEMU its tap) may not have been gone in time: looked at once more, but not for ever */
	m->stray_rounds = rc->strays ? m->stray_rounds + 1 : 0;
	if (m->stray_rounds > 0 && m->stray_rounds < STRAY_ROUNDS_MAX)
		manager_recover_later(m);
	recovery_free(rc);
	manager_recovered(m);
	/* Requests came while a move of the last daemon still stood in the record, or before anything was known */
	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (sb->moving == SANDBOX_MOVE_NONE)
			sandbox_wake(&sb->move_waiters, FAULT_NONE, NULL);
	run_again(m);
}

static void give_up(struct recovery *rc, int error, const char *what, const char *message)
{
	struct manager *m = rc->m;

	recovery_free(rc);
	m->recovering = m->recover_again = false;
	if (m->stopping)
		return;
	log_full(LOG_ERR, NULL, NULL, error, __FILE__, __LINE__, "Recovery cannot list the %s: %s: %m", what, message ?: "");
	/* If it was a connection, that will come back and recovery with it; nftables has none */
	manager_recover_later(m);
}

static void have_units(void *userdata, int error, const struct bus_unit *v, size_t n)
{
	struct recovery *rc = userdata;

	if (error == 0 && n > 0) {
		rc->units = calloc(n, sizeof(*v));
		error = rc->units ? 0 : -ENOMEM;
	}
	if (error < 0) {
		give_up(rc, error, "units", NULL);
		return;
	}
	if (n > 0)
		memcpy(rc->units, v, n * sizeof(*v));
	rc->n_units = n;
	reconcile(rc);
}

static void have_chains(void *userdata, int error, const char (*names)[16], size_t n)
{
	struct recovery *rc = userdata;

	if (error == 0 && n > 0) {
		rc->chains = calloc(n, sizeof(*names));
		error = rc->chains ? 0 : -ENOMEM;
	}
	if (error < 0) {
		give_up(rc, error, "network rules", NULL);
		return;
	}
	if (n > 0)
		memcpy(rc->chains, names, n * sizeof(*names));
	rc->n_chains = n;
	bus_units_list(rc->m->bus, "declaw-*sbx-*", have_units, rc);
}

static void have_domains(void *userdata, int error, const struct virt_domain *v, size_t n)
{
	struct recovery *rc = userdata;

	if (error == 0 && n > 0) {
		rc->domains = calloc(n, sizeof(*v));
		error = rc->domains ? 0 : -ENOMEM;
	}
	if (error < 0) {
		give_up(rc, error, "domains", NULL);
		return;
	}
	if (n > 0)
		memcpy(rc->domains, v, n * sizeof(*v));
	rc->n_domains = n;
	firewall_list(rc->m->firewall, have_chains, rc);
}

/* --- records from disk, once --- */

static void load_one(struct manager *m, const char *id)
{
	struct sandbox *sb = NULL;
	int r;

	if (manager_find(m, id))
		return;
	r = store_load(m, id, &sb);
	if (r == 0)
		r = manager_add(m, sb);
	if (r < 0) {
		_cleanup_free_ char *dir = str_format("%s/sandboxes/%s", m->settings.state_dir, id);
		_cleanup_free_ char *ended = str_format("%s/ended/%s.json", m->settings.state_dir, id);

		log_sandbox(LOG_ERR, id, NULL, r, "The record of %s cannot be read, what it held will be removed: %m", id);
		if (dir)
			dir_remove_tree(dir);
		if (ended)
			unlink(ended);
	}
}

static void load_dir(struct manager *m, const char *name, const char *suffix)
{
	_cleanup_free_ char *dir = str_format("%s/%s", m->settings.state_dir, name);
	DIR *d = dir ? opendir(dir) : NULL;
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		char id[SANDBOX_ID_MAX];

		if (!str_ends(e->d_name, suffix) || strlen(e->d_name) != SANDBOX_ID_MAX - 1 + strlen(suffix))
			continue;
		snprintf(id, sizeof(id), "%.14s", e->d_name);
		if (ident_sandbox_valid(id))
			load_one(m, id);
	}
	if (d)
		closedir(d);
}

void recover_load(struct manager *m)
{
	_cleanup_free_ char *trash = str_format("%s/trash", m->settings.state_dir);

	load_dir(m, "sandboxes", "");
	load_dir(m, "ended", ".json");
	manager_sort(m);
	if (trash && dir_remove_tree(trash) == 0)
		dir_make(trash, 0700);
}

void recover_run(struct manager *m)
{
	struct recovery *rc;

	if (m->recovering) {
		m->recover_again = true;
		return;
	}
	rc = calloc(1, sizeof(*rc));
	if (!rc) {
		log_error("Recovery: out of memory");
		return;
	}
	rc->m = m;
	rc->began = clock_realtime();
	m->recovering = true;
	virt_list(m->virt, have_domains, rc);
}
