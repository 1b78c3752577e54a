/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon's side of the control channel, see egressctl.h. */
#include "core/egressctl.h"

#include <arpa/inet.h>
#include <pwd.h>
#include <string.h>

#include "chan/pins.h"
#include "core/manager.h"
#include "core/verdict.h"
#include "egress/control.h"
#include "policy/policy.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

#define TTL_MIN 60u
#define TTL_MAX 3600u
#define TTL_GRACE 30u		/* a guest may use what it was told until the last second */

/* --- out --- */

static bool is_told(const struct sandbox *sb)
{
	return sb->policy_gen && sb->options.policy && *sb->address && sb->state != SANDBOX_KILLED;
}

static int policy_msg(const struct sandbox *sb, struct chan_msg *ret)
{
	*ret = (struct chan_msg){ .type = CHAN_POLICY, .u.policy.gen = sb->policy_gen };
	memcpy(ret->u.policy.id, sb->id, sizeof(ret->u.policy.id));
	if (inet_pton(AF_INET, sb->address, &ret->u.policy.addr) != 1)
		return -EINVAL;
	ret->u.policy.policy = policy_to_json(sb->options.policy);
	return ret->u.policy.policy ? 0 : -ENOMEM;
}

void egressctl_policy(struct sandbox *sb)
{
	struct manager *m = sb->manager;
	struct chan_msg msg;

	if (!sb->options.policy) {
		egressctl_gone(sb);
		return;
	}
	sb->policy_gen = ++m->policy_gen;
	if (!m->control || !is_told(sb) || policy_msg(sb, &msg) < 0)
		return;
	control_send_all(m->control, &msg);
	json_object_put(msg.u.policy.policy);
}

void egressctl_gone(struct sandbox *sb)
{
	struct chan_msg msg = { .type = CHAN_GONE };

	if (sb->pins)
		pins_clear(sb->pins);
	if (!sb->policy_gen)
		return;
	sb->policy_gen = 0;
	memcpy(msg.u.gone.id, sb->id, sizeof(msg.u.gone.id));
	if (sb->manager->control)
		control_send_all(sb->manager->control, &msg);
}

void egressctl_free(struct sandbox *sb)
{
	sb->pins = pins_free(sb->pins);
}

static json_object *strings(char *const *list, const char *none)
{
	json_object *o = json_object_new_array();

	for (size_t i = 0; o && list && list[i] && !settings_list_is(list, none); i++)
		json_object_array_add(o, json_object_new_string(list[i]));
	return o;
}

static void send_config(struct manager *m, uint64_t peer)
{
	_cleanup_json_ json_object *upstream = strings(m->settings.upstream_dns, "system");
	_cleanup_json_ json_object *opened = strings(m->settings.allow_private, "none");
	const struct chan_msg msg = { .type = CHAN_CONFIG, .u.config = { upstream, opened } };

	if (upstream && opened)
		control_send(m->control, peer, &msg);
}

struct pin_out {
	const struct sandbox *sb;
	uint64_t peer;
};

static void send_pin(void *userdata, const char *name, const struct in_addr *addrs, size_t n, uint32_t ttl)
{
	struct pin_out *out = userdata;
	struct chan_msg msg = { .type = CHAN_PIN, .u.pin = { .gen = out->sb->policy_gen, .n_addrs = n, .ttl = ttl } };

	memcpy(msg.u.pin.id, out->sb->id, sizeof(msg.u.pin.id));
	chan_text(msg.u.pin.name, sizeof(msg.u.pin.name), name);
	memcpy(msg.u.pin.addrs, addrs, n * sizeof(*addrs));
	control_send(out->sb->manager->control, out->peer, &msg);
}

static void on_joined(void *userdata, uint64_t peer, enum chan_role role)
{
	const struct chan_msg synced = { .type = CHAN_SYNCED };
	struct manager *m = userdata;
	struct sandbox *sb;
	struct chan_msg msg;

	send_config(m, peer);
	list_foreach(&m->sandboxes, sb, struct sandbox, link) {
		struct pin_out out = { sb, peer };

		if (!is_told(sb) || policy_msg(sb, &msg) < 0)
			continue;
		control_send(m->control, peer, &msg);
		json_object_put(msg.u.policy.policy);
		if (role == CHAN_ROLE_PROXY && sb->pins)
			pins_each(sb->pins, clock_monotonic(), send_pin, &out);
	}
	control_send(m->control, peer, &synced);
}

