/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages of the control channel to JSON and back; what one side writes is what the other reads, by test. */
#include <arpa/inet.h>
#include <string.h>

#include "chan/msg.h"

static const char *const type_names[] = {
	[CHAN_HELLO] = "hello", [CHAN_CONFIG] = "config", [CHAN_POLICY] = "policy", [CHAN_GONE] = "gone",
	[CHAN_SYNCED] = "synced", [CHAN_PIN] = "pin", [CHAN_PINNED] = "pinned", [CHAN_AUDIT] = "audit",
	[CHAN_LOST] = "lost",
};
static const char *const role_names[] = { [CHAN_ROLE_PROXY] = "proxy", [CHAN_ROLE_RESOLVER] = "resolver" };
static const char *const verdict_names[] = { [CHAN_ALLOW] = "allow", [CHAN_BLOCK] = "block" };
static const char *const proto_names[] = {
	[CHAN_PROTO_DNS] = "dns", [CHAN_PROTO_TLS] = "tls", [CHAN_PROTO_HTTP] = "http", [CHAN_PROTO_TCP] = "tcp",
	[CHAN_PROTO_UDP] = "udp", [CHAN_PROTO_ICMP] = "icmp", [CHAN_PROTO_OTHER] = "other",
};

_Static_assert(ELEMENTSOF(type_names) == CHAN_TYPE_MAX, "every kind has a name");
_Static_assert(ELEMENTSOF(role_names) == CHAN_ROLE_MAX, "every role has a name");
_Static_assert(ELEMENTSOF(verdict_names) == CHAN_VERDICT_MAX, "every verdict has a name");
_Static_assert(ELEMENTSOF(proto_names) == CHAN_PROTO_MAX, "every protocol has a name");

static int lookup(const char *const *names, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(names[i], s))
			return (int)i;
	return -EINVAL;
}

const char *chan_role_name(enum chan_role r)
{
	return r < CHAN_ROLE_MAX ? role_names[r] : "?";
}

const char *chan_verdict_name(enum chan_verdict v)
{
	return v < CHAN_VERDICT_MAX ? verdict_names[v] : "?";
}

const char *chan_proto_name(enum chan_proto p)
{
	return p < CHAN_PROTO_MAX ? proto_names[p] : "?";
}

int chan_verdict_from_name(const char *s)
{
	return lookup(verdict_names, CHAN_VERDICT_MAX, s);
}

int chan_proto_from_name(const char *s)
{
	return lookup(proto_names, CHAN_PROTO_MAX, s);
}

void chan_text(char *ret, size_t size, const char *text)
{
	size_t n = 0;

	for (; text && *text && n + 1 < size; text++)
		ret[n++] = *text >= 0x20 && *text < 0x7f ? *text : '?';
	memset(ret + n, 0, size - n);
}

/* --- reading --- */

static int get_name(json_object *o, const char *key, const char *const *names, size_t n)
{
	const char *s;
	int r;

	if (json_get_string(o, key, &s) != 0)
		return -EPROTO;
	r = lookup(names, n, s);
	return r < 0 ? -EPROTO : r;
}

static int get_u64(json_object *o, const char *key, uint64_t max, uint64_t *ret)
{
	int64_t v;

	if (json_get_int(o, key, 0, (int64_t)max, &v) != 0)
		return -EPROTO;
	*ret = (uint64_t)v;
	return 0;
}

static int get_id(json_object *o, char ret[SANDBOX_ID_MAX])
{
	const char *s;

	if (json_get_string(o, "id", &s) != 0 || !ident_sandbox_valid(s))
		return -EPROTO;
	memcpy(ret, s, SANDBOX_ID_MAX);
	return 0;
}

/* Absent is "" */
static int get_text(json_object *o, const char *key, char *ret, size_t size)
{
	const char *s = "";
	int r = json_get_string(o, key, &s);

	if (r == JSON_E_MISSING)
		s = "";
	else if (r != 0)
		return -EPROTO;
	chan_text(ret, size, s);
	return 0;
}

static int to_addr(json_object *value, struct in_addr *ret)
{
	if (!json_object_is_type(value, json_type_string) ||
	    inet_pton(AF_INET, json_object_get_string(value), ret) != 1)
		return -EPROTO;
	return 0;
}

