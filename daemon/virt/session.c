/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening, losing and closing a pair of connections; see session.h.
 *
 * libvirt calls the close callback on whichever thread noticed, so it only sets a flag and kicks an eventfd. It is
 * unregistered before the session is freed, and libvirt holds its lock during the callback, so the callback never
 * outlives the session.
 */
#include <string.h>
#include <sys/eventfd.h>

#include "util/log.h"
#include "virt/session.h"

static void on_close(virConnectPtr conn _unused_, int reason _unused_, void *opaque)
{
	struct session *s = opaque;
	uint64_t one = 1;

	atomic_store(&s->lost, true);
	if (write(s->lost_fd, &one, sizeof(one)) < 0)
		return;
}

static int on_lost(sd_event_source *source _unused_, int fd, uint32_t revents _unused_, void *userdata)
{
	struct session *s = userdata;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) > 0 && s->virt)
		virt_session_lost(s->virt, s);
	return 0;
}

static void session_free(struct session *s)
{
	sd_event_source_disable_unref(s->lost_source);
	fd_close(s->lost_fd);
	free(s->uri);
	free(s->pid_dir);
	free(s->message);
	free(s);
}

/* Worker. Without the deregistrations libvirt keeps the connection alive behind our back. */
static void close_run(void *arg)
{
	struct session *s = arg;

	if (s->event_id >= 0)
		virConnectDomainEventDeregisterAny(s->conn[SESSION_CONTROL], s->event_id);
	for (int i = 0; i < SESSION_CONN_MAX; i++) {
		if (s->watched[i])
			virConnectUnregisterCloseCallback(s->conn[i], on_close);
		if (s->conn[i])
			virConnectClose(s->conn[i]);
		s->conn[i] = NULL;
		s->watched[i] = false;
	}
	s->event_id = -1;
}

static void close_done(void *arg, bool cancelled)
{
	/* The daemon is on its way out; the round trip blocks nobody any more. */
	if (cancelled)
		close_run(arg);
	session_free(arg);
}

struct session *session_ref(struct session *s)
{
	s->refs++;
	return s;
}

struct session *session_unref(struct session *s)
{
	if (!s || --s->refs > 0)
		return NULL;
	if (workers_submit(s->workers, WORK_LANE_VIRT_CTL, WORK_NORMAL, 0, close_run, close_done, s, NULL) < 0)
		close_done(s, true);
	return NULL;
}

/* Drivers without a transport never lose it. */
static int watch_close(struct session *s, int i)
{
	if (virConnectRegisterCloseCallback(s->conn[i], on_close, s, NULL) == 0)
		s->watched[i] = true;
	else if (virGetLastErrorCode() != VIR_ERR_NO_SUPPORT)
		return work_error(&s->message);
	return 0;
}

static int open_all(struct session *s)
{
	int r;

	for (int i = 0; i < SESSION_CONN_MAX; i++) {
		r = work_open(s->uri, &s->conn[i], &s->message);
		if (r < 0)
			return r;
		r = watch_close(s, i);
		if (r < 0)
			return r;
	}
	r = events_register(s);
	if (r < 0)
		return r;
	if (virConnectGetLibVersion(s->conn[SESSION_CONTROL], &s->version.libvirt) < 0)
		s->version.libvirt = 0;
	if (virConnectGetVersion(s->conn[SESSION_CONTROL], &s->version.qemu) < 0)
		s->version.qemu = 0;
	return 0;
}

static void open_run(void *arg)
{
	struct session *s = arg;

	s->error = open_all(s);
}

static void open_done(void *arg, bool cancelled)
{
	struct session *s = arg;

	if (cancelled)
		s->error = -ECANCELED;
	if (s->error < 0)
		log_debug("libvirt %s: %s", s->uri, s->message ? s->message : strerror(-s->error));
	if (s->virt)
		virt_session_opened(s->virt, s);
	session_unref(s);
}

static int session_new(struct virt *v, struct session **ret)
{
	struct session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->refs = 1;
	s->virt = v;
	s->workers = v->workers;
	s->event_id = -1;
	s->uri = strdup(v->uri);
	s->pid_dir = v->pid_dir ? strdup(v->pid_dir) : NULL;
	s->lost_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = !s->uri || (v->pid_dir && !s->pid_dir) ? -ENOMEM : s->lost_fd < 0 ? -errno : 0;
	if (r == 0)
		r = sd_event_add_io(v->event, &s->lost_source, s->lost_fd, EPOLLIN, on_lost, s);
	if (r < 0) {
		session_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int session_open(struct virt *v, struct session **ret)
{
	struct session *s;
	int r;

	r = session_new(v, &s);
	if (r < 0)
		return r;
	r = workers_submit(v->workers, WORK_LANE_VIRT_CTL, WORK_NORMAL, 0, open_run, open_done, session_ref(s), NULL);
	if (r < 0) {
		session_free(s);
		return r;
	}
	*ret = s;
	return 0;
}
