/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The queue of calls, libvirt and systemd, see fake-host.h. */
#include "lib/fake-host.h"

#include <criterion/criterion.h>
#include <string.h>

struct fake_host fake;

struct virt {
	const struct virt_ops *ops;
	void *userdata;
};
struct bus {
	const struct bus_ops *ops;
	void *userdata;
};
static struct virt *the_virt;
static struct bus *the_bus;

/* --- things --- */

struct fake_thing *fake_find(enum fake_kind kind, const char *name)
{
	for (size_t i = 0; i < FAKE_THINGS; i++)
		if (fake.things[i].kind == kind && str_eq(fake.things[i].name, name))
			return &fake.things[i];
	return NULL;
}

struct fake_thing *fake_add(enum fake_kind kind, const char *name)
{
	struct fake_thing *t = fake_find(FAKE_NOTHING, "");

	cr_assert_not_null(t, "the world is full");
	cr_assert_null(fake_find(kind, name), "there is a second %s", name);
	*t = (struct fake_thing){ .kind = kind };
	snprintf(t->name, sizeof(t->name), "%s", name);
	return t;
}

unsigned int fake_count(enum fake_kind kind)
{
	unsigned int n = 0;

	for (size_t i = 0; i < FAKE_THINGS; i++)
		n += fake.things[i].kind == kind;
	return n;
}

/* --- calls --- */

struct fake_call *fake_call_new(enum fake_owner owner, enum fake_op op, const char *name, void *userdata)
{
	struct fake_call *c = calloc(1, sizeof(*c));

	cr_assert_not_null(c);
	cr_assert(!fake.freeing || op == FAKE_EVENT, "operation %d is asked of an adapter that is being freed", op);
	c->owner = owner;
	c->op = op;
	c->userdata = userdata;
	snprintf(c->name, sizeof(c->name), "%s", name);
	list_append(&fake.calls, &c->link);
	if (op == FAKE_EVENT)
		return c;
	c->index = ++fake.n_ops;
	fake.counts[op]++;
	return c;
}

void fake_call_free(struct fake_call *c)
{
	list_unlink(&c->link);
	free(c);
}

void fake_script(void)
{
	fake.n_ops = fake.fail_at = fake.hold_at = 0;
	fake.fail_error = 0;
	fake.fail_applied = fake.hold_applied = fake.backwards = false;
	fake.fail_op = fake.failed_op = FAKE_OP_MAX;
	memset(fake.counts, 0, sizeof(fake.counts));
}

static bool fails(unsigned int index, enum fake_op op)
{
	if (op == fake.fail_op)
		return true;
	if (index == 0 || index != fake.fail_at)
		return false;
	fake.failed_op = op;
	return true;
}

int fake_sync(enum fake_op op)
{
	cr_assert_not(fake.freeing, "operation %d while the manager is being freed", op);
	fake.counts[op]++;
	return fails(++fake.n_ops, op) ? fake.fail_error : 0;
}

void fake_answer_done(struct fake_call *c, int error)
{
	if (c->fn.done)
		c->fn.done(c->userdata, error, error < 0 ? "scripted" : "");
}

/* Calls of one owner on one name are carried out in order; nftables knows one order only. */
static bool same_strand(const struct fake_call *a, const struct fake_call *b)
{
	if (a->owner != b->owner || a->agent != b->agent)
		return false;
	if (a->op == FAKE_EVENT || b->op == FAKE_EVENT)
		return a->op == b->op;
	if (a->owner == FAKE_BUS && (a->op == FAKE_UNIT_KILL || b->op == FAKE_UNIT_KILL))
		return false;
	return a->owner == FAKE_FIREWALL || str_eq(a->name, b->name);
}

static bool is_due(const struct fake_call *c)
{
	const struct fake_call *before;

	if (c->held)
		return false;
	list_foreach(&fake.calls, before, struct fake_call, link) {
		if (before == c)
			return true;
		if (same_strand(before, c))
			return false;
	}
	return true;
}

static int call_apply(struct fake_call *c)
{
	if (c->applied || !c->apply)
		return 0;
	c->applied = true;
	return c->apply(c);
}

static void call_run(struct fake_call *c)
{
	int error = 0;

	if (c->index && c->index == fake.hold_at && !c->held) {
		c->held = true;
		if (fake.hold_applied)
			call_apply(c);
		return;
	}
	if (c->refused) {
		error = c->refused;
	} else if (fails(c->index, c->op)) {
		if (fake.fail_applied)
			call_apply(c);
		error = fake.fail_error;
	} else {
		error = call_apply(c);
	}
	list_unlink(&c->link);
	c->answer(c, error);
	fake_call_free(c);
}

