/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nftables as JSON. One document is one transaction: all of it or nothing.
 *
 * Closed is the default in three layers, none of which depends on a sandbox's own rules:
 *  - what comes from an interface dcl* is dispatched in prerouting, before connection tracking: through the map to the
 *    sandbox's chain, and dropped when there is no element or the chain returns;
 *  - input and forward drop what comes from dcl*, forward and output what would go to it;
 *  - ARP from and to dcl* is dropped in a table of the arp family, because the inet family never sees it.
 * Base chains are flushed and filled again in one transaction, so an upgrade never leaves a gap. nftables 1.0.6 has no
 * "destroy": removal adds first what it deletes, which succeeds whether it was there or not.
 */
#include <string.h>

#include "net/ruleset.h"
#include "util/json.h"

#define TABLE "declaw"
#define MAP "sandboxes"
#define OURS "dcl*"
#define SHORT_MAX 16
#define IFNAME_MAX 15

/* Collects commands; the first failure stays in r, and every function does nothing after it. */
struct doc {
	json_object *commands;
	int r;
};

static bool name_ok(const char *s, size_t max)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789");

	return n > 0 && n <= max && !s[n];
}

static void put(struct doc *d, json_object *o, const char *key, json_object *value)
{
	if (!value || !o) {
		json_object_put(value);
		d->r = -ENOMEM;
	} else if (json_put(o, key, value) < 0) {
		d->r = -ENOMEM;
	}
}

static json_object *object1(struct doc *d, const char *key, json_object *value)
{
	json_object *o = json_object_new_object();

	put(d, o, key, value);
	return o;
}

static json_object *text(const char *s)
{
	return json_object_new_string(s);
}

static void array_add(struct doc *d, json_object *array, json_object *value)
{
	if (!array || !value || json_object_array_add(array, value) < 0) {
		json_object_put(value);
		d->r = -ENOMEM;
	}
}

/* {"add": {"chain": {"family": ..., "table": "declaw", ...}}}; returns the innermost object, owned by the document. */
static json_object *command(struct doc *d, const char *verb, const char *kind, const char *family)
{
	json_object *body = json_object_new_object();

	put(d, body, "family", text(family));
	put(d, body, strcmp(kind, "table") == 0 ? "name" : "table", text(TABLE));
	array_add(d, d->commands, object1(d, verb, object1(d, kind, body)));
	return d->r < 0 ? NULL : body;
}

static void chain(struct doc *d, const char *verb, const char *family, const char *name)
{
	put(d, command(d, verb, "chain", family), "name", text(name));
}

static void base_chain(struct doc *d, const char *family, const char *name, const char *hook, int priority)
{
	json_object *body = command(d, "add", "chain", family);

	put(d, body, "name", text(name));
	put(d, body, "type", text("filter"));
	put(d, body, "hook", text(hook));
	put(d, body, "prio", json_object_new_int(priority));
	put(d, body, "policy", text("accept"));
	chain(d, "flush", family, name);
}

static json_object *meta(struct doc *d, const char *key)
{
	return object1(d, "meta", object1(d, "key", text(key)));
}

static json_object *match_ours(struct doc *d, const char *key)
{
	json_object *m = json_object_new_object();

	put(d, m, "op", text("=="));
	put(d, m, "left", meta(d, key));
	put(d, m, "right", text(OURS));
	return object1(d, "match", m);
}

/* A statement without arguments, {"drop": null}. */
static json_object *statement(struct doc *d, const char *name)
{
	json_object *o = json_object_new_object();

	if (!o || json_put(o, name, NULL) < 0)
		d->r = -ENOMEM;
	return o;
}

static json_object *jump(struct doc *d, const char *target)
{
	return object1(d, "jump", object1(d, "target", text(target)));
}

static void rule(struct doc *d, const char *family, const char *in_chain, json_object *a, json_object *b,
		 json_object *c)
{
	json_object *body = command(d, "add", "rule", family), *expr = json_object_new_array();

	put(d, body, "chain", text(in_chain));
	array_add(d, expr, a);
	if (b)
		array_add(d, expr, b);
	if (c)
		array_add(d, expr, c);
	put(d, body, "expr", expr);
}

static void rule_drop_ours(struct doc *d, const char *family, const char *in_chain, const char *key)
{
	rule(d, family, in_chain, match_ours(d, key), statement(d, "counter"), statement(d, "drop"));
}

static json_object *dispatch(struct doc *d)
{
	json_object *v = json_object_new_object();

	put(d, v, "key", meta(d, "iifname"));
	put(d, v, "data", text("@" MAP));
	return object1(d, "vmap", v);
}

