/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent's words for people: to the kernel log when it is init (that is the console file on the host),
 * else to standard error.
 */
#ifndef DCLW_LOG_H
#define DCLW_LOG_H

#include "util/macro.h"

/* Kernel log from now on; without /dev/kmsg it stays standard error. */
void log_use_kmsg(void);
_printf_(1, 2) void log_info(const char *fmt, ...);
_printf_(1, 2) void log_warn(const char *fmt, ...);
/* The end of the machine (PID 1) or of the process. The sentence is the last line on the console. */
_printf_(1, 2) _Noreturn void log_panic(const char *fmt, ...);

#endif
