/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Structured logging: to the journal when the service manager connected stderr to it, else to
 * stderr.
 *
 * Layers 0 and 1 log at debug only; core and api log each failure once. Bytes that came from a
 * guest or a client are escaped and cut by the caller with str_escape().
 */
#ifndef DECLAW_LOG_H
#define DECLAW_LOG_H

#include <stdbool.h>
#include <syslog.h>

#include "util/macro.h"

/* 128-bit message ids of units/declawd.catalog, as 32 hex digits */
#define MSG_DAEMON_READY	"5c892e8658134072a2e89b19eb8c909d"
#define MSG_SANDBOX_CREATED	"640b5d7d6d3946068159e09d446c7b60"
#define MSG_SANDBOX_KILLED	"a7722d74ab144491af9ab457f3d6ecb4"
#define MSG_SANDBOX_FAILED	"557ce15bc33f452a953b2492a32e1e67"
#define MSG_ACCEL_VERDICT	"723e4b4bb1a3449c9c702c1bd3e6ff7f"
#define MSG_SANDBOX_PAUSED	"5d1f7e6a0c0b4c2c9f6f2b7d1f0e1a06"
#define MSG_SANDBOX_RESUMED	"5d1f7e6a0c0b4c2c9f6f2b7d1f0e1a07"
#define MSG_EGRESS_VERDICT	"5d1f7e6a0c0b4c2c9f6f2b7d1f0e1a09"
#define MSG_FORK_FAILED		"5d1f7e6a0c0b4c2c9f6f2b7d1f0e1a0a"
#define MSG_RECOVERED		"5d1f7e6a0c0b4c2c9f6f2b7d1f0e1a08"

#define LOG_FIELD_MAX 320u

/* Decides journal or stderr; level: highest priority printed (LOG_DEBUG = everything). */
void log_init(int level);
/*
 * sandbox and message_id may be NULL; they become DECLAW_SANDBOX_ID= and MESSAGE_ID=. errno_ is 0
 * or a negative errno and is what %m prints; the caller's errno is not changed.
 */
void log_full(int priority, const char *sandbox, const char *message_id, int errno_,
	      const char *file, int line, const char *format, ...) _printf_(7, 8);

/* Further fields for the journal, "NAME=value" of at most LOG_FIELD_MAX bytes each; at most 8. */
void log_fields(int priority, const char *sandbox, const char *message_id, const char *const *fields, size_t n,
		const char *format, ...) _printf_(6, 7);
bool log_enabled(int priority);

#define log_debug(...) log_full(LOG_DEBUG, NULL, NULL, 0, __FILE__, __LINE__, __VA_ARGS__)
#define log_info(...) log_full(LOG_INFO, NULL, NULL, 0, __FILE__, __LINE__, __VA_ARGS__)
#define log_warning(...) log_full(LOG_WARNING, NULL, NULL, 0, __FILE__, __LINE__, __VA_ARGS__)
#define log_error(...) log_full(LOG_ERR, NULL, NULL, 0, __FILE__, __LINE__, __VA_ARGS__)
/* `return log_error_errno(r, "Failed to ...: %m");` */
#define log_error_errno(r, ...) \
	({ int _r = (r); log_full(LOG_ERR, NULL, NULL, _r, __FILE__, __LINE__, __VA_ARGS__); _r; })
#define log_sandbox(prio, id, msgid, r, ...) \
	log_full(prio, id, msgid, r, __FILE__, __LINE__, __VA_ARGS__)

#endif
