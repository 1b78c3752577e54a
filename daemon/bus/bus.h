/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * systemd over the system bus, asynchronous only: scopes that hold QEMU, timers that end or pause sandboxes.
 *
 * A job is over when JobRemoved names its path; the match is installed before any call. error: 0, -EEXIST (unit
 * loaded already: adopt it), -ENOENT, -EACCES (polkit refused), -ENOTCONN (systemd or the bus went away, or never
 * answered: the call may have taken effect), -EIO, -ECANCELED (bus_free() was called); message: the bus's own sentence,
 * valid during the call. Every callback comes exactly once, on the loop, and never before its function returns
 * (-ENOMEM excepted). Operations on one unit run in order, except that a kill never waits. Not to be freed in a
 * callback.
 */
#ifndef DECLAW_BUS_H
#define DECLAW_BUS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct bus;

struct bus_ops {
	/* A unit whose name starts with the prefix given to bus_new() was unloaded. */
	void (*unit_removed)(void *userdata, const char *unit);
	void (*connected)(void *userdata, bool up);
};
typedef void (*bus_done_fn)(void *userdata, int error, const char *message);

struct bus_scope_spec {
	const char *unit;		/* declaw-sbx-xxxxxxxxxx.scope */
	const char *slice;		/* declaw.slice */
	const char *description;
	pid_t pid;			/* a live process: a scope without one cannot exist */
	uint64_t memory_max;		/* bytes; 0 = none */
	uint64_t tasks_max;		/* 0 = none */
	uint64_t cpu_quota_usec;	/* per second; 0 = none */
	uint64_t cpu_weight;		/* 0 = default */
};

/*
 * When a timer elapses systemd starts the service of the same name (systemd 252 does not let a transient timer name
 * another): x@y.timer starts x@y.service, which must exist.
 */
struct bus_timer_spec {
	const char *unit;		/* declaw-expire@sbx-xxxxxxxxxx.timer */
	const char *description;
	uint64_t after_usec;		/* from now, monotonic */
};

struct bus_unit {
	char name[128];
	char active[24];
	bool job;			/* a job of it is queued or runs */
};
typedef void (*bus_list_fn)(void *userdata, int error, const struct bus_unit *v, size_t n);

int bus_new(sd_event *event, const char *unit_prefix, const struct bus_ops *ops, void *userdata, struct bus **ret);
struct bus *bus_free(struct bus *b);
bool bus_is_connected(const struct bus *b);

void bus_scope_start(struct bus *b, const struct bus_scope_spec *spec, bus_done_fn fn, void *userdata);
/* CPUWeight of a scope that runs. */
void bus_scope_weight(struct bus *b, const char *unit, uint64_t weight, bus_done_fn fn, void *userdata);
/* SIGKILL to everything in the unit, at once. 0 also when it is not loaded. */
void bus_unit_kill(struct bus *b, const char *unit, bus_done_fn fn, void *userdata);
/* Stop and wait for the job. 0 also when it is not loaded. */
void bus_unit_stop(struct bus *b, const char *unit, bus_done_fn fn, void *userdata);
/* Replaces a timer of that name. AccuracyUSec is 10 ms, RemainAfterElapse off. */
void bus_timer_set(struct bus *b, const struct bus_timer_spec *spec, bus_done_fn fn, void *userdata);
void bus_timer_clear(struct bus *b, const char *unit, bus_done_fn fn, void *userdata);
/* Loaded units matching a glob. */
void bus_units_list(struct bus *b, const char *glob, bus_list_fn fn, void *userdata);

#endif
