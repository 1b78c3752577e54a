/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the kernel's hand-over to the agent's work, in one process.
 *
 * The initramfs holds this program as /init, the modules, and /modules.list (absolute paths in the order
 * in which they are loaded). The root disk is /dev/vda. When it is mounted, the mounts of /dev, /proc and
 * /sys move over, the initramfs is emptied (its memory is the guest's), and the root becomes the disk;
 * this program goes on running from its now nameless file and needs nothing from the disk, so a frozen or
 * full file system does not stop it.
 *
 * The kernel never kills PID 1 for memory, so the agent needs no oom_score_adj of its own, and what it starts
 * inherits the ordinary one without a write to /proc for every command.
 *
 * A failure before the switch leaves nothing to run: its sentence is the last line on the console.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"
#include "init.h"
#include "log.h"
#include "net.h"
#include "writefile.h"

#define ROOT_DISK "/dev/vda"
#define DISK_WAIT_MS 15000
#define NEW_ROOT "/newroot"

static void mount_or_panic(const char *type, const char *where, unsigned long flags, const char *options)
{
	mkdir(where, 0755);
	/* EBUSY: the kernel did it (devtmpfs) */
	if (mount(type, where, type, flags, options) < 0 && errno != EBUSY)
		log_panic("cannot mount %s on %s: %s", type, where, strerror(errno));
}

static void mount_optional(const char *type, const char *where, unsigned long flags, const char *options)
{
	mkdir(where, 0755);
	if (mount(type, where, type, flags, options) < 0 && errno != EBUSY)
		log_warn("no %s on %s: %s", type, where, strerror(errno));
}

static void stdio_to_null(void)
{
	int fd = open("/dev/null", O_RDWR);

	for (int i = 0; fd >= 0 && i < 3; i++) {
		if (fd != i)
			dup2(fd, i);
	}
	if (fd > 2)
		close(fd);
}

static void load_module(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		log_panic("module %s: %s", path, strerror(errno));
	if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
		log_panic("module %s: %s", path, strerror(errno));
}

static void load_modules(void)
{
	char line[512];
	_cleanup_fclose_ FILE *list = fopen("/modules.list", "re");

	/* none: everything is built into the kernel */
	while (list && fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = 0;
		if (*line == '/')
			load_module(line);
	}
}

static void wait_for_disk(void)
{
	/* devtmpfs has no events to wait for but a netlink socket; the disk is there in a few ms */
	for (int waited = 0; access(ROOT_DISK, F_OK) < 0; waited += 2) {
		if (waited > DISK_WAIT_MS)
			log_panic("no %s after %d s", ROOT_DISK, DISK_WAIT_MS / 1000);
		poll(NULL, 0, 2);
	}
}

static void mount_root(void)
{
	static const char *const options[] = { "noinit_itable", "" };

	mkdir(NEW_ROOT, 0755);
	for (size_t i = 0; i < ELEMENTSOF(options); i++) {
		if (mount(ROOT_DISK, NEW_ROOT, "ext4", MS_NOATIME, options[i]) == 0)
			return;
	}
	if (errno == EROFS && mount(ROOT_DISK, NEW_ROOT, "ext4", MS_NOATIME | MS_RDONLY, "") == 0) {
		log_warn("%s is read-only", ROOT_DISK);
		return;
	}
	log_panic("cannot mount %s: %s", ROOT_DISK, strerror(errno));
}

/* Everything on the initramfs's own device; mount points are left alone by st_dev. */
static void empty_initramfs(int dir, dev_t dev)
{
	DIR *d = fdopendir(dir);
	struct dirent *de;

	if (!d) {
		close(dir);
		return;
	}
	while ((de = readdir(d))) {
		struct stat st;
		int sub;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
		    fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != dev)
			continue;
		if (!S_ISDIR(st.st_mode)) {
			unlinkat(dirfd(d), de->d_name, 0);
			continue;
		}
		sub = openat(dirfd(d), de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			empty_initramfs(sub, dev);
		unlinkat(dirfd(d), de->d_name, AT_REMOVEDIR);
	}
	closedir(d);
}

static void switch_root(void)
{
	static const char *const moved[] = { "/dev", "/proc", "/sys" };
	int old = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	for (size_t i = 0; i < ELEMENTSOF(moved); i++) {
		char to[64];

		snprintf(to, sizeof(to), NEW_ROOT "%s", moved[i]);
		mkdir(to, 0755);
		if (mount(moved[i], to, NULL, MS_MOVE, NULL) < 0)
			log_panic("cannot move %s: %s", moved[i], strerror(errno));
	}
	if (old < 0 || fstat(old, &st) < 0 || chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 ||
	    chroot(".") < 0 || chdir("/") < 0)
		log_panic("cannot switch to the root disk: %s", strerror(errno));
	empty_initramfs(old, st.st_dev);
}

static void mount_rest(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/dev/fd" }, { "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" }, { "/proc/self/fd/2", "/dev/stderr" },
	};

	mount_or_panic("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755");
	mount_or_panic("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666");
	mount_optional("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
	mount_optional("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
	mkdir("/run/lock", 01777);
	for (size_t i = 0; i < ELEMENTSOF(links); i++) {
		if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
			log_warn("%s: %s", links[i][1], strerror(errno));
	}
}

/* declaw.root=none: the host only wants to see a guest boot (it proves the accelerator so) */
static bool diskless(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/cmdline", "re");
	char line[4096];

	return f && fgets(line, sizeof(line), f) && strstr(line, "declaw.root=none");
}

static void set_hostname(void)
{
	char name[65] = "sandbox";
	_cleanup_fclose_ FILE *f = fopen("/etc/hostname", "re");

	if (f && fgets(name, sizeof(name), f))
		name[strcspn(name, " \t\n")] = 0;
	if (sethostname(*name ? name : "sandbox", *name ? strlen(name) : 7) < 0)
		log_warn("hostname: %s", strerror(errno));
}

static void set_limits(void)
{
	struct rlimit rl = { .rlim_cur = 16384, .rlim_max = 65536 };

	if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
		log_warn("descriptor limit: %s", strerror(errno));
	write_setting("/proc/sys/kernel/pid_max", "4194304");
	reboot(RB_DISABLE_CAD);
	umask(022);
}

void init_system(void)
{
	mount_or_panic("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
	log_use_kmsg();
	stdio_to_null();
	mount_or_panic("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
	mount_or_panic("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
	load_modules();
	if (!diskless()) {
		wait_for_disk();
		mount_root();
		switch_root();
	}
	mount_rest();
	set_limits();
	set_hostname();
	if (net_loopback() < 0)
		log_warn("loopback cannot be brought up");
}

_Noreturn void init_poweroff(void)
{
	kill(-1, SIGTERM);
	poll(NULL, 0, 100);
	kill(-1, SIGKILL);
	sync();
	mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
	reboot(RB_POWER_OFF);
	log_panic("power off: %s", strerror(errno));
}
