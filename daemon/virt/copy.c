/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One guest's memory and devices into another QEMU, while the first one runs. Blocking, for workers.
 *
 * QEMU's own pre-copy migration over a socket pair, both ends handed over by libvirt's monitor. libvirt knows nothing of
 * it: it has no job under way and passes over QEMU's events about it, but follows when the vCPUs stop and start, and it
 * is libvirt that changes the disk, so that its idea of the chain stays right.
 *
 * With pause-before-switchover the source stops when little is left to copy, its disks still active: that is the
 * instant of the snapshot. At first 20 ms worth of memory is little; a guest that writes faster than it can be
 * copied is allowed more after a while, so that it always ends.
 *
 * Only where the processor is real (live): under emulation QEMU 7.2 loses track of pages that are written while they are
 * copied, and what it copies is then of no instant at all (seen here as guests that die in their idle task; one snapshot
 * in three). There the source is stopped first, and stands for as long as its memory takes.
 *
 * Neither end has x-ignore-shared: memory goes over whatever it is to the source (its own, or another's file copied on
 * write). What goes wrong before the end is undone here; what even that leaves is for copy_settle().
 */
#include <string.h>
#include <sys/socket.h>

#include "util/clock.h"
#include "util/fileio.h"
#include "util/str.h"
#include "virt/work.h"

#define FD_NAME "declaw-copy"
#define STEP_USEC 200	/* asking itself takes some milliseconds, and each counts as part of the pause */
#define DOWNTIME_FIRST_MS 20
/* How long a guest may outrun its copy before it is stopped for longer, and how much longer each time */
#define PATIENCE_USEC (5 * USEC_PER_SEC)
#define DOWNTIME_FACTOR 4
#define DOWNTIME_MAX_MS 60000
#define DEADLINE_USEC (300 * USEC_PER_SEC)

DEFINE_CLEANUP(virDomainPtr, virDomainFree)

static int set_caps(struct work *w, virDomainPtr dom, bool on)
{
	return monitor_command(w, dom, on ?
			       "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["
			       "{\"capability\":\"x-ignore-shared\",\"state\":false},"
			       "{\"capability\":\"pause-before-switchover\",\"state\":true}]}}" :
			       "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["
			       "{\"capability\":\"x-ignore-shared\",\"state\":false},"
			       "{\"capability\":\"pause-before-switchover\",\"state\":false}]}}", -1, NULL);
}

static int set_downtime(struct work *w, virDomainPtr dom, unsigned int ms)
{
	/* As much as there is: it is a copy within this machine */
	_cleanup_free_ char *command = str_format("{\"execute\":\"migrate-set-parameters\",\"arguments\":"
						  "{\"max-bandwidth\":%llu,\"downtime-limit\":%u}}", 1ull << 50, ms);

	return command ? monitor_command(w, dom, command, -1, NULL) : (w->error = -ENOMEM);
}

enum status { STATUS_OTHER, STATUS_STOPPED, STATUS_COMPLETED, STATUS_FAILED };

static enum status status_of(const char *answer)
{
	if (strstr(answer, "\"status\":\"pre-switchover\""))
		return STATUS_STOPPED;
	if (strstr(answer, "\"status\":\"completed\""))
		return STATUS_COMPLETED;
	if (strstr(answer, "\"status\":\"failed\"") || strstr(answer, "\"status\":\"cancelled\""))
		return STATUS_FAILED;
	return STATUS_OTHER;
}

static int query(struct work *w, virDomainPtr dom, enum status *ret)
{
	_cleanup_free_ char *answer = NULL;
	int r = monitor_command(w, dom, "{\"execute\":\"query-migrate\"}", -1, &answer);

	if (r < 0)
		return r;
	*ret = status_of(answer);
	if (*ret == STATUS_FAILED) {
		w->message = str_format("QEMU cannot copy the memory: %.300s", answer);
		return w->error = -EIO;
	}
	return 0;
}

static int too_long(struct work *w, const char *what)
{
	w->message = strdup(what);
	return w->error = -ETIMEDOUT;
}

/* --- undo --- */

/* Errors of what undoes an error are of no interest: the first one is what happened. */
static void quietly(virDomainPtr dom, const char *command)
{
	struct work ignored = { 0 };

	monitor_command(&ignored, dom, command, -1, NULL);
	work_done(&ignored);
}

static bool under_way(virDomainPtr dom)
{
	struct work ignored = { 0 };
	_cleanup_free_ char *answer = NULL;
	bool yes = monitor_command(&ignored, dom, "{\"execute\":\"query-migrate\"}", -1, &answer) == 0 &&
		   strstr(answer, "\"status\":") && !strstr(answer, "\"status\":\"completed\"") &&
		   !strstr(answer, "\"status\":\"failed\"") && !strstr(answer, "\"status\":\"cancelled\"");

	work_done(&ignored);
	return yes;
}

static bool stands(virDomainPtr dom)
{
	struct work ignored = { 0 };
	_cleanup_free_ char *answer = NULL;
	bool yes = monitor_command(&ignored, dom, "{\"execute\":\"query-status\"}", -1, &answer) == 0 &&
		   strstr(answer, "\"running\":false");

	work_done(&ignored);
	return yes;
}

/* Ends a copy wherever it is. QEMU goes on by itself when it was cancelled; not when it had come to its end. */
static void undo(virDomainPtr dom)
{
	uint64_t end = clock_monotonic() + 20 * USEC_PER_SEC;

	while (under_way(dom) && clock_monotonic() < end) {
		quietly(dom, "{\"execute\":\"migrate_cancel\"}");
		usleep(STEP_USEC);
	}
	while (stands(dom) && clock_monotonic() < end) {
		quietly(dom, "{\"execute\":\"cont\"}");
		usleep(STEP_USEC);
	}
	quietly(dom, "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["
		"{\"capability\":\"x-ignore-shared\",\"state\":false},"
		"{\"capability\":\"pause-before-switchover\",\"state\":false}]}}");
	quietly(dom, "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"downtime-limit\":300}}");
}

