/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The accelerator's proof, see accel.h. */
#include "core/accel.h"

#include <assert.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "core/manager.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/json.h"
#include "util/log.h"
#include "virt/domxml.h"

static const char *const verdict_names[] = { "unknown", "probing", "kvm", "tcg", "none" };
static_assert(ELEMENTSOF(verdict_names) == ACCEL_VERDICT_MAX, "a name per verdict");

const char *accel_name(const struct accel *a)
{
	return verdict_names[a->verdict];
}

bool accel_is_kvm(const struct accel *a)
{
	return a->verdict == ACCEL_IS_KVM;
}

void accel_done(struct accel *a)
{
	a->agent = agent_free(a->agent);
}

/* What the verdict is true for: host boot, host kernel, QEMU, guest kernel. */
static char *accel_key(const struct manager *m)
{
	_cleanup_buf_ struct buf boot = BUF_INIT(128);
	struct virt_version version = { 0 };
	struct utsname u;
	struct stat st;

	virt_get_version(m->virt, &version);
	if (file_read("/proc/sys/kernel/random/boot_id", 100, &boot) < 0 || uname(&u) < 0 ||
	    stat(m->templates.kernel, &st) < 0)
		return NULL;
	boot.data[strcspn(boot.data, "\n")] = '\0';
	return str_format("%s|%s|qemu-%lu|kernel-%lx-%lx", boot.data, u.release, version.qemu, (unsigned long)st.st_size,
			  (unsigned long)st.st_mtime);
}

static bool verdict_load(struct manager *m, const char *path, const char *key)
{
	_cleanup_buf_ struct buf text = BUF_INIT(4096);
	_cleanup_json_ json_object *o = NULL;
	const char *error, *s = NULL;

	if (file_read(path, 4096, &text) < 0 || json_parse(text.data ?: "", text.len, &o, &error) != 0)
		return false;
	if (json_get_string(o, "key", &s) != 0 || !str_eq(s, key) || json_get_string(o, "verdict", &s) != 0)
		return false;
	if (!str_eq(s, "kvm") && !str_eq(s, "tcg"))
		return false;
	m->accel.verdict = str_eq(s, "kvm") ? ACCEL_IS_KVM : ACCEL_IS_TCG;
	if (json_get_string(o, "reason", &s) == 0)
		snprintf(m->accel.reason, sizeof(m->accel.reason), "%s", s);
	return true;
}

static void verdict_save(struct manager *m)
{
	_cleanup_free_ char *key = accel_key(m), *path = str_format("%s/accel.json", m->settings.state_dir);
	_cleanup_json_ json_object *o = json_object_new_object();
	const char *text = NULL;
	size_t len = 0;
	int r = -ENOMEM;

	if (key && path && o && json_put_string(o, "key", key) == 0 &&
	    json_put_string(o, "verdict", accel_name(&m->accel)) == 0 &&
	    json_put_string(o, "reason", m->accel.reason) == 0)
		text = json_text(o, &len);
	if (text)
		r = file_write_atomic(path, text, len, 0600, false);
	if (r < 0)
		log_full(LOG_WARNING, NULL, NULL, r, __FILE__, __LINE__, "The accelerator's verdict cannot be kept: %m");
}

static void accel_conclude(struct manager *m, enum accel_verdict verdict, const char *reason)
{
	void (*done)(struct manager *) = m->accel.done;

	m->accel.verdict = verdict;
	if (reason != m->accel.reason)
		snprintf(m->accel.reason, sizeof(m->accel.reason), "%s", reason);
	log_full(LOG_NOTICE, NULL, MSG_ACCEL_VERDICT, 0, __FILE__, __LINE__, "Accelerator: %s (%s)",
		 accel_name(&m->accel), m->accel.reason);
	m->accel.done = NULL;
	if (done)
		done(m);
}

/* --- the probe --- */

static void probe_gone(void *userdata, int error, const char *message)
{
	struct manager *m = userdata;

	if (m->stopping)
		return;
	if (error < 0)
		log_full(LOG_WARNING, NULL, NULL, error, __FILE__, __LINE__, "Removing the probe domain: %s: %m", message);
	m->accel.agent = agent_free(m->accel.agent);
	verdict_save(m);
	accel_conclude(m, m->accel.verdict, m->accel.reason);
}

static void probe_finish(struct manager *m, enum accel_verdict verdict, const char *reason)
{
	if (m->accel.finishing || m->stopping)
		return;
	m->accel.finishing = true;
	m->accel.verdict = verdict;
	snprintf(m->accel.reason, sizeof(m->accel.reason), "%s", reason);
	virt_domain_destroy(m->virt, ACCEL_PROBE_NAME, probe_gone, m);
}

