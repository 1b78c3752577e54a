/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * STATS and the OOM watch: /proc is read, one file per number, and searched for a name at a line's start.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent.h"
#include "ops.h"
#include "stats.h"

/* The number behind the first line that begins with name. */
static int proc_number(const char *file, const char *name, uint64_t *ret)
{
	char buf[8192];
	_cleanup_close_ int fd = open(file, O_RDONLY | O_CLOEXEC);
	size_t len = strlen(name);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, sizeof(buf) - 1);
	if (n <= 0)
		return -EIO;
	buf[n] = 0;
	for (char *line = buf; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		if (strncmp(line, name, len) == 0) {
			*ret = strtoull(line + len, NULL, 10);
			return 0;
		}
	}
	return -ENOENT;
}

void stats_check_oom(struct agent *a)
{
	uint64_t kills;

	if (a->dry || proc_number("/proc/vmstat", "oom_kill ", &kills) < 0)
		return;
	if (kills > a->oom_kills)
		a->oom_due = true;
	a->oom_kills = kills;
}

/* "cpu user nice system idle iowait irq softirq steal ..." in ticks: all but idle and iowait. */
static uint64_t cpu_busy_usec(void)
{
	char buf[512], *p = buf + 3;
	_cleanup_close_ int fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, buf, sizeof(buf) - 1) : -1;
	long hz = sysconf(_SC_CLK_TCK);
	uint64_t busy = 0;

	if (n < 4 || hz <= 0)
		return 0;
	buf[n] = 0;
	for (int i = 0; i < 8; i++) {
		uint64_t ticks = strtoull(p, &p, 10);

		busy += i == 3 || i == 4 ? 0 : ticks;
	}
	return busy * (1000000u / (uint64_t)hz);
}

void op_stats(struct request *r, _unused_ const struct args *g)
{
	uint8_t buf[128];
	struct wire_writer w;
	struct statvfs fs;
	uint64_t total = 0, available = 0;

	proc_number("/proc/meminfo", "MemTotal:", &total);
	proc_number("/proc/meminfo", "MemAvailable:", &available);
	if (statvfs("/", &fs) < 0) {
		request_fail(r, errno, "statvfs: %s", strerror(errno));
		return;
	}
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u64(&w, DCLW_TAG_MEM_TOTAL, total * 1024);
	wire_put_u64(&w, DCLW_TAG_MEM_AVAILABLE, available * 1024);
	wire_put_u64(&w, DCLW_TAG_DISK_USED, (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize);
	wire_put_u64(&w, DCLW_TAG_DISK_TOTAL, (uint64_t)fs.f_blocks * fs.f_frsize);
	wire_put_u64(&w, DCLW_TAG_CPU_USEC, cpu_busy_usec());
	request_done(r, &w);
}
