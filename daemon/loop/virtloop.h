/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvirt's event implementation on an epoll set of its own, nested in sd-event.
 *
 * libvirt calls the update functions from whichever thread does RPC, so nothing here touches sd-event after
 * virtloop_new(): epoll_ctl() and timerfd_settime() are thread-safe and wake the loop by themselves. Register before
 * the first virConnectOpen(). One per process.
 */
#ifndef DECLAW_VIRTLOOP_H
#define DECLAW_VIRTLOOP_H

#include <systemd/sd-event.h>

struct virtloop;
int virtloop_new(sd_event *event, struct virtloop **ret);
struct virtloop *virtloop_free(struct virtloop *l);

#endif
