/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Domain life-cycle events of the control connection -> virt_ops.
 *
 * libvirt queues events and delivers them from a timer of its event loop, so the callback is on the loop thread. An
 * event may come before the callback of the call that caused it. Between registration and virt_ops.connected(true)
 * they are dropped: the reconciliation that follows reads the state anyway.
 */
#include "virt/session.h"

static int stop_detail(int event, int detail)
{
	if (event == VIR_DOMAIN_EVENT_CRASHED)
		return VIRT_STOP_CRASHED;
	switch (detail) {
	case VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
		return VIRT_STOP_SHUTDOWN;
	case VIR_DOMAIN_EVENT_STOPPED_DESTROYED:
		return VIRT_STOP_DESTROYED;
	case VIR_DOMAIN_EVENT_STOPPED_CRASHED:
		return VIRT_STOP_CRASHED;
	case VIR_DOMAIN_EVENT_STOPPED_SAVED:
	case VIR_DOMAIN_EVENT_STOPPED_MIGRATED:
		return VIRT_STOP_SAVED;
	default:
		return VIRT_STOP_FAILED;
	}
}

static int pause_detail(int detail)
{
	return detail == VIR_DOMAIN_EVENT_SUSPENDED_IOERROR ? VIRT_PAUSE_IOERROR : VIRT_PAUSE_OTHER;
}

static int shutdown_detail(int detail)
{
	switch (detail) {
	case VIR_DOMAIN_EVENT_SHUTDOWN_GUEST:
		return VIRT_SHUTDOWN_GUEST;
	case VIR_DOMAIN_EVENT_SHUTDOWN_HOST:
		return VIRT_SHUTDOWN_HOST;
	default:
		return VIRT_SHUTDOWN_UNKNOWN;
	}
}

static int on_lifecycle(virConnectPtr conn _unused_, virDomainPtr dom, int event, int detail, void *opaque)
{
	struct session *s = opaque;
	struct virt *v = s->virt;
	const char *name = virDomainGetName(dom);

	if (!v || !v->up || !name)
		return 0;
	switch (event) {
	case VIR_DOMAIN_EVENT_STOPPED:
	case VIR_DOMAIN_EVENT_CRASHED:
		v->ops->domain_event(v->userdata, name, VIRT_EVENT_STOPPED, stop_detail(event, detail));
		break;
	case VIR_DOMAIN_EVENT_SUSPENDED:
		v->ops->domain_event(v->userdata, name, VIRT_EVENT_PAUSED, pause_detail(detail));
		break;
	case VIR_DOMAIN_EVENT_RESUMED:
		v->ops->domain_event(v->userdata, name, VIRT_EVENT_RESUMED, 0);
		break;
	case VIR_DOMAIN_EVENT_SHUTDOWN:
		v->ops->domain_event(v->userdata, name, VIRT_EVENT_SHUTDOWN, shutdown_detail(detail));
		break;
	default:
		break;
	}
	return 0;
}

int events_register(struct session *s)
{
	s->event_id = virConnectDomainEventRegisterAny(s->conn[SESSION_CONTROL], NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
						       VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), s, NULL);
	return s->event_id < 0 ? work_error(&s->message) : 0;
}
