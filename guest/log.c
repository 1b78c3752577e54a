/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One write per line, so lines of kernel and agent never mix. Priorities are the kernel's.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "log.h"

static int kmsg = -1;

void log_use_kmsg(void)
{
	if (kmsg < 0)
		kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY);
}

_printf_(2, 0) static void log_line(int level, const char *fmt, va_list ap)
{
	char line[512];
	int head, body;
	ssize_t n;

	head = kmsg >= 0 ? snprintf(line, sizeof(line), "<%d>declaw-agent: ", level)
			 : snprintf(line, sizeof(line), "declaw-agent: ");
	body = vsnprintf(line + head, sizeof(line) - (size_t)head - 1, fmt, ap);
	if (body < 0)
		return;
	head = (int)strnlen(line, sizeof(line) - 2);
	line[head++] = '\n';
	n = write(kmsg >= 0 ? kmsg : STDERR_FILENO, line, (size_t)head);
	(void)n;	/* nowhere left to complain */
}

void log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(6, fmt, ap);
	va_end(ap);
}

void log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(4, fmt, ap);
	va_end(ap);
}

void log_panic(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(0, fmt, ap);
	va_end(ap);
	if (getpid() == 1) {
		sync();
		reboot(RB_POWER_OFF);
	}
	_exit(1);
}
