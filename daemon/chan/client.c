/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The workers' table of sandboxes and their line to declawd. See client.h. */
#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "chan/client.h"
#include "chan/line.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/map.h"

#define RETRY_USEC (100 * USEC_PER_MSEC)
#define PENDING_MAX (4u << 20)
#define AUDIT_PER_SEC 100u
#define AUDIT_BURST 200u

struct pin_call {
	struct list link;
	uint64_t seq;
	chan_pin_fn fn;
	void *userdata;
};

struct chan_client {
	sd_event *event;
	char *path;
	enum chan_role role;
	unsigned int instance;
	const struct chan_client_ops *ops;
	void *userdata;
	struct chan *chan;
	sd_event_source *retry, *lost_timer;
	bool synced;
	bool gathers;		/* verdicts wait for chan_client_tell() */
	bool waiting;		/* some do */
	uint64_t told_usec;	/* when they went last */
	struct list sandboxes, calls;
	struct map *by_id, *by_addr;
	char *config;		/* its text */
	uint64_t seq;
};

/* --- sandboxes --- */

static void sandbox_drop(struct chan_client *c, struct chan_sandbox *sb)
{
	map_remove(c->by_id, sb->id);
	if (map_get(c->by_addr, sb->addr_text) == sb)
		map_remove(c->by_addr, sb->addr_text);
	list_unlink(&sb->link);
	if (c->ops->gone)
		c->ops->gone(c->userdata, sb);
	policy_free(sb->policy);
	pins_free(sb->pins);
	free(sb->text);
	free(sb);
}

static struct chan_sandbox *sandbox_add(struct chan_client *c, const char *id)
{
	struct chan_sandbox *sb = map_size(c->by_id) < CHAN_SANDBOXES_MAX ? calloc(1, sizeof(*sb)) : NULL;

	if (!sb)
		return NULL;
	memcpy(sb->id, id, SANDBOX_ID_MAX);
	sb->pins = pins_new();
	if (!sb->pins || map_put(c->by_id, sb->id, sb) < 0) {
		pins_free(sb->pins);
		free(sb);
		return NULL;
	}
	list_append(&c->sandboxes, &sb->link);
	return sb;
}

static int sandbox_address(struct chan_client *c, struct chan_sandbox *sb, struct in_addr addr)
{
	struct chan_sandbox *other;

	if (map_get(c->by_addr, sb->addr_text) == sb)
		map_remove(c->by_addr, sb->addr_text);
	sb->addr = addr;
	inet_ntop(AF_INET, &addr, sb->addr_text, sizeof(sb->addr_text));
	/* Its former owner's end will be told later or was missed: the address is this one's now. */
	other = map_get(c->by_addr, sb->addr_text);
	if (other)
		sandbox_drop(c, other);
	return map_put(c->by_addr, sb->addr_text, sb);
}

/* A sandbox whose policy cannot be understood is nobody: it gets nothing. */
static int take_policy(struct chan_client *c, const struct chan_msg *m)
{
	struct chan_sandbox *sb = map_get(c->by_id, m->u.policy.id);
	_cleanup_free_ char *text = NULL;
	struct policy *policy = NULL;
	bool fresh = !sb, same;
	int r = policy_from_json(m->u.policy.policy, &policy);

	if (r < 0) {
		if (sb)
			sandbox_drop(c, sb);
		return r;
	}
	text = strdup(json_text(m->u.policy.policy, NULL) ?: "");
	if (!sb)
		sb = sandbox_add(c, m->u.policy.id);
	if (!sb || !text || sandbox_address(c, sb, m->u.policy.addr) < 0) {
		policy_free(policy);
		if (sb)
			sandbox_drop(c, sb);
		return -ENOMEM;
	}
	same = str_eq(sb->text, text);
	sb->seen = true;
	sb->gen = m->u.policy.gen;
	if (same) {
		policy_free(policy);
		return 0;
	}
	policy_free(sb->policy);
	sb->policy = policy;
	free(sb->text);
	sb->text = TAKE_PTR(text);
	if (c->ops->policy)
		c->ops->policy(c->userdata, sb, fresh);
	return 0;
}

static void take_config(struct chan_client *c, json_object *upstream, json_object *opened)
{
	_cleanup_free_ char *text = str_format("%s %s", json_text(upstream, NULL) ?: "", json_text(opened, NULL) ?: "");

	if (text && str_eq(c->config, text))
		return;
	free(c->config);
	c->config = TAKE_PTR(text);
	if (c->ops->config)
		c->ops->config(c->userdata, upstream, opened);
}

static void take_synced(struct chan_client *c)
{
	struct chan_sandbox *sb;

	list_foreach(&c->sandboxes, sb, struct chan_sandbox, link)
		if (!sb->seen)
			sandbox_drop(c, sb);
	c->synced = true;
	sd_event_source_set_enabled(c->lost_timer, SD_EVENT_OFF);
	if (c->ops->synced)
		c->ops->synced(c->userdata);
}

