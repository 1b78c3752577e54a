/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bus/ against the real systemd: scopes around a process, their end, timers that start a service and can be replaced.
 *
 * Runs where process 1 is systemd and the test is root (the throw-away host of packaging/host), else it is skipped.
 */
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "bus/bus.h"
#include "lib/cmd.h"
#include "lib/tap.h"
#include "util/fileio.h"
#include "util/macro.h"
#include "util/str.h"

#define SCOPE "declaw-sbx-bustest000.scope"
#define TIMER "declaw-bustest@x.timer"
#define SERVICE_FILE "/run/systemd/system/declaw-bustest@.service"
#define MARK "/run/declaw-bustest-mark"

static sd_event *event;
static struct bus *bus;

struct state {
	int n_answers, error, ups, downs, n_removed;
	char message[256], removed[256];
	size_t n_units;
	bool active;
};
static struct state st;

static void on_removed(void *userdata _unused_, const char *unit)
{
	size_t n = strlen(st.removed);

	st.n_removed++;
	snprintf(st.removed + n, sizeof(st.removed) - n, "%s ", unit);
}

static void on_connected(void *userdata _unused_, bool up)
{
	st.ups += up;
	st.downs += !up;
}

static const struct bus_ops ops = { .unit_removed = on_removed, .connected = on_connected };

static void on_done(void *userdata _unused_, int error, const char *message)
{
	st.n_answers++;
	st.error = error;
	snprintf(st.message, sizeof(st.message), "%s", message);
}

static void on_list(void *userdata, int error, const struct bus_unit *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(v[i].name, SCOPE) == 0) {
			st.n_units++;
			st.active = strcmp(v[i].active, "active") == 0;
		}
	on_done(userdata, error, "");
}

static bool answered(int error)
{
	bool came = tap_wait(event, 30, st.n_answers > 0);

	st.n_answers = 0;
	if (!came || st.error != error)
		printf("# answered: %d, error %d, %s\n", came, st.error, st.message);
	return came && st.error == error;
}

static pid_t sleeper(void)
{
	pid_t p = fork();

	if (p == 0) {
		execlp("sleep", "sleep", "1000", (char *)NULL);
		_exit(127);
	}
	return p;
}

static void scope_start(pid_t pid)
{
	const struct bus_scope_spec spec = {
		.unit = SCOPE, .slice = "declaw.slice", .description = "test of the bus", .pid = pid,
		.memory_max = 64 << 20, .tasks_max = 20, .cpu_quota_usec = 500000, .cpu_weight = 50,
	};

	bus_scope_start(bus, &spec, on_done, NULL);
}

static bool property_is(const char *unit, const char *property, const char *want)
{
	_cleanup_free_ char *s = CMD("systemctl", "show", "-p", property, "--value", unit);
	bool same = s && strncmp(s, want, strlen(want)) == 0 && s[strlen(want)] == '\n';

	if (!same)
		printf("# %s: %s\n", property, s);
	return same;
}

static bool in_scope(pid_t pid)
{
	_cleanup_free_ char *path = str_format("/proc/%d/cgroup", pid);
	_cleanup_buf_ struct buf b = BUF_INIT(4096);

	return file_read(path, 4096, &b) == 0 && strstr(b.data, "/declaw.slice/" SCOPE);
}

static void test_scope(void)
{
	pid_t p = sleeper(), dead = sleeper();
	double t = tap_seconds();

	scope_start(p);
	ok(answered(0), "a scope around a process");
	printf("# started in %.1f ms\n", (tap_seconds() - t) * 1e3);
	ok(in_scope(p), "the process is in it");
	ok(property_is(SCOPE, "MemoryMax", "67108864") && property_is(SCOPE, "TasksMax", "20") &&
	   property_is(SCOPE, "CPUQuotaPerSecUSec", "500ms") && property_is(SCOPE, "CPUWeight", "50"), "with its limits");
	st.n_units = 0;
	bus_units_list(bus, "declaw-sbx-*", on_list, NULL);
	ok(answered(0) && st.n_units == 1 && st.active, "listed as active");
	scope_start(p);
	ok(answered(-EEXIST), "the same again: %s", st.message);
	st.n_removed = 0;
	t = tap_seconds();
	bus_unit_kill(bus, SCOPE, on_done, NULL);
	ok(answered(0), "killed");
	ok(waitpid(p, NULL, 0) == p, "the process is dead");
	ok(tap_wait(event, 10, st.n_removed > 0) && strstr(st.removed, SCOPE), "the scope is gone, by itself");
	printf("# killed and gone in %.1f ms\n", (tap_seconds() - t) * 1e3);
	bus_unit_kill(bus, SCOPE, on_done, NULL);
	ok(answered(0), "killing it again is no error");
	bus_unit_stop(bus, SCOPE, on_done, NULL);
	ok(answered(0), "nor is stopping it");
	kill(dead, SIGKILL);
	waitpid(dead, NULL, 0);
	scope_start(dead);
	ok(answered(-EIO), "a scope without a process cannot be: %s", st.message);
}

