/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sandbox.json: one small file per sandbox, replaced atomically.
 *
 * Files rather than a database: the state of a sandbox is one record that is written whole and read once at start, its
 * directory is the unit of creation and removal anyway, and a rename needs no recovery of its own. No fsync: what runs
 * does not survive a power cut, so its record need not either; what must (sync = true) says so.
 *
 * A live sandbox's record is <state>/sandboxes/<id>/sandbox.json; a killed one's is <state>/ended/<id>.json, so that
 * removing the directory and keeping the record readable are not in each other's way.
 */
#include <string.h>
#include <sys/stat.h>

#include "core/egress.h"
#include "core/manager.h"
#include "core/snapshot.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

#define STORE_MAX (4u << 20)	/* all that limits.h lets in, with every byte escaped */

static char *store_path(const struct manager *m, const char *id, bool ended)
{
	return ended ? str_format("%s/ended/%s.json", m->settings.state_dir, id) :
		       str_format("%s/sandboxes/%s/sandbox.json", m->settings.state_dir, id);
}

static int put_ref(json_object *o, const char *key, json_object *value)
{
	return json_put(o, key, value ? json_object_get(value) : NULL);
}

static int store_render(const struct sandbox *sb, json_object **ret)
{
	_cleanup_json_ json_object *o = json_object_new_object();
	const struct { const char *key, *value; } strings[] = {
		{ "id", sb->id }, { "owner", sb->owner }, { "name", sb->options.name },
		{ "template_id", sb->template_id }, { "state", sandbox_state_name(sb->state) },
		{ "end", sandbox_end_name(sb->end) }, { "create_path", create_path_name(sb->path) }, { "snapshot", sb->snapshot }, { "from", sb->from }, { "image", sb->image }, { "envd_token", sb->envd_token },
		{ "moving", sandbox_move_name(sb->moving) }, { "traffic_token", sb->traffic_token }, { "uuid", sb->uuid }, { "policy_text", sb->options.policy_text },
		{ "address", sb->address }, { "tier", sb->options.tier }, { "idem_key", sb->options.idem_key }, { "idem_hash", sb->options.idem_hash },
		{ "idem_reply", sb->idem_reply },
	};
	const struct { const char *key; uint64_t value; } numbers[] = {
		{ "vcpus", sb->vcpus }, { "memory_mb", sb->memory_mb }, { "disk_mb", sb->disk_mb },
		{ "timeout_sec", sb->options.timeout_sec }, { "created", sb->created_usec },
		{ "started", sb->started_usec }, { "window", sb->window_usec }, { "paused", sb->paused_usec }, { "deadline", sb->deadline_usec }, { "ended", sb->ended_usec },
		{ "layers", sb->layers }, { "made", sb->made }, { "held", sb->held }, { "role", sb->role }, { "pid", (uint64_t)sb->pid },
	};
	_cleanup_free_ char *agent_id = str_format("%016llx", (unsigned long long)sb->agent_id);
	int r = o && agent_id ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(strings); i++)
		r = json_put_string(o, strings[i].key, strings[i].value);
	for (size_t i = 0; r == 0 && i < ELEMENTSOF(numbers); i++)
		r = json_put_int(o, numbers[i].key, (int64_t)numbers[i].value);
	if (r == 0)
		r = json_put_string(o, "agent_id", agent_id);
	if (r == 0)
		r = put_ref(o, "metadata", sb->options.metadata);
	if (r == 0)
		r = put_ref(o, "envs", sb->options.envs);
	if (r == 0)
		r = put_ref(o, "network", sb->options.network);
	if (r == 0)
		r = put_ref(o, "security", sb->options.security);
	if (r == 0)
		r = put_ref(o, "lifecycle", sb->options.lifecycle);
	if (r == 0)
		r = json_put_bool(o, "inspection", sb->options.inspection);
	if (r == 0)
		r = json_put_bool(o, "secure", sb->options.secure);
	if (r == 0)
		r = json_put_bool(o, "pause_on_timeout", sb->options.pause_on_timeout);
	if (r == 0)
		r = json_put_bool(o, "auto_resume", sb->options.auto_resume);
	if (r == 0)
		r = json_put_bool(o, "on_disk", sb->on_disk);
	if (r == 0)
		r = json_put_bool(o, "restoring", sb->restoring);
	if (r == 0)
		r = json_put_bool(o, "fetched", sb->fetched);
	if (r == 0)
		*ret = TAKE_PTR(o);
	return r;
}

