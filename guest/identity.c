/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IDENTITY and TIME_SET: what makes a clone somebody else than its template.
 *
 * Twins share everything their template had drawn from the kernel's generator, so entropy comes first:
 * credited, and then forced into use, as the kernel would reseed by itself only later. What is made up
 * afterwards (the boot id) already depends on it. The kernel's own boot id cannot be changed; a file
 * mounted over it is what everybody in the guest reads. Any step that fails fails the whole request.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "net.h"
#include "ops.h"
#include "writefile.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_FILE "/run/declaw-boot-id"
#define ENTROPY_MIN 16u
#define ENTROPY_MAX 4096u

static int add_entropy(const uint8_t *data, size_t len)
{
	_cleanup_free_ struct rand_pool_info *info = NULL;
	_cleanup_close_ int fd = -EBADF;

	if (len < ENTROPY_MIN || len > ENTROPY_MAX)
		return -EINVAL;
	info = calloc(1, sizeof(*info) + len);
	if (!info)
		return -ENOMEM;
	info->entropy_count = (int)len * 8;
	info->buf_size = (int)len;
	memcpy(info->buf, data, len);
	fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, RNDADDENTROPY, info) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		return -errno;
	return 0;
}

static int renew_boot_id(void)
{
	uint8_t b[16];
	char text[40];
	int r;

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return -EIO;
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	snprintf(text, sizeof(text), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\n",
		 b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
	r = write_file(BOOT_ID_FILE, text, 0444);
	if (r < 0)
		return r;
	/* an earlier one of ours; without one this fails, rightly */
	umount2(BOOT_ID, MNT_DETACH);
	return mount(BOOT_ID_FILE, BOOT_ID, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

static int set_clock(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };

	return clock_settime(CLOCK_REALTIME, &ts) < 0 ? -errno : 0;
}

static int set_hostname(const char *name)
{
	char line[80];
	size_t len = strlen(name);

	if (len == 0 || name[0] == '-')
		return -EINVAL;
	for (const char *p = name; *p; p++) {
		if (!isalnum((unsigned char)*p) && *p != '-' && *p != '.')
			return -EINVAL;
	}
	if (sethostname(name, len) < 0)
		return -errno;
	snprintf(line, sizeof(line), "%s\n", name);
	return write_file("/etc/hostname", line, 0644);
}

static int set_machine_id(const char *id)
{
	char line[40];

	if (strlen(id) != 32 || strspn(id, "0123456789abcdef") != 32)
		return -EINVAL;
	snprintf(line, sizeof(line), "%s\n", id);
	return write_file("/etc/machine-id", line, 0444);
}

static int become(const struct args *g, const char **ret_what)
{
	int r = 0;

	if (args_have(g, DCLW_TAG_ENTROPY)) {
		*ret_what = "entropy";
		r = add_entropy(g->entropy, g->entropy_len);
		if (r < 0)
			return r;
		*ret_what = "boot id";
		r = renew_boot_id();
	}
	if (r == 0 && args_have(g, DCLW_TAG_TIME)) {
		*ret_what = "clock";
		r = set_clock(g->time);
	}
	if (r == 0 && args_have(g, DCLW_TAG_HOSTNAME)) {
		*ret_what = "hostname";
		r = set_hostname(g->hostname);
	}
	if (r == 0 && args_have(g, DCLW_TAG_MACHINE_ID)) {
		*ret_what = "machine id";
		r = set_machine_id(g->machine_id);
	}
	return r < 0 ? r : net_configure(g, ret_what);
}

void op_identity(struct request *r, const struct args *g)
{
	const char *what = "identity";
	/* An agent that is not init would change the machine it is tested on. */
	int error = r->agent->init ? become(g, &what) : -EPERM;

	if (error < 0)
		request_fail(r, -error, "%s: %s", what, strerror(-error));
	else
		request_done(r, NULL);
}

void op_time_set(struct request *r, const struct args *g)
{
	int error = r->agent->init ? set_clock(g->time) : -EPERM;

	if (error < 0)
		request_fail(r, -error, "clock: %s", strerror(-error));
	else
		request_done(r, NULL);
}