static void take_pin(struct chan_client *c, const struct chan_pin *p)
{
	struct chan_sandbox *sb = map_get(c->by_id, p->id);
	uint64_t now = clock_monotonic();

	if (sb && p->gen == sb->gen)
		pins_add(sb->pins, p->name, p->addrs, p->n_addrs, now + p->ttl * USEC_PER_SEC, now);
}

static void take_pinned(struct chan_client *c, uint64_t seq, bool good)
{
	struct pin_call *call;

	list_foreach(&c->calls, call, struct pin_call, link)
		if (call->seq == seq) {
			list_unlink(&call->link);
			call->fn(call->userdata, good ? 0 : -EACCES);
			free(call);
			return;
		}
}

/* --- the line --- */

static void cancel_calls(struct chan_client *c)
{
	struct pin_call *call;

	while ((call = list_first(&c->calls, struct pin_call, link))) {
		list_unlink(&call->link);
		call->fn(call->userdata, -ECANCELED);
		free(call);
	}
}

static void retry_later(struct chan_client *c)
{
	sd_event_source_set_time_relative(c->retry, RETRY_USEC);
	sd_event_source_set_enabled(c->retry, SD_EVENT_ONESHOT);
}

static void on_closed(void *userdata, int error)
{
	struct chan_client *c = userdata;

	if (error < 0)
		log_full(LOG_WARNING, NULL, NULL, error, __FILE__, __LINE__, "The control channel broke: %m");
	c->chan = chan_free(c->chan);
	if (c->synced) {
		c->synced = false;
		sd_event_source_set_time_relative(c->lost_timer, CHAN_LOST_USEC);
		sd_event_source_set_enabled(c->lost_timer, SD_EVENT_ONESHOT);
	}
	cancel_calls(c);
	retry_later(c);
}

static void on_message(void *userdata, const struct chan_msg *m)
{
	struct chan_client *c = userdata;
	struct chan_sandbox *sb;
	int r;

	switch (m->type) {
	case CHAN_CONFIG:
		take_config(c, m->u.config.upstream, m->u.config.opened);
		break;
	case CHAN_POLICY:
		r = take_policy(c, m);
		if (r < 0)
			log_sandbox(LOG_ERR, m->u.policy.id, NULL, r, "The policy cannot be used, nothing is let out: %m");
		break;
	case CHAN_GONE:
		sb = map_get(c->by_id, m->u.gone.id);
		if (sb)
			sandbox_drop(c, sb);
		break;
	case CHAN_SYNCED:
		take_synced(c);
		break;
	case CHAN_PIN:
		take_pin(c, &m->u.pin);
		break;
	case CHAN_PINNED:
		take_pinned(c, m->u.pinned.seq, m->u.pinned.ok);
		break;
	default:
		break;
	}
}