/* --- copy --- */

static int connect_ends(struct work *w, virDomainPtr dom, virDomainPtr receiver)
{
	static const char getfd[] = "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"" FD_NAME "\"}}";
	_cleanup_close_ int out = -EBADF, in = -EBADF;
	int v[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, v) < 0)
		return w->error = -errno;
	out = v[0];
	in = v[1];
	if (monitor_ignore_shared(w, receiver, false) < 0 || monitor_command(w, receiver, getfd, in, NULL) < 0 ||
	    monitor_command(w, receiver, "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:" FD_NAME "\"}}",
			    -1, NULL) < 0)
		return w->error;
	return monitor_command(w, dom, getfd, out, NULL);
}

/* Until the source stands; w->usec is when it was last seen running. */
static int await_stop(struct work *w, virDomainPtr dom)
{
	uint64_t begun = clock_monotonic(), patience = begun + PATIENCE_USEC;
	unsigned int ms = DOWNTIME_FIRST_MS;
	enum status status;

	for (;;) {
		uint64_t now = clock_monotonic();

		if (query(w, dom, &status) < 0)
			return w->error;
		if (status == STATUS_STOPPED)
			return 0;
		if (now > begun + DEADLINE_USEC || status == STATUS_COMPLETED)
			return too_long(w, "the memory changes faster than it can be copied");
		if (w->live)
			w->usec = now;
		if (now >= patience && ms < DOWNTIME_MAX_MS) {
			ms *= DOWNTIME_FACTOR;
			patience = now + PATIENCE_USEC;
			if (set_downtime(w, dom, ms) < 0)
				return w->error;
		}
		usleep(STEP_USEC);
	}
}

static int switch_disk(struct work *w, virDomainPtr dom)
{
	/* Paths of the daemon's own making: nothing in them needs escaping */
	_cleanup_free_ char *xml = str_format("<domainsnapshot><disks><disk name='vda' type='file' snapshot='external'>"
					      "<driver type='qcow2'/><source file='%s'/></disk></disks></domainsnapshot>",
					      w->path);
	virDomainSnapshotPtr s = xml ? virDomainSnapshotCreateXML(dom, xml, VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY |
					VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA | VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT |
					VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC) : NULL;

	if (!s)
		return w->error = xml ? work_error(&w->message) : -ENOMEM;
	virDomainSnapshotFree(s);
	return 0;
}

void copy_begin(struct work *w, virDomainPtr dom)
{
	_cleanup_(cleanup_virDomainFree) virDomainPtr receiver = virDomainLookupByName(w->conn, w->text);

	if (!receiver) {
		w->error = work_error(&w->message);
		return;
	}
	if (connect_ends(w, dom, receiver) < 0 || set_caps(w, dom, true) < 0 || set_downtime(w, dom, DOWNTIME_FIRST_MS) < 0) {
		undo(dom);
		return;
	}
	w->usec = clock_monotonic();
	if ((!w->live && monitor_command(w, dom, "{\"execute\":\"stop\"}", -1, NULL) < 0) ||
	    monitor_command(w, dom, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:" FD_NAME "\"}}", -1, NULL) < 0 ||
	    await_stop(w, dom) < 0 || switch_disk(w, dom) < 0)
		undo(dom);
}

static int await_completed(struct work *w, virDomainPtr dom)
{
	uint64_t end = clock_monotonic() + 2 * DOWNTIME_MAX_MS * USEC_PER_MSEC;
	enum status status = STATUS_OTHER;

	do {
		if (query(w, dom, &status) < 0)
			return w->error;
		if (status == STATUS_COMPLETED)
			return 0;
		usleep(STEP_USEC);
	} while (clock_monotonic() < end);
	return too_long(w, "the rest of the memory is not through in time");
}

/* "completed" comes before QEMU has cleaned up behind it, and until then it does not go on. */
static int go_on(struct work *w, virDomainPtr dom)
{
	uint64_t end = clock_monotonic() + 20 * USEC_PER_SEC;

	while (monitor_command(w, dom, "{\"execute\":\"cont\"}", -1, NULL) < 0) {
		if (!w->message || !strstr(w->message, "not finalized") || clock_monotonic() >= end)
			return w->error;
		free(w->message);
		w->message = NULL;
		w->error = 0;
		usleep(STEP_USEC);
	}
	return 0;
}

void copy_finish(struct work *w, virDomainPtr dom)
{
	_cleanup_(cleanup_virDomainFree) virDomainPtr receiver = virDomainLookupByName(w->conn, w->text);

	if (!receiver)
		w->error = work_error(&w->message);
	if (!receiver || monitor_command(w, dom, "{\"execute\":\"migrate-continue\",\"arguments\":{\"state\":\"pre-switchover\"}}",
					 -1, NULL) < 0 ||
	    await_completed(w, dom) < 0 || go_on(w, dom) < 0) {
		undo(dom);
		return;
	}
	w->usec = clock_monotonic() - w->usec;
	undo(dom);	/* the capabilities */
	await_completed(w, receiver);
}

void copy_settle(struct work *w, virDomainPtr dom)
{
	virDomainBlockInfo info;

	undo(dom);
	w->switched = virDomainGetBlockInfo(dom, w->path, &info, 0) == 0;
	virResetLastError();
}
