/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The few methods of systemd's manager that bus/ calls, played on a private bus by the test itself.
 *
 * Units are names with a state. Every call is noted in `log`; the flags make it behave in ways that the real one
 * rarely does: JobRemoved before the reply, jobs that never end, jobs that fail, refusals.
 */
#ifndef DECLAW_TESTS_FAKESYSTEMD_H
#define DECLAW_TESTS_FAKESYSTEMD_H

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#define FAKE_UNITS 16

struct fake {
	sd_event *event;
	sd_bus *bus;
	char address[128], config[128];
	pid_t daemon;
	struct {
		char name[64];
		bool failed;
	} units[FAKE_UNITS];
	unsigned int job;
	bool early, stuck, deny;
	const char *result;
	char log[1024];
	char *last_start;	/* dump of the last StartTransientUnit */
};

static inline int fake_find(struct fake *f, const char *name)
{
	for (int i = 0; i < FAKE_UNITS; i++)
		if (strcmp(f->units[i].name, name) == 0)
			return i;
	return -1;
}

static inline void fake_add(struct fake *f, const char *name, bool failed)
{
	int i = fake_find(f, "");

	if (i < 0)
		abort();
	snprintf(f->units[i].name, sizeof(f->units[i].name), "%s", name);
	f->units[i].failed = failed;
}

static inline void fake_signal(struct fake *f, const char *member, const char *types, ...)
{
	sd_bus_message *m = NULL;
	va_list ap;

	va_start(ap, types);
	sd_bus_message_new_signal(f->bus, &m, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", member);
	sd_bus_message_appendv(m, types, ap);
	sd_bus_send(f->bus, m, NULL);
	sd_bus_message_unref(m);
	va_end(ap);
}

static inline void fake_unit_removed(struct fake *f, const char *name)
{
	int i = fake_find(f, name);

	if (i >= 0)
		f->units[i].name[0] = '\0';
	fake_signal(f, "UnitRemoved", "so", name, "/org/freedesktop/systemd1/unit/x");
}

static inline int fake_job(struct fake *f, sd_bus_message *m, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/org/freedesktop/systemd1/job/%u", ++f->job);
	if (f->early)
		fake_signal(f, "JobRemoved", "uoss", f->job, path, name, f->result);
	sd_bus_reply_method_return(m, "o", path);
	if (!f->early && !f->stuck)
		fake_signal(f, "JobRemoved", "uoss", f->job, path, name, f->result);
	return 1;
}

static inline void fake_dump(struct fake *f, sd_bus_message *m)
{
	size_t size;
	FILE *out;

	free(f->last_start);
	f->last_start = NULL;
	out = open_memstream(&f->last_start, &size);
	sd_bus_message_rewind(m, true);
	sd_bus_message_dump(m, out, 0);
	fclose(out);
}

static inline int fake_list(struct fake *f, sd_bus_message *m)
{
	sd_bus_message *reply = NULL;

	sd_bus_message_new_method_return(m, &reply);
	sd_bus_message_open_container(reply, 'a', "(ssssssouso)");
	for (int i = 0; i < FAKE_UNITS; i++)
		if (f->units[i].name[0])
			sd_bus_message_append(reply, "(ssssssouso)", f->units[i].name, "", "loaded",
					      f->units[i].failed ? "failed" : "active", "", "", "/u", 0, "", "/");
	sd_bus_message_close_container(reply);
	sd_bus_send(f->bus, reply, NULL);
	sd_bus_message_unref(reply);
	return 1;
}

static inline int fake_start(struct fake *f, sd_bus_message *m, const char *unit)
{
	fake_dump(f, m);
	if (fake_find(f, unit) >= 0)
		return sd_bus_reply_method_errorf(m, "org.freedesktop.systemd1.UnitExists", "Unit %s exists.", unit);
	if (strcmp(f->result, "done") == 0)
		fake_add(f, unit, false);
	return fake_job(f, m, unit);
}

static inline int fake_call(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct fake *f = userdata;
	const char *member = sd_bus_message_get_member(m), *unit = "";
	size_t n = strlen(f->log);
	int i;

	(void)error;
	if (!sd_bus_message_is_method_call(m, "org.freedesktop.systemd1.Manager", NULL))
		return 0;
	if (strcmp(member, "Subscribe") == 0)
		return sd_bus_reply_method_return(m, NULL);
	if (strcmp(member, "ListUnitsByPatterns") == 0)
		return fake_list(f, m);
	sd_bus_message_read(m, "s", &unit);
	snprintf(f->log + n, sizeof(f->log) - n, "%s(%s) ", member, unit);
	if (f->deny)
		return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_ACCESS_DENIED, "No.");
	if (strcmp(member, "StartTransientUnit") == 0)
		return fake_start(f, m, unit);
	i = fake_find(f, unit);
	if (i < 0)
		return sd_bus_reply_method_errorf(m, "org.freedesktop.systemd1.NoSuchUnit", "No unit %s.", unit);
	if (strcmp(member, "ResetFailedUnit") == 0) {
		if (f->units[i].failed)
			fake_unit_removed(f, unit);
		return sd_bus_reply_method_return(m, NULL);
	}
	if (!f->stuck)
		fake_unit_removed(f, unit);
	return strcmp(member, "StopUnit") == 0 ? fake_job(f, m, unit) : sd_bus_reply_method_return(m, NULL);
}

/* No activation, no host configuration. */
static inline int fake_config(struct fake *f)
{
	FILE *out = fopen(f->config, "we");

	if (!out)
		return -errno;
	fprintf(out, "<busconfig><listen>%s</listen><policy context='default'><allow user='*'/><allow own='*'/>"
		"<allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/></policy></busconfig>\n",
		f->address);
	return fclose(out) == 0 ? 0 : -EIO;
}

/* The bus without systemd on it. */
static inline int fake_daemon(struct fake *f)
{
	char arg[160], c;
	int fds[2];

	snprintf(arg, sizeof(arg), "--config-file=%s", f->config);
	if (fake_config(f) < 0 || pipe(fds) < 0)
		return -errno;
	fflush(NULL);
	f->daemon = fork();
	if (f->daemon == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fds[1], 3);
		/* What it says of limits it cannot raise would tear our lines apart */
		if (!freopen("/dev/null", "w", stderr))
			_exit(126);
		execlp("dbus-daemon", "dbus-daemon", arg, "--nofork", "--nopidfile", "--print-address=3", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	/* It prints when it listens. */
	if (read(fds[0], &c, 1) != 1)
		f->daemon = -1;
	close(fds[0]);
	return f->daemon < 0 ? -ENOENT : 0;
}

static inline int fake_systemd(struct fake *f)
{
	int r = sd_bus_new(&f->bus);

	if (r >= 0)
		r = sd_bus_set_address(f->bus, f->address);
	if (r >= 0)
		r = sd_bus_set_bus_client(f->bus, true);
	if (r >= 0)
		r = sd_bus_start(f->bus);
	if (r >= 0)
		r = sd_bus_add_filter(f->bus, NULL, fake_call, f);
	if (r >= 0)
		r = sd_bus_request_name(f->bus, "org.freedesktop.systemd1", 0);
	return r < 0 ? r : sd_bus_attach_event(f->bus, f->event, 0);
}

static inline void fake_systemd_stop(struct fake *f)
{
	f->bus = sd_bus_flush_close_unref(f->bus);
}

static inline void fake_daemon_stop(struct fake *f)
{
	kill(f->daemon, SIGKILL);
	waitpid(f->daemon, NULL, 0);
}

#endif