int store_save(const struct sandbox *sb, bool sync)
{
	_cleanup_json_ json_object *o = NULL;
	_cleanup_free_ char *path = store_path(sb->manager, sb->id, sb->state == SANDBOX_KILLED);
	const char *text;
	size_t len;
	int r;

	if (!path)
		return -ENOMEM;
	r = store_render(sb, &o);
	if (r < 0)
		return r;
	text = json_text(o, &len);
	return text ? file_write_atomic(path, text, len, 0600, sync) : -ENOMEM;
}

int sandbox_save(struct sandbox *sb)
{
	int r = store_save(sb, false);

	if (r < 0)
		log_sandbox(LOG_ERR, sb->id, NULL, r, "The record of %s cannot be written: %m", sb->id);
	return r;
}

static json_object *take_member(json_object *o, const char *key)
{
	json_object *v = NULL;

	json_object_object_get_ex(o, key, &v);
	return v ? json_object_get(v) : NULL;
}

static uint64_t get_number(json_object *o, const char *key)
{
	int64_t v = 0;

	json_get_int(o, key, 0, INT64_MAX, &v);
	return (uint64_t)v;
}

static const char *get_text(json_object *o, const char *key)
{
	const char *s = NULL;

	json_get_string(o, key, &s);
	return s ?: "";
}

static int options_parse(const struct manager *m, json_object *o, struct sandbox_options *ret)
{
	const char *key, *hash, *tier;

	ret->name = strdup(get_text(o, "name"));
	ret->policy_text = strdup(get_text(o, "policy_text"));
	ret->template = template_find(&m->templates, get_text(o, "template_id"));
	ret->timeout_sec = get_number(o, "timeout_sec");
	ret->metadata = take_member(o, "metadata");
	ret->envs = take_member(o, "envs");
	ret->network = take_member(o, "network");
	ret->security = take_member(o, "security");
	ret->lifecycle = take_member(o, "lifecycle");
	json_get_bool(o, "inspection", &ret->inspection);
	if (json_get_string(o, "tier", &tier) == 0)
		ret->tier = strdup(tier);
	if (json_get_string(o, "idem_key", &key) == 0 && json_get_string(o, "idem_hash", &hash) == 0) {
		ret->idem_key = strdup(key);
		ret->idem_hash = strdup(hash);
	}
	json_get_bool(o, "secure", &ret->secure);
	json_get_bool(o, "pause_on_timeout", &ret->pause_on_timeout);
	json_get_bool(o, "auto_resume", &ret->auto_resume);
	return ret->name && ret->policy_text ? 0 : -ENOMEM;
}

