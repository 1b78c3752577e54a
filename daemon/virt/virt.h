/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvirt: two connections (work, control), calls on workers, events on the loop, reopening with back-off.
 *
 * Every call is asynchronous; its callback runs on the loop exactly once. error is 0 or a negative errno
 * (-ENOTCONN no libvirtd, -ENOENT no such domain, -EEXIST, -EIO anything else); message is libvirt's own sentence,
 * valid during the call, "" when there is none. Calls for one domain run in order. -ECANCELED: a destroy of the same
 * domain came before the call began (nothing was done), or virt_free() was called (the call may still take effect).
 * Only -ENOMEM is answered before the function returns. An event may come before the callback of its call.
 */
#ifndef DECLAW_VIRT_H
#define DECLAW_VIRT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct virt;
struct workers;

enum virt_event {
	VIRT_EVENT_STOPPED,	/* detail: enum virt_stop */
	VIRT_EVENT_PAUSED,	/* detail: enum virt_pause */
	VIRT_EVENT_RESUMED,
	VIRT_EVENT_SHUTDOWN,	/* QEMU is about to stop; detail: enum virt_shutdown. STOPPED follows. */
};
/* Who wanted it: the guest, or somebody on the host (a signal to QEMU, a request to libvirt) */
enum virt_shutdown { VIRT_SHUTDOWN_UNKNOWN, VIRT_SHUTDOWN_GUEST, VIRT_SHUTDOWN_HOST };
enum virt_stop { VIRT_STOP_SHUTDOWN, VIRT_STOP_DESTROYED, VIRT_STOP_CRASHED, VIRT_STOP_SAVED, VIRT_STOP_FAILED };

/* IOERROR: QEMU paused the guest by itself because its disk failed. */
enum virt_pause { VIRT_PAUSE_OTHER, VIRT_PAUSE_IOERROR };

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

/*
 * pid_dir: where this libvirt writes <name>.pid of its QEMUs; NULL for a driver without processes (pids are 0).
 * Opening starts at once and is retried. A virtloop exists before; order of the end: virt_free(), workers_free(),
 * virtloop_free().
 */
int virt_new(sd_event *event, struct workers *workers, const char *uri, const char *pid_dir,
	     const struct virt_ops *ops, void *userdata, struct virt **ret);
struct virt *virt_free(struct virt *v);
bool virt_is_connected(const struct virt *v);
/* Valid once connected. */
void virt_get_version(const struct virt *v, struct virt_version *ret);

/* Starts a transient domain paused; pid is QEMU's. Fails, and leaves nothing, when the pid cannot be trusted. */
void virt_domain_create(struct virt *v, const char *name, const char *xml, virt_create_fn fn, void *userdata);
/*
 * As create, for a domain whose XML says that it waits (DOM_MEMORY_CLONE): then fed with the device state in that file,
 * and still stopped. Fails, and leaves nothing, when that does not go.
 */
void virt_domain_fork(struct virt *v, const char *name, const char *xml, const char *state, virt_create_fn fn,
		      void *userdata);
/* The device state of a stopped domain whose memory is a shared file. It cannot go on afterwards, only be destroyed. */
void virt_domain_export(struct virt *v, const char *name, const char *state, virt_done_fn fn, void *userdata);
/*
 * The memory of a domain as it is at one instant, copied into another that waits for it (DOM_MEMORY_RECEIVER), while the
 * first runs; in two halves, so that the caller can note what else belongs to that instant.
 *
 *	copy	the memory goes over, then the vCPUs stop, and from here on the disk is written into overlay (which is there,
 *		empty, over the present one). usec: when it was last seen running, for finish. On error the domain runs on,
 *		on either disk: see settle.
 *	finish	the rest and the devices go over, and the domain goes on; usec: for how long it stood.
 *
 * settle: whatever was left of such a copy, by an error or a caller that died, is ended, and the domain runs. switched:
 * it writes into overlay.
 */
typedef void (*virt_copied_fn)(void *userdata, int error, const char *message, uint64_t usec);
typedef void (*virt_settled_fn)(void *userdata, int error, const char *message, bool switched);
struct virt_copy {
	const char *receiver, *overlay;
	/*
	 * Where the processor is emulated, else NULL: a file (which is there). The disk goes on in overlay before the instant, and
	 * what that has of it goes into this one. See copy.c for why.
	 */
	const char *kept;
	const char *monitor;		/* path of the one of our own that the domain may have (dom_spec) */
};
void virt_domain_copy(struct virt *v, const char *name, const struct virt_copy *copy, virt_copied_fn fn, void *userdata);
void virt_domain_copy_finish(struct virt *v, const char *name, const struct virt_copy *copy, uint64_t usec,
			     virt_copied_fn fn, void *userdata);
void virt_domain_settle(struct virt *v, const char *name, const char *overlay, virt_settled_fn fn, void *userdata);
void virt_domain_resume(struct virt *v, const char *name, virt_done_fn fn, void *userdata);
void virt_domain_suspend(struct virt *v, const char *name, virt_done_fn fn, void *userdata);
/* 0 also when it is already gone. Uses the control connection and cancels what is queued for this domain. */
void virt_domain_destroy(struct virt *v, const char *name, virt_done_fn fn, void *userdata);
void virt_domain_save(struct virt *v, const char *name, const char *path, virt_done_fn fn, void *userdata);
/* Restores paused; xml: what describes it from now on, NULL = what the image says. */
void virt_domain_restore(struct virt *v, const char *name, const char *path, const char *xml, virt_create_fn fn,
			 void *userdata);
/* All active domains of this connection. */
void virt_list(struct virt *v, virt_list_fn fn, void *userdata);

#endif
