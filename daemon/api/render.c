/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sandbox object of the contract (section 2.1), with what this project adds at its end. */
#include "api/api.h"
#include "policy/policy.h"
#include "util/clock.h"

#define ENVD_PORT 49983

static void put_time(json_object *o, const char *key, uint64_t usec)
{
	char text[CLOCK_TEXT_MAX];

	clock_format(usec, text);
	json_put_string(o, key, usec ? text : NULL);
}

static void put_echo(json_object *o, const char *key, json_object *value)
{
	json_put(o, key, value ? json_object_get(value) : NULL);
}

/* What of the policy is in force, and what of it is not and therefore closed */
json_object *api_policy_enforcement(const struct sandbox *sb)
{
	const struct policy *policy = sb->options.policy;
	json_object *o = json_object_new_object();

	if (!o)
		return NULL;
	json_put_string(o, "egress", policy ? policy_mode(policy) : "closed");
	json_put_string(o, "reason", sb->options.inspection ? "inspection_unavailable" : NULL);
	json_put_string(o, "message", sb->options.inspection ?
			"The policy asks for traffic to be inspected, which this version cannot do; all egress stays closed." :
			NULL);
	return o;
}

json_object *api_sandbox_object(const struct sandbox *sb)
{
	json_object *o = json_object_new_object(), *resources = json_object_new_object();

	if (!o || !resources) {
		json_object_put(o);
		json_object_put(resources);
		return NULL;
	}
	json_put_string(o, "sandbox_id", sb->id);
	json_put_string(o, "template_id", sb->template_id);
	json_put_string(o, "name", sb->options.name);
	json_put_string(o, "state", sandbox_state_name(sb->state));
	put_echo(o, "metadata", sb->options.metadata);
	put_echo(o, "envs", sb->options.envs);
	put_echo(o, "network", sb->options.network);
	put_echo(o, "security", sb->options.security);
	put_echo(o, "lifecycle", sb->options.lifecycle);
	json_put_int(o, "timeout", (int64_t)sb->options.timeout_sec);
	put_time(o, "started_at", sb->started_usec ?: sb->created_usec);
	put_time(o, "end_at", sb->state == SANDBOX_KILLED ? sb->ended_usec : sb->deadline_usec);
	json_put_string(o, "envd_access_token", sb->envd_token);
	json_put_string(o, "traffic_access_token", sb->traffic_token);
	json_put_string(o, "sandbox_domain", sb->manager->settings.sandbox_domain);
	json_put_int(o, "envd_port", ENVD_PORT);
	json_put_int(resources, "vcpus", (int64_t)sb->vcpus);
	json_put_int(resources, "memory_mb", (int64_t)sb->memory_mb);
	json_put_int(resources, "disk_mb", (int64_t)sb->disk_mb);
	json_put(o, "resources", resources);
	json_put(o, "policy_enforcement", api_policy_enforcement(sb));
	json_put_string(o, "accelerator", accel_name(&sb->manager->accel));
	json_put_string(o, "create_path", sb->state == SANDBOX_CREATING ? NULL : create_path_name(sb->path));
	json_put_string(o, "snapshot_id", *sb->from ? sb->from : NULL);
	json_put_string(o, "end_reason", sb->end ? sandbox_end_name(sb->end) : NULL);
	return o;
}
