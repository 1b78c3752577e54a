/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the routes that start processes (commands, stdio, pty) share. */
#ifndef DECLAW_PROCAPI_H
#define DECLAW_PROCAPI_H

#include "api/api.h"

/*
 * Fills cmd, user, cwd and envs of spec from the body; spec->envs is a reference of the caller's, the rest is borrowed from body.
 * *timeout (seconds) stays as it is when the body has none, and *ret_given tells. On a fault *ret_detail is malloc'ed.
 */
enum fault procapi_parse(json_object *body, bool need_cmd, struct proc_spec *spec, double *timeout, bool *ret_given,
			 char **ret_detail);
/*
 * Starts it and answers with what answer() makes of it. A client that leaves before it could learn the id takes the
 * process with it: nobody could ever find it again. Takes over req.
 */
void procapi_start(struct http_request *req, struct sandbox *sb, const struct proc_spec *spec,
		   json_object *(*answer)(const struct proc *p));
/* Answers {"killed":bool} */
void procapi_kill(struct http_request *req, struct proc *p);

#endif
