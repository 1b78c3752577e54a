/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sandbox object: construction, state table, environment, waiters. What happens to it is in create.c, destroy.c. */
#include "core/sandbox.h"

#include <assert.h>
#include <string.h>

#include "core/console.h"
#include "core/egressctl.h"
#include "core/manager.h"
#include "core/metrics.h"
#include "core/proc.h"
#include "net/tap.h"
#include "policy/policy.h"
#include "util/clock.h"
#include "util/log.h"

static const char *const state_names[] = { "creating", "running", "paused", "killed" };
static_assert(ELEMENTSOF(state_names) == SANDBOX_STATE_MAX, "a name per state");

static const char *const end_names[] = {
	"", "request", "timeout", "guest_exit", "oom", "host_shutdown", "crash", "create_failed",
};
static_assert(ELEMENTSOF(end_names) == SANDBOX_END_MAX, "a name per reason");

static const char *const path_names[] = { "cold", "fork", "prestarted", "parked" };
static_assert(ELEMENTSOF(path_names) == CREATE_PATH_MAX, "a name per way");

static const char *const move_names[] = { "", "pausing", "resuming", "saving", "copying" };
static_assert(ELEMENTSOF(move_names) == SANDBOX_MOVE_MAX, "a name per move");

/* moves[from] is the set of states that may follow */
static const unsigned int moves[SANDBOX_STATE_MAX] = {
	[SANDBOX_CREATING] = 1u << SANDBOX_RUNNING | 1u << SANDBOX_KILLED,
	[SANDBOX_RUNNING] = 1u << SANDBOX_PAUSED | 1u << SANDBOX_CREATING | 1u << SANDBOX_KILLED,
	[SANDBOX_PAUSED] = 1u << SANDBOX_RUNNING | 1u << SANDBOX_CREATING | 1u << SANDBOX_KILLED,
	[SANDBOX_KILLED] = 0,
};

const char *sandbox_state_name(enum sandbox_state s)
{
	return s >= 0 && s < SANDBOX_STATE_MAX ? state_names[s] : "invalid";
}

enum sandbox_state sandbox_state_from_name(const char *name)
{
	for (size_t i = 0; i < ELEMENTSOF(state_names); i++)
		if (str_eq(name, state_names[i]))
			return (enum sandbox_state)i;
	return SANDBOX_STATE_INVALID;
}

const char *create_path_name(enum create_path path)
{
	return path < CREATE_PATH_MAX ? path_names[path] : "";
}

enum create_path create_path_from_name(const char *name)
{
	for (size_t i = 0; i < ELEMENTSOF(path_names); i++)
		if (str_eq(name, path_names[i]))
			return (enum create_path)i;
	return CREATE_COLD;
}

const char *sandbox_move_name(enum sandbox_move mv)
{
	return mv >= 0 && mv < SANDBOX_MOVE_MAX ? move_names[mv] : "";
}

enum sandbox_move sandbox_move_from_name(const char *name)
{
	for (size_t i = 0; i < ELEMENTSOF(move_names); i++)
		if (str_eq(name, move_names[i]))
			return (enum sandbox_move)i;
	return SANDBOX_MOVE_INVALID;
}

const char *sandbox_end_name(enum sandbox_end e)
{
	return e < SANDBOX_END_MAX ? end_names[e] : "";
}

enum sandbox_end sandbox_end_from_name(const char *name)
{
	for (size_t i = 0; i < ELEMENTSOF(end_names); i++)
		if (str_eq(name, end_names[i]))
			return (enum sandbox_end)i;
	return SANDBOX_END_NONE;
}

void sandbox_options_done(struct sandbox_options *o)
{
	free(o->name);
	free(o->policy_text);
	free(o->snapshot_id);
	free(o->tier);
	free(o->idem_key);
	free(o->idem_hash);
	cleanup_jsonp(&o->metadata);
	cleanup_jsonp(&o->envs);
	cleanup_jsonp(&o->network);
	cleanup_jsonp(&o->security);
	cleanup_jsonp(&o->lifecycle);
	policy_free(o->policy);
	memset(o, 0, sizeof(*o));
}

static void token_make(char *ret, size_t size, const char *prefix)
{
	char random[33];

	ident_fill(random, sizeof(random) - 1);
	snprintf(ret, size, "%s%s", prefix, random);
}

