/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FS_FREEZE and FS_THAW of the root file system.
 *
 * While it is frozen a write blocks in the kernel, and if the agent is who writes, nobody is left to thaw:
 * so operations that write are refused (ops.c), uploads wait (filewrite.c), and this file opens its
 * descriptor before freezing. The guest's monotonic clock stops with the machine, so the time limit does
 * not run while a frozen guest is being saved or kept.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent.h"
#include "filewrite.h"
#include "freeze.h"
#include "log.h"
#include "ops.h"

#define FROZEN_MAX_NS (60ull * 1000 * 1000 * 1000)

static int root_ioctl(unsigned long what)
{
	_cleanup_close_ int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOATIME);

	if (fd < 0)
		return -errno;
	return ioctl(fd, what, 0) < 0 ? -errno : 0;
}

static int thaw(struct agent *a)
{
	int r = root_ioctl(FITHAW);

	/* EINVAL: was not frozen, which is what is wanted */
	if (r < 0 && r != -EINVAL)
		return r;
	a->frozen = false;
	uploads_thawed(a);
	return 0;
}

void op_fs_freeze(struct request *r, _unused_ const struct args *g)
{
	struct agent *a = r->agent;
	int error = 0;

	/* An agent that is not init could freeze the machine it is tested on. */
	if (!a->init)
		error = -EPERM;
	else if (!a->frozen)
		error = root_ioctl(FIFREEZE);
	if (error < 0 && error != -EBUSY) {
		request_fail(r, -error, "freeze: %s", strerror(-error));
		return;
	}
	if (!a->frozen)
		a->frozen_at = agent_now();
	a->frozen = true;
	request_done(r, NULL);
}

void op_fs_thaw(struct request *r, _unused_ const struct args *g)
{
	int error = r->agent->init ? thaw(r->agent) : -EPERM;

	if (error < 0)
		request_fail(r, -error, "thaw: %s", strerror(-error));
	else
		request_done(r, NULL);
}

void freeze_tick(struct agent *a)
{
	if (!a->frozen || agent_now() - a->frozen_at < FROZEN_MAX_NS)
		return;
	log_warn("nobody asked to thaw for a minute");
	thaw(a);
}
