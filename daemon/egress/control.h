/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * declawd's end of the control channel: a socket that only the workers' users may speak on, one connection for each instance
 * of a role.
 *
 * Who connects is judged by its uid, as the kernel knows it. A second one of an instance replaces the first: a
 * worker that was restarted is not kept out by what is left of its predecessor. Peers are named by numbers, so that an answer that
 * takes a while to make finds nobody when its asker is gone.
 */
#ifndef DECLAW_EGRESS_CONTROL_H
#define DECLAW_EGRESS_CONTROL_H

#include <systemd/sd-event.h>

#include "chan/line.h"

struct control;

struct control_ops {
	/* It said hello: tell it everything, end with CHAN_SYNCED. */
	void (*joined)(void *userdata, uint64_t peer, enum chan_role role);
	/* CHAN_PIN (of a resolver only), CHAN_AUDIT, CHAN_LOST */
	void (*message)(void *userdata, uint64_t peer, enum chan_role role, const struct chan_msg *m);
};

/* uids by role; (uid_t)-1 = nobody. Removes what is at path; path's directory exists. */
int control_new(sd_event *event, const char *path, const uid_t uids[CHAN_ROLE_MAX], const struct control_ops *ops,
		void *userdata, struct control **ret);
/* Also removes the socket. */
struct control *control_free(struct control *c);
void control_send(struct control *c, uint64_t peer, const struct chan_msg *m);
/* To all that said hello, or those of one role */
void control_send_role(struct control *c, enum chan_role role, const struct chan_msg *m);
void control_send_all(struct control *c, const struct chan_msg *m);
bool control_has(const struct control *c, enum chan_role role);

#endif
