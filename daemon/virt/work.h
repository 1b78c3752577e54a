/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The blocking half of virt/: plain values in, plain values out, to be run on a worker.
 *
 * Nothing here knows the loop, the call that asked, or anything of the daemon's state.
 */
#ifndef DECLAW_VIRT_WORK_H
#define DECLAW_VIRT_WORK_H

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "virt/virt.h"

enum work_op {
	WORK_CREATE,
	WORK_RESUME,
	WORK_SUSPEND,
	WORK_DESTROY,
	WORK_SAVE,
	WORK_RESTORE,
	WORK_FORK,
	WORK_EXPORT,
	WORK_COPY,
	WORK_COPY_FINISH,
	WORK_SETTLE,
	WORK_LIST,
	WORK_OP_MAX,
};

struct work {
	enum work_op op;
	virConnectPtr conn;
	const char *pid_dir;	/* NULL: this driver has no processes */
	char name[64];
	char *text;		/* XML or path; COPY, COPY_FINISH: the receiver; owned */
	char *path;		/* FORK, EXPORT: the device state; RESTORE: the image; COPY, SETTLE: the overlay; owned */
	/* results */
	int error;
	char *message;		/* owned; NULL = none */
	pid_t pid;
	struct virt_domain *domains;
	size_t n_domains;
	uint64_t usec;		/* COPY: when the vCPUs were last seen running (monotonic); FINISH: that, then the pause */
	char *kept;		/* COPY, where it is one round: what the overlay was at the instant; owned */
	char *monitor;		/* COPY, COPY_FINISH: path of the source's own; NULL = none; owned */
	int fd;			/* these, while they run: that monitor */
	bool switched;		/* SETTLE */
};

void work_run(struct work *w);
void work_done(struct work *w);

/* Opens one connection with keepalive; 0 or a negative errno with the sentence in *ret_message. */
int work_open(const char *uri, virConnectPtr *ret, char **ret_message);
/* Copies this thread's libvirt error. */
int work_error(char **ret_message);
/* monitor.c: errors go into w. Device state of a stopped guest to w->path, or from there into one that waits. */
void monitor_export(struct work *w, virDomainPtr dom);
void monitor_import(struct work *w, virDomainPtr dom);
/* copy.c */
void copy_begin(struct work *w, virDomainPtr dom);
void copy_finish(struct work *w, virDomainPtr dom);
void copy_settle(struct work *w, virDomainPtr dom);
/* monitor.c, for copy.c: one command, with a descriptor unless it is negative; *ret_answer is malloc'ed. */
int monitor_command(struct work *w, virDomainPtr dom, const char *command, int fd, char **ret_answer);
int monitor_ignore_shared(struct work *w, virDomainPtr dom, bool on);
/* Process of the running domain `name` by libvirt's pid file, checked against /proc. -ESRCH, -EINVAL, ... */
int work_pid(const char *pid_dir, const char *name, pid_t *ret);

#endif
