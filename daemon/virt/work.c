/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every blocking libvirt call of the daemon.
 *
 * libvirt's error is thread-local: it is copied into the result before anything else is called. The pid of a QEMU
 * comes from libvirt's pid file, which a user less trusted than the daemon writes: a pid is believed only when that
 * process belongs to the owner of the file and was started for this very domain, because the daemon is going to have
 * systemd put it into a scope and kill it there.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "util/fileio.h"
#include "util/str.h"
#include "virt/work.h"

/* A dead libvirtd is noticed after 5 s times 5; the loop must not stall for as long (systemd's watchdog is shorter). */
#define KEEPALIVE_SECONDS 5
#define KEEPALIVE_COUNT 5

#define REMOVAL_TRIES 100
#define REMOVAL_USEC 10000

DEFINE_CLEANUP(virDomainPtr, virDomainFree)

static int error_map(const virError *e)
{
	const char *text = e->message ? e->message : "";

	switch (e->code) {
	case VIR_ERR_NO_DOMAIN:
		return -ENOENT;
	case VIR_ERR_DOM_EXIST:
		return -EEXIST;
	case VIR_ERR_NO_CONNECT:
	case VIR_ERR_INVALID_CONN:
	case VIR_ERR_RPC:
		return -ENOTCONN;
	case VIR_ERR_OPERATION_FAILED:
	case VIR_ERR_OPERATION_INVALID:
		/* A name or uuid in use has no code of its own. */
		return strstr(text, "already exists") || strstr(text, "already active") ? -EEXIST : -EIO;
	default:
		/* Errors of the transport carry whatever code, but this domain. */
		return e->domain == VIR_FROM_RPC || e->domain == VIR_FROM_REMOTE ? -ENOTCONN : -EIO;
	}
}

int work_error(char **ret_message)
{
	const virError *e = virGetLastError();

	if (!e || e->code == VIR_ERR_OK) {
		*ret_message = NULL;
		return -EIO;
	}
	*ret_message = e->message ? strdup(e->message) : NULL;
	return error_map(e);
}

static void fail(struct work *w)
{
	w->error = work_error(&w->message);
}

static bool failed_with(int code)
{
	const virError *e = virGetLastError();

	return e && e->code == code;
}

/* The uid a process runs as; /proc/<pid>'s owner would be root for one that is not dumpable. */
static int process_uid(pid_t pid, uid_t *ret)
{
	_cleanup_free_ char *path = str_format("/proc/%d/status", pid);
	_cleanup_buf_ struct buf b = BUF_INIT(64 * 1024);
	const char *line;
	unsigned int uid;
	int r;

	if (!path)
		return -ENOMEM;
	r = file_read(path, b.max, &b);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	line = b.data ? strstr(b.data, "\nUid:") : NULL;
	if (!line || sscanf(line, "\nUid: %u", &uid) != 1)
		return -EINVAL;
	*ret = uid;
	return 0;
}

/* QEMU is started with `-name guest=<name>,...`. */
static int process_is_domain(pid_t pid, const char *name)
{
	_cleanup_free_ char *path = str_format("/proc/%d/cmdline", pid);
	_cleanup_free_ char *want = str_format("guest=%s,", name);
	_cleanup_buf_ struct buf b = BUF_INIT(256 * 1024);
	int r;

	if (!path || !want)
		return -ENOMEM;
	r = file_read(path, b.max, &b);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	for (size_t i = 0; i < b.len; i += strlen(b.data + i) + 1)
		if (strncmp(b.data + i, want, strlen(want)) == 0)
			return 0;
	return -ESRCH;
}

static int pid_file_read(const char *path, pid_t *ret_pid, uid_t *ret_owner)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	char text[16];
	uint64_t pid;
	ssize_t n;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	while (n > 0 && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	r = str_to_u64(text, 2, INT32_MAX, &pid);
	if (r < 0)
		return r;
	*ret_pid = (pid_t)pid;
	*ret_owner = st.st_uid;
	return 0;
}

