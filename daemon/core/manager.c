/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The manager: adapters, the set of sandboxes, readiness, sweeping. See manager.h. */
#include "core/egress.h"
#include "core/manager.h"

#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "core/admission.h"
#include "core/bootqueue.h"
#include "core/ends.h"
#include "core/egressctl.h"
#include "core/idem.h"
#include "core/memsnap.h"
#include "core/metrics.h"
#include "core/pause.h"
#include "core/pool.h"
#include "core/proc.h"
#include "core/snapshot.h"
#include "core/tier.h"
#include "core/verdict.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

#define SWEEP_INTERVAL_USEC (30 * USEC_PER_SEC)
#define RECOVER_INTERVAL_USEC (2 * USEC_PER_SEC)

/* --- events from below --- */

/* Whom an event is about. One that came before recovery began to look is part of what it will see. */
static struct sandbox *event_sandbox(struct manager *m, const char *id)
{
	struct sandbox *sb = m->recovering || m->recovered ? manager_find(m, id) : NULL;

	return sb && !sb->destroying ? sb : NULL;
}

static void on_domain_event(void *userdata, const char *name, enum virt_event ev, int detail)
{
	struct manager *m = userdata;
	struct sandbox *sb = event_sandbox(m, name);

	if (!sb)
		return;
	if (ev == VIRT_EVENT_PAUSED || ev == VIRT_EVENT_RESUMED) {
		pause_domain_event(sb, ev);
		return;
	}
	/* Saving ends it, restoring that fails too: their callbacks know */
	if (sb->moving == SANDBOX_MOVE_SAVING || sb->on_disk)
		return;
	/* Its end is part of restoring it */
	if (sb->restoring && ev == VIRT_EVENT_STOPPED && detail == VIRT_STOP_DESTROYED)
		return;
	/* Early events of a domain that is still being started belong to create.c's own callback */
	if (sb->state == SANDBOX_CREATING && sb->step_pending) {
		sb->stopped |= ev == VIRT_EVENT_STOPPED;
		return;
	}
	ends_domain_event(sb, ev, detail);
}

static void maybe_recover(struct manager *m)
{
	if (m->firewall_ready && virt_is_connected(m->virt) && bus_is_connected(m->bus))
		recover_run(m);
}

static void on_virt_connected(void *userdata, bool up)
{
	if (up)
		maybe_recover(userdata);
	else
		log_warning("libvirt is gone; running sandboxes go on, new ones are refused until it is back");
}

bool unit_sandbox_id(const char *unit, char ret[SANDBOX_ID_MAX])
{
	const char *p = strstr(unit, "sbx-");
	char name[64];

	if (!p)
		return false;
	snprintf(ret, SANDBOX_ID_MAX, "%.14s", p);
	if (!ident_sandbox_valid(ret))
		return false;
	snprintf(name, sizeof(name), SCOPE_FORMAT, ret);
	if (str_eq(unit, name))
		return true;
	snprintf(name, sizeof(name), TIMER_FORMAT, ret);
	return str_eq(unit, name);
}

static void on_unit_removed(void *userdata, const char *unit)
{
	struct manager *m = userdata;
	char id[SANDBOX_ID_MAX];
	struct sandbox *sb;

	sb = unit_sandbox_id(unit, id) ? event_sandbox(m, id) : NULL;
	if (!sb)
		return;
	if (str_ends(unit, ".timer")) {
		sandbox_deadline_elapsed(sb);
	} else if (str_ends(unit, ".scope") && sb->state != SANDBOX_CREATING &&
		   sb->moving != SANDBOX_MOVE_SAVING && !sb->on_disk) {
		ends_scope_gone(sb);
	}
}

static void on_bus_connected(void *userdata, bool up)
{
	if (up)
		maybe_recover(userdata);
}

static void on_firewall_ready(void *userdata, int error, const char *message)
{
	struct manager *m = userdata;

	if (error < 0) {
		log_full(LOG_ERR, NULL, NULL, error, __FILE__, __LINE__, "The network rules cannot be set up: %s: %m", message);
		return;
	}
	m->firewall_ready = true;
	maybe_recover(m);
}

static void on_accel(struct manager *m)
{
	if (m->ready)
		return;
	m->ready = true;
	boot_queue_wake(m);
	if (memsnap_start(m) < 0)
		log_error("No memory for memory snapshots");
	if (m->on_ready)
		m->on_ready(m->ready_userdata);
}

static int on_recover_timer(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	maybe_recover(userdata);
	return 0;
}

