/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The filter that noexec.h promises, made by libseccomp. */
#include "util/noexec.h"

#include <errno.h>
#include <seccomp.h>

static int load(uint32_t no_new_privs)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int r = filter ? 0 : -ENOMEM;

	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, no_new_privs);
	/* What the kernel itself answered, not libseccomp's ECANCELED for it */
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(execve), 0);
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(execveat), 0);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

int noexec(void)
{
	/* systemd has set no_new_privs, and its filter knows no prctl(); who runs the program by hand has neither */
	int r = load(0);

	return r == -EACCES ? load(1) : r;
}