/* --- pins --- */

struct pin_job {
	struct sandbox *sb;
	uint64_t peer;
	struct chan_pin pin;
};

static void reply_pin(struct manager *m, uint64_t peer, uint64_t seq, bool good)
{
	const struct chan_msg msg = { .type = CHAN_PINNED, .u.pinned = { seq, good } };

	if (m->control)
		control_send(m->control, peer, &msg);
}

static bool addr_good(const struct manager *m, struct in_addr in)
{
	uint32_t addr = ntohl(in.s_addr);
	char *const *opened = m->settings.allow_private;
	enum policy_addr class = policy_addr_class(addr);
	struct policy_net n;

	if (policy_net_parse(m->settings.network, &n) < 0 || policy_net_has(&n, addr))
		return false;
	if (class != POLICY_ADDR_PRIVATE)
		return class == POLICY_ADDR_PUBLIC;
	for (size_t i = 0; opened && opened[i]; i++)
		if (policy_net_parse(opened[i], &n) == 0 && policy_net_has(&n, addr))
			return true;
	return false;
}

/* NULL: it may be; else the rule that says no. */
static const char *pin_refused(const struct sandbox *sb, const struct chan_pin *p)
{
	char canon[POLICY_NAME_MAX];
	const char *rule;

	if (policy_name_canon(p->name, strlen(p->name), canon) < 0 || !str_eq(canon, p->name))
		return "name";
	if (!policy_allows_name(sb->options.policy, p->name, &rule))
		return rule;
	for (size_t i = 0; i < p->n_addrs; i++)
		if (!addr_good(sb->manager, p->addrs[i]))
			return "rebind";
	return NULL;
}

static void refuse(struct sandbox *sb, const struct chan_pin *p, const char *rule)
{
	struct chan_audit e = { .verdict = CHAN_BLOCK, .proto = CHAN_PROTO_DNS, .addr = p->addrs[0] };

	chan_text(e.name, sizeof(e.name), p->name);
	chan_text(e.rule, sizeof(e.rule), rule);
	chan_text(e.detail, sizeof(e.detail), "the resolver asked for it");
	verdict_add(sb, AUDIT_RESOLVER, &e);
}

static void on_pinned(void *userdata, int error, const char *message)
{
	struct pin_job *job = userdata;
	struct sandbox *sb = job->sb;
	struct manager *m = sb->manager;
	struct chan_msg msg = { .type = CHAN_PIN, .u.pin = job->pin };
	bool good = error == 0 && sb->policy_gen == job->pin.gen;

	if (error < 0 && error != -ECANCELED && error != -ENOENT)
		log_sandbox(LOG_ERR, sb->id, NULL, error, "An address cannot be opened: %s: %m", message);
	msg.u.pin.seq = 0;
	if (good && m->control)
		control_send_role(m->control, CHAN_ROLE_PROXY, &msg);
	if (error != -ECANCELED)
		reply_pin(m, job->peer, job->pin.seq, good);
	sandbox_unref(sb);
	free(job);
}

/* Kept for as long as any name has the address */
static uint32_t seconds_left(const struct sandbox *sb, struct in_addr addr, uint64_t now)
{
	uint64_t until = pins_until(sb->pins, addr);

	return until > now ? (uint32_t)((until - now + USEC_PER_SEC - 1) / USEC_PER_SEC) : 1;
}

static int pin(struct sandbox *sb, uint64_t peer, const struct chan_pin *p)
{
	struct firewall_pin pins[CHAN_ADDRS_MAX];
	struct pin_job *job = malloc(sizeof(*job));
	uint64_t now = clock_monotonic();
	uint32_t ttl = MIN_OF(MAX_OF(p->ttl, TTL_MIN), TTL_MAX) + TTL_GRACE;
	int r;

	if (!sb->pins)
		sb->pins = pins_new();
	r = job && sb->pins ? pins_add(sb->pins, p->name, p->addrs, p->n_addrs, now + ttl * USEC_PER_SEC, now) : -ENOMEM;
	if (r < 0) {
		free(job);
		return r;
	}
	*job = (struct pin_job){ .sb = sandbox_ref(sb), .peer = peer, .pin = *p };
	job->pin.ttl = ttl;
	for (size_t i = 0; i < p->n_addrs; i++)
		pins[i] = (struct firewall_pin){ ntohl(p->addrs[i].s_addr), seconds_left(sb, p->addrs[i], now) };
	firewall_pin(sb->manager->firewall, ident_short(sb->id), pins, p->n_addrs, on_pinned, job);
	return 0;
}

