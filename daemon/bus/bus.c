/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connection to the system bus and to systemd behind it.
 *
 * Opening does not block: sd-bus connects and authenticates from the loop. Matches are sent before Subscribe, and the
 * connection counts as up when Subscribe is answered, so no JobRemoved of a later call can be missed. Two things can
 * be lost: the bus itself (the local Disconnected signal: everything is opened again, with back-off), and systemd
 * (its name changes owner when it re-executes: subscribe again). Either way operations under way are answered
 * -ENOTCONN and the owner is told to reconcile.
 */
#include <string.h>

#include "bus/internal.h"
#include "util/clock.h"
#include "util/log.h"

#define BACKOFF_MIN (100 * USEC_PER_MSEC)
#define BACKOFF_MAX (5 * USEC_PER_SEC)
#define SYSTEM_BUS_DEFAULT "unix:path=/run/dbus/system_bus_socket"

static void bus_open(struct bus *b);

static void go_down(struct bus *b)
{
	bool was_up = b->up;

	b->up = false;
	if (!was_up)
		return;
	op_fail_all(b, -ENOTCONN);
	b->ops->connected(b->userdata, false);
}

static void retry_later(struct bus *b)
{
	uint64_t at = clock_monotonic() + b->backoff;

	b->backoff = MIN_OF(b->backoff * 2, BACKOFF_MAX);
	if (sd_event_source_set_time(b->retry, at) < 0 ||
	    sd_event_source_set_enabled(b->retry, SD_EVENT_ONESHOT) < 0)
		log_debug("cannot arm the timer that reopens the bus");
}

/* Closes from a clean stack: on the next turn of the loop, when the timer of the next attempt fires. */
static int on_disconnected(sd_bus_message *m _unused_, void *userdata, sd_bus_error *e _unused_)
{
	struct bus *b = userdata;

	retry_later(b);
	go_down(b);
	return 0;
}

static int on_retry(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct bus *b = userdata;

	b->bus = sd_bus_close_unref(b->bus);
	bus_open(b);
	return 0;
}

static int on_subscribed(sd_bus_message *m, void *userdata, sd_bus_error *e _unused_)
{
	struct bus *b = userdata;

	if (sd_bus_message_is_method_error(m, NULL)) {
		log_debug("systemd does not answer on the bus: %s", sd_bus_message_get_error(m)->message);
		retry_later(b);
		return 0;
	}
	b->backoff = BACKOFF_MIN;
	if (b->up)
		return 0;
	b->up = true;
	b->ops->connected(b->userdata, true);
	return 0;
}

static int subscribe(struct bus *b)
{
	return sd_bus_call_method_async(b->bus, NULL, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, "Subscribe",
					on_subscribed, b, NULL);
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *e _unused_)
{
	const char *name, *old, *new;
	struct bus *b = userdata;

	if (sd_bus_message_read(m, "sss", &name, &old, &new) < 0)
		return 0;
	if (*new && subscribe(b) < 0)
		retry_later(b);
	if (*old)
		go_down(b);
	return 0;
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *e _unused_)
{
	const char *job, *unit, *result;

	if (sd_bus_message_read(m, "uoss", NULL, &job, &unit, &result) >= 0)
		job_removed(userdata, job, unit, result);
	return 0;
}

static int on_unit_removed(sd_bus_message *m, void *userdata, sd_bus_error *e _unused_)
{
	struct bus *b = userdata;
	const char *unit;

	if (sd_bus_message_read(m, "so", &unit, NULL) >= 0 && b->up && str_starts(unit, b->prefix))
		b->ops->unit_removed(b->userdata, unit);
	return 0;
}

static int add_matches(struct bus *b)
{
	int r;

	r = sd_bus_match_signal_async(b->bus, NULL, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, "JobRemoved",
				      on_job_removed, NULL, b);
	if (r >= 0)
		r = sd_bus_match_signal_async(b->bus, NULL, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
					      "UnitRemoved", on_unit_removed, NULL, b);
	if (r >= 0)
		r = sd_bus_match_signal_async(b->bus, NULL, NULL, "/org/freedesktop/DBus/Local",
					      "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, NULL, b);
	if (r >= 0)
		r = sd_bus_add_match_async(b->bus, NULL,
					   "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
					   "interface='org.freedesktop.DBus',member='NameOwnerChanged',"
					   "arg0='" SYSTEMD_NAME "'", on_owner_changed, NULL, b);
	return r;
}

static int bus_start(struct bus *b)
{
	const char *address = secure_getenv("DBUS_SYSTEM_BUS_ADDRESS");
	int r;

	r = sd_bus_new(&b->bus);
	if (r >= 0)
		r = sd_bus_set_address(b->bus, address ? address : SYSTEM_BUS_DEFAULT);
	if (r >= 0)
		r = sd_bus_set_bus_client(b->bus, true);
	if (r >= 0)
		r = sd_bus_start(b->bus);
	if (r >= 0)
		r = sd_bus_attach_event(b->bus, b->event, SD_EVENT_PRIORITY_NORMAL);
	if (r >= 0)
		r = add_matches(b);
	if (r >= 0)
		r = subscribe(b);
	return r;
}

static void bus_open(struct bus *b)
{
	int r = bus_start(b);

	if (r < 0) {
		log_debug("cannot open the system bus: %s", strerror(-r));
		b->bus = sd_bus_close_unref(b->bus);
		retry_later(b);
	}
}

int bus_new(sd_event *event, const char *unit_prefix, const struct bus_ops *ops, void *userdata, struct bus **ret)
{
	struct bus *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	*b = (struct bus) { .event = sd_event_ref(event), .ops = ops, .userdata = userdata, .backoff = BACKOFF_MIN };
	list_init(&b->ops_list);
	b->prefix = strdup(unit_prefix);
	r = b->prefix ? sd_event_add_time(event, &b->retry, CLOCK_MONOTONIC, 0, 1, on_retry, b) : -ENOMEM;
	if (r >= 0)
		r = sd_event_source_set_enabled(b->retry, SD_EVENT_OFF);
	if (r < 0) {
		bus_free(b);
		return r;
	}
	bus_open(b);
	*ret = b;
	return 0;
}

struct bus *bus_free(struct bus *b)
{
	if (!b)
		return NULL;
	b->up = false;
	op_fail_all(b, -ECANCELED);
	/* Callbacks may have submitted: those were refused, and are answered now. */
	op_fail_all(b, -ECANCELED);
	b->bus = sd_bus_close_unref(b->bus);
	sd_event_source_disable_unref(b->retry);
	sd_event_source_disable_unref(b->refused);
	sd_event_unref(b->event);
	free(b->prefix);
	free(b);
	return NULL;
}

bool bus_is_connected(const struct bus *b)
{
	return b->up;
}
