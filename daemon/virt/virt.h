/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvirt: two connections (work, control), calls on workers, events on the loop, reopening with back-off.
 *
 * Every call is asynchronous; its callback runs on the loop exactly once. error is 0 or a negative errno
 * (-ENOTCONN no libvirtd, -ENOENT no such domain, -EEXIST, -EIO anything else); message is libvirt's own sentence,
 * valid during the call, "" when there is none. Calls for one domain run in order.
 */
#ifndef DECLAW_VIRT_H
#define DECLAW_VIRT_H

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct virt;
struct workers;

enum virt_event {
	VIRT_EVENT_STOPPED,	/* detail: enum virt_stop */
	VIRT_EVENT_PAUSED,
	VIRT_EVENT_RESUMED,
};
enum virt_stop { VIRT_STOP_SHUTDOWN, VIRT_STOP_DESTROYED, VIRT_STOP_CRASHED, VIRT_STOP_SAVED, VIRT_STOP_FAILED };

struct virt_ops {
	void (*domain_event)(void *userdata, const char *name, enum virt_event ev, int detail);
	/* false: connection lost (events may have been missed); true: (re)opened, reconcile now. */
	void (*connected)(void *userdata, bool up);
};

typedef void (*virt_done_fn)(void *userdata, int error, const char *message);
typedef void (*virt_create_fn)(void *userdata, int error, const char *message, pid_t pid);

struct virt_domain {
	char name[64];
	bool paused;
	pid_t pid;
};
typedef void (*virt_list_fn)(void *userdata, int error, const struct virt_domain *v, size_t n);
struct virt_version { unsigned long libvirt, qemu; };

/* pid_dir: where this libvirt writes <name>.pid of its QEMUs. Opening starts at once and is retried. */
int virt_new(sd_event *event, struct workers *workers, const char *uri, const char *pid_dir,
	     const struct virt_ops *ops, void *userdata, struct virt **ret);
struct virt *virt_free(struct virt *v);
bool virt_is_connected(const struct virt *v);
/* Valid once connected. */
void virt_get_version(const struct virt *v, struct virt_version *ret);

/* Starts a transient domain paused; pid is QEMU's. */
void virt_domain_create(struct virt *v, const char *name, const char *xml, virt_create_fn fn, void *userdata);
void virt_domain_resume(struct virt *v, const char *name, virt_done_fn fn, void *userdata);
void virt_domain_suspend(struct virt *v, const char *name, virt_done_fn fn, void *userdata);
/* 0 also when it is already gone. Uses the control connection and overtakes queued work. */
void virt_domain_destroy(struct virt *v, const char *name, virt_done_fn fn, void *userdata);
void virt_domain_save(struct virt *v, const char *name, const char *path, virt_done_fn fn, void *userdata);
/* Restores paused. */
void virt_domain_restore(struct virt *v, const char *name, const char *path, virt_create_fn fn, void *userdata);
/* All active domains of this connection. */
void virt_list(struct virt *v, virt_list_fn fn, void *userdata);

#endif
