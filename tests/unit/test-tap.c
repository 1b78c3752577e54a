/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net/tap in a network namespace of its own. That the tap's settings keep guests out is in test-ruleset-kernel.c,
 * that a QEMU of the right group can attach in test-domxml-libvirtd.c. Skipped without root.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "lib/cmd.h"
#include "lib/jail.h"
#include "lib/tap.h"
#include "loop/workers.h"
#include "net/tap.h"
#include "util/fileio.h"
#include "util/macro.h"
#include "util/str.h"

#define TAP "dclaaaaaaaaaa"

static short flags(const char *name)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_flags = 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return ioctl(fd, SIOCGIFFLAGS, &ifr) < 0 ? 0 : ifr.ifr_flags;
}

static bool ipv6_is_off(const char *name)
{
	_cleanup_free_ char *path = str_format("/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
	_cleanup_buf_ struct buf b = BUF_INIT(16);

	return access(path, F_OK) < 0 || (file_read(path, 16, &b) == 0 && b.data[0] == '1');
}

static bool in_group(const char *name)
{
	_cleanup_free_ char *shown = CMD("ip", "-o", "link", "show", "dev", name, "group", "57025");

	return shown && strstr(shown, name);
}

static int attach(const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) < 0)
		return fd_close(fd);
	return fd;
}

static void count(void *userdata, const char *name)
{
	if (str_starts(name, "dcl"))
		(*(int *)userdata)++;
}

static int n_taps(void)
{
	int n = 0;

	return tap_foreach("dcl", count, &n) < 0 ? -1 : n;
}

static void test_life(void)
{
	int fd;

	ok(tap_create(TAP, 1234) == 0 && if_nametoindex(TAP), "created, and it stays");
	ok(flags(TAP) & IFF_UP, "it is up");
	ok(flags(TAP) & IFF_NOARP, "without ARP");
	ok(ipv6_is_off(TAP), "without IPv6");
	ok(in_group(TAP), "in the taps' group");
	ok(tap_create(TAP, 1234) == 0 && n_taps() == 1, "creating it again adopts it");
	fd = attach(TAP);
	ok(fd >= 0, "a QEMU attaches");
	ok(tap_create(TAP, 1234) == 0, "adopted while attached");
	ok(tap_remove(TAP) == -EBUSY && if_nametoindex(TAP), "not removed while attached");
	close(fd);
	ok(tap_remove(TAP) == 0 && !if_nametoindex(TAP), "removed");
	ok(tap_remove(TAP) == 0, "removing what is not there");
}

static void test_bad(void)
{
	ok(tap_create("dcl-much-too-long-name", 0) == -ENAMETOOLONG, "a name that is too long");
	ok(tap_create("lo", 0) < 0 && if_nametoindex("lo"), "another kind of interface is left alone");
	ok(tap_remove("lo") < 0 && if_nametoindex("lo"), "when removing, too");
	ok(n_taps() == 0, "nothing is left behind");
}

static int n_answers, last_error;

static void on_removed(void *userdata _unused_, int error)
{
	n_answers++;
	last_error = error;
}

static void test_async(sd_event *e, struct workers *w)
{
	double t;

	for (char c = 'a'; c < 'k'; c++) {
		char name[] = { 'd', 'c', 'l', c, '\0' };

		tap_create(name, 0);
	}
	t = tap_seconds();
	for (char c = 'a'; c < 'k'; c++) {
		char name[] = { 'd', 'c', 'l', c, '\0' };

		tap_remove_async(w, name, on_removed, NULL);
	}
	t = tap_seconds() - t;
	ok(n_answers == 0, "removing ten costs the loop %.2f ms", t * 1e3);
	ok(tap_wait(e, 10, n_answers == 10) && last_error == 0 && n_taps() == 0, "and workers remove them");
	tap_remove_async(w, "lo", on_removed, NULL);
	ok(tap_wait(e, 10, n_answers == 11) && last_error < 0, "an error comes back");
}

static void test_mac(void)
{
	char a[18], b[18], again[18];

	tap_mac("sbx-aaaaaaaaaa", a);
	tap_mac("sbx-aaaaaaaaab", b);
	tap_mac("sbx-aaaaaaaaaa", again);
	ok(strlen(a) == 17 && strncmp(a, "02:", 3) == 0 && strspn(a, "0123456789abcdef:") == 17, "a MAC: %s", a);
	ok(strcmp(a, b) != 0 && strcmp(a, again) == 0, "one for each id, always the same");
}

static void measure(void)
{
	enum { N = 20 };
	double c = 0, r = 0, t;

	for (int i = 0; i < N; i++) {
		t = tap_seconds();
		tap_create(TAP, 0);
		c += tap_seconds() - t;
		t = tap_seconds();
		tap_remove(TAP);
		r += tap_seconds() - t;
	}
	ok(true, "create %.2f ms, remove %.2f ms", c / N * 1e3, r / N * 1e3);
}

int main(void)
{
	struct workers *w = NULL;
	sd_event *e = NULL;
	int r;

	if (geteuid() != 0 || access("/dev/net/tun", F_OK) < 0)
		tap_skip("needs root and /dev/net/tun");
	r = jail_enter();
	if (r < 0)
		tap_skip("namespaces: %s", strerror(-r));
	if (sd_event_new(&e) < 0 || workers_new(e, 0, &w) < 0)
		return EXIT_FAILURE;
	test_life();
	test_bad();
	test_async(e, w);
	test_mac();
	measure();
	workers_free(w);
	sd_event_unref(e);
	return tap_done();
}