static void test_stop_and_reuse(void)
{
	pid_t p;

	for (int i = 0; i < 3; i++) {
		p = sleeper();
		scope_start(p);
		if (!answered(0))
			ok(false, "a scope, round %d", i);
		bus_unit_stop(bus, SCOPE, on_done, NULL);
		if (!answered(0))
			ok(false, "its end, round %d", i);
		waitpid(p, NULL, 0);
	}
	ok(true, "the name is free again at once, three times");
}

static void timer_set(uint64_t usec)
{
	const struct bus_timer_spec spec = { .unit = TIMER, .description = "test of the bus", .after_usec = usec };

	bus_timer_set(bus, &spec, on_done, NULL);
}

static bool write_service(void)
{
	static const char text[] = "[Service]\nType=oneshot\nExecStart=/usr/bin/touch " MARK "\n";

	unlink(MARK);
	return file_write_atomic(SERVICE_FILE, text, strlen(text), 0644, false) == 0 &&
	       CMD_OK("systemctl", "daemon-reload");
}

static void test_timer(void)
{
	double t;

	ok(write_service(), "a service to start");
	timer_set(1000 * 1000000ull);
	ok(answered(0), "a timer far away");
	t = tap_seconds();
	timer_set(1500000);
	ok(answered(0), "replaced by a near one");
	ok(access(MARK, F_OK) < 0, "not yet");
	ok(tap_wait(event, 10, access(MARK, F_OK) == 0), "it elapsed");
	t = tap_seconds() - t;
	ok(t > 1.4 && t < 3.5, "after %.2f s", t);
	ok(tap_wait(event, 10, !CMD_OK("systemctl", "is-active", TIMER)), "and is gone");
	unlink(MARK);
	timer_set(1000000);
	bus_timer_clear(bus, TIMER, on_done, NULL);
	ok(tap_wait(event, 10, st.n_answers == 2) && st.error == 0, "set and cleared");
	st.n_answers = 0;
	ok(!tap_wait(event, 2, access(MARK, F_OK) == 0), "it never elapses");
	unlink(SERVICE_FILE);
	CMD_OK("systemctl", "daemon-reload");
}

/* systemd executes itself anew: it leaves the bus and comes back. */
static void test_reexec(void)
{
	pid_t p = sleeper();

	st.ups = st.downs = 0;
	ok(CMD_OK("systemctl", "daemon-reexec"), "systemd re-executes");
	ok(tap_wait(event, 30, st.downs && st.ups >= st.downs) && bus_is_connected(bus), "a loss and a return were told");
	printf("# down %d, up %d\n", st.downs, st.ups);
	scope_start(p);
	ok(answered(0), "a scope afterwards");
	bus_unit_stop(bus, SCOPE, on_done, NULL);
	ok(answered(0), "and its end");
	waitpid(p, NULL, 0);
}

static void measure(void)
{
	enum { N = 20 };
	double start = 0, stop = 0, t;

	for (int i = 0; i < N; i++) {
		pid_t p = sleeper();

		t = tap_seconds();
		scope_start(p);
		answered(0);
		start += tap_seconds() - t;
		t = tap_seconds();
		st.removed[0] = '\0';
		bus_unit_kill(bus, SCOPE, on_done, NULL);
		answered(0);
		waitpid(p, NULL, 0);
		tap_wait(event, 10, strstr(st.removed, SCOPE));
		stop += tap_seconds() - t;
	}
	ok(true, "scope start %.1f ms, kill to UnitRemoved %.1f ms", start / N * 1e3, stop / N * 1e3);
}

int main(void)
{
	if (geteuid() != 0 || access("/run/systemd/system", F_OK) < 0 || !CMD_OK("systemctl", "show", "-p", "Version"))
		tap_skip("needs root and a running systemd");
	signal(SIGPIPE, SIG_IGN);
	if (sd_event_new(&event) < 0 || bus_new(event, "declaw-sbx-", &ops, NULL, &bus) < 0)
		return EXIT_FAILURE;
	ok(tap_wait(event, 20, st.ups == 1), "connected");
	test_scope();
	test_stop_and_reuse();
	test_timer();
	test_reexec();
	measure();
	bus_free(bus);
	sd_event_unref(event);
	return tap_done();
}