static int get_addrs(json_object *o, struct chan_pin *p)
{
	json_object *v;
	size_t n;

	if (json_get_array(o, "addrs", &v) != 0)
		return -EPROTO;
	n = json_object_array_length(v);
	if (n == 0 || n > CHAN_ADDRS_MAX)
		return -EPROTO;
	for (size_t i = 0; i < n; i++)
		if (to_addr(json_object_array_get_idx(v, i), &p->addrs[i]) < 0)
			return -EPROTO;
	p->n_addrs = n;
	return 0;
}

static int parse_pin(json_object *o, struct chan_pin *p)
{
	uint64_t ttl;

	if (get_id(o, p->id) < 0 || get_u64(o, "seq", INT64_MAX, &p->seq) < 0 || get_u64(o, "gen", INT64_MAX, &p->gen) < 0 ||
	    get_u64(o, "ttl", UINT32_MAX, &ttl) < 0 || get_text(o, "name", p->name, sizeof(p->name)) < 0 || !*p->name)
		return -EPROTO;
	p->ttl = (uint32_t)ttl;
	return get_addrs(o, p);
}

static int parse_audit(json_object *o, struct chan_audit *a)
{
	json_object *addr = NULL;
	uint64_t port = 0;
	int verdict = get_name(o, "verdict", verdict_names, CHAN_VERDICT_MAX);
	int proto = get_name(o, "proto", proto_names, CHAN_PROTO_MAX);

	if (verdict < 0 || proto < 0 || get_id(o, a->id) < 0)
		return -EPROTO;
	a->verdict = (enum chan_verdict)verdict;
	a->proto = (enum chan_proto)proto;
	if (json_object_object_get_ex(o, "addr", &addr) && addr && to_addr(addr, &a->addr) < 0)
		return -EPROTO;
	if (json_has(o, "port") && get_u64(o, "port", UINT16_MAX, &port) < 0)
		return -EPROTO;
	a->port = (uint16_t)port;
	if (get_text(o, "name", a->name, sizeof(a->name)) < 0 || get_text(o, "rule", a->rule, sizeof(a->rule)) < 0)
		return -EPROTO;
	return get_text(o, "detail", a->detail, sizeof(a->detail));
}

static int parse_policy(json_object *o, struct chan_msg *m)
{
	json_object *addr = NULL;

	if (get_id(o, m->u.policy.id) < 0 || get_u64(o, "gen", INT64_MAX, &m->u.policy.gen) < 0 ||
	    json_get_object(o, "policy", &m->u.policy.policy) != 0 || !json_object_object_get_ex(o, "addr", &addr))
		return -EPROTO;
	return to_addr(addr, &m->u.policy.addr);
}

static int parse_hello(json_object *o, struct chan_msg *m)
{
	int role = get_name(o, "role", role_names, CHAN_ROLE_MAX);

	if (role < 0 || json_get_int(o, "version", 0, INT32_MAX, &m->u.hello.version) != 0 ||
	    json_get_int(o, "instance", 0, CHAN_INSTANCES_MAX - 1, &m->u.hello.instance) != 0)
		return -EPROTO;
	m->u.hello.role = (enum chan_role)role;
	return 0;
}

static int get_strings(json_object *o, const char *key, json_object **ret)
{
	if (json_get_array(o, key, ret) != 0)
		return -EPROTO;
	for (size_t i = 0; i < json_object_array_length(*ret); i++)
		if (!json_object_is_type(json_object_array_get_idx(*ret, i), json_type_string))
			return -EPROTO;
	return 0;
}

static int parse_config(json_object *o, struct chan_msg *m)
{
	int r = get_strings(o, "upstream", &m->u.config.upstream);

	return r ?: get_strings(o, "opened", &m->u.config.opened);
}

