/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A session: one pair of libvirt connections, from opening to closing.
 *
 * Referenced by the virt object while current and by every call that uses it, all on the loop thread; the last
 * reference sends the closing to a worker, because closing is a round trip too. A session is never reopened: a lost
 * one is dropped and a new one made.
 */
#ifndef DECLAW_VIRT_SESSION_H
#define DECLAW_VIRT_SESSION_H

#include <stdatomic.h>

#include "loop/workers.h"
#include "util/list.h"
#include "virt/work.h"

enum session_conn { SESSION_WORK, SESSION_CONTROL, SESSION_CONN_MAX };

struct session {
	unsigned int refs;
	struct virt *virt;		/* NULL once it is no longer the current one */
	struct workers *workers;
	char *uri, *pid_dir;
	virConnectPtr conn[SESSION_CONN_MAX];
	bool watched[SESSION_CONN_MAX];	/* the close callback is registered */
	int event_id;			/* life-cycle events on the control connection; -1 = none */
	struct virt_version version;
	atomic_bool lost;		/* set by libvirt's close callback, on any thread */
	int lost_fd;			/* eventfd that tells the loop */
	sd_event_source *lost_source;
	int error;			/* of opening */
	char *message;
};

struct virt {
	sd_event *event;
	struct workers *workers;
	const struct virt_ops *ops;
	void *userdata;
	char *uri, *pid_dir;
	struct session *session;	/* current one: opening or up */
	bool up;
	sd_event_source *retry;		/* timer of the next attempt */
	uint64_t backoff;
	struct list calls;		/* struct call, in flight or refused */
	sd_event_source *refused;	/* defer source: calls that failed without a worker */
};

/* Starts opening on a worker; session_opened() follows on the loop unless v is freed before. */
int session_open(struct virt *v, struct session **ret);
struct session *session_ref(struct session *s);
struct session *session_unref(struct session *s);

/* conn.c, called by session.c on the loop */
void virt_session_opened(struct virt *v, struct session *s);
void virt_session_lost(struct virt *v, struct session *s);
/* events.c: registered on the control connection; opaque is the session */
int events_register(struct session *s);
/* call.c */
void calls_cancel(struct virt *v);

#endif