int work_pid(const char *pid_dir, const char *name, pid_t *ret)
{
	_cleanup_free_ char *path = str_format("%s/%s.pid", pid_dir, name);
	uid_t owner = 0, uid = 0;
	pid_t pid = 0;
	int r;

	if (!path)
		return -ENOMEM;
	r = pid_file_read(path, &pid, &owner);
	if (r < 0)
		return r;
	r = process_uid(pid, &uid);
	if (r < 0)
		return r;
	if (uid != owner)
		return -EPERM;
	r = process_is_domain(pid, name);
	if (r < 0)
		return r;
	*ret = pid;
	return 0;
}

/* A domain whose process cannot be named cannot be confined: it must not stay. */
static void find_pid(struct work *w, virDomainPtr dom)
{
	int r;

	if (!w->pid_dir)
		return;
	r = work_pid(w->pid_dir, w->name, &w->pid);
	if (r == 0)
		return;
	virDomainDestroy(dom);
	w->error = -EIO;
	w->message = str_format("no usable pid file of the domain in %s: %s", w->pid_dir, strerror(-r));
}

/*
 * Whether to try (again). When QEMU ended by itself, libvirt refuses its name until it has cleaned up behind it, which
 * takes longer than its event and its "no such domain".
 */
static bool removal_awaited(int tries)
{
	const virError *e = virGetLastError();

	if (tries == 0)
		return true;
	if (tries > REMOVAL_TRIES || !e || !e->message || !strstr(e->message, "being removed"))
		return false;
	usleep(REMOVAL_USEC);
	return true;
}

static void run_create(struct work *w)
{
	_cleanup_(cleanup_virDomainFree) virDomainPtr dom = NULL;

	for (int tries = 0; !dom && removal_awaited(tries); tries++)
		dom = virDomainCreateXML(w->conn, w->text, VIR_DOMAIN_START_PAUSED);
	if (!dom)
		fail(w);
	else
		find_pid(w, dom);
}

/* As create, and then the devices' state; a guest that cannot be fed must not stay */
static void run_fork(struct work *w)
{
	_cleanup_(cleanup_virDomainFree) virDomainPtr dom = NULL;

	for (int tries = 0; !dom && removal_awaited(tries); tries++)
		dom = virDomainCreateXML(w->conn, w->text, VIR_DOMAIN_START_PAUSED);
	if (!dom) {
		fail(w);
		return;
	}
	find_pid(w, dom);
	if (w->error < 0)
		return;
	monitor_import(w, dom);
	if (w->error < 0)
		virDomainDestroy(dom);
}

static void run_restore(struct work *w)
{
	_cleanup_(cleanup_virDomainFree) virDomainPtr dom = NULL;
	int r = -1;

	for (int tries = 0; r < 0 && removal_awaited(tries); tries++)
		r = virDomainRestoreFlags(w->conn, w->path, w->text, VIR_DOMAIN_SAVE_PAUSED);
	if (r < 0) {
		fail(w);
		return;
	}
	dom = virDomainLookupByName(w->conn, w->name);
	if (!dom)
		fail(w);
	else
		find_pid(w, dom);
}

static bool in_state(virDomainPtr dom, int wanted)
{
	int state;

	return virDomainGetState(dom, &state, NULL, 0) == 0 && state == wanted;
}

static void run_resume(struct work *w, virDomainPtr dom)
{
	if (virDomainResume(dom) == 0)
		return;
	fail(w);
	/* libvirt refuses to resume what runs; for the caller it is where it should be. */
	if (w->error == -EIO && in_state(dom, VIR_DOMAIN_RUNNING))
		w->error = 0;
}

static void run_suspend(struct work *w, virDomainPtr dom)
{
	if (virDomainSuspend(dom) == 0)
		return;
	fail(w);
	if (w->error == -EIO && in_state(dom, VIR_DOMAIN_PAUSED))
		w->error = 0;
}