static void uuid_make(char ret[37])
{
	uint8_t b[16];

	random_bytes(b, sizeof(b));
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(ret, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
		 b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

int sandbox_new(struct manager *m, const char *id, const char *owner, struct sandbox_options *options, struct sandbox **ret)
{
	_cleanup_(cleanup_sandbox_unref) struct sandbox *sb = calloc(1, sizeof(*sb));

	if (!sb)
		return -ENOMEM;
	sb->manager = m;
	sb->refs = 1;
	list_init(&sb->link);
	list_init(&sb->procs);
	list_init(&sb->boot_link);
	list_init(&sb->create_waiters);
	list_init(&sb->destroy_waiters);
	list_init(&sb->move_waiters);
	sb->paused_fd = -EBADF;
	snprintf(sb->id, sizeof(sb->id), "%s", id);
	sb->owner = strdup(owner);
	if (!sb->owner)
		return -ENOMEM;
	sb->state = SANDBOX_CREATING;
	token_make(sb->envd_token, sizeof(sb->envd_token), "envd-tok-");
	token_make(sb->traffic_token, sizeof(sb->traffic_token), "traffic-");
	uuid_make(sb->uuid);
	snprintf(sb->tap, sizeof(sb->tap), "dcl%s", ident_short(id));
	snprintf(sb->unit, sizeof(sb->unit), SCOPE_FORMAT, id);
	tap_mac(id, sb->mac);
	sb->options = *options;
	memset(options, 0, sizeof(*options));
	if (sb->options.template) {
		const struct template *t = sb->options.template;

		sb->template_id = strdup(t->id);
		sb->image = strdup(t->rootfs);
		if (!sb->template_id || !sb->image)
			return -ENOMEM;
		sb->vcpus = t->vcpus;
		sb->memory_mb = t->memory_mb;
		sb->disk_mb = t->disk_mb;
	}
	*ret = TAKE_PTR(sb);
	return 0;
}

struct sandbox *sandbox_ref(struct sandbox *sb)
{
	if (sb)
		sb->refs++;
	return sb;
}

struct sandbox *sandbox_unref(struct sandbox *sb)
{
	if (!sb || --sb->refs > 0)
		return NULL;
	assert(list_empty(&sb->create_waiters) && list_empty(&sb->destroy_waiters) && list_empty(&sb->move_waiters));
	sd_event_source_disable_unref(sb->move_timer);
	sd_event_source_disable_unref(sb->end_timer);
	sd_event_source_disable_unref(sb->deadline_timer);
	sd_event_source_disable_unref(sb->fork_timer);
	fd_close(sb->paused_fd);
	metrics_free(sb);
	proc_drop_all(sb);
	agent_free(sb->agent);
	list_unlink(&sb->link);
	sandbox_options_done(&sb->options);
	free(sb->owner);
	egressctl_free(sb);
	free(sb->template_id);
	free(sb->image);
	free(sb->idem_name);
	free(sb->idem_reply);
	console_free(sb->console);
	free(sb);
	return NULL;
}

void sandbox_set_state(struct sandbox *sb, enum sandbox_state state)
{
	assert(moves[sb->state] & 1u << state);
	sb->state = state;
	if (state == SANDBOX_KILLED)
		sb->ended_usec = clock_realtime();
}

char *sandbox_path(const struct sandbox *sb, const char *file)
{
	return str_format("%s/sandboxes/%s%s%s", sb->manager->settings.state_dir, sb->id, file ? "/" : "", file ?: "");
}

char *sandbox_run_path(const struct sandbox *sb, const char *file)
{
	return str_format("%s/vm/%s%s%s", sb->manager->settings.run_dir, sb->id, file ? "/" : "", file ?: "");
}

int sandbox_wait(struct list *waiters, sandbox_done_fn fn, void *userdata)
{
	struct sandbox_waiter *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->fn = fn;
	w->userdata = userdata;
	list_append(waiters, &w->link);
	return 0;
}

void sandbox_wake(struct list *waiters, enum fault fault, const char *detail)
{
	struct sandbox_waiter *w;
	bool found;

	/* Who is woken may wait again, for the next end; who has not been woken yet may be taken out */
	list_foreach(waiters, w, struct sandbox_waiter, link)
		w->due = true;
	do {
		found = false;
		list_foreach(waiters, w, struct sandbox_waiter, link)
			if (w->due) {
				list_unlink(&w->link);
				w->fn(w->userdata, fault, detail);
				free(w);
				found = true;
				break;
			}
	} while (found);
}

void sandbox_unwait(struct list *waiters, const void *userdata)
{
	struct sandbox_waiter *w;

	list_foreach(waiters, w, struct sandbox_waiter, link)
		if (w->userdata == userdata) {
			list_unlink(&w->link);
			free(w);
		}
}

static int env_push(char ***v, const char *name, const char *value)
{
	_cleanup_free_ char *s = str_format("%s=%s", name, value);

	return s ? strv_push(v, s) : -ENOMEM;
}

static bool is_injected(const char *name)
{
	return str_eq(name, "DECLAW_SANDBOX_ID") || str_eq(name, "DECLAW_TEMPLATE_ID") || str_eq(name, "DECLAW_SANDBOX") ||
	       str_eq(name, "DECLAW_SECURITY_POLICY");
}

/* Later settings of a name win: the guest keeps the last one, and so does execve() in every libc we know of not, so
 * names that come again are left out here. */
static int env_push_object(char ***v, json_object *o, json_object *over)
{
	if (!o)
		return 0;
	json_object_object_foreach(o, key, value) {
		int r;

		if (is_injected(key) || (over && json_has(over, key)))
			continue;
		r = env_push(v, key, json_object_get_string(value));
		if (r < 0)
			return r;
	}
	return 0;
}

int sandbox_env(const struct sandbox *sb, json_object *extra, char ***ret)
{
	_cleanup_strv_ char **v = NULL;
	int r;

	r = env_push_object(&v, sb->options.envs, extra);
	if (r == 0)
		r = env_push_object(&v, extra, NULL);
	if (r == 0)
		r = env_push(&v, "DECLAW_SANDBOX_ID", sb->id);
	if (r == 0)
		r = env_push(&v, "DECLAW_TEMPLATE_ID", sb->template_id);
	if (r == 0)
		r = env_push(&v, "DECLAW_SANDBOX", "true");
	if (r == 0)
		r = env_push(&v, "DECLAW_SECURITY_POLICY", sb->options.policy_text ?: "{}");
	if (r < 0)
		return r;
	*ret = TAKE_PTR(v);
	return 0;
}