static void take_pin(struct manager *m, uint64_t peer, const struct chan_pin *p)
{
	struct sandbox *sb = manager_find(m, p->id);
	const char *rule;

	if (!sb || !is_told(sb) || sb->policy_gen != p->gen) {
		reply_pin(m, peer, p->seq, false);
		return;
	}
	rule = pin_refused(sb, p);
	if (!rule && pin(sb, peer, p) < 0)
		rule = "pin_limit";
	if (!rule)
		return;
	refuse(sb, p, rule);
	reply_pin(m, peer, p->seq, false);
}

static void on_message(void *userdata, uint64_t peer, enum chan_role role, const struct chan_msg *msg)
{
	enum audit_source source = role == CHAN_ROLE_PROXY ? AUDIT_PROXY : AUDIT_RESOLVER;
	struct manager *m = userdata;
	struct sandbox *sb;

	switch (msg->type) {
	case CHAN_PIN:
		take_pin(m, peer, &msg->u.pin);
		break;
	case CHAN_AUDIT:
		sb = manager_find(m, msg->u.audit.id);
		if (sb)
			verdict_add(sb, source, &msg->u.audit);
		break;
	case CHAN_LOST:
		sb = manager_find(m, msg->u.lost.id);
		if (sb)
			verdict_lose(sb, msg->u.lost.n);
		break;
	default:
		break;
	}
}

struct collect {
	const struct sandbox *sb;
	struct firewall_pin *v;
	size_t n;
};

static void collect_pin(void *userdata, const char *name, const struct in_addr *addrs, size_t n, uint32_t ttl _unused_)
{
	struct collect *c = userdata;
	uint64_t now = clock_monotonic();
	const char *rule;

	if (!policy_allows_name(c->sb->options.policy, name, &rule))
		return;
	for (size_t i = 0; i < n && c->n < PINS_MAX; i++)
		c->v[c->n++] = (struct firewall_pin){ ntohl(addrs[i].s_addr), seconds_left(c->sb, addrs[i], now) };
}

struct firewall_pin *egressctl_pins(const struct sandbox *sb, size_t *ret_n)
{
	struct collect c = { .sb = sb };

	*ret_n = 0;
	if (!sb->pins || !sb->options.policy || pins_count(sb->pins) == 0)
		return NULL;
	c.v = calloc(PINS_MAX, sizeof(*c.v));
	if (c.v)
		pins_each(sb->pins, clock_monotonic(), collect_pin, &c);
	*ret_n = c.n;
	return c.v;
}

/* --- life --- */

static uid_t uid_of(const char *user)
{
	const struct passwd *pw = getpwnam(user);

	return pw ? pw->pw_uid : (uid_t)-1;
}

void egressctl_start(struct manager *m)
{
	static const struct control_ops ops = { .joined = on_joined, .message = on_message };
	_cleanup_free_ char *dir = str_format("%s/egress", m->settings.run_dir);
	_cleanup_free_ char *path = str_format("%s/egress/control.sock", m->settings.run_dir);
	const uid_t uids[CHAN_ROLE_MAX] = {
		[CHAN_ROLE_PROXY] = uid_of(m->settings.proxy_user), [CHAN_ROLE_RESOLVER] = uid_of(m->settings.resolver_user),
	};
	int r = dir && path ? dir_make(dir, 0755) : -ENOMEM;

	if (m->control)
		return;
	if (r == 0)
		r = control_new(m->event, path, uids, &ops, m, &m->control);
	if (r < 0)
		log_error_errno(r, "Resolver and proxy cannot be spoken to, names stay closed: %m");
}

void egressctl_stop(struct manager *m)
{
	m->control = control_free(m->control);
}
