/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nftables, taps, disks, workers; managers and sandboxes to try them with. See fake-host.h. */
#include <criterion/criterion.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>

#include "core/disk.h"
#include "egress/nflog.h"
#include "lib/fake-host.h"
#include "net/conntrack.h"
#include "policy/policy.h"
#include "util/fileio.h"
#include "util/fnv.h"
#include "util/log.h"

/* --- connection tracking --- */

void conntrack_forget(struct workers *workers _unused_, uint32_t address _unused_, struct policy *keep)
{
	policy_free(keep);
}

/* --- nftables --- */

struct firewall { int unused; };
struct workers { int unused; };
struct virtloop { int unused; };

int firewall_new(struct workers *workers _unused_, struct firewall **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

struct firewall *firewall_free(struct firewall *f)
{
	fake.freeing = true;
	fake_cancel(FAKE_FIREWALL, NULL, -ECANCELED);
	free(f);
	return NULL;
}

static struct fake_call *firewall_call(enum fake_op op, const char *name, int (*apply)(struct fake_call *),
				       firewall_done_fn fn, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_FIREWALL, op, name, userdata);

	c->apply = apply;
	c->answer = fake_answer_done;
	c->fn.done = fn;
	return c;
}

void firewall_setup(struct firewall *f _unused_, const struct firewall_config *config _unused_, firewall_done_fn fn, void *userdata)
{
	firewall_call(FAKE_RULES_SETUP, "(base)", NULL, fn, userdata);
}

static int chain_close(struct fake_call *c)
{
	cr_assert_not_null(fake_find(FAKE_TAP, c->text), "rules for %s, which is not there", c->text);
	if (!fake_find(FAKE_CHAIN, c->name))
		fake_add(FAKE_CHAIN, c->name);
	return 0;
}

void firewall_sandbox_close(struct firewall *f _unused_, const char *short_id, const char *tap, firewall_done_fn fn,
			    void *userdata)
{
	struct fake_call *c = firewall_call(FAKE_RULES_CLOSE, short_id, chain_close, fn, userdata);

	snprintf(c->text, sizeof(c->text), "%s", tap);
}

void firewall_sandbox_set(struct firewall *f, const struct firewall_sandbox *sb, firewall_done_fn fn, void *userdata)
{
	cr_assert_not_null(sb->policy);
	cr_assert(*sb->address && *sb->mac);
	firewall_sandbox_close(f, sb->short_id, sb->tap, fn, userdata);
}

static int chain_remove(struct fake_call *c)
{
	struct fake_thing *t = fake_find(FAKE_CHAIN, c->name);

	cr_assert_null(fake_find(FAKE_TAP, c->text), "%s is left without rules", c->text);
	if (t)
		memset(t, 0, sizeof(*t));
	return 0;
}

void firewall_sandbox_remove(struct firewall *f _unused_, const char *short_id, const char *tap, firewall_done_fn fn,
			     void *userdata)
{
	struct fake_call *c = firewall_call(FAKE_RULES_REMOVE, short_id, chain_remove, fn, userdata);

	snprintf(c->text, sizeof(c->text), "%s", tap);
}

static void chains_listed(struct fake_call *c, int error)
{
	char v[FAKE_THINGS][16] = { { 0 } };
	size_t n = 0;

	for (size_t i = 0; i < FAKE_THINGS; i++)
		if (fake.things[i].kind == FAKE_CHAIN)
			snprintf(v[n++], sizeof(v[0]), "%.15s", fake.things[i].name);
	c->fn.chains(c->userdata, error, error < 0 ? NULL : (const char (*)[16])v, error < 0 ? 0 : n);
}

void firewall_list(struct firewall *f _unused_, firewall_list_fn fn, void *userdata)
{
	struct fake_call *c = firewall_call(FAKE_RULES_LIST, "(list)", NULL, NULL, userdata);

	c->answer = chains_listed;
	c->fn.chains = fn;
}

