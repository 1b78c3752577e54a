/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logging to the journal or to stderr.
 *
 * The service manager says in $JOURNAL_STREAM which device and inode stderr was connected to; only
 * when stderr still is that very file do we speak the journal's own protocol, so `declawd 2>file`
 * under systemd logs into the file. Whatever thread logs, one message is one datagram or one
 * write().
 */
#include <stdatomic.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "util/log.h"

#define LOG_TEXT_MAX 2048u
#define LOG_FIELDS_MAX 16u
#define LOG_OWN_MAX 128u

static atomic_int log_level = LOG_INFO;
static atomic_bool log_journal;

static const char *const priority_names[] = {
	[LOG_EMERG] = "emergency",
	[LOG_ALERT] = "alert",
	[LOG_CRIT] = "critical",
	[LOG_ERR] = "error",
	[LOG_WARNING] = "warning",
	[LOG_NOTICE] = "notice",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};

static bool stderr_is_journal(void)
{
	const char *e = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	if (!e || sscanf(e, "%llu:%llu", &dev, &ino) != 2 || fstat(STDERR_FILENO, &st) < 0)
		return false;
	return st.st_dev == dev && st.st_ino == ino;
}

void log_init(int level)
{
	log_level = level;
	log_journal = stderr_is_journal();
}

/*
 * A record is one line: what a format argument smuggled in must not look like a record of its own.
 */
static void flatten(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = ' ';
}

struct log_record {
	struct iovec fields[LOG_FIELDS_MAX];
	char text[LOG_FIELDS_MAX][LOG_OWN_MAX];
	int n;
};

static _printf_(2, 3) void record_add(struct log_record *rec, const char *format, ...)
{
	char *text = rec->text[rec->n];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, LOG_OWN_MAX, format, ap);
	va_end(ap);
	rec->fields[rec->n++] = (struct iovec){ text, strlen(text) };
}

static void to_journal(int priority, const char *sandbox, const char *message_id, int errno_,
		       const char *file, int line, const char *text)
{
	char message[sizeof("MESSAGE=") + LOG_TEXT_MAX];
	struct log_record rec = { 0 };
	int n;

	n = snprintf(message, sizeof(message), "MESSAGE=%s", text);
	rec.fields[rec.n++] = (struct iovec){ message, (size_t)n };
	record_add(&rec, "PRIORITY=%d", priority);
	record_add(&rec, "CODE_FILE=%s", file);
	record_add(&rec, "CODE_LINE=%d", line);
	if (errno_)
		record_add(&rec, "ERRNO=%d", abs(errno_));
	if (sandbox)
		record_add(&rec, "DECLAW_SANDBOX_ID=%s", sandbox);
	if (message_id)
		record_add(&rec, "MESSAGE_ID=%s", message_id);
	(void)sd_journal_sendv(rec.fields, rec.n);
}

static void to_stderr(int priority, const char *sandbox, const char *text)
{
	char out[LOG_TEXT_MAX + 128];
	ssize_t done;
	int n;

	n = snprintf(out, sizeof(out), "%s: %s%s%s\n", priority_names[priority],
		     sandbox ? sandbox : "", sandbox ? ": " : "", text);
	if (n >= (int)sizeof(out)) {
		n = sizeof(out) - 1;
		out[n - 1] = '\n';
	}
	/* A log nobody takes is no reason to fail. */
	done = write(STDERR_FILENO, out, (size_t)n);
	(void)done;
}

void log_full(int priority, const char *sandbox, const char *message_id, int errno_,
	      const char *file, int line, const char *format, ...)
{
	char text[LOG_TEXT_MAX];
	int saved = errno;
	va_list ap;

	priority = LOG_PRI(priority);
	if (priority > log_level)
		return;
	errno = abs(errno_);
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	flatten(text);
	if (log_journal)
		to_journal(priority, sandbox, message_id, errno_, file, line, text);
	else
		to_stderr(priority, sandbox, text);
	errno = saved;
}

bool log_enabled(int priority)
{
	return LOG_PRI(priority) <= log_level;
}

void log_fields(int priority, const char *sandbox, const char *message_id, const char *const *fields, size_t n,
		const char *format, ...)
{
	char text[LOG_TEXT_MAX], message[sizeof("MESSAGE=") + LOG_TEXT_MAX];
	struct log_record rec = { 0 };
	va_list ap;

	if (!log_enabled(priority))
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	flatten(text);
	if (!log_journal) {
		to_stderr(LOG_PRI(priority), sandbox, text);
		return;
	}
	rec.fields[rec.n++] = (struct iovec){ message, (size_t)snprintf(message, sizeof(message), "MESSAGE=%s", text) };
	record_add(&rec, "PRIORITY=%d", LOG_PRI(priority));
	if (sandbox)
		record_add(&rec, "DECLAW_SANDBOX_ID=%s", sandbox);
	if (message_id)
		record_add(&rec, "MESSAGE_ID=%s", message_id);
	for (size_t i = 0; i < n && rec.n < (int)LOG_FIELDS_MAX; i++)
		rec.fields[rec.n++] = (struct iovec){ (char *)(uintptr_t)fields[i], strlen(fields[i]) };
	(void)sd_journal_sendv(rec.fields, rec.n);
}