bool fake_turn(void)
{
	struct fake_call *c, *pick = NULL;

	if (sd_event_run(fake.event, 0) > 0)
		return true;
	list_foreach(&fake.calls, c, struct fake_call, link)
		if (is_due(c) && (!pick || fake.backwards))
			pick = c;
	if (!pick)
		return false;
	call_run(pick);
	return true;
}

void fake_settle(void)
{
	unsigned int n = 0;

	while (fake_turn())
		cr_assert_lt(++n, 100000u, "this never ends");
}

void fake_release(void)
{
	struct fake_call *c;

	fake.hold_at = 0;
	list_foreach(&fake.calls, c, struct fake_call, link)
		c->held = false;
}

struct fake_call *fake_pending(enum fake_op op)
{
	struct fake_call *c;

	list_foreach(&fake.calls, c, struct fake_call, link)
		if (c->op == op)
			return c;
	return NULL;
}

void fake_cancel(enum fake_owner owner, struct agent *a, int error)
{
	struct fake_call *c;
	bool found;

	do {
		found = false;
		list_foreach(&fake.calls, c, struct fake_call, link)
			if (c->owner == owner && (!a || c->agent == a)) {
				list_unlink(&c->link);
				if (c->op != FAKE_EVENT)
					c->answer(c, error);
				fake_call_free(c);
				found = true;
				break;
			}
	} while (found);
}

/* --- what the world does --- */

static void event_domain(struct fake_call *c, int error _unused_)
{
	if (the_virt && !fake.libvirt_down)
		the_virt->ops->domain_event(the_virt->userdata, c->name, VIRT_EVENT_STOPPED, c->detail);
}

static void event_unit(struct fake_call *c, int error _unused_)
{
	if (the_bus && !fake.bus_down)
		the_bus->ops->unit_removed(the_bus->userdata, c->name);
}

void fake_domain_event(const char *id, enum virt_stop why)
{
	struct fake_call *c = fake_call_new(FAKE_VIRT, FAKE_EVENT, id, NULL);

	c->detail = (int)why;
	c->answer = event_domain;
}

void fake_unit_removed(const char *unit)
{
	struct fake_call *c = fake_call_new(FAKE_BUS, FAKE_EVENT, unit, NULL);

	c->answer = event_unit;
}

static void scope_name(char ret[160], const char *id)
{
	snprintf(ret, 160, SCOPE_FORMAT, id);
}

void fake_qemu_dies(const char *id, enum virt_stop why)
{
	struct fake_thing *d = fake_find(FAKE_DOMAIN, id), *s;
	char scope[160];

	scope_name(scope, id);
	s = fake_find(FAKE_UNIT, scope);
	if (d) {
		*d = (struct fake_thing){ 0 };
		fake_domain_event(id, why);
	}
	if (s) {
		*s = (struct fake_thing){ 0 };
		fake_unit_removed(scope);
	}
}

void fake_timer_elapses(const char *id)
{
	char unit[160];

	snprintf(unit, sizeof(unit), TIMER_FORMAT, id);
	cr_assert_not_null(fake_find(FAKE_UNIT, unit), "%s is not there to elapse", unit);
	*fake_find(FAKE_UNIT, unit) = (struct fake_thing){ 0 };
	fake_unit_removed(unit);
}

void fake_libvirt(struct manager *m _unused_, bool up)
{
	fake.libvirt_down = !up;
	if (!up)
		fake_cancel(FAKE_VIRT, NULL, -ENOTCONN);
	the_virt->ops->connected(the_virt->userdata, up);
}

/* --- libvirt --- */

static void virt_up(struct fake_call *c _unused_, int error _unused_)
{
	if (the_virt && !fake.libvirt_down)
		the_virt->ops->connected(the_virt->userdata, true);
}
int virt_new(sd_event *event _unused_, struct workers *workers _unused_, const char *uri _unused_,
	     const char *pid_dir _unused_, const struct virt_ops *ops, void *userdata, struct virt **ret)
{
	the_virt = calloc(1, sizeof(*the_virt));
	*the_virt = (struct virt){ ops, userdata };
	fake_call_new(FAKE_VIRT, FAKE_EVENT, "", NULL)->answer = virt_up;
	*ret = the_virt;
	return 0;
}

struct virt *virt_free(struct virt *v)
{
	if (!v)
		return NULL;
	fake.freeing = true;
	fake_cancel(FAKE_VIRT, NULL, -ECANCELED);
	the_virt = NULL;
	free(v);
	return NULL;
}

bool virt_is_connected(const struct virt *v)
{
	return v && !fake.libvirt_down;
}

void virt_get_version(const struct virt *v _unused_, struct virt_version *ret)
{
	*ret = (struct virt_version){ 9000000, 7002000 };
}

static struct fake_call *virt_call(enum fake_op op, const char *name, int (*apply)(struct fake_call *), void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_VIRT, op, name, userdata);

	c->apply = apply;
	c->answer = fake_answer_done;
	return c;
}