void manager_recover_later(struct manager *m)
{
	int r;

	m->recover_timer = sd_event_source_disable_unref(m->recover_timer);
	r = sd_event_add_time_relative(m->event, &m->recover_timer, CLOCK_MONOTONIC, RECOVER_INTERVAL_USEC, 0,
				       on_recover_timer, m);
	if (r < 0)
		log_error_errno(r, "Recovery cannot be tried again: %m");
}

void manager_recovered(struct manager *m)
{
	verdict_start(m);
	egressctl_start(m);
	if (m->recovered)
		return;
	m->recovered = true;
	deadlines_awake(m);
	accel_decide(m, on_accel);
}

static const struct virt_ops virt_ops = { .domain_event = on_domain_event, .connected = on_virt_connected };
static const struct bus_ops bus_ops = { .unit_removed = on_unit_removed, .connected = on_bus_connected };

/* --- fd store --- */

static int stored_fds_collect(struct manager *m)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	if (n <= 0)
		return n;
	m->stored = calloc((size_t)n, sizeof(*m->stored));
	for (int i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (m->stored && names[i] && str_starts(names[i], "agent-") && ident_sandbox_valid(names[i] + 6)) {
			fcntl(fd, F_SETFD, FD_CLOEXEC);
			snprintf(m->stored[m->n_stored].id, SANDBOX_ID_MAX, "%s", names[i] + 6);
			m->stored[m->n_stored++].fd = fd;
		} else {
			close(fd);
		}
		free(names[i]);
	}
	free(names);
	return m->stored ? 0 : -ENOMEM;
}

int manager_take_stored_fd(struct manager *m, const char *id)
{
	for (size_t i = 0; i < m->n_stored; i++)
		if (m->stored[i].fd >= 0 && str_eq(m->stored[i].id, id))
			return TAKE_FD(m->stored[i].fd);
	return -EBADF;
}

/* --- sweep --- */

static void forget(struct sandbox *sb)
{
	struct manager *m = sb->manager;
	_cleanup_free_ char *record = str_format("%s/ended/%s.json", m->settings.state_dir, sb->id);

	if (record)
		unlink(record);
	verdict_forget(sb);
	map_remove(m->by_id, sb->id);
	idem_remove(sb);
	list_unlink(&sb->link);
	sandbox_unref(sb);
}

static bool is_over(const struct sandbox *sb)
{
	return sb->state == SANDBOX_KILLED && sb->held == 0 && !sb->destroy_pending && !sb->step_pending;
}

static void sweep(struct manager *m)
{
	uint64_t kept = 0, now = clock_realtime(), keep = m->settings.killed_retention_usec;
	struct sandbox *sb;

	/* Newest first: what is forgotten before its time is the oldest */
	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (is_over(sb) && (now >= sb->ended_usec + keep || sb->role != SANDBOX_FOR_USER || ++kept > m->settings.killed_max))
			forget(sb);
}

/* What could not be removed the last time, and whose timer could not be set or elapsed by another clock */
static void retry_destroys(struct manager *m)
{
	struct sandbox *sb;

	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		if (sb->state == SANDBOX_RUNNING)
			sandbox_deadline_elapsed(sb);
		else if (sb->state == SANDBOX_KILLED && sb->held && m->recovered)
			sandbox_destroy_resume(sb);
}

static int on_sweep_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
	sweep(userdata);
	retry_destroys(userdata);
	admission_relieve(userdata);
	memsnap_kick(userdata);
	pool_kick(userdata);
	sd_event_source_set_time(s, usec + SWEEP_INTERVAL_USEC);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static int on_sweep_defer(sd_event_source *s, void *userdata)
{
	sd_event_source_set_enabled(s, SD_EVENT_OFF);
	sweep(userdata);
	return 0;
}

void manager_sweep_later(struct manager *m)
{
	if (m->sweep_defer)
		sd_event_source_set_enabled(m->sweep_defer, SD_EVENT_ON);
}

/* --- the set --- */

struct sandbox *manager_find(struct manager *m, const char *id)
{
	return map_get(m->by_id, id);
}

int manager_add(struct manager *m, struct sandbox *sb)
{
	int r = map_put(m->by_id, sb->id, sb);

	if (r < 0)
		return r;
	r = idem_add(sb);
	if (r < 0) {
		map_remove(m->by_id, sb->id);
		return r;
	}
	list_prepend(&m->sandboxes, &sb->link);
	if (sb->state != SANDBOX_KILLED && sb->role == SANDBOX_FOR_USER)
		m->n_live++;
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	const struct sandbox *const *x = a, *const *y = b;

	return (*x)->created_usec < (*y)->created_usec ? 1 : (*x)->created_usec > (*y)->created_usec ? -1 : 0;
}

