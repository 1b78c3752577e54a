/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bus/ against a manager played by the test on a private dbus-daemon: order, retries, early and missing signals, a
 * systemd and a bus that go away. The real systemd: test-bus-systemd.c. Skipped without dbus-daemon.
 */
#include "bus/bus.h"
#include "lib/tap.h"
#include "util/macro.h"

#include "lib/fakesystemd.h"

#define SCOPE "declaw-sbx-one.scope"
#define TIMER "declaw-expire@sbx-one.timer"

static sd_event *event;
static struct fake fake = { .result = "done" };
static struct bus *bus;

struct state {
	int n_answers, error, ups, downs, n_removed;
	char message[256], removed[64], order[64];
	struct bus_unit units[FAKE_UNITS];
	size_t n_units;
};
static struct state st;

static void on_removed(void *userdata _unused_, const char *unit)
{
	st.n_removed++;
	snprintf(st.removed, sizeof(st.removed), "%s", unit);
}

static void on_connected(void *userdata _unused_, bool up)
{
	st.ups += up;
	st.downs += !up;
}

static const struct bus_ops ops = { .unit_removed = on_removed, .connected = on_connected };

/* userdata: a letter for st.order, or NULL */
static void on_done(void *userdata, int error, const char *message)
{
	st.n_answers++;
	st.error = error;
	snprintf(st.message, sizeof(st.message), "%s", message);
	if (userdata)
		st.order[strlen(st.order)] = *(const char *)userdata;
}

static void on_list(void *userdata, int error, const struct bus_unit *v, size_t n)
{
	st.n_units = MIN_OF(n, ELEMENTSOF(st.units));
	for (size_t i = 0; i < st.n_units; i++)
		st.units[i] = v[i];
	on_done(userdata, error, "");
}

static bool answered(int error)
{
	bool came = tap_wait(event, 20, st.n_answers > 0);

	st.n_answers = 0;
	if (!came || st.error != error)
		printf("# answered: %d, error %d, %s\n", came, st.error, st.message);
	return came && st.error == error;
}

static bool log_is(const char *want)
{
	bool same = strcmp(fake.log, want) == 0;

	if (!same)
		printf("# calls were: %s\n", fake.log);
	fake.log[0] = '\0';
	return same;
}

static void turns(int n)
{
	while (n-- > 0)
		sd_event_run(event, 5000);
}

static void scope_start(const char *letter)
{
	const struct bus_scope_spec spec = {
		.unit = SCOPE, .slice = "declaw.slice", .description = "a sandbox", .pid = 4242,
		.memory_max = 1 << 28, .tasks_max = 50, .cpu_quota_usec = 1500000,
	};

	bus_scope_start(bus, &spec, on_done, (void *)letter);
}

static void timer_set(const char *letter)
{
	const struct bus_timer_spec spec = {
		.unit = TIMER, .description = "the end of a sandbox", .after_usec = 5000000,
	};

	bus_timer_set(bus, &spec, on_done, (void *)letter);
}

static bool start_had(const char *text)
{
	return fake.last_start && strstr(fake.last_start, text);
}

/* What a timer was given, in microseconds */
static uint64_t start_delay(void)
{
	const char *p = fake.last_start ? strstr(fake.last_start, "\"OnActiveSec\"") : NULL;

	p = p ? strstr(p, "UINT64 ") : NULL;
	return p ? strtoull(p + strlen("UINT64 "), NULL, 10) : 0;
}

static void test_scope(void)
{
	scope_start(NULL);
	ok(st.n_answers == 0, "calls are asynchronous");
	ok(answered(0), "a scope starts");
	ok(start_had("\"PIDs\"") && start_had("UINT32 4242") && start_had("\"declaw.slice\"") &&
	   start_had("\"MemoryMax\"") && start_had("UINT64 268435456") && start_had("\"TasksMax\"") &&
	   start_had("\"CPUQuotaPerSecUSec\"") && start_had("\"inactive-or-failed\""), "with its properties");
	ok(!start_had("CPUWeight"), "and without what was not asked for");
	ok(log_is("StartTransientUnit(" SCOPE ") "), "in one call");
	scope_start(NULL);
	ok(answered(-EEXIST), "the same again: %s", st.message);
	ok(log_is("StartTransientUnit(" SCOPE ") ResetFailedUnit(" SCOPE ") StartTransientUnit(" SCOPE ") "),
	   "after trying whether it was a failed one");
	fake.units[fake_find(&fake, SCOPE)].failed = true;
	scope_start(NULL);
	ok(answered(0), "a failed unit of that name makes room");
	fake.log[0] = '\0';
	fake_unit_removed(&fake, SCOPE);
}