void firewall_pin(struct firewall *f _unused_, const char *short_id, const struct firewall_pin *pins _unused_, size_t n _unused_,
		  firewall_done_fn fn, void *userdata)
{
	firewall_call(FAKE_RULES_PIN, short_id, NULL, fn, userdata);
}

/* --- the rules' log --- */

int nflog_new(sd_event *event _unused_, nflog_fn fn _unused_, void *userdata _unused_, struct nflog **ret)
{
	*ret = NULL;
	return 0;
}

struct nflog *nflog_free(struct nflog *n _unused_)
{
	return NULL;
}

/* --- taps --- */

int tap_create(const char *name, gid_t gid)
{
	int r = fake_sync(FAKE_TAP_CREATE);

	cr_assert_eq(gid, getgid());
	if ((r == 0 || fake.fail_applied) && !fake_find(FAKE_TAP, name))
		fake_add(FAKE_TAP, name);
	return r;
}

int tap_network(const char *name, const char *gateway _unused_, const char *guest _unused_, const char *mac _unused_)
{
	cr_assert_not_null(fake_find(FAKE_TAP, name));
	return 0;
}

int tap_forwarding(void)
{
	return 0;
}

static int tap_gone(struct fake_call *c)
{
	struct fake_thing *t = fake_find(FAKE_TAP, c->name);
	char id[SANDBOX_ID_MAX];

	snprintf(id, sizeof(id), "sbx-%.10s", c->name + 3);
	if (t && fake_find(FAKE_DOMAIN, id))
		return -EBUSY;		/* QEMU holds it */
	if (t)
		memset(t, 0, sizeof(*t));
	return 0;
}

static void tap_answer(struct fake_call *c, int error)
{
	if (c->fn.agent_done)
		c->fn.agent_done(c->userdata, error);
}

void tap_remove_async(struct workers *workers _unused_, const char *name, tap_done_fn fn, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_WORKERS, FAKE_TAP_REMOVE, name, userdata);

	c->apply = tap_gone;
	c->answer = tap_answer;
	c->fn.agent_done = fn;
}

int tap_foreach(const char *prefix, void (*fn)(void *userdata, const char *name), void *userdata)
{
	for (size_t i = 0; i < FAKE_THINGS; i++)
		if (fake.things[i].kind == FAKE_TAP && str_starts(fake.things[i].name, prefix)) {
			char name[64];

			snprintf(name, sizeof(name), "%s", fake.things[i].name);
			fn(userdata, name);
		}
	return 0;
}

void tap_mac(const char *sandbox_id, char ret[18])
{
	uint64_t h = fnv(FNV_BEGIN, sandbox_id, strlen(sandbox_id));

	snprintf(ret, 18, "02:00:%02x:%02x:%02x:%02x", (unsigned int)(h >> 56) & 255, (unsigned int)(h >> 48) & 255,
		 (unsigned int)(h >> 40) & 255, (unsigned int)(h >> 32) & 255);
}

/* --- disks and workers --- */

static int disk_make(struct fake_call *c)
{
	return file_write_atomic(c->text, "disk", 4, 0660, false);
}

int disk_create(struct workers *workers _unused_, const char *image, const char *format _unused_,
		const char *cache_dir _unused_, const char *path, gid_t gid _unused_, disk_done_fn fn, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_WORKERS, FAKE_DISK_CREATE, path, userdata);

	cr_assert_eq(access(image, R_OK), 0, "%s", image);
	snprintf(c->text, sizeof(c->text), "%s", path);
	c->apply = disk_make;
	c->answer = fake_answer_done;
	c->fn.done = fn;
	return 0;
}

static int tree_remove(struct fake_call *c)
{
	char text[sizeof(c->paths)], *rest = text, *path;
	int r = 0;

	memcpy(text, c->paths, sizeof(text));
	while (r == 0 && (path = strsep(&rest, "\n")))
		r = dir_remove_tree(path);
	return r;
}

int disk_remove_tree(struct workers *workers, const char *path, disk_done_fn fn, void *userdata)
{
	return disk_remove_trees(workers, &path, 1, fn, userdata);
}

