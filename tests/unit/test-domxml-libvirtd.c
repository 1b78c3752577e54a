/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The real XML in a real libvirt: a private, unprivileged libvirtd, QEMU, a tap, and virt/ on top.
 *
 * Everything runs in namespaces of its own (lib/jail.h), libvirtd as user nobody with its directories below /tmp.
 * Domains start paused and are hardly run at all, so the guest does not matter; its kernel comes from the image build
 * or the host. Also here because it needs a libvirtd: losing the connection and getting it back, a QEMU that is
 * killed, pid files that lie. Skipped, with the reason, where root, QEMU or a kernel is missing.
 */
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <net/if.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "lib/jail.h"
#include "lib/tap.h"
#include "loop/virtloop.h"
#include "loop/workers.h"
#include "net/tap.h"
#include "util/fileio.h"
#include "util/str.h"
#include "virt/domxml.h"
#include "virt/qmp.h"
#include "virt/virt.h"
#include "virt/work.h"

#define NOBODY 65534
#define LIBVIRTD "/usr/sbin/libvirtd"
#define QEMU "/usr/bin/qemu-system-x86_64"
#define BOOT "/var/lib/declaw/boot"	/* unless DECLAW_TEST_BOOT names another directory */
#define ID "sbx-accept0001"
#define TAP "dclaccept0001"

static char dir[] = "/tmp/declaw-libvirtd-XXXXXX";
static char kernel[256], initramfs[256];
static pid_t libvirtd;
static sd_event *event;
static struct virt *virt;

struct state {
	int n_answers, error, ups, downs;
	pid_t pid;
	char message[512], events[512];
	struct virt_domain domains[8];
	size_t n_domains;
};
static struct state st;

/* --- what virt/ calls --- */

static void on_event(void *userdata _unused_, const char *name, enum virt_event ev, int detail)
{
	size_t n = strlen(st.events);

	snprintf(st.events + n, sizeof(st.events) - n, "%s:%d:%d ", name, (int)ev, detail);
}

static void on_connected(void *userdata _unused_, bool up)
{
	st.ups += up;
	st.downs += !up;
}

static const struct virt_ops ops = { .domain_event = on_event, .connected = on_connected };

static void on_done(void *userdata _unused_, int error, const char *message)
{
	st.n_answers++;
	st.error = error;
	snprintf(st.message, sizeof(st.message), "%s", message);
}

static void on_create(void *userdata, int error, const char *message, pid_t pid)
{
	st.pid = pid;
	on_done(userdata, error, message);
}

static void on_list(void *userdata, int error, const struct virt_domain *v, size_t n)
{
	st.n_domains = MIN_OF(n, ELEMENTSOF(st.domains));
	for (size_t i = 0; i < st.n_domains; i++)
		st.domains[i] = v[i];
	on_done(userdata, error, "");
}

static bool answered(int error)
{
	bool came = tap_wait(event, 60, st.n_answers == 1);

	st.n_answers = 0;
	if (!came || st.error != error)
		printf("# answered: %d, error %d, %s\n", came, st.error, st.message);
	return came && st.error == error;
}

/* --- the world --- */

static char *in_dir(const char *name)
{
	char *s = str_format("%s/%s", dir, name);

	if (!s)
		abort();
	return s;
}

static void make_dir(const char *name)
{
	_cleanup_free_ char *path = in_dir(name);

	if (mkdir(path, 0750) < 0 || chown(path, NOBODY, NOBODY) < 0)
		abort();
}

