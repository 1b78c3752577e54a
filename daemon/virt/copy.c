/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One guest's memory and devices into another QEMU, while the first one runs. Blocking, for workers.
 *
 * QEMU's own pre-copy migration over a socket pair, both ends handed over by libvirt's monitor. libvirt knows nothing of
 * it: it has no job under way and passes over QEMU's events about it, but follows when the vCPUs stop and start, and it
 * is libvirt that changes the disk, so that its idea of the chain stays right.
 *
 * With pause-before-switchover the source stops when little is left to copy, its disks still active: that is the
 * instant of the snapshot. QEMU copies what was written meanwhile in rounds; each begins with taking, and clearing, the
 * record of the pages that were written since the last one began.
 *
 * With KVM that record can be trusted, and there are rounds until 20 ms worth of memory is left; a guest that
 * writes faster than it can be copied is allowed more after a while, so that it always ends.
 *
 * Under emulation it cannot. The emulator writes the record when it looks up where a page is, and keeps what it found; QEMU
 * before 9.0 does not make it forget that when the record is cleared, so that later writes to the same page are in none.
 * And a vCPU that has looked and not written yet writes after a page of no record was copied. (Two of six copies were
 * of no instant at all: guests that died in their idle task.) So there the record is cleared only while all vCPUs stand:
 *
 *	stop, begin	the record is cleared, and the emulator forgets what it knows: what begins the recording is a change
 *			of the memory map. The receiver does not read yet, so that this cannot become a whole copy.
 *	go on		one round, all of the memory; the record only grows, so nothing is lost, whenever it is written
 *	stop		the instant; QEMU takes the record, and what is in it is all that is left
 *
 * A downtime of nothing is what makes it one round: QEMU looks at the record early only when what is left would go over
 * within the downtime. The source stands twice, the first time for the four commands alone.
 *
 * What the disk goes on in (w->path): libvirt needs four commands to change it, which is as long as all the rest. Where the
 * copy is one round, this is done before it, and what was written into that layer by the instant is copied (w->kept). With
 * more rounds that could be any amount, so there it is changed at the instant.
 *
 * Neither end has x-ignore-shared: memory goes over whatever it is to the source (its own, or another's file copied on
 * write). What goes wrong before the end is undone here; what even that leaves is for copy_settle().
 */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "util/clock.h"
#include "util/fileio.h"
#include "util/str.h"
#include "virt/qmp.h"
#include "virt/work.h"

#define FD_NAME "declaw-copy"
#define STEP_USEC 200	/* asking itself takes some milliseconds, and each counts as part of the pause */
#define DOWNTIME_FIRST_MS 20
#define BEGIN_MAX_USEC (20 * USEC_PER_SEC)
/* How long a guest may outrun its copy before it is stopped for longer, and how much longer each time */
#define PATIENCE_USEC (5 * USEC_PER_SEC)
#define DOWNTIME_FACTOR 4
#define DOWNTIME_MAX_MS 60000
#define DEADLINE_USEC (300 * USEC_PER_SEC)

DEFINE_CLEANUP(virDomainPtr, virDomainFree)

/*
 * The source is asked through a monitor of our own where it has one (w->fd; from before there were any, it has not):
 * nearly all of what is asked here, it is asked while it stands.
 */
static int source(struct work *w, virDomainPtr dom, const char *command, int passed, char **ret_answer)
{
	_cleanup_free_ char *answer = NULL;
	int r;

	if (w->fd < 0)
		return monitor_command(w, dom, command, passed, ret_answer);
	r = qmp_command(w->fd, command, passed, &answer);
	if (r < 0) {
		w->message = str_format("QEMU: %.300s", answer ?: strerror(-r));
		return w->error = r == -EREMOTEIO ? -EIO : r;
	}
	if (ret_answer)
		*ret_answer = TAKE_PTR(answer);
	return 0;
}