static int connect_to(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -EBADF;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int on_retry(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	static const struct chan_ops ops = { .message = on_message, .closed = on_closed };
	struct chan_client *c = userdata;
	struct chan_msg hello = { .type = CHAN_HELLO, .u.hello = { c->role, CHAN_VERSION, c->instance } };
	struct chan_sandbox *sb;
	int fd = connect_to(c->path), r;

	if (fd < 0) {
		retry_later(c);
		return 0;
	}
	r = chan_new(c->event, fd, PENDING_MAX, &ops, c, &c->chan);
	if (r < 0) {
		fd_close(fd);
		retry_later(c);
		return 0;
	}
	list_foreach(&c->sandboxes, sb, struct chan_sandbox, link)
		sb->seen = false;
	chan_send(c->chan, &hello);	/* an error ends in on_closed() */
	return 0;
}

static int on_lost(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct chan_client *c = userdata;

	if (c->ops->lost)
		c->ops->lost(c->userdata);
	return 0;
}

/* --- what workers ask --- */

void chan_client_instance(struct chan_client *c, unsigned int instance)
{
	c->instance = instance;
}

bool chan_client_synced(const struct chan_client *c)
{
	return c->synced;
}

struct chan_sandbox *chan_client_find(struct chan_client *c, struct in_addr addr)
{
	char text[INET_ADDRSTRLEN];

	if (!c->synced)
		return NULL;
	inet_ntop(AF_INET, &addr, text, sizeof(text));
	return map_get(c->by_addr, text);
}

void chan_client_each(struct chan_client *c, void (*fn)(void *userdata, struct chan_sandbox *sb), void *userdata)
{
	struct chan_sandbox *sb;

	list_foreach(&c->sandboxes, sb, struct chan_sandbox, link)
		fn(userdata, sb);
}

void chan_client_poll(struct chan_client *c)
{
	if (c->chan)
		chan_poll(c->chan);
}

bool chan_client_pinned(struct chan_client *c, const struct chan_sandbox *sb, const char *name, struct in_addr addr)
{
	return c->synced && pins_has(sb->pins, name, addr, clock_monotonic());
}

int chan_client_pin(struct chan_client *c, const struct chan_sandbox *sb, const char *name, const struct in_addr *addrs,
		    size_t n, uint32_t ttl, chan_pin_fn fn, void *userdata)
{
	struct chan_msg m = { .type = CHAN_PIN, .u.pin = { .seq = ++c->seq, .gen = sb->gen, .n_addrs = n, .ttl = ttl } };
	struct pin_call *call;
	int r;

	if (!c->synced)
		return -ENOTCONN;
	if (n == 0 || n > CHAN_ADDRS_MAX || strlen(name) >= CHAN_NAME_MAX)
		return -EINVAL;
	memcpy(m.u.pin.id, sb->id, sizeof(m.u.pin.id));
	memcpy(m.u.pin.name, name, strlen(name) + 1);
	memcpy(m.u.pin.addrs, addrs, n * sizeof(*addrs));
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	*call = (struct pin_call){ .seq = c->seq, .fn = fn, .userdata = userdata };
	list_append(&c->calls, &call->link);
	r = chan_send(c->chan, &m);
	if (r < 0) {
		list_unlink(&call->link);
		free(call);
	}
	return r;
}

void chan_client_unpin(struct chan_client *c, const void *userdata)
{
	struct pin_call *call;

	list_foreach(&c->calls, call, struct pin_call, link)
		if (call->userdata == userdata) {
			list_unlink(&call->link);
			free(call);
		}
}

/* --- audit --- */

/* Micro-tokens: AUDIT_PER_SEC of them a microsecond make one entry a million. */
static bool audit_take_token(struct chan_sandbox *sb)
{
	uint64_t now = clock_monotonic(), most = (uint64_t)AUDIT_BURST * USEC_PER_SEC;

	if (sb->audit_usec == 0)
		sb->audit_tokens = most;
	else
		sb->audit_tokens = MIN_OF(most, sb->audit_tokens + MIN_OF(now - sb->audit_usec, most) * AUDIT_PER_SEC);
	sb->audit_usec = now;
	if (sb->audit_tokens < USEC_PER_SEC)
		return false;
	sb->audit_tokens -= USEC_PER_SEC;
	return true;
}

void chan_client_audit(struct chan_client *c, struct chan_sandbox *sb, struct chan_audit *a)
{
	struct chan_msg m = { .type = CHAN_LOST };

	if (!c->chan || !audit_take_token(sb)) {
		sb->audit_lost++;
		return;
	}
	if (sb->audit_lost) {
		memcpy(m.u.lost.id, sb->id, sizeof(m.u.lost.id));
		m.u.lost.n = sb->audit_lost;
		if (chan_send(c->chan, &m) == 0)
			sb->audit_lost = 0;
	}
	m.type = CHAN_AUDIT;
	m.u.audit = *a;
	memcpy(m.u.audit.id, sb->id, sizeof(m.u.audit.id));
	c->waiting = c->gathers;
	if ((c->gathers ? chan_queue : chan_send)(c->chan, &m) < 0)
		sb->audit_lost++;
}

void chan_client_gather(struct chan_client *c)
{
	c->gathers = true;
}

int chan_client_tell(struct chan_client *c, int *ret_msec)
{
	uint64_t now, since;

	*ret_msec = -1;
	if (!c->waiting)
		return 0;
	now = clock_monotonic();
	since = (now - c->told_usec) / USEC_PER_MSEC;
	if (since < CHAN_TELL_MSEC) {
		*ret_msec = CHAN_TELL_MSEC - (int)since;
		return 0;
	}
	c->told_usec = now;
	return chan_client_flush(c);
}

int chan_client_flush(struct chan_client *c)
{
	c->waiting = false;
	return c->chan ? chan_flush(c->chan) : 0;
}

/* --- life --- */

static int sources_new(struct chan_client *c)
{
	int r = sd_event_add_time_relative(c->event, &c->retry, CLOCK_MONOTONIC, 0, 0, on_retry, c);

	if (r >= 0)
		r = sd_event_add_time_relative(c->event, &c->lost_timer, CLOCK_MONOTONIC, 0, 0, on_lost, c);
	if (r >= 0)
		r = sd_event_source_set_enabled(c->lost_timer, SD_EVENT_OFF);
	return r < 0 ? r : 0;
}

int chan_client_new(sd_event *event, const char *path, enum chan_role role, const struct chan_client_ops *ops,
		    void *userdata, struct chan_client **ret)
{
	struct chan_client *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct chan_client){ .event = sd_event_ref(event), .role = role, .ops = ops, .userdata = userdata };
	list_init(&c->sandboxes);
	list_init(&c->calls);
	c->path = strdup(path);
	c->by_id = map_new();
	c->by_addr = map_new();
	r = c->path && c->by_id && c->by_addr ? sources_new(c) : -ENOMEM;
	if (r < 0) {
		chan_client_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct chan_client *chan_client_free(struct chan_client *c)
{
	struct chan_sandbox *sb;

	if (!c)
		return NULL;
	c->synced = false;
	c->chan = chan_free(c->chan);
	cancel_calls(c);
	list_foreach(&c->sandboxes, sb, struct chan_sandbox, link)
		sandbox_drop(c, sb);
	sd_event_source_disable_unref(c->retry);
	sd_event_source_disable_unref(c->lost_timer);
	map_free(c->by_id);
	map_free(c->by_addr);
	free(c->path);
	free(c->config);
	sd_event_unref(c->event);
	free(c);
	return NULL;
}
