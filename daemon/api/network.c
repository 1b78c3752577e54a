/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GET and PATCH /sandboxes/{id}/network, this project's extensions: what holds a sandbox's egress now, and another
 * policy for it.
 *
 * PATCH takes members of the `network` object; those that are not named stay, null takes one away. It is answered when
 * the new policy is in force, for connections that exist as well.
 */
#include <string.h>

#include "api/api.h"
#include "core/egress.h"
#include "core/manager.h"

struct network_call {
	struct http_request *req;	/* NULL: nobody waits any more */
	struct sandbox *sb;
};

static void call_cancelled(void *userdata)
{
	struct network_call *c = userdata;

	c->req = NULL;
}

static struct network_call *call_new(struct http_request *req, struct sandbox *sb)
{
	struct network_call *c = malloc(sizeof(*c));

	if (!c) {
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return NULL;
	}
	*c = (struct network_call){ .req = req, .sb = sandbox_ref(sb) };
	http_request_on_cancel(req, call_cancelled, c);
	return c;
}

static struct http_request *call_take(struct network_call *c)
{
	struct http_request *req = c->req;

	if (req)
		http_request_on_cancel(req, NULL, NULL);
	sandbox_unref(c->sb);
	free(c);
	return req;
}

static json_object *render(const struct sandbox *sb)
{
	json_object *o = json_object_new_object();

	if (!o)
		return NULL;
	json_put(o, "network", sb->options.network ? json_object_get(sb->options.network) : NULL);
	json_put_string(o, "address", sb->address);
	json_put(o, "policy", sb->options.policy ? policy_to_json(sb->options.policy) : NULL);
	json_put(o, "policy_enforcement", api_policy_enforcement(sb));
	return o;
}

/* --- GET --- */

static void shown(void *userdata, int error, const char *text)
{
	struct network_call *c = userdata;
	json_object *o = render(c->sb), *rules = NULL, *root = NULL;
	const char *why;
	struct http_request *req = call_take(c);

	if (o && error == 0 && json_parse(text, strlen(text), &root, &why) == 0 && json_get_array(root, "nftables", &rules) == 0)
		json_put(o, "rules", json_object_get(rules));
	json_object_put(root);
	if (req)
		api_reply(req, 200, o);
	else
		json_object_put(o);
}

void network_get(struct http_request *req, void *userdata)
{
	struct manager *m = userdata;
	struct sandbox *sb = api_sandbox(m, req);
	struct network_call *c;

	if (!sb)
		return;
	if (sb->state == SANDBOX_KILLED || !(sb->held & HELD_RULES)) {
		api_reply(req, 200, render(sb));
		return;
	}
	c = call_new(req, sb);
	if (c)
		firewall_show(m->firewall, ident_short(sb->id), shown, c);
}

/* --- PATCH --- */

static void changed(void *userdata, enum fault fault, const char *detail)
{
	struct network_call *c = userdata;
	struct sandbox *sb = sandbox_ref(c->sb);
	struct http_request *req = call_take(c);

	if (req && fault != FAULT_NONE)
		api_fail(req, fault, detail);
	else if (req)
		api_reply(req, 200, render(sb));
	sandbox_unref(sb);
}

/* The members that are named, over those of now */
static json_object *merge(json_object *now, json_object *body)
{
	json_object *o = json_object_new_object();

	if (o && now) {
		json_object_object_foreach(now, key, value)
			json_put(o, key, value ? json_object_get(value) : NULL);
	}
	if (o) {
		json_object_object_foreach(body, key, value) {
			if (value)
				json_put(o, key, json_object_get(value));
			else
				json_object_object_del(o, key);
		}
	}
	return o;
}

void network_patch(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox_live(userdata, req);
	_cleanup_json_ json_object *body = NULL, *network = NULL;
	_cleanup_free_ char *detail = NULL;
	struct egress_change change = { NULL, NULL };
	struct network_call *c;
	enum fault fault;

	if (!sb)
		return;
	body = api_body(req);
	if (!body)
		return;
	network = merge(sb->options.network, body);
	fault = api_network_parse(network, sb->options.inspection, &change, &detail);
	if (fault != FAULT_NONE) {
		api_fail(req, fault, detail);
		return;
	}
	c = call_new(req, sb);
	fault = c ? egress_change(sb, &change, changed, c) : FAULT_NONE;
	if (fault != FAULT_NONE)
		api_fail(call_take(c), fault, NULL);
	cleanup_jsonp(&change.network);
	policy_free(change.policy);
}