void manager_sort(struct manager *m)
{
	size_t n = map_size(m->by_id), i = 0;
	_cleanup_free_ struct sandbox **v = calloc(n + 1, sizeof(*v));
	struct sandbox *sb;

	if (!v)
		return;
	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		v[i++] = sb;
	qsort(v, i, sizeof(*v), newest_first);
	for (size_t k = 0; k < i; k++) {
		list_unlink(&v[k]->link);
		list_append(&m->sandboxes, &v[k]->link);
	}
}

enum fault manager_blocked(const struct manager *m, const char **ret_detail)
{
	*ret_detail = NULL;
	if (m->stopping || m->closing) {
		*ret_detail = "it is stopping";
		return FAULT_BUSY;
	}
	if (!m->templates.boot_ok) {
		*ret_detail = "guest kernel or initramfs is missing";
		return FAULT_TEMPLATE_BROKEN;
	}
	if (!virt_is_connected(m->virt))
		return FAULT_NO_LIBVIRT;
	if (!bus_is_connected(m->bus))
		return FAULT_NO_SYSTEMD;
	if (!m->firewall_ready)
		return FAULT_NO_FIREWALL;
	if (!m->ready) {
		*ret_detail = m->recovered ? "the accelerator is being proved" : "start-up recovery is under way";
		return FAULT_BUSY;
	}
	if (m->accel.verdict == ACCEL_IS_NONE)
		return FAULT_NO_ACCELERATOR;
	if (m->n_live >= m->settings.sandboxes_max)
		return FAULT_LIMIT_SANDBOXES;
	return FAULT_NONE;
}

/* --- life --- */

static int make_state_dirs(struct manager *m)
{
	static const struct { const char *name; mode_t mode; bool shared; } dirs[] = {
		{ "sandboxes", 0710, true }, { "ended", 0700, false }, { "trash", 0700, false }, { "cache", 0750, true },
		{ "memory", 0710, true },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(dirs); i++) {
		_cleanup_free_ char *path = str_format("%s/%s", m->settings.state_dir, dirs[i].name);

		r = path ? dir_make(path, dirs[i].mode) : -ENOMEM;
		if (r == 0 && dirs[i].shared && chown(path, (uid_t)-1, m->vm_gid) < 0)
			r = -errno;
		if (r < 0)
			return log_error_errno(r, "%s/%s: %m", m->settings.state_dir, dirs[i].name);
	}
	return 0;
}

/* kHz of the TSC for the guest under TCG: what the host kernel calibrated at boot, by its cpuinfo. */
static unsigned int tsc_khz_guess(const struct settings *s)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 20);
	const char *p;

	if (s->tsc_khz)
		return (unsigned int)s->tsc_khz;
	if (file_read("/proc/cpuinfo", 1 << 20, &text) == 0 && text.data && (p = strstr(text.data, "cpu MHz"))) {
		p = strchr(p, ':');
		if (p) {
			double mhz = strtod(p + 1, NULL);

			if (mhz > 100 && mhz < 20000)
				return (unsigned int)(mhz * 1000);
		}
	}
	return 2000000;
}

int manager_new(sd_event *event, struct settings *settings, struct manager **ret)
{
	struct manager *m = calloc(1, sizeof(*m));
	const struct group *g;
	char *error = NULL;
	int r;

	if (!m)
		return -ENOMEM;
	m->settings = *settings;
	memset(settings, 0, sizeof(*settings));
	m->event = sd_event_ref(event);
	list_init(&m->sandboxes);
	list_init(&m->boot_queue);
	list_init(&m->buckets);
	list_init(&m->probes);
	list_init(&m->memsnaps);
	list_init(&m->snapshots);
	list_init(&m->templates.templates);
	m->policy_gen = clock_realtime();
	m->tsc_khz = tsc_khz_guess(&m->settings);
	m->by_id = map_new();
	m->by_key = map_new();
	g = getgrnam(m->settings.vm_group);
	if (!m->by_id || !m->by_key || !g) {
		r = g ? -ENOMEM : -ESRCH;
		log_error_errno(r, "Group \"%s\": %m", m->settings.vm_group);
		goto fail;
	}
	m->vm_gid = g->gr_gid;
	r = keyfile_load(m->settings.keys_file, &m->keys, &error);
	if (r < 0) {
		log_error_errno(r, "The API keys cannot be read: %s: %m", error ?: m->settings.keys_file);
		goto fail;
	}
	r = templates_load(&m->templates, m->settings.state_dir);
	if (r == 0)
		r = make_state_dirs(m);
	if (r == 0)
		r = stored_fds_collect(m);
	if (r == 0)
		r = workers_new(event, (unsigned int)m->settings.workers, &m->workers);
	if (r == 0)
		r = virtloop_new(event, &m->virtloop);
	if (r == 0)
		r = firewall_new(m->workers, &m->firewall);
	if (r < 0) {
		log_error_errno(r, "The daemon cannot be set up: %m");
		goto fail;
	}
	*ret = m;
	return 0;
fail:
	free(error);
	manager_free(m);
	return r;
}

