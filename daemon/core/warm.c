/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/warm.h"

#include "core/manager.h"
#include "util/log.h"

static void warm_next(struct sandbox *sb);

static void finish(struct sandbox *sb, bool ok)
{
	void (*fn)(struct sandbox *, bool) = sb->warm.fn;

	sb->warm.fn = NULL;
	if (fn)
		fn(sb, ok);
}

static void started(void *userdata, int error, uint32_t pid _unused_)
{
	struct sandbox *sb = userdata;

	if (!error || sb->destroying)
		return;
	log_sandbox(LOG_NOTICE, sb->id, NULL, error < 0 ? error : -error, "No command runs in %s to warm it up: %m", sb->id);
	finish(sb, false);
}

static void warm_next(struct sandbox *sb)
{
	const char *const argv[] = { "/bin/bash", "-c", sb->warm.script, NULL };
	const char *const env[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	const struct agent_proc_spec spec = { .token = sb->warm.token = random_u64() | 1, .argv = argv, .env = env, .user = "user" };

	if (agent_proc_start(sb->agent, &spec, started, sb) < 0)
		finish(sb, false);
}

void warm_run(struct sandbox *sb, const char *script, unsigned int times, void (*fn)(struct sandbox *sb, bool ok))
{
	sb->warm.script = script;
	sb->warm.left = times;
	sb->warm.fn = fn;
	warm_next(sb);
}

void warm_exited(struct sandbox *sb, const struct agent_exit *ex)
{
	agent_proc_forget(sb->agent, ex->pid);
	if (!sb->warm.fn || ex->token != sb->warm.token)
		return;
	if (--sb->warm.left > 0)
		warm_next(sb);
	else
		finish(sb, true);	/* whatever its status: it has run */
}
