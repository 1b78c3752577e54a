/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SHUTDOWN. The reply goes out first: agent_run() powers off after the turn that sent it. Not init: only
 * the agent ends.
 */
#include "agent.h"
#include "ops.h"

void op_shutdown(struct request *r, _unused_ const struct args *g)
{
	request_done(r, NULL);
	r->agent->verdict = r->agent->init ? AGENT_POWEROFF : AGENT_STOP;
}