int chan_msg_parse(json_object *o, struct chan_msg *ret)
{
	int type;

	memset(ret, 0, sizeof(*ret));
	if (!json_object_is_type(o, json_type_object))
		return -EPROTO;
	type = get_name(o, "t", type_names, CHAN_TYPE_MAX);
	if (type < 0)
		return type;
	ret->type = (enum chan_type)type;
	switch (ret->type) {
	case CHAN_HELLO:
		return parse_hello(o, ret);
	case CHAN_CONFIG:
		return parse_config(o, ret);
	case CHAN_POLICY:
		return parse_policy(o, ret);
	case CHAN_GONE:
		return get_id(o, ret->u.gone.id);
	case CHAN_PIN:
		return parse_pin(o, &ret->u.pin);
	case CHAN_PINNED:
		if (json_get_bool(o, "ok", &ret->u.pinned.ok) != 0)
			return -EPROTO;
		return get_u64(o, "seq", INT64_MAX, &ret->u.pinned.seq);
	case CHAN_AUDIT:
		return parse_audit(o, &ret->u.audit);
	case CHAN_LOST:
		return get_id(o, ret->u.lost.id) < 0 ? -EPROTO : get_u64(o, "n", INT64_MAX, &ret->u.lost.n);
	case CHAN_SYNCED:
	case CHAN_TYPE_MAX:
		break;
	}
	return 0;
}

/* --- writing --- */

static int put_addr(json_object *o, const char *key, struct in_addr a)
{
	char text[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &a, text, sizeof(text));
	return json_put_string(o, key, text);
}

static int put_pin(json_object *o, const struct chan_pin *p)
{
	json_object *v = json_object_new_array();
	char text[INET_ADDRSTRLEN];
	int r;

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < p->n_addrs; i++) {
		inet_ntop(AF_INET, &p->addrs[i], text, sizeof(text));
		if (json_object_array_add(v, json_object_new_string(text)) < 0) {
			json_object_put(v);
			return -ENOMEM;
		}
	}
	r = json_put(o, "addrs", v);
	r = r ?: json_put_int(o, "seq", (int64_t)p->seq);
	r = r ?: json_put_string(o, "id", p->id);
	r = r ?: json_put_int(o, "gen", (int64_t)p->gen);
	r = r ?: json_put_string(o, "name", p->name);
	return r ?: json_put_int(o, "ttl", p->ttl);
}

static int put_audit(json_object *o, const struct chan_audit *a)
{
	int r = json_put_string(o, "id", a->id);

	r = r ?: json_put_string(o, "verdict", chan_verdict_name(a->verdict));
	r = r ?: json_put_string(o, "proto", chan_proto_name(a->proto));
	if (!r && *a->name)
		r = json_put_string(o, "name", a->name);
	if (!r && a->addr.s_addr)
		r = put_addr(o, "addr", a->addr);
	if (!r && a->port)
		r = json_put_int(o, "port", a->port);
	if (!r && *a->rule)
		r = json_put_string(o, "rule", a->rule);
	if (!r && *a->detail)
		r = json_put_string(o, "detail", a->detail);
	return r;
}

static int put_body(json_object *o, const struct chan_msg *m)
{
	int r = 0;

	switch (m->type) {
	case CHAN_HELLO:
		r = json_put_string(o, "role", chan_role_name(m->u.hello.role));
		r = r ?: json_put_int(o, "version", m->u.hello.version);
		return r ?: json_put_int(o, "instance", m->u.hello.instance);
	case CHAN_CONFIG:
		r = json_put(o, "upstream", json_object_get(m->u.config.upstream));
		return r ?: json_put(o, "opened", json_object_get(m->u.config.opened));
	case CHAN_POLICY:
		r = json_put_string(o, "id", m->u.policy.id);
		r = r ?: put_addr(o, "addr", m->u.policy.addr);
		r = r ?: json_put_int(o, "gen", (int64_t)m->u.policy.gen);
		return r ?: json_put(o, "policy", json_object_get(m->u.policy.policy));
	case CHAN_GONE:
		return json_put_string(o, "id", m->u.gone.id);
	case CHAN_PIN:
		return put_pin(o, &m->u.pin);
	case CHAN_PINNED:
		r = json_put_int(o, "seq", (int64_t)m->u.pinned.seq);
		return r ?: json_put_bool(o, "ok", m->u.pinned.ok);
	case CHAN_AUDIT:
		return put_audit(o, &m->u.audit);
	case CHAN_LOST:
		r = json_put_string(o, "id", m->u.lost.id);
		return r ?: json_put_int(o, "n", (int64_t)m->u.lost.n);
	case CHAN_SYNCED:
	case CHAN_TYPE_MAX:
		break;
	}
	return 0;
}

json_object *chan_msg_json(const struct chan_msg *m)
{
	_cleanup_json_ json_object *o = json_object_new_object();

	if (!o || json_put_string(o, "t", type_names[m->type]) < 0 || put_body(o, m) < 0)
		return NULL;
	return TAKE_PTR(o);
}