static void test_jobs(void)
{
	fake.early = true;
	scope_start(NULL);
	ok(answered(0), "JobRemoved before the reply is not missed");
	bus_unit_stop(bus, SCOPE, on_done, NULL);
	ok(answered(0), "when stopping, too");
	fake.early = false;
	fake.result = "failed";
	scope_start(NULL);
	ok(answered(-EIO) && strstr(st.message, "failed"), "a job that fails: %s", st.message);
	fake.result = "done";
	fake.deny = true;
	scope_start(NULL);
	ok(answered(-EACCES) && strcmp(st.message, "No.") == 0, "a refusal, with its sentence: %s", st.message);
	fake.deny = false;
	fake.stuck = true;
	scope_start(NULL);
	turns(5);
	ok(st.n_answers == 0, "no answer before the job is over");
	fake_signal(&fake, "JobRemoved", "uoss", 999, "/org/freedesktop/systemd1/job/999", SCOPE, "done");
	turns(5);
	ok(st.n_answers == 0, "another job of that unit is not ours");
	fake.stuck = false;
	bus_unit_kill(bus, SCOPE, on_done, (void *)"k");
	ok(tap_wait(event, 5, st.order[0] == 'k') && st.error == 0, "a kill does not wait for the job");
	{
		char path[64];

		snprintf(path, sizeof(path), "/org/freedesktop/systemd1/job/%u", fake.job);
		st.n_answers = 0;
		fake_signal(&fake, "JobRemoved", "uoss", fake.job, path, SCOPE, "canceled");
	}
	ok(answered(-EIO), "a job that is cancelled is a failure: %s", st.message);
	fake.log[0] = '\0';
}

static void test_gone(void)
{
	bus_unit_kill(bus, SCOPE, on_done, NULL);
	ok(answered(0), "killing what is not there");
	bus_unit_stop(bus, SCOPE, on_done, NULL);
	ok(answered(0), "stopping what is not there");
	bus_timer_clear(bus, TIMER, NULL, NULL);
	bus_timer_clear(bus, TIMER, on_done, NULL);
	ok(answered(0), "clearing a timer that is not there");
	fake.log[0] = '\0';
}

static void test_timer(void)
{
	timer_set(NULL);
	ok(answered(0), "a timer is set");
	ok(start_had("\"TimersMonotonic\"") && start_delay() > 1000000 && start_delay() <= 5000000 &&
	   start_had("\"RemainAfterElapse\"") && start_had("BOOLEAN false") && start_had("\"AccuracyUSec\""),
	   "with its properties");
	ok(log_is("StartTransientUnit(" TIMER ") "), "in one call");
	timer_set(NULL);
	ok(answered(0), "and replaced");
	ok(start_delay() > 1000000 && start_delay() < 5000000, "without the time that took: %llu", (unsigned long long)start_delay());
	ok(log_is("StartTransientUnit(" TIMER ") StopUnit(" TIMER ") StartTransientUnit(" TIMER ") "), "by stop and start");
	bus_timer_clear(bus, TIMER, on_done, NULL);
	ok(answered(0) && fake_find(&fake, TIMER) < 0, "and cleared");
	fake.log[0] = '\0';
}

/* Operations on one unit do not overlap; those on another do not wait for them. */
static void test_order(void)
{
	memset(st.order, 0, sizeof(st.order));
	timer_set("a");
	timer_set("b");
	bus_timer_clear(bus, TIMER, on_done, (void *)"c");
	timer_set("d");
	scope_start("s");
	ok(tap_wait(event, 10, strlen(st.order) == 5), "five operations");
	st.n_answers = 0;
	ok(strchr(st.order, 's') != NULL && strchr(st.order, 's') < strchr(st.order, 'd'), "the scope did not wait: %s",
	   st.order);
	ok(strchr(st.order, 'a') < strchr(st.order, 'b') && strchr(st.order, 'b') < strchr(st.order, 'c') &&
	   strchr(st.order, 'c') < strchr(st.order, 'd'), "the timer's went in order: %s", st.order);
	ok(fake_find(&fake, TIMER) >= 0, "and the last one counts");
	fake.log[0] = '\0';
}

static void test_list_and_removed(void)
{
	bool both = false;

	fake_add(&fake, "declaw-sbx-dead.scope", true);
	bus_units_list(bus, "declaw-*", on_list, NULL);
	if (answered(0) && st.n_units == 3)
		both = strcmp(st.units[0].active, "active") == 0 && strcmp(st.units[2].active, "failed") == 0;
	ok(both, "%zu units listed with their states", st.n_units);
	turns(5);
	st.n_removed = 0;
	fake_unit_removed(&fake, SCOPE);
	ok(tap_wait(event, 5, st.n_removed == 1) && strcmp(st.removed, SCOPE) == 0, "a unit that vanishes is told");
	fake_unit_removed(&fake, "ssh.service");
	turns(5);
	ok(st.n_removed == 1, "other people's units are not");
}