static int domain_create(struct fake_call *c)
{
	struct fake_thing *t;

	if (fake.libvirt_down)
		return -ENOTCONN;
	t = fake_add(FAKE_DOMAIN, c->name);
	t->pid = ++fake.last_pid;
	c->number = (uint64_t)t->pid;
	return 0;
}

static void domain_created(struct fake_call *c, int error)
{
	c->fn.create(c->userdata, error, error < 0 ? "scripted" : "", error < 0 ? 0 : (pid_t)c->number);
}

void virt_domain_create(struct virt *v _unused_, const char *name, const char *xml, virt_create_fn fn, void *userdata)
{
	struct fake_call *c = virt_call(FAKE_DOMAIN_CREATE, name, domain_create, userdata);

	cr_assert_not_null(strstr(xml, name));
	c->answer = domain_created;
	c->fn.create = fn;
}

static int domain_resume(struct fake_call *c)
{
	struct fake_thing *d = fake_find(FAKE_DOMAIN, c->name);
	char scope[160], tap[16];

	if (fake.libvirt_down)
		return -ENOTCONN;
	if (!d)
		return -ENOENT;
	scope_name(scope, c->name);
	snprintf(tap, sizeof(tap), "dcl%s", ident_short(c->name));
	cr_assert_not(d->exported);
	cr_assert_not_null(fake_find(FAKE_UNIT, scope), "the guest of %s runs outside its scope", c->name);
	cr_assert_not_null(fake_find(FAKE_CHAIN, ident_short(c->name)), "the guest of %s runs without rules", c->name);
	cr_assert_not_null(fake_find(FAKE_TAP, tap));
	d->running = true;
	fake_agent_boot(c->name);
	return 0;
}

void virt_domain_resume(struct virt *v _unused_, const char *name, virt_done_fn fn, void *userdata)
{
	virt_call(FAKE_DOMAIN_RESUME, name, domain_resume, userdata)->fn.done = fn;
}

static int domain_destroy(struct fake_call *c)
{
	if (fake.libvirt_down)
		return -ENOTCONN;
	fake_qemu_dies(c->name, VIRT_STOP_DESTROYED);
	return 0;
}

void virt_domain_destroy(struct virt *v _unused_, const char *name, virt_done_fn fn, void *userdata)
{
	struct fake_call *c;

	/* What has not begun never will; its answer comes from the loop */
	list_foreach(&fake.calls, c, struct fake_call, link)
		if (c->owner == FAKE_VIRT && c->op != FAKE_EVENT && c->op != FAKE_DOMAIN_DESTROY &&
		    str_eq(c->name, name) && !c->held)
			c->refused = -ECANCELED;
	virt_call(FAKE_DOMAIN_DESTROY, name, domain_destroy, userdata)->fn.done = fn;
}

static void domains_listed(struct fake_call *c, int error)
{
	struct virt_domain v[FAKE_THINGS] = { 0 };
	size_t n = 0;

	if (error == 0 && fake.libvirt_down)
		error = -ENOTCONN;
	for (size_t i = 0; i < FAKE_THINGS; i++)
		if (fake.things[i].kind == FAKE_DOMAIN) {
			snprintf(v[n].name, sizeof(v[n].name), "%s", fake.things[i].name);
			v[n].paused = !fake.things[i].running;
			v[n++].pid = fake.things[i].pid;
		}
	c->fn.domains(c->userdata, error, error < 0 ? NULL : v, error < 0 ? 0 : n);
}

void virt_list(struct virt *v _unused_, virt_list_fn fn, void *userdata)
{
	struct fake_call *c = virt_call(FAKE_DOMAIN_LIST, "(list)", NULL, userdata);

	c->answer = domains_listed;
	c->fn.domains = fn;
}

/* --- systemd --- */

static void bus_up(struct fake_call *c _unused_, int error _unused_)
{
	if (the_bus && !fake.bus_down)
		the_bus->ops->connected(the_bus->userdata, true);
}

int bus_new(sd_event *event _unused_, const char *unit_prefix, const struct bus_ops *ops, void *userdata, struct bus **ret)
{
	cr_assert_str_eq(unit_prefix, "declaw-");
	the_bus = calloc(1, sizeof(*the_bus));
	*the_bus = (struct bus){ ops, userdata };
	fake_call_new(FAKE_BUS, FAKE_EVENT, "", NULL)->answer = bus_up;
	*ret = the_bus;
	return 0;
}

struct bus *bus_free(struct bus *b)
{
	if (!b)
		return NULL;
	fake.freeing = true;
	fake_cancel(FAKE_BUS, NULL, -ECANCELED);
	the_bus = NULL;
	free(b);
	return NULL;
}