static int record_parse(struct manager *m, const char *id, json_object *o, struct sandbox **ret)
{
	struct sandbox_options options = { 0 };
	const char *reply;
	_cleanup_(cleanup_sandbox_unref) struct sandbox *sb = NULL;
	int r;

	if (!str_eq(get_text(o, "id"), id) || !*get_text(o, "owner") || !*get_text(o, "template_id") ||
	    sandbox_state_from_name(get_text(o, "state")) < 0)
		return -EBADMSG;
	r = options_parse(m, o, &options);
	if (r == 0)
		r = sandbox_new(m, id, get_text(o, "owner"), &options, &sb);
	if (r < 0) {
		sandbox_options_done(&options);
		return r;
	}
	free(sb->template_id);
	sb->template_id = strdup(get_text(o, "template_id"));
	if (!sb->template_id)
		return -ENOMEM;
	snprintf(sb->envd_token, sizeof(sb->envd_token), "%s", get_text(o, "envd_token"));
	snprintf(sb->traffic_token, sizeof(sb->traffic_token), "%s", get_text(o, "traffic_token"));
	snprintf(sb->address, sizeof(sb->address), "%s", get_text(o, "address"));
	sb->path = create_path_from_name(get_text(o, "create_path"));
	if (*get_text(o, "image")) {
		free(sb->image);
		sb->image = strdup(get_text(o, "image"));
		if (!sb->image)
			return -ENOMEM;
	}
	snprintf(sb->snapshot, sizeof(sb->snapshot), "%s", get_text(o, "snapshot"));
	snprintf(sb->from, sizeof(sb->from), "%s", get_text(o, "from"));
	sb->layers = (unsigned int)MIN_OF(get_number(o, "layers"), (uint64_t)SNAPSHOT_LAYERS_MAX);
	sb->role = (enum sandbox_role)MIN_OF(get_number(o, "role"), (uint64_t)SANDBOX_ROLE_MAX - 1);
	snprintf(sb->uuid, sizeof(sb->uuid), "%s", get_text(o, "uuid"));
	sb->state = sandbox_state_from_name(get_text(o, "state"));
	sb->end = sandbox_end_from_name(get_text(o, "end"));
	sb->vcpus = get_number(o, "vcpus");
	sb->memory_mb = get_number(o, "memory_mb");
	sb->disk_mb = get_number(o, "disk_mb");
	sb->created_usec = get_number(o, "created");
	sb->started_usec = get_number(o, "started");
	if (json_get_string(o, "idem_reply", &reply) == 0)
		sb->idem_reply = strdup(reply);
	sb->window_usec = get_number(o, "window");
	sb->paused_usec = get_number(o, "paused");
	sb->moving = sandbox_move_from_name(get_text(o, "moving"));
	if (sb->moving < 0)
		sb->moving = SANDBOX_MOVE_NONE;
	json_get_bool(o, "on_disk", &sb->on_disk);
	json_get_bool(o, "restoring", &sb->restoring);
	sb->made = (enum create_path)MIN_OF(get_number(o, "made"), (uint64_t)CREATE_PATH_MAX - 1);
	json_get_bool(o, "fetched", &sb->fetched);
	sb->deadline_usec = get_number(o, "deadline");
	sb->ended_usec = get_number(o, "ended");
	sb->held = sb->state == SANDBOX_KILLED ? (unsigned int)get_number(o, "held") & HELD_ALL : HELD_ALL;
	sb->destroying = sb->state == SANDBOX_KILLED;
	sb->pid = (pid_t)get_number(o, "pid");
	sb->agent_id = strtoull(get_text(o, "agent_id"), NULL, 16);
	if (sb->state != SANDBOX_KILLED) {
		r = egress_prepare(sb);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(sb);
	return 0;
}

static int load_path(struct manager *m, const char *id, const char *path, struct sandbox **ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT(STORE_MAX);
	_cleanup_json_ json_object *o = NULL;
	const char *error = NULL;
	int r;

	r = file_read(path, STORE_MAX, &text);
	if (r < 0)
		return r;
	r = json_parse(text.data ?: "", text.len, &o, &error);
	if (r != 0)
		return r < 0 ? r : -EBADMSG;
	return record_parse(m, id, o, ret);
}

int store_load(struct manager *m, const char *id, struct sandbox **ret)
{
	_cleanup_free_ char *ended = store_path(m, id, true), *live = store_path(m, id, false);
	int r;

	if (!ended || !live)
		return -ENOMEM;
	/* The record of the end is the later one */
	r = load_path(m, id, ended, ret);
	return r == -ENOENT ? load_path(m, id, live, ret) : r;
}