static void probe_up(void *userdata, const struct agent_peer *peer _unused_)
{
	probe_finish(userdata, ACCEL_IS_KVM, "a guest booted under KVM and its agent answered");
}

static void probe_lost(void *userdata, int reason)
{
	char text[160];

	snprintf(text, sizeof(text), "/dev/kvm is there but a guest did not boot on it (%s)",
		 reason == -ETIMEDOUT ? "no answer in time" : "its channel broke");
	probe_finish(userdata, ACCEL_IS_TCG, text);
}

static const struct agent_ops probe_ops = { .up = probe_up, .lost = probe_lost };

static void probe_running(void *userdata, int error, const char *message)
{
	if (error < 0)
		probe_finish(userdata, ACCEL_IS_TCG, message);
}

static void probe_created(void *userdata, int error, const char *message, pid_t pid _unused_)
{
	struct manager *m = userdata;
	const struct agent_config config = { .connect_timeout_usec = m->settings.accel_probe_usec };
	_cleanup_free_ char *path = str_format("%s/vm/%s/agent.sock", m->settings.run_dir, ACCEL_PROBE_NAME);

	if (error < 0) {
		char text[160];

		snprintf(text, sizeof(text), "QEMU does not start with KVM: %.120s", message);
		probe_finish(m, ACCEL_IS_TCG, text);
		return;
	}
	if (!path || agent_new(m->event, path, &config, &probe_ops, m, &m->accel.agent) < 0 ||
	    agent_start(m->accel.agent) < 0) {
		probe_finish(m, ACCEL_IS_TCG, "the probe's channel could not be opened");
		return;
	}
	virt_domain_resume(m->virt, ACCEL_PROBE_NAME, probe_running, m);
}

static int probe_start(struct manager *m)
{
	_cleanup_free_ char *dir = str_format("%s/vm/%s", m->settings.run_dir, ACCEL_PROBE_NAME);
	_cleanup_free_ char *socket = str_format("%s/agent.sock", dir ?: ""), *console = str_format("%s/console.sock", dir ?: "");
	_cleanup_free_ char *cmdline = domxml_cmdline(true, 0, "declaw.root=none"), *xml = NULL;
	const struct dom_spec spec = {
		.name = ACCEL_PROBE_NAME,
		.uuid = "9d1c9f3a-6a0e-4d6e-8d7c-2f6f6d1b7a10",
		.kvm = true,
		.emulator = m->settings.emulator,
		.vcpus = 1,
		.memory_bytes = 256ull << 20,
		.kernel = m->templates.kernel,
		.initramfs = m->templates.initramfs,
		.cmdline = cmdline,
		.agent_socket = socket,
		.console_socket = console,
		.no_disk = true,
		.no_net = true,
	};
	int r;

	if (!dir || !socket || !console || !cmdline)
		return -ENOMEM;
	r = dir_remove_tree(dir);
	if (r == 0)
		r = dir_make(dir, 0770);
	if (r == 0 && (chown(dir, (uid_t)-1, m->vm_gid) < 0 || chmod(dir, 02770) < 0))
		r = -errno;
	if (r < 0)
		return r;
	xml = domxml_format(&spec);
	if (!xml)
		return -ENOMEM;
	m->accel.verdict = ACCEL_PROBING;
	log_info("Proving KVM by booting a guest on it, for at most %llu s",
		 (unsigned long long)(m->settings.accel_probe_usec / USEC_PER_SEC));
	virt_domain_create(m->virt, ACCEL_PROBE_NAME, xml, probe_created, m);
	return 0;
}

void accel_decide(struct manager *m, void (*done)(struct manager *m))
{
	_cleanup_free_ char *key = accel_key(m), *path = str_format("%s/accel.json", m->settings.state_dir);
	struct stat st;
	int r;

	m->accel.done = done;
	m->accel.finishing = false;
	if (access(m->settings.emulator, X_OK) < 0) {
		accel_conclude(m, ACCEL_IS_NONE, "the configured emulator is not there");
		return;
	}
	if (m->settings.accelerator != ACCEL_AUTO) {
		accel_conclude(m, m->settings.accelerator == ACCEL_KVM ? ACCEL_IS_KVM : ACCEL_IS_TCG,
			       "set in the configuration");
		return;
	}
	/* stat(): the unit's device policy makes access() fail on a device that libvirtd may well open */
	if (stat("/dev/kvm", &st) < 0) {
		accel_conclude(m, ACCEL_IS_TCG, "this host has no /dev/kvm");
		return;
	}
	if (key && path && verdict_load(m, path, key)) {
		accel_conclude(m, m->accel.verdict, m->accel.reason);
		return;
	}
	r = m->templates.boot_ok ? probe_start(m) : -ENOENT;
	if (r < 0)
		accel_conclude(m, ACCEL_IS_TCG, "the probe could not be started");
}
