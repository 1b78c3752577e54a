/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The current session: opened at once, given up when lost, opened again with back-off.
 *
 * A lost session is only dropped here; calls that still use it end by themselves, with libvirt's error, and the last
 * of them closes it.
 */
#include <string.h>

#include "util/clock.h"
#include "util/log.h"
#include "virt/session.h"

#define BACKOFF_MIN (100 * USEC_PER_MSEC)
#define BACKOFF_MAX (5 * USEC_PER_SEC)

/* libvirt prints errors on stderr unless told otherwise. */
static void silent(void *userdata _unused_, virErrorPtr error _unused_)
{
}

static void drop(struct virt *v)
{
	if (!v->session)
		return;
	v->session->virt = NULL;
	v->session = session_unref(v->session);
	v->up = false;
}

static void retry_later(struct virt *v)
{
	uint64_t at = clock_monotonic() + v->backoff;

	v->backoff = MIN_OF(v->backoff * 2, BACKOFF_MAX);
	if (sd_event_source_set_time(v->retry, at) < 0 ||
	    sd_event_source_set_enabled(v->retry, SD_EVENT_ONESHOT) < 0)
		log_debug("cannot arm the timer that reopens libvirt");
}

static void try_open(struct virt *v)
{
	int r = session_open(v, &v->session);

	if (r < 0) {
		log_debug("cannot start opening libvirt: %s", strerror(-r));
		retry_later(v);
	}
}

static int on_retry(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct virt *v = userdata;

	if (!v->session)
		try_open(v);
	return 0;
}

void virt_session_opened(struct virt *v, struct session *s)
{
	if (s->error < 0 || atomic_load(&s->lost)) {
		drop(v);
		retry_later(v);
		return;
	}
	v->backoff = BACKOFF_MIN;
	v->up = true;
	v->ops->connected(v->userdata, true);
}

void virt_session_lost(struct virt *v, struct session *s)
{
	bool was_up = v->up;

	/* While opening: virt_session_opened() sees the flag. */
	if (v->session != s || !was_up)
		return;
	drop(v);
	retry_later(v);
	v->ops->connected(v->userdata, false);
}

int virt_new(sd_event *event, struct workers *workers, const char *uri, const char *pid_dir,
	     const struct virt_ops *ops, void *userdata, struct virt **ret)
{
	struct virt *v;
	int r;

	if (virInitialize() < 0)
		return -EIO;
	virSetErrorFunc(NULL, silent);
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	*v = (struct virt) { .event = sd_event_ref(event), .workers = workers, .ops = ops, .userdata = userdata };
	list_init(&v->calls);
	v->backoff = BACKOFF_MIN;
	v->uri = strdup(uri);
	v->pid_dir = pid_dir ? strdup(pid_dir) : NULL;
	r = !v->uri || (pid_dir && !v->pid_dir) ? -ENOMEM : 0;
	if (r == 0)
		r = sd_event_add_time(event, &v->retry, CLOCK_MONOTONIC, 0, 1, on_retry, v);
	if (r >= 0)
		r = sd_event_source_set_enabled(v->retry, SD_EVENT_OFF);
	if (r < 0) {
		virt_free(v);
		return r;
	}
	try_open(v);
	*ret = v;
	return 0;
}

struct virt *virt_free(struct virt *v)
{
	if (!v)
		return NULL;
	drop(v);
	calls_cancel(v);
	sd_event_source_disable_unref(v->retry);
	sd_event_source_disable_unref(v->refused);
	sd_event_unref(v->event);
	free(v->uri);
	free(v->pid_dir);
	free(v);
	return NULL;
}

bool virt_is_connected(const struct virt *v)
{
	return v->up;
}

void virt_get_version(const struct virt *v, struct virt_version *ret)
{
	*ret = v->up ? v->session->version : (struct virt_version) { .libvirt = 0 };
}