int disk_remove_trees(struct workers *workers _unused_, const char *const *paths, size_t n, disk_done_fn fn, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_WORKERS, FAKE_TREE_REMOVE, paths[n - 1], userdata);
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		len += (size_t)snprintf(c->paths + len, sizeof(c->paths) - len, "%s%s", i ? "\n" : "", paths[i]);
	cr_assert_lt(len, sizeof(c->paths));
	c->apply = tree_remove;
	c->answer = fake_answer_done;
	c->fn.done = fn;
	return 0;
}

int workers_new(sd_event *event _unused_, unsigned int threads _unused_, struct workers **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

struct workers *workers_free(struct workers *w)
{
	fake.freeing = true;
	fake_cancel(FAKE_WORKERS, NULL, -ECANCELED);
	free(w);
	return NULL;
}

int virtloop_new(sd_event *event _unused_, struct virtloop **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

struct virtloop *virtloop_free(struct virtloop *l)
{
	free(l);
	return NULL;
}

/* --- directories --- */

static void put_file(const char *name, const char *text)
{
	_cleanup_free_ char *path = str_format("%s/%s", fake.dir, name);

	cr_assert_eq(file_write_atomic(path, text, strlen(text), 0640, false), 0, "%s", path);
}

static void put_dir(const char *name)
{
	_cleanup_free_ char *path = str_format("%s/%s", fake.dir, name);

	cr_assert_eq(dir_make(path, 0755), 0, "%s", path);
}

void fake_host_init(void)
{
	static const char *const dirs[] = {
		"state", "state/boot", "state/templates", "state/templates/base", "run", "run/vm", "log",
	};

	memset(&fake, 0, sizeof(fake));
	log_init(LOG_EMERG);
	list_init(&fake.calls);
	fake_script();
	fake.last_pid = 1000;
	snprintf(fake.dir, sizeof(fake.dir), "/tmp/declaw-core-XXXXXX");
	cr_assert_not_null(mkdtemp(fake.dir));
	for (size_t i = 0; i < ELEMENTSOF(dirs); i++)
		put_dir(dirs[i]);
	put_file("keys", "");
	put_file("state/boot/vmlinuz", "kernel");
	put_file("state/boot/initramfs", "initramfs");
	put_file("state/templates/base/template.conf", "[template]\nname = base\nvcpus = 2\nmemory_mb = 256\n");
	put_file("state/templates/base/rootfs.ext4", "ext4");
	cr_assert_geq(sd_event_new(&fake.event), 0);
}

void fake_host_done(void)
{
	struct fake_call *c;

	fake_agent_forget_all();
	list_foreach(&fake.calls, c, struct fake_call, link)
		fake_call_free(c);
	sd_event_unref(fake.event);
	dir_remove_tree(fake.dir);
}

bool fake_path_exists(const char *format, ...)
{
	_cleanup_free_ char *name = NULL, *path = NULL;
	struct stat st;
	va_list ap;

	va_start(ap, format);
	cr_assert_geq(vasprintf(&name, format, ap), 0);
	va_end(ap);
	path = str_format("%s/%s", fake.dir, name);
	return lstat(path, &st) == 0;
}

/* --- managers --- */

static char *settings_text(const char *more)
{
	const struct group *g = getgrgid(getgid());

	cr_assert_not_null(g);
	return str_format("[api]\nkeys_file = %s/keys\n"
			  "[host]\nstate_dir = %s/state\nrun_dir = %s/run\nlibvirt_log_dir = %s/log\nvm_group = %s\n"
			  "emulator = /bin/true\naccelerator = tcg\n%s%s",
			  fake.dir, fake.dir, fake.dir, fake.dir, g->gr_name,
			  more && strstr(more, "fork =") ? "" : "[create]\nfork = no\n", more ?: "");
}

struct manager *fake_manager_unsettled(const char *more)
{
	_cleanup_free_ char *text = settings_text(more), *path = str_format("%s/declawd.conf", fake.dir), *error = NULL;
	struct settings s = { 0 };
	struct manager *m = NULL;

	fake.freeing = false;
	put_file("declawd.conf", text);
	cr_assert_eq(settings_load(&s, path, true, &error), 0, "%s", error);
	cr_assert_eq(manager_new(fake.event, &s, &m), 0);
	cr_assert_eq(manager_start(m, NULL, NULL), 0);
	return m;
}

struct manager *fake_manager(const char *more)
{
	struct manager *m = fake_manager_unsettled(more);

	fake_settle();
	cr_assert(m->ready, "the manager is not ready");
	return m;
}

/* --- sandboxes --- */

void fake_waited(void *userdata, enum fault fault, const char *detail)
{
	struct fake_wait *w = userdata;

	w->calls++;
	w->fault = fault;
	snprintf(w->detail, sizeof(w->detail), "%s", detail ?: "");
}

void fake_options(struct manager *m, struct sandbox_options *ret, uint64_t timeout_sec)
{
	*ret = (struct sandbox_options){
		.template = template_find(&m->templates, "base"),
		.name = strdup("base"),
		.timeout_sec = timeout_sec,
		.metadata = json_object_new_object(),
		.envs = json_object_new_object(),
		.policy_text = strdup("{}"),
		.secure = true,
	};
	cr_assert_not_null(ret->template);
}

struct sandbox *fake_create(struct manager *m, struct fake_wait *w, uint64_t timeout_sec)
{
	struct sandbox_options options;
	struct sandbox *sb = NULL;
	const char *detail = NULL;

	memset(w, 0, sizeof(*w));
	fake_options(m, &options, timeout_sec);
	cr_assert_eq(sandbox_create(m, "alice", &options, fake_waited, w, &sb, &detail), FAULT_NONE, "%s", detail);
	cr_assert_eq(w->calls, 0, "never from within the call");
	return sb;
}

struct sandbox *fake_running(struct manager *m)
{
	struct fake_wait w;
	struct sandbox *sb = fake_create(m, &w, 300);

	fake_settle();
	cr_assert_eq(w.calls, 1);
	cr_assert_eq(w.fault, FAULT_NONE, "%s", w.detail);
	fake_assert_running(sb);
	return sb;
}

void fake_assert_running(const struct sandbox *sb)
{
	const struct fake_thing *d = fake_find(FAKE_DOMAIN, sb->id), *s = fake_find(FAKE_UNIT, sb->unit);

	cr_assert_eq(sb->state, SANDBOX_RUNNING, "%s", sandbox_state_name(sb->state));
	cr_assert(d && d->running && s && s->pid == d->pid && sb->pid == d->pid);
	cr_assert_not_null(fake_find(FAKE_TAP, sb->tap));
	cr_assert_not_null(fake_find(FAKE_CHAIN, ident_short(sb->id)));
	cr_assert(fake_path_exists("state/sandboxes/%s/disk.qcow2", sb->id));
	cr_assert(fake_path_exists("state/sandboxes/%s/sandbox.json", sb->id));
	cr_assert(fake_path_exists("run/vm/%s", sb->id));
	cr_assert(sb->agent && sb->agent_up);
	cr_assert_not(sb->step_pending);
	cr_assert_not(sb->boot_slot);
}

static void assert_dir_empty(const char *name)
{
	_cleanup_free_ char *path = str_format("%s/%s", fake.dir, name);

	cr_assert_eq(rmdir(path), 0, "%s: %m", path);
	cr_assert_eq(dir_make(path, 0755), 0);
}

void fake_assert_empty(void)
{
	for (size_t i = 0; i < FAKE_THINGS; i++)
		cr_assert_eq(fake.things[i].kind, FAKE_NOTHING, "%s is left (kind %d)", fake.things[i].name,
			     fake.things[i].kind);
	cr_assert(list_empty(&fake.calls));
	assert_dir_empty("state/sandboxes");
	assert_dir_empty("state/trash");
	assert_dir_empty("run/vm");
}