static void run(const char *const argv[])
{
	pid_t p = fork();
	int status = 0;

	if (p == 0) {
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (p < 0 || waitpid(p, &status, 0) < 0 || status != 0) {
		fprintf(stderr, "%s: status %d\n", argv[0], status);
		abort();
	}
}

static void become_nobody(void)
{
	gid_t group = NOBODY;

	if (setgroups(1, &group) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
		_exit(126);
}

/* What it has to say is about a host without most of what it looks for. */
static void libvirtd_start(void)
{
	static const char *const xdg[] = { "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME" };
	static const char *const sub[] = { "", "run", "config", "cache", "data" };

	fflush(NULL);
	libvirtd = fork();
	if (libvirtd != 0)
		return;
	for (size_t i = 0; i < ELEMENTSOF(xdg); i++)
		setenv(xdg[i], in_dir(sub[i]), 1);
	if (!freopen(in_dir("libvirtd.log"), "a", stderr))
		_exit(125);
	become_nobody();
	umask(027);
	execl(LIBVIRTD, LIBVIRTD, "--config", in_dir("libvirtd.conf"), (char *)NULL);
	_exit(127);
}

static void write_file(const char *name, const char *text)
{
	_cleanup_free_ char *path = in_dir(name);

	if (file_write_atomic(path, text, strlen(text), 0644, false) < 0)
		abort();
}

/* QEMU's user must be able to open it; the host's own node stays as it is. */
static void open_tun_to_all(void)
{
	_cleanup_free_ char *node = in_dir("tun");

	if (mknod(node, S_IFCHR | 0666, makedev(10, 200)) < 0 || chmod(node, 0666) < 0 ||
	    mount(node, "/dev/net/tun", NULL, MS_BIND, NULL) < 0)
		abort();
}

static void make_disks(void)
{
	_cleanup_free_ char *base = in_dir("base.raw"), *overlay = in_dir("disk.qcow2");
	const char *const argv[] = { "/usr/bin/qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, overlay, NULL };
	int fd = open(base, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	if (fd < 0 || ftruncate(fd, 64 << 20) < 0)
		abort();
	close(fd);
	run(argv);
	if (chown(overlay, NOBODY, NOBODY) < 0)
		abort();
}

static bool find_kernel(void)
{
	const char *boot = getenv("DECLAW_TEST_BOOT") ?: BOOT;
	glob_t g = { 0 };
	bool found;

	snprintf(kernel, sizeof(kernel), "%s/vmlinuz", boot);
	snprintf(initramfs, sizeof(initramfs), "%s/initramfs", boot);
	found = access(kernel, R_OK) == 0 && access(initramfs, R_OK) == 0;
	if (!found && glob("/boot/vmlinuz-*", 0, NULL, &g) == 0) {
		found = access(g.gl_pathv[0], R_OK) == 0;
		snprintf(kernel, sizeof(kernel), "%s", g.gl_pathv[0]);
		/* Never looked at: the guest hardly runs. */
		snprintf(initramfs, sizeof(initramfs), "%s", g.gl_pathv[0]);
	}
	globfree(&g);
	return found;
}

static void setup(void)
{
	int r;

	if (geteuid() != 0 || access(QEMU, X_OK) < 0 || access(LIBVIRTD, X_OK) < 0 || access("/usr/bin/qemu-img", X_OK) < 0)
		tap_skip("needs root, qemu-system-x86 and libvirtd");
	if (access("/dev/net/tun", F_OK) < 0 || !find_kernel())
		tap_skip("no /dev/net/tun, or no kernel in DECLAW_TEST_BOOT, " BOOT " or /boot");
	r = jail_enter();
	if (r < 0)
		tap_skip("namespaces: %s", strerror(-r));
	if (!mkdtemp(dir) || chmod(dir, 0711) < 0)
		abort();
	make_dir("run");
	make_dir("config");
	make_dir("config/libvirt");
	make_dir("cache");
	make_dir("data");
	make_dir("vm");
	write_file("libvirtd.conf", "unix_sock_rw_perms = \"0770\"\nauth_unix_rw = \"none\"\n");
	write_file("config/libvirt/qemu.conf",
		   "stdio_handler = \"file\"\nsecurity_driver = \"none\"\nnamespaces = [ ]\n");
	open_tun_to_all();
	make_disks();
}

/* --- the domain --- */

static char *domain_xml(const char *id)
{
	_cleanup_free_ char *disk = in_dir("disk.qcow2"), *base = in_dir("base.raw");
	_cleanup_free_ char *agent = in_dir("vm/agent.sock"), *console = in_dir("vm/console.sock");
	_cleanup_free_ char *monitor = in_dir("vm/qmp.sock");
	_cleanup_free_ char *cmdline = domxml_cmdline(false, 2000000, NULL);
	char mac[18];
	const struct dom_spec spec = {
		.name = id, .uuid = "7f1c2a52-6d3b-4a52-9d0e-3c1f2b9a8d01", .emulator = QEMU, .vcpus = 1,
		.memory_bytes = 128 << 20, .kernel = kernel, .initramfs = initramfs, .cmdline = cmdline, .disk = disk,
		.backing = base, .tap = TAP, .mac = mac, .agent_socket = agent, .console_socket = console,
		.monitor_socket = monitor,
	};

	tap_mac(id, mac);
	return domxml_format(&spec);
}

static bool create(void)
{
	_cleanup_free_ char *xml = domain_xml(ID);

	virt_domain_create(virt, ID, xml, on_create, NULL);
	return answered(0);
}

static bool destroy(void)
{
	virt_domain_destroy(virt, ID, on_done, NULL);
	return answered(0);
}

/* Process 0 would be our own group. */
static void kill_qemu(void)
{
	if (st.pid > 1)
		kill(st.pid, SIGKILL);
}

static bool list_is(size_t n, bool paused)
{
	virt_list(virt, on_list, NULL);
	if (!answered(0) || st.n_domains != n)
		return false;
	return n == 0 || (str_eq(st.domains[0].name, ID) && st.domains[0].paused == paused && st.domains[0].pid == st.pid);
}

static void test_connect(const char *uri, const char *pid_dir, struct workers *w)
{
	struct virt_version version;

	ok(virt_new(event, w, uri, pid_dir, &ops, NULL, &virt) == 0, "opening begins before libvirtd runs");
	ok(!tap_wait(event, 0.4, st.ups), "and fails quietly");
	libvirtd_start();
	ok(tap_wait(event, 30, st.ups == 1), "connected once it is there");
	virt_get_version(virt, &version);
	ok(version.libvirt && version.qemu, "libvirt %lu, QEMU %lu", version.libvirt, version.qemu);
}

/* Our own monitor, beside libvirt's: the same QEMU, and libvirt hears of what it is told there. */
static void test_monitor(void)
{
	_cleanup_free_ char *path = in_dir("vm/qmp.sock"), *answer = NULL, *refused = NULL;
	_cleanup_close_ int fd = qmp_open(path);

	ok(fd >= 0, "QEMU serves a second monitor: %d", fd);
	ok(qmp_command(fd, "{\"execute\":\"query-status\"}", -1, &answer) == 0 && strstr(answer, "\"running\":false"),
	   "it says how it is");
	ok(qmp_command(fd, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"x\"}}", 0, NULL) == 0 &&
	   qmp_command(fd, "{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"x\"}}", -1, NULL) == 0, "takes a descriptor");
	ok(qmp_command(fd, "{\"execute\":\"make-coffee\"}", -1, &refused) == -EREMOTEIO && strstr(refused, "CommandNotFound"),
	   "and refuses what it does not know");
	ok(qmp_command(fd, "{\"execute\":\"cont\"}", -1, NULL) == 0 && tap_wait(event, 5, strstr(st.events, ID ":2:")),
	   "libvirt says that it runs");
	ok(qmp_command(fd, "{\"execute\":\"stop\"}", -1, NULL) == 0 && tap_wait(event, 5, list_is(1, true)), "and that it stands");
	st.events[0] = '\0';
}

static void test_life(void)
{
	_cleanup_free_ char *agent = in_dir("vm/agent.sock"), *exe = NULL;
	char target[256] = "";
	bool gone;

	ok(create() && st.pid > 1, "libvirt accepts the microvm and starts it: pid %d", st.pid);
	exe = str_format("/proc/%d/exe", st.pid);
	ok(readlink(exe, target, sizeof(target) - 1) > 0 && str_eq(target, QEMU), "the pid is QEMU's: %s", target);
	ok(access(agent, F_OK) == 0, "the agent's socket is bound when the answer comes");
	ok(list_is(1, true), "it is listed, paused, with its pid");
	ok(strlen(st.events) == 0 || strstr(st.events, ID ":1:"), "no other event: %s", st.events);
	test_monitor();
	virt_domain_resume(virt, ID, on_done, NULL);
	ok(answered(0) && tap_wait(event, 5, strstr(st.events, ID ":2:")), "it runs, an event says so");
	ok(list_is(1, false), "and is listed as running");
	virt_domain_suspend(virt, ID, on_done, NULL);
	ok(answered(0) && list_is(1, true), "suspended again");
	virt_domain_create(virt, ID, "<domain/>", on_create, NULL);
	ok(answered(-EIO), "nonsense is refused: %s", st.message);
	st.events[0] = '\0';
	ok(destroy(), "destroyed");
	ok(tap_wait(event, 5, strstr(st.events, ID ":0:1")), "an event says so: %s", st.events);
	gone = list_is(0, false);
	ok(gone && destroy(), "gone, and destroying again is fine");
}

static void test_twice(void)
{
	_cleanup_free_ char *xml = domain_xml(ID);

	ok(create(), "created");
	virt_domain_create(virt, ID, xml, on_create, NULL);
	ok(answered(-EEXIST), "the same name again: %s", st.message);
	ok(destroy(), "destroyed");
}

static void test_save(void)
{
	_cleanup_free_ char *path = in_dir("vm/saved");

	ok(create(), "created");
	virt_domain_save(virt, ID, path, on_done, NULL);
	ok(answered(0) && access(path, F_OK) == 0, "saved");
	ok(tap_wait(event, 5, strstr(st.events, ID ":0:3")), "an event says why it stopped");
	virt_domain_restore(virt, ID, path, NULL, on_create, NULL);
	ok(answered(0) && st.pid > 1 && list_is(1, true), "restored, paused, pid %d", st.pid);
	ok(destroy(), "destroyed");
}

static void test_qemu_killed(void)
{
	ok(create(), "created");
	st.events[0] = '\0';
	kill_qemu();
	ok(tap_wait(event, 20, strstr(st.events, ID ":0:")), "a QEMU that is killed: %s", st.events);
	ok(tap_wait(event, 20, list_is(0, false)) && destroy(), "is gone");
}

static void test_libvirtd_dies(void)
{
	pid_t qemu;

	ok(create(), "created");
	qemu = st.pid;
	st.ups = st.downs = 0;
	kill(libvirtd, SIGKILL);
	virt_domain_resume(virt, ID, on_done, NULL);
	ok(answered(-ENOTCONN), "a call into a dying libvirtd: %s", st.message);
	ok(tap_wait(event, 10, st.downs == 1) && !virt_is_connected(virt), "the loss is noticed");
	virt_domain_resume(virt, ID, on_done, NULL);
	ok(answered(-ENOTCONN), "calls are refused");
	ok(kill(qemu, 0) == 0, "the guest lives on");
	waitpid(libvirtd, NULL, 0);
	libvirtd_start();
	ok(tap_wait(event, 30, st.ups == 1), "connected again");
	st.pid = qemu;
	ok(tap_wait(event, 10, list_is(1, true)), "the domain is still known, with its pid");
	ok(destroy() && list_is(0, false), "and can be destroyed");
}

/* Nothing answers, nothing is closed: only the keepalive can tell. Takes half a minute. */
static void test_libvirtd_freezes(void)
{
	st.ups = st.downs = 0;
	kill(libvirtd, SIGSTOP);
	virt_domain_resume(virt, ID, on_done, NULL);
	st.n_answers = 0;
	ok(tap_wait(event, 60, st.downs == 1), "a libvirtd that hangs counts as lost");
	ok(tap_wait(event, 60, st.n_answers == 1) && st.error == -ENOTCONN, "the call in flight ends: %s", st.message);
	st.n_answers = 0;
	kill(libvirtd, SIGCONT);
	ok(tap_wait(event, 60, st.ups == 1) && list_is(0, false), "thawed, it is used again");
}

/* pid_dir belongs to a user that is not trusted. */
static void test_pid_lies(void)
{
	_cleanup_free_ char *file = in_dir("vm/" ID ".pid"), *vm = in_dir("vm");
	char text[32];
	pid_t pid = 0;

	snprintf(text, sizeof(text), "%d\n", getpid());
	write_file("vm/" ID ".pid", text);
	ok(work_pid(vm, ID, &pid) == -ESRCH, "a process that is not this domain's QEMU");
	if (chown(file, NOBODY, NOBODY) < 0)
		abort();
	ok(work_pid(vm, ID, &pid) == -EPERM, "a process of somebody else");
	write_file("vm/" ID ".pid", "1");
	ok(work_pid(vm, ID, &pid) == -ERANGE, "the first process");
	write_file("vm/" ID ".pid", "12 34");
	ok(work_pid(vm, ID, &pid) == -EINVAL, "no number");
	write_file("vm/" ID ".pid", "4194303");
	ok(work_pid(vm, ID, &pid) == -ESRCH, "no process");
	unlink(file);
	if (symlink("/etc/passwd", file) < 0)
		abort();
	ok(work_pid(vm, ID, &pid) == -ELOOP && pid == 0, "a symbolic link");
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void measure(void)
{
	enum { N = 9 };
	double c[N], d[N], t;
	int bad = 0;

	for (int i = 0; i < N; i++) {
		t = tap_seconds();
		bad += !create();
		c[i] = tap_seconds() - t;
		t = tap_seconds();
		destroy();
		d[i] = tap_seconds() - t;
	}
	qsort(c, N, sizeof(*c), by_value);
	qsort(d, N, sizeof(*d), by_value);
	ok(bad == 0, "create to callback: median %.0f ms (%.0f to %.0f); destroy: median %.0f ms", c[N / 2] * 1000,
	   c[0] * 1000, c[N - 1] * 1000, d[N / 2] * 1000);
	for (int i = 0; i < N; i++) {
		bad += !create();
		st.events[0] = '\0';
		t = tap_seconds();
		kill_qemu();
		tap_wait(event, 10, strstr(st.events, ID ":0:"));
		c[i] = tap_seconds() - t;
		destroy();
		d[i] = tap_seconds() - t;
	}
	qsort(c, N, sizeof(*c), by_value);
	qsort(d, N, sizeof(*d), by_value);
	ok(bad == 0, "SIGKILL to event: median %.0f ms (%.0f to %.0f); and destroy after that: %.0f ms", c[N / 2] * 1000,
	   c[0] * 1000, c[N - 1] * 1000, d[N / 2] * 1000);
}

static void tests(struct workers *w)
{
	_cleanup_free_ char *pid_dir = in_dir("run/libvirt/qemu/run"), *sock = in_dir("run/libvirt/libvirt-sock");
	_cleanup_free_ char *uri = str_format("qemu:///session?socket=%s", sock);

	test_connect(uri, pid_dir, w);
	ok(tap_create(TAP, NOBODY) == 0, "a tap for QEMU's group");
	test_life();
	test_twice();
	test_save();
	test_qemu_killed();
	test_libvirtd_dies();
	test_pid_lies();
	if (getenv("DECLAW_TEST_LONG"))
		test_libvirtd_freezes();
	measure();
	ok(tap_remove(TAP) == 0 && if_nametoindex(TAP) == 0, "the tap is gone");
}

int main(void)
{
	struct virtloop *l = NULL;
	struct workers *w = NULL;

	setup();
	if (sd_event_new(&event) < 0 || virtloop_new(event, &l) < 0 || workers_new(event, 0, &w) < 0)
		return EXIT_FAILURE;
	tests(w);
	virt = virt_free(virt);
	workers_free(w);
	kill(libvirtd, SIGKILL);
	waitpid(libvirtd, NULL, 0);
	virtloop_free(l);
	sd_event_unref(event);
	dir_remove_tree(dir);
	return tap_done();
}
