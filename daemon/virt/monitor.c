/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libvirt has no call for: the device state of a stopped guest into a file, and out of one into a guest that
 * waits for it. Blocking, for workers.
 *
 * The guest's memory is a file of its own, so with x-ignore-shared QEMU migrates the devices alone (about 60 KB). The
 * descriptor goes through libvirt's monitor: QEMU may neither open files by itself nor spawn helpers. libvirt has no
 * job under way then and ignores QEMU's events about it.
 *
 * x-ignore-shared is off again in a guest that was fed: its memory is private, and what libvirt saves of it later must
 * be all of it, in a format that libvirt's own restore expects.
 */
#include <fcntl.h>
#include <libvirt/libvirt-qemu.h>
#include <string.h>
#include <sys/stat.h>

#include "util/clock.h"
#include "util/fileio.h"
#include "util/str.h"
#include "virt/work.h"

#define FD_NAME "declaw-state"
#define WAIT_MAX_USEC (20 * USEC_PER_SEC)
#define WAIT_STEP_USEC 2000

/* An error of QEMU's own is an answer to libvirt. */
int monitor_command(struct work *w, virDomainPtr dom, const char *command, int fd, char **ret_answer)
{
	_cleanup_free_ char *answer = NULL;
	int files[1] = { fd }, r;

	if (fd >= 0)
		r = virDomainQemuMonitorCommandWithFiles(dom, command, 1, files, NULL, NULL, &answer, 0);
	else
		r = virDomainQemuMonitorCommand(dom, command, &answer, VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT);
	if (r < 0)
		return w->error = work_error(&w->message);
	if (!answer || strstr(answer, "\"error\":")) {
		w->message = str_format("QEMU: %.300s", answer ?: "no answer");
		return w->error = -EIO;
	}
	if (ret_answer)
		*ret_answer = TAKE_PTR(answer);
	return 0;
}

int monitor_ignore_shared(struct work *w, virDomainPtr dom, bool on)
{
	return monitor_command(w, dom, on ?
		       "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":"
		       "[{\"capability\":\"x-ignore-shared\",\"state\":true}]}}" :
		       "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":"
		       "[{\"capability\":\"x-ignore-shared\",\"state\":false}]}}", -1, NULL);
}

static int await_completed(struct work *w, virDomainPtr dom)
{
	uint64_t end = clock_monotonic() + WAIT_MAX_USEC;

	do {
		_cleanup_free_ char *answer = NULL;

		if (monitor_command(w, dom, "{\"execute\":\"query-migrate\"}", -1, &answer) < 0)
			return w->error;
		if (strstr(answer, "\"status\":\"completed\""))
			return 0;
		if (strstr(answer, "\"status\":\"failed\"")) {
			w->message = str_format("QEMU refuses the device state: %.300s", answer);
			return w->error = -EIO;
		}
		usleep(WAIT_STEP_USEC);
	} while (clock_monotonic() < end);
	w->message = strdup("the device state is not through in time");
	return w->error = -ETIMEDOUT;
}

static int pass(struct work *w, virDomainPtr dom, int fd)
{
	return monitor_command(w, dom, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"" FD_NAME "\"}}", fd, NULL);
}

static int open_state(struct work *w, int flags)
{
	int fd = open(w->path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd >= 0)
		return fd;
	w->error = -errno;
	w->message = str_format("%s: %s", w->path, strerror(errno));
	return w->error;
}

void monitor_export(struct work *w, virDomainPtr dom)
{
	_cleanup_close_ int fd = open_state(w, O_WRONLY | O_CREAT | O_TRUNC);

	if (fd < 0 || monitor_ignore_shared(w, dom, true) < 0 || pass(w, dom, fd) < 0 ||
	    monitor_command(w, dom, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:" FD_NAME "\"}}", -1, NULL) < 0 ||
	    await_completed(w, dom) < 0)
		return;
	if (fsync(fd) < 0)
		w->error = -errno;
}

void monitor_import(struct work *w, virDomainPtr dom)
{
	_cleanup_close_ int fd = open_state(w, O_RDONLY);

	if (fd < 0 || monitor_ignore_shared(w, dom, true) < 0 || pass(w, dom, fd) < 0 ||
	    monitor_command(w, dom, "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:" FD_NAME "\"}}", -1, NULL) < 0 ||
	    await_completed(w, dom) < 0)
		return;
	monitor_ignore_shared(w, dom, false);
}
