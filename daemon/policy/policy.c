/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The contract's `network` object -> struct policy, and what it says about a name. See policy.h. */
#include <arpa/inet.h>
#include <string.h>

#include "policy/policy.h"

struct policy *policy_free(struct policy *p)
{
	if (!p)
		return NULL;
	for (size_t i = 0; i < p->n_allow_names; i++)
		free(p->allow_names[i].text);
	for (size_t i = 0; i < p->n_deny_names; i++)
		free(p->deny_names[i].text);
	free(p->allow_names);
	free(p->deny_names);
	free(p->allow_nets);
	free(p->deny_nets);
	free(p->mask_host);
	free(p);
	return NULL;
}

static bool everything(const char *s)
{
	static const char *const tokens[] = { "0.0.0.0/0", "*", "ALL_TRAFFIC", "::/0" };

	for (size_t i = 0; i < ELEMENTSOF(tokens); i++)
		if (str_eq(s, tokens[i]))
			return true;
	return false;
}

/* An address or range of IPv6, for a sentence that says so */
static bool is_ipv6(const char *s)
{
	char text[64];
	struct in6_addr in;
	size_t len = strcspn(s, "/");

	if (len >= sizeof(text))
		return false;
	memcpy(text, s, len);
	text[len] = '\0';
	return inet_pton(AF_INET6, text, &in) == 1;
}

struct lists {
	struct policy_net **nets;
	struct policy_name **names;
	size_t *n_nets, *n_names;
	bool all;
};