static int set_caps(struct work *w, virDomainPtr dom, bool on)
{
	return source(w, dom, on ?
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

	return command ? source(w, dom, command, -1, NULL) : (w->error = -ENOMEM);
}

enum status { STATUS_OTHER, STATUS_ACTIVE, STATUS_STOPPED, STATUS_COMPLETED, STATUS_FAILED };

static enum status status_of(const char *answer)
{
	if (strstr(answer, "\"status\":\"pre-switchover\""))
		return STATUS_STOPPED;
	if (strstr(answer, "\"status\":\"active\""))
		return STATUS_ACTIVE;
	if (strstr(answer, "\"status\":\"completed\""))
		return STATUS_COMPLETED;
	if (strstr(answer, "\"status\":\"failed\"") || strstr(answer, "\"status\":\"cancelled\""))
		return STATUS_FAILED;
	return STATUS_OTHER;
}

static int query(struct work *w, virDomainPtr dom, enum status *ret)
{
	_cleanup_free_ char *answer = NULL;
	int r = source(w, dom, "{\"execute\":\"query-migrate\"}", -1, &answer);

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

#define GETFD "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"" FD_NAME "\"}}"

/* The receiver reads nothing before receive_memory(). */
static int connect_ends(struct work *w, virDomainPtr dom, virDomainPtr receiver)
{
	_cleanup_close_ int out = -EBADF, in = -EBADF;
	int v[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, v) < 0)
		return w->error = -errno;
	out = v[0];
	in = v[1];
	if (monitor_ignore_shared(w, receiver, false) < 0 || monitor_command(w, receiver, GETFD, in, NULL) < 0)
		return w->error;
	return source(w, dom, GETFD, out, NULL);
}

/* The source's own monitor, if it has one: copy_begin(), copy_finish() */
static void open_monitor(struct work *w)
{
	w->fd = w->monitor ? qmp_open(w->monitor) : -ENOENT;
}

static void close_monitor(struct work *w)
{
	fd_close(w->fd);
	w->fd = -EBADF;
}

static int send_memory(struct work *w, virDomainPtr dom)
{
	return source(w, dom, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:" FD_NAME "\"}}", -1, NULL);
}

static int receive_memory(struct work *w, virDomainPtr receiver)
{
	return monitor_command(w, receiver, "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:" FD_NAME "\"}}",
			       -1, NULL);
}

/* Under emulation: it stands while the record of what it writes begins. *ret: for how long */
static int send_recorded(struct work *w, virDomainPtr dom, uint64_t *ret)
{
	uint64_t begun = clock_monotonic();
	enum status status = STATUS_OTHER;

	if (source(w, dom, "{\"execute\":\"stop\"}", -1, NULL) < 0 || send_memory(w, dom) < 0)
		return w->error;
	while (status != STATUS_ACTIVE) {
		if (query(w, dom, &status) < 0)
			return w->error;
		if (clock_monotonic() > begun + BEGIN_MAX_USEC)
			return too_long(w, "QEMU does not begin to copy the memory");
	}
	if (source(w, dom, "{\"execute\":\"cont\"}", -1, NULL) < 0)
		return w->error;
	w->usec = clock_monotonic();
	*ret = w->usec - begun;
	return 0;
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
		w->usec = now;
		if (!w->kept && now >= patience && ms < DOWNTIME_MAX_MS) {
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

static int copy_part(int from, int to, off_t at, off_t end)
{
	char part[64 * 1024];

	while (at < end) {
		ssize_t n = pread(from, part, (size_t)MIN_OF(end - at, (off_t)sizeof(part)), at);

		if (n > 0)
			n = pwrite(to, part, (size_t)n, at);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
	}
	return 0;
}

/* The source stands, and stopping it has written all that it had of its disk. Holes stay holes. */
static int keep_disk(struct work *w)
{
	_cleanup_close_ int from = open(w->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_close_ int to = open(w->kept, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	int r = from >= 0 && to >= 0 && fstat(from, &st) == 0 && ftruncate(to, st.st_size) == 0 ? 0 : -errno;

	for (off_t at = 0, end; r == 0 && (at = lseek(from, at, SEEK_DATA)) >= 0; at = end) {
		end = lseek(from, at, SEEK_HOLE);
		r = end < 0 ? -errno : copy_part(from, to, at, end);
	}
	if (r == 0 && errno != ENXIO)	/* what the last one says when there is no more */
		r = -errno;
	if (r < 0) {
		w->message = str_format("%s: %s", w->kept, strerror(-r));
		w->error = r;
	}
	return r;
}

static int copy_live(struct work *w, virDomainPtr dom, virDomainPtr receiver)
{
	if (set_downtime(w, dom, DOWNTIME_FIRST_MS) < 0 || send_memory(w, dom) < 0 || receive_memory(w, receiver) < 0 ||
	    await_stop(w, dom) < 0)
		return w->error;
	return switch_disk(w, dom);
}

static int copy_recorded(struct work *w, virDomainPtr dom, virDomainPtr receiver)
{
	uint64_t stood = 0;

	if (set_downtime(w, dom, 0) < 0 || switch_disk(w, dom) < 0 || send_recorded(w, dom, &stood) < 0 ||
	    receive_memory(w, receiver) < 0 || await_stop(w, dom) < 0)
		return w->error;
	w->usec -= stood;
	return keep_disk(w);
}

void copy_begin(struct work *w, virDomainPtr dom)
{
	_cleanup_(cleanup_virDomainFree) virDomainPtr receiver = virDomainLookupByName(w->conn, w->text);

	if (!receiver) {
		w->error = work_error(&w->message);
		return;
	}
	w->usec = clock_monotonic();
	open_monitor(w);
	if (connect_ends(w, dom, receiver) < 0 || set_caps(w, dom, true) < 0 ||
	    (w->kept ? copy_recorded(w, dom, receiver) : copy_live(w, dom, receiver)) < 0)
		undo(dom);
	close_monitor(w);
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

	while (source(w, dom, "{\"execute\":\"cont\"}", -1, NULL) < 0) {
		if (!w->message || !strstr(w->message, "not finalized") || clock_monotonic() >= end)
			return w->error;
		free(w->message);
		w->message = NULL;
		w->error = 0;
		usleep(STEP_USEC);
	}
	return 0;
}

static int sync_file(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -1 : fsync(fd);
}

void copy_finish(struct work *w, virDomainPtr dom)
{
	_cleanup_(cleanup_virDomainFree) virDomainPtr receiver = NULL;

	open_monitor(w);
	if (source(w, dom, "{\"execute\":\"migrate-continue\",\"arguments\":{\"state\":\"pre-switchover\"}}", -1, NULL) == 0 &&
	    await_completed(w, dom) == 0)
		go_on(w, dom);
	close_monitor(w);
	w->usec = clock_monotonic() - w->usec;
	undo(dom);	/* the capabilities, when all went well */
	if (w->error < 0)
		return;
	if (w->kept && sync_file(w->kept) < 0) {
		w->error = -errno;
		return;
	}
	receiver = virDomainLookupByName(w->conn, w->text);
	if (receiver)
		await_completed(w, receiver);
	else
		w->error = work_error(&w->message);
}

/* libvirt is the one who knows, and it has ended whatever it was at: each command of undo()'s has waited for that. */
static bool writes_into(virDomainPtr dom, const char *path)
{
	_cleanup_free_ char *quoted = str_format("'%s'", path), *xml = virDomainGetXMLDesc(dom, 0);

	return quoted && xml && strstr(xml, quoted);
}

void copy_settle(struct work *w, virDomainPtr dom)
{
	undo(dom);
	w->switched = writes_into(dom, w->path);
	virResetLastError();
}