static void map(struct doc *d)
{
	json_object *body = command(d, "add", "map", "inet");

	put(d, body, "name", text(MAP));
	put(d, body, "type", text("ifname"));
	put(d, body, "map", text("verdict"));
}

static void element(struct doc *d, const char *verb, const char *tap, const char *target)
{
	json_object *body = command(d, verb, "element", "inet");
	json_object *pair = json_object_new_array(), *list = json_object_new_array();

	put(d, body, "name", text(MAP));
	array_add(d, pair, text(tap));
	array_add(d, pair, jump(d, target));
	array_add(d, list, pair);
	put(d, body, "elem", list);
}

static int doc_take(struct doc *d, char **ret)
{
	_cleanup_json_ json_object *root = object1(d, "nftables", d->commands);
	const char *s = d->r < 0 ? NULL : json_text(root, NULL);
	char *copy = s ? strdup(s) : NULL;

	if (!copy)
		return d->r < 0 ? d->r : -ENOMEM;
	*ret = copy;
	return 0;
}

#define DOC_INIT { .commands = json_object_new_array() }

static void base_inet(struct doc *d)
{
	command(d, "add", "table", "inet");
	map(d);
	chain(d, "add", "inet", "sandbox");
	chain(d, "flush", "inet", "sandbox");
	rule(d, "inet", "sandbox", dispatch(d), NULL, NULL);
	rule(d, "inet", "sandbox", statement(d, "counter"), statement(d, "drop"), NULL);
	base_chain(d, "inet", "prerouting", "prerouting", -300);
	rule(d, "inet", "prerouting", match_ours(d, "iifname"), jump(d, "sandbox"), NULL);
	base_chain(d, "inet", "input", "input", -10);
	rule_drop_ours(d, "inet", "input", "iifname");
	base_chain(d, "inet", "forward", "forward", -10);
	rule_drop_ours(d, "inet", "forward", "iifname");
	rule_drop_ours(d, "inet", "forward", "oifname");
	base_chain(d, "inet", "output", "output", -10);
	rule_drop_ours(d, "inet", "output", "oifname");
}

static void base_arp(struct doc *d)
{
	command(d, "add", "table", "arp");
	base_chain(d, "arp", "input", "input", -10);
	rule_drop_ours(d, "arp", "input", "iifname");
	base_chain(d, "arp", "output", "output", -10);
	rule_drop_ours(d, "arp", "output", "oifname");
}

int ruleset_base(char **ret)
{
	struct doc d = DOC_INIT;

	base_inet(&d);
	base_arp(&d);
	return doc_take(&d, ret);
}

static int sandbox_chain(const char *short_id, const char *tap, char ret[32])
{
	if (!name_ok(short_id, SHORT_MAX) || !name_ok(tap, IFNAME_MAX))
		return -EINVAL;
	snprintf(ret, 32, RULESET_CHAIN_PREFIX "%s", short_id);
	return 0;
}

int ruleset_close(const char *short_id, const char *tap, char **ret)
{
	struct doc d = { .r = 0 };
	char name[32];
	int r = sandbox_chain(short_id, tap, name);

	if (r < 0)
		return r;
	d.commands = json_object_new_array();
	chain(&d, "add", "inet", name);
	chain(&d, "flush", "inet", name);
	rule(&d, "inet", name, statement(&d, "counter"), statement(&d, "drop"), NULL);
	element(&d, "add", tap, name);
	return doc_take(&d, ret);
}

int ruleset_remove(const char *short_id, const char *tap, char **ret)
{
	struct doc d = { .r = 0 };
	char name[32];
	int r = sandbox_chain(short_id, tap, name);

	if (r < 0)
		return r;
	d.commands = json_object_new_array();
	chain(&d, "add", "inet", name);
	element(&d, "add", tap, name);
	element(&d, "delete", tap, name);
	chain(&d, "flush", "inet", name);
	chain(&d, "delete", "inet", name);
	return doc_take(&d, ret);
}

int ruleset_list(char **ret)
{
	struct doc d = DOC_INIT;

	/* Without a table: a missing one would be an error, and all chains of a family are no more work. */
	array_add(&d, d.commands, object1(&d, "list", object1(&d, "chains", object1(&d, "family", text("inet")))));
	return doc_take(&d, ret);
}

int ruleset_teardown(char **ret)
{
	struct doc d = DOC_INIT;

	command(&d, "add", "table", "inet");
	command(&d, "delete", "table", "inet");
	command(&d, "add", "table", "arp");
	command(&d, "delete", "table", "arp");
	return doc_take(&d, ret);
}