int manager_start(struct manager *m, void (*on_ready)(void *userdata), void *userdata)
{
	int r;

	m->on_ready = on_ready;
	m->ready_userdata = userdata;
	recover_load(m);
	snapshot_load(m);
	r = bus_new(m->event, "declaw-", &bus_ops, m, &m->bus);
	if (r == 0)
		r = virt_new(m->event, m->workers, m->settings.libvirt_uri, m->settings.libvirt_pid_dir, &virt_ops, m, &m->virt);
	if (r == 0)
		r = sd_event_add_defer(m->event, &m->sweep_defer, on_sweep_defer, m);
	if (r >= 0)
		r = sd_event_source_set_enabled(m->sweep_defer, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time_relative(m->event, &m->sweep_timer, CLOCK_MONOTONIC, SWEEP_INTERVAL_USEC, 0,
					       on_sweep_timer, m);
	if (r >= 0)
		r = metrics_start(m);
	if (r < 0)
		return log_error_errno(r, "The daemon cannot start: %m");
	egress_setup(m, on_firewall_ready, m);
	return 0;
}

int manager_reload(struct manager *m)
{
	struct keyfile *keys = NULL;
	_cleanup_free_ char *error = NULL;
	int r = keyfile_load(m->settings.keys_file, &keys, &error);

	if (r < 0)
		return log_error_errno(r, "The API keys stay as they were: %s: %m", error ?: m->settings.keys_file);
	keyfile_free(m->keys);
	m->keys = keys;
	log_info("API keys read again");
	return 0;
}

struct manager *manager_free(struct manager *m)
{
	struct sandbox *sb;

	if (!m)
		return NULL;
	m->stopping = true;
	accel_done(&m->accel);
	/* Calls under way hold references; their callbacks come with "cancelled" while the pool is freed */
	list_foreach(&m->sandboxes, sb, struct sandbox, link) {
		sandbox_wake(&sb->create_waiters, FAULT_BUSY, NULL);
		sandbox_wake(&sb->destroy_waiters, FAULT_BUSY, NULL);
		sandbox_wake(&sb->move_waiters, FAULT_BUSY, NULL);
		/* The channel first: what is freed once it is closed is not told to the guest */
		if (sb->agent)
			agent_detach(sb->agent);
		proc_drop_all(sb);
		agent_abort(sb->agent, -ECANCELED);
		sb->agent = agent_free(sb->agent);
	}
	metrics_stop(m);
	egressctl_stop(m);
	verdict_stop(m);
	virt_free(m->virt);
	bus_free(m->bus);
	firewall_free(m->firewall);
	workers_free(m->workers);
	virtloop_free(m->virtloop);
	memsnap_stop(m);
	pool_stop(m);
	snapshot_stop(m);
	list_foreach(&m->sandboxes, sb, struct sandbox, link)
		sandbox_unref(sb);
	sd_event_source_disable_unref(m->sweep_timer);
	sd_event_source_disable_unref(m->sweep_defer);
	sd_event_source_disable_unref(m->boot_defer);
	sd_event_source_disable_unref(m->recover_timer);
	sd_event_source_disable_unref(m->closing_timer);
	sd_event_source_disable_unref(m->room_timer);
	sd_event_source_disable_unref(m->metrics_timer);
	tier_done(m);
	for (size_t i = 0; i < m->n_stored; i++)
		fd_close(m->stored[i].fd);
	free(m->stored);
	templates_done(&m->templates);
	keyfile_free(m->keys);
	map_free(m->by_id);
	map_free(m->by_key);
	settings_done(&m->settings);
	sd_event_unref(m->event);
	free(m);
	return NULL;
}