static void test_systemd_goes(void)
{
	st.ups = st.downs = 0;
	fake.stuck = true;
	scope_start(NULL);
	turns(5);
	fake_systemd_stop(&fake);
	ok(answered(-ENOTCONN), "systemd goes away: what waits is answered");
	ok(st.downs == 1 && !bus_is_connected(bus), "and the loss is told");
	scope_start(NULL);
	ok(st.n_answers == 0 && answered(-ENOTCONN), "calls are refused");
	fake.stuck = false;
	memset(fake.units, 0, sizeof(fake.units));
	ok(fake_systemd(&fake) >= 0 && tap_wait(event, 10, st.ups == 1), "it comes back");
	scope_start(NULL);
	ok(answered(0), "and works");
}

static void test_bus_goes(void)
{
	st.ups = st.downs = 0;
	fake.stuck = true;
	bus_unit_stop(bus, SCOPE, on_done, NULL);
	turns(5);
	fake_systemd_stop(&fake);
	tap_wait(event, 5, st.downs == 1);
	fake_daemon_stop(&fake);
	ok(answered(-ENOTCONN), "the bus goes away: what waits is answered");
	turns(50);
	ok(st.downs == 1, "the loss is told once");
	fake.stuck = false;
	memset(fake.units, 0, sizeof(fake.units));
	ok(fake_daemon(&fake) == 0, "the bus comes back");
	turns(20);
	ok(st.ups == 0, "without systemd on it");
	ok(fake_systemd(&fake) >= 0 && tap_wait(event, 20, st.ups == 1), "then with it");
	scope_start(NULL);
	ok(answered(0), "and works");
}

static void test_bus_dies_under_systemd(void)
{
	st.ups = st.downs = 0;
	fake.stuck = true;
	bus_unit_stop(bus, SCOPE, on_done, NULL);
	turns(5);
	fake_daemon_stop(&fake);
	ok(answered(-ENOTCONN) && st.downs == 1, "the bus dies first: answered and told");
	fake.bus = sd_bus_close_unref(fake.bus);
	fake.stuck = false;
	memset(fake.units, 0, sizeof(fake.units));
	ok(fake_daemon(&fake) == 0 && fake_systemd(&fake) >= 0 && tap_wait(event, 20, st.ups == 1), "both come back");
}

static void test_free(void)
{
	fake.stuck = true;
	st.n_answers = 0;
	scope_start(NULL);
	timer_set(NULL);
	timer_set(NULL);
	bus_units_list(bus, "*", on_list, NULL);
	turns(3);
	bus = bus_free(bus);
	ok(st.n_answers == 4 && st.error == -ECANCELED, "freed with calls in flight: each is answered");
	turns(10);
	ok(st.n_answers == 4, "once");
}

int main(void)
{
	char dir[] = "/tmp/declaw-bus-XXXXXX";

	signal(SIGPIPE, SIG_IGN);
	if (access("/usr/bin/dbus-daemon", X_OK) < 0)
		tap_skip("no dbus-daemon");
	if (!mkdtemp(dir) || sd_event_new(&event) < 0)
		return EXIT_FAILURE;
	snprintf(fake.address, sizeof(fake.address), "unix:path=%s/bus", dir);
	snprintf(fake.config, sizeof(fake.config), "%s/conf", dir);
	setenv("DBUS_SYSTEM_BUS_ADDRESS", fake.address, 1);
	fake.event = event;
	ok(bus_new(event, "declaw-sbx-", &ops, NULL, &bus) == 0 && !bus_is_connected(bus), "no bus: no error, not connected");
	ok(fake_daemon(&fake) == 0, "a bus");
	ok(fake_systemd(&fake) >= 0 && tap_wait(event, 20, st.ups == 1) && bus_is_connected(bus), "connected when it is there");
	test_scope();
	test_jobs();
	test_gone();
	test_timer();
	test_order();
	test_list_and_removed();
	test_systemd_goes();
	test_bus_goes();
	test_bus_dies_under_systemd();
	test_free();
	fake_systemd_stop(&fake);
	fake_daemon_stop(&fake);
	free(fake.last_start);
	sd_event_unref(event);
	snprintf(fake.address, sizeof(fake.address), "%s/bus", dir);
	unlink(fake.address);
	unlink(fake.config);
	rmdir(dir);
	return tap_done();
}