bool bus_is_connected(const struct bus *b)
{
	return b && !fake.bus_down;
}

static struct fake_call *bus_call(enum fake_op op, const char *unit, int (*apply)(struct fake_call *), bus_done_fn fn,
				  void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_BUS, op, unit, userdata);

	c->apply = apply;
	c->answer = fake_answer_done;
	c->fn.done = fn;
	return c;
}

static const char *unit_id(const char *unit, char ret[SANDBOX_ID_MAX])
{
	cr_assert(unit_sandbox_id(unit, ret), "%s is no unit of ours", unit);
	return ret;
}

static int scope_start(struct fake_call *c)
{
	char id[SANDBOX_ID_MAX];
	const struct fake_thing *d = fake_find(FAKE_DOMAIN, unit_id(c->name, id));
	struct fake_thing *t;

	if (fake.bus_down)
		return -ENOTCONN;
	if (!d || d->pid != (pid_t)c->number)
		return -EIO;
	cr_assert_not(d->running, "%s ran before it was in its scope", id);
	t = fake_add(FAKE_UNIT, c->name);
	t->pid = d->pid;
	return 0;
}

void bus_scope_start(struct bus *b _unused_, const struct bus_scope_spec *spec, bus_done_fn fn, void *userdata)
{
	struct fake_call *c = bus_call(FAKE_SCOPE_START, spec->unit, scope_start, fn, userdata);

	cr_assert_str_eq(spec->slice, "declaw.slice");
	cr_assert_gt(spec->memory_max, 0);
	cr_assert_gt(spec->tasks_max, 0);
	cr_assert_gt(spec->cpu_quota_usec, 0);
	c->number = (uint64_t)spec->pid;
}

static int unit_kill(struct fake_call *c)
{
	char id[SANDBOX_ID_MAX];

	if (fake.bus_down)
		return -ENOTCONN;
	if (fake_find(FAKE_UNIT, c->name))
		fake_qemu_dies(unit_id(c->name, id), VIRT_STOP_CRASHED);
	return 0;
}

void bus_scope_weight(struct bus *b _unused_, const char *unit, uint64_t weight, bus_done_fn fn, void *userdata)
{
	cr_assert_gt(weight, 0);
	bus_call(FAKE_SCOPE_WEIGHT, unit, NULL, fn, userdata);
}

void bus_unit_kill(struct bus *b _unused_, const char *unit, bus_done_fn fn, void *userdata)
{
	bus_call(FAKE_UNIT_KILL, unit, unit_kill, fn, userdata);
}

static int unit_stop(struct fake_call *c)
{
	struct fake_thing *t = fake_find(FAKE_UNIT, c->name);
	char id[SANDBOX_ID_MAX];

	if (fake.bus_down)
		return -ENOTCONN;
	if (!t)
		return 0;
	if (str_ends(c->name, ".scope")) {
		fake_qemu_dies(unit_id(c->name, id), VIRT_STOP_CRASHED);
	} else {
		*t = (struct fake_thing){ 0 };
		fake_unit_removed(c->name);
	}
	return 0;
}

void bus_unit_stop(struct bus *b _unused_, const char *unit, bus_done_fn fn, void *userdata)
{
	bus_call(FAKE_UNIT_STOP, unit, unit_stop, fn, userdata);
}

static int timer_set(struct fake_call *c)
{
	int r = unit_stop(c);

	if (r == 0)
		fake_add(FAKE_UNIT, c->name)->after_usec = c->number;
	return r;
}

void bus_timer_set(struct bus *b _unused_, const struct bus_timer_spec *spec, bus_done_fn fn, void *userdata)
{
	bus_call(FAKE_TIMER_SET, spec->unit, timer_set, fn, userdata)->number = spec->after_usec;
}

void bus_timer_clear(struct bus *b _unused_, const char *unit, bus_done_fn fn, void *userdata)
{
	bus_call(FAKE_TIMER_CLEAR, unit, unit_stop, fn, userdata);
}

static void units_listed(struct fake_call *c, int error)
{
	struct bus_unit v[FAKE_THINGS] = { 0 };
	size_t n = 0;

	for (size_t i = 0; i < FAKE_THINGS; i++)
		if (fake.things[i].kind == FAKE_UNIT)
			snprintf(v[n++].name, sizeof(v[0].name), "%s", fake.things[i].name);
	c->fn.units(c->userdata, error, error < 0 ? NULL : v, error < 0 ? 0 : n);
}

void bus_units_list(struct bus *b _unused_, const char *glob _unused_, bus_list_fn fn, void *userdata)
{
	struct fake_call *c = bus_call(FAKE_UNITS_LIST, "(list)", NULL, NULL, userdata);

	c->answer = units_listed;
	c->fn.units = fn;
}