static int add_net(struct lists *l, const struct policy_net *n)
{
	struct policy_net *v = reallocarray(*l->nets, *l->n_nets + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	*l->nets = v;
	v[(*l->n_nets)++] = *n;
	return 0;
}

static int add_name(struct lists *l, bool wildcard, const char *name)
{
	struct policy_name *v = reallocarray(*l->names, *l->n_names + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	*l->names = v;
	v += *l->n_names;
	*v = (struct policy_name){ .wildcard = wildcard, .text = str_format("%s%s", wildcard ? "*." : "", name) };
	if (!v->text)
		return -ENOMEM;
	v->name = v->text + (wildcard ? 2 : 0);
	(*l->n_names)++;
	return 0;
}

/* What is wrong with an entry that is neither; a hint beats a grammar */
static const char *why_not(const char *s)
{
	if (strstr(s, "://"))
		return "an entry is a name without a scheme";
	if (strchr(s, ':'))
		return "an entry is a name without a port";
	if (s[0] == '~')
		return "regular expressions are not supported here";
	if (strchr(s, '/'))
		return "it is neither a range of IPv4 addresses nor a name without a path";
	if (strchr(s, '*'))
		return "a wildcard is \"*.\" before a name of at least two labels";
	return "it is no host name, IPv4 address or range";
}

static int parse_name(const char *s, struct lists *l, const char **ret_why)
{
	bool wildcard = str_starts(s, "*.");
	char name[POLICY_NAME_MAX];

	*ret_why = why_not(s);
	s += wildcard ? 2 : 0;
	if (policy_name_canon(s, strlen(s), name) < 0)
		return -EINVAL;
	/* *.com cannot be meant: it is everybody below com */
	if (wildcard && !strchr(name, '.')) {
		*ret_why = "a wildcard is \"*.\" before a name of at least two labels";
		return -EINVAL;
	}
	return add_name(l, wildcard, name);
}

static int parse_entry(const char *s, bool allow, struct lists *l, const char **ret_why)
{
	struct policy_net n;

	if (everything(s)) {
		l->all = true;
		return 0;
	}
	if (is_ipv6(s)) {
		*ret_why = "sandboxes have no IPv6";
		return allow ? -EINVAL : 0;
	}
	if (policy_net_parse(s, &n) == 0) {
		if (n.bits == 0)
			l->all = true;
		return n.bits == 0 ? 0 : add_net(l, &n);
	}
	return parse_name(s, l, ret_why);
}

static int parse_list(json_object *network, const char *key, struct lists *l, char **ret_detail)
{
	json_object *list = NULL;

	if (json_get_array(network, key, &list) != 0)
		return 0;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object *o = json_object_array_get_idx(list, i);
		const char *s = o ? json_object_get_string(o) : "", *why = NULL;
		int r = parse_entry(s, key[0] == 'a', l, &why);

		if (r == -EINVAL)
			*ret_detail = str_format("network.%s[%zu]: \"%.80s\": %s", key, i, s, why);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A string masks with itself; true with the sandbox's own name, which is the proxy's default */
static int parse_mask(json_object *network, struct policy *p, char **ret_detail)
{
	const char *s = NULL;

	if (json_get_string(network, "mask_request_host", &s) != 0 || !*s)
		return 0;
	/* ${PORT} is replaced at the request; what is left must be able to stand in a Host header */
	for (const char *c = s; *c; c++) {
		if (*c > ' ' && *c < 0x7f && !strchr("/\\@,;\"<>", *c) && c - s < 255)
			continue;
		*ret_detail = str_format("network.mask_request_host: \"%.80s\" cannot stand in a Host header", s);
		return -EINVAL;
	}
	p->mask_host = strdup(s);
	return p->mask_host ? 0 : -ENOMEM;
}

int policy_parse(json_object *network, bool inspection, struct policy **ret, char **ret_detail)
{
	_cleanup_(cleanup_policy_free) struct policy *p = calloc(1, sizeof(*p));
	struct lists allow, deny;
	json_object *list = NULL;
	int r = 0;

	*ret_detail = NULL;
	if (!p)
		return -ENOMEM;
	allow = (struct lists){ &p->allow_nets, &p->allow_names, &p->n_allow_nets, &p->n_allow_names, false };
	deny = (struct lists){ &p->deny_nets, &p->deny_names, &p->n_deny_nets, &p->n_deny_names, false };
	p->public_traffic = true;
	p->closed = p->inspection = inspection;
	if (network) {
		r = parse_list(network, "allow_out", &allow, ret_detail);
		if (r == 0)
			r = parse_list(network, "deny_out", &deny, ret_detail);
		if (r == 0)
			r = parse_mask(network, p, ret_detail);
		if (r < 0)
			return r;
		json_get_bool(network, "allow_public_traffic", &p->public_traffic);
		p->deny_default = (json_get_array(network, "allow_out", &list) == 0 && json_object_array_length(list) > 0) ||
				  deny.all;
		if (allow.all)
			p->deny_default = false;
	}
	p->closed |= p->deny_default && !p->n_allow_nets && !p->n_allow_names;
	*ret = TAKE_PTR(p);
	return 0;
}

/* --- what it says --- */

bool policy_name_checked(const struct policy *p)
{
	return !p->closed && (p->deny_default ? p->n_allow_names : p->n_deny_names) > 0;
}

const char *policy_mode(const struct policy *p)
{
	if (p->closed)
		return "closed";
	if (policy_name_checked(p))
		return "names";
	return p->deny_default || p->n_deny_nets ? "addresses" : "open";
}

static bool name_matches(const struct policy_name *n, const char *name)
{
	size_t len = strlen(name), suffix = strlen(n->name);

	if (!n->wildcard)
		return str_eq(n->name, name);
	return len > suffix + 1 && name[len - suffix - 1] == '.' && str_eq(name + len - suffix, n->name);
}

static const struct policy_name *find_name(const struct policy_name *v, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (name_matches(&v[i], name))
			return &v[i];
	return NULL;
}

bool policy_allows_name(const struct policy *p, const char *name, const char **ret_rule)
{
	const struct policy_name *n;

	*ret_rule = p->inspection ? "inspection_unavailable" : "closed";
	if (p->closed)
		return false;
	n = find_name(p->allow_names, p->n_allow_names, name);
	if (n) {
		*ret_rule = n->text;
		return true;
	}
	*ret_rule = "default";
	if (p->deny_default) {
		for (size_t i = 0; i < p->n_allow_names; i++)
			if (p->allow_names[i].wildcard && str_eq(p->allow_names[i].name, name))
				*ret_rule = "wildcard_apex";
		return false;
	}
	n = find_name(p->deny_names, p->n_deny_names, name);
	if (n)
		*ret_rule = n->text;
	return !n;
}

static bool nets_have(const struct policy_net *v, size_t n, uint32_t addr)
{
	for (size_t i = 0; i < n; i++)
		if (policy_net_has(&v[i], addr))
			return true;
	return false;
}

bool policy_forwards(const struct policy *p, uint32_t addr)
{
	if (p->closed)
		return false;
	if (nets_have(p->allow_nets, p->n_allow_nets, addr))
		return true;
	return !p->deny_default && !policy_name_checked(p) && !nets_have(p->deny_nets, p->n_deny_nets, addr);
}

/* --- the workers' form --- */

static int put_nets(json_object *o, const char *key, const struct policy_net *v, size_t n)
{
	_cleanup_json_ json_object *list = json_object_new_array();
	char text[20];

	for (size_t i = 0; list && i < n; i++) {
		policy_net_format(&v[i], text);
		if (json_object_array_add(list, json_object_new_string(text)) < 0)
			return -ENOMEM;
	}
	return list ? json_put(o, key, TAKE_PTR(list)) : -ENOMEM;
}

static int put_names(json_object *o, const char *key, const struct policy_name *v, size_t n)
{
	_cleanup_json_ json_object *list = json_object_new_array();

	for (size_t i = 0; list && i < n; i++)
		if (json_object_array_add(list, json_object_new_string(v[i].text)) < 0)
			return -ENOMEM;
	return list ? json_put(o, key, TAKE_PTR(list)) : -ENOMEM;
}

json_object *policy_to_json(const struct policy *p)
{
	_cleanup_json_ json_object *o = json_object_new_object();

	if (!o || json_put_string(o, "mode", policy_mode(p)) < 0 || json_put_bool(o, "closed", p->closed) < 0 ||
	    json_put_bool(o, "inspection", p->inspection) < 0 || json_put_bool(o, "deny_default", p->deny_default) < 0 ||
	    put_nets(o, "allow_nets", p->allow_nets, p->n_allow_nets) < 0 ||
	    put_nets(o, "deny_nets", p->deny_nets, p->n_deny_nets) < 0 ||
	    put_names(o, "allow_names", p->allow_names, p->n_allow_names) < 0 ||
	    put_names(o, "deny_names", p->deny_names, p->n_deny_names) < 0)
		return NULL;
	return TAKE_PTR(o);
}

static int take_list(json_object *o, const char *key, struct lists *l)
{
	json_object *list = NULL;
	const char *why;
	int r = json_get_array(o, key, &list) == 0 ? 0 : -EINVAL;

	for (size_t i = 0; r == 0 && i < json_object_array_length(list); i++) {
		json_object *s = json_object_array_get_idx(list, i);

		if (!s || !json_object_is_type(s, json_type_string) || everything(json_object_get_string(s)))
			return -EINVAL;
		r = parse_entry(json_object_get_string(s), true, l, &why);
	}
	return r;
}

int policy_from_json(json_object *o, struct policy **ret)
{
	_cleanup_(cleanup_policy_free) struct policy *p = calloc(1, sizeof(*p));
	struct lists allow, deny;
	int r;

	if (!p)
		return -ENOMEM;
	allow = (struct lists){ &p->allow_nets, &p->allow_names, &p->n_allow_nets, &p->n_allow_names, false };
	deny = (struct lists){ &p->deny_nets, &p->deny_names, &p->n_deny_nets, &p->n_deny_names, false };
	if (json_get_bool(o, "closed", &p->closed) != 0 || json_get_bool(o, "inspection", &p->inspection) != 0 ||
	    json_get_bool(o, "deny_default", &p->deny_default) != 0)
		return -EINVAL;
	r = take_list(o, "allow_nets", &allow);
	if (r == 0)
		r = take_list(o, "allow_names", &allow);
	if (r == 0)
		r = take_list(o, "deny_nets", &deny);
	if (r == 0)
		r = take_list(o, "deny_names", &deny);
	if (r == 0)
		*ret = TAKE_PTR(p);
	return r;
}