static void run_destroy(struct work *w, virDomainPtr dom)
{
	/* It may end by itself between look-up and call: "domain is not running". */
	if (virDomainDestroy(dom) < 0 && !failed_with(VIR_ERR_OPERATION_INVALID) && !failed_with(VIR_ERR_NO_DOMAIN))
		fail(w);
}

static void run_on_domain(struct work *w)
{
	_cleanup_(cleanup_virDomainFree) virDomainPtr dom = virDomainLookupByName(w->conn, w->name);

	if (!dom) {
		if (w->op != WORK_DESTROY || !failed_with(VIR_ERR_NO_DOMAIN))
			fail(w);
		return;
	}
	if (w->op == WORK_RESUME)
		run_resume(w, dom);
	else if (w->op == WORK_SUSPEND)
		run_suspend(w, dom);
	else if (w->op == WORK_DESTROY)
		run_destroy(w, dom);
	else if (w->op == WORK_EXPORT)
		monitor_export(w, dom);
	else if (w->op == WORK_COPY)
		copy_begin(w, dom);
	else if (w->op == WORK_COPY_FINISH)
		copy_finish(w, dom);
	else if (w->op == WORK_SETTLE)
		copy_settle(w, dom);
	else if (virDomainSaveFlags(dom, w->text, NULL, VIR_DOMAIN_SAVE_PAUSED) < 0)
		fail(w);
}

static void domain_describe(struct work *w, virDomainPtr dom)
{
	struct virt_domain *d = &w->domains[w->n_domains];
	const char *name = virDomainGetName(dom);
	int state;

	/* Gone since it was listed, or a name no sandbox can have. */
	if (!name || strlen(name) >= sizeof(d->name) || virDomainGetState(dom, &state, NULL, 0) < 0)
		return;
	*d = (struct virt_domain) { .paused = state == VIR_DOMAIN_PAUSED };
	memcpy(d->name, name, strlen(name) + 1);
	if (w->pid_dir && work_pid(w->pid_dir, name, &d->pid) < 0)
		d->pid = 0;
	w->n_domains++;
}

static void run_list(struct work *w)
{
	virDomainPtr *doms = NULL;
	int n = virConnectListAllDomains(w->conn, &doms, VIR_CONNECT_LIST_DOMAINS_ACTIVE);

	if (n < 0) {
		fail(w);
		return;
	}
	w->domains = calloc((size_t)n + 1, sizeof(*w->domains));
	for (int i = 0; i < n; i++) {
		if (w->domains)
			domain_describe(w, doms[i]);
		virDomainFree(doms[i]);
	}
	free(doms);
	if (!w->domains)
		w->error = -ENOMEM;
}

void work_run(struct work *w)
{
	virResetLastError();
	if (w->op == WORK_CREATE)
		run_create(w);
	else if (w->op == WORK_FORK)
		run_fork(w);
	else if (w->op == WORK_RESTORE)
		run_restore(w);
	else if (w->op == WORK_LIST)
		run_list(w);
	else
		run_on_domain(w);
}

void work_done(struct work *w)
{
	free(w->text);
	free(w->path);
	free(w->kept);
	free(w->monitor);
	free(w->message);
	free(w->domains);
}

int work_open(const char *uri, virConnectPtr *ret, char **ret_message)
{
	virConnectPtr conn;

	virResetLastError();
	conn = virConnectOpen(uri);
	if (!conn) {
		work_error(ret_message);
		return -ENOTCONN;
	}
	/* Drivers without a transport (test:///) have no keepalive. */
	if (virConnectSetKeepAlive(conn, KEEPALIVE_SECONDS, KEEPALIVE_COUNT) < 0 && !failed_with(VIR_ERR_NO_SUPPORT)) {
		work_error(ret_message);
		virConnectClose(conn);
		return -ENOTCONN;
	}
	*ret = conn;
	return 0;
}
