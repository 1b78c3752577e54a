/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virt/ against libvirt's test driver, which runs inside of this process: calls, events, errors, the end.
 *
 * That driver knows no paused start, so domains are made on a connection of the test's own; all connections to
 * test:///default see the same domains. Plain program (ThreadSanitizer). What needs a libvirtd is in
 * test-domxml-libvirtd.c.
 */
#include <libvirt/libvirt.h>
#include <string.h>

#include "lib/tap.h"
#include "loop/virtloop.h"
#include "loop/workers.h"
#include "util/macro.h"
#include "virt/virt.h"

#define XML "<domain type='test'><name>sbx-one</name><memory>65536</memory><os><type>hvm</type></os></domain>"

struct state {
	int n_answers, n_cancelled, error, ups, downs;
	char message[256], events[512];
	size_t n_domains;
	bool found, found_paused;
};

static struct state st;

static void on_event(void *userdata _unused_, const char *name, enum virt_event ev, int detail)
{
	size_t n = strlen(st.events);

	snprintf(st.events + n, sizeof(st.events) - n, "%s:%d:%d ", name, (int)ev, detail);
}

static void on_connected(void *userdata _unused_, bool up)
{
	st.ups += up;
	st.downs += !up;
}

static const struct virt_ops ops = { .domain_event = on_event, .connected = on_connected };

static void on_done(void *userdata _unused_, int error, const char *message)
{
	st.n_answers++;
	st.n_cancelled += error == -ECANCELED;
	st.error = error;
	snprintf(st.message, sizeof(st.message), "%s", message);
}

static void on_create(void *userdata, int error, const char *message, pid_t pid _unused_)
{
	on_done(userdata, error, message);
}

static void on_list(void *userdata _unused_, int error, const struct virt_domain *v, size_t n)
{
	st.n_answers++;
	st.error = error;
	st.n_domains = n;
	st.found = false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(v[i].name, "sbx-one") == 0) {
			st.found = true;
			st.found_paused = v[i].paused;
		}
}

/* Waits for the one answer of a call. */
static bool answered(sd_event *e, int error)
{
	bool came = tap_wait(e, 20, st.n_answers == 1);

	st.n_answers = 0;
	if (came && st.error != error)
		printf("# error %d, %s\n", st.error, st.message);
	return came && st.error == error;
}

static void make_domain(virConnectPtr own)
{
	virDomainPtr d = virDomainCreateXML(own, XML, 0);

	ok(d != NULL, "a domain runs");
	if (d)
		virDomainFree(d);
}

static void test_lifecycle(sd_event *e, struct virt *v)
{
	virt_domain_suspend(v, "sbx-one", on_done, NULL);
	ok(st.n_answers == 0, "calls are asynchronous");
	ok(answered(e, 0), "suspended");
	ok(tap_wait(e, 5, strstr(st.events, "sbx-one:1:")), "an event told so");
	virt_list(v, on_list, NULL);
	ok(answered(e, 0) && st.found && st.found_paused, "listed, paused");
	virt_domain_resume(v, "sbx-one", on_done, NULL);
	ok(answered(e, 0), "resumed");
	ok(tap_wait(e, 5, strstr(st.events, "sbx-one:2:")), "an event told so");
	virt_domain_resume(v, "sbx-one", on_done, NULL);
	ok(answered(e, 0), "resuming what runs is no error");
	virt_domain_destroy(v, "sbx-one", on_done, NULL);
	ok(answered(e, 0), "destroyed");
	ok(tap_wait(e, 5, strstr(st.events, "sbx-one:0:1")), "an event told so");
	virt_domain_destroy(v, "sbx-one", on_done, NULL);
	ok(answered(e, 0), "destroying what is gone is no error");
	virt_domain_resume(v, "sbx-one", on_done, NULL);
	ok(answered(e, -ENOENT) && st.message[0], "resuming it is");
	virt_domain_create(v, "sbx-bad", "<domain", on_create, NULL);
	ok(answered(e, -EIO) && st.message[0], "a create that libvirt refuses: its sentence comes along");
}

/* Calls for one domain run in order, and what a destroy overtakes is cancelled. */
static void test_destroy_cancels(sd_event *e, struct virt *v, virConnectPtr own)
{
	int n = 0;

	make_domain(own);
	/* Many more than a worker gets done while this thread is put aside for a time slice */
	for (int i = 0; i < 2000; i++) {
		virt_domain_suspend(v, "sbx-one", on_done, NULL);
		virt_domain_resume(v, "sbx-one", on_done, NULL);
	}
	virt_domain_destroy(v, "sbx-one", on_done, NULL);
	virt_domain_resume(v, "sbx-one", on_done, NULL);
	n = 4002;
	tap_wait(e, 20, st.n_answers >= n);
	ok(st.n_answers == n && st.error == -ENOENT, "%d calls, %d answers, the last: gone", n, st.n_answers);
	ok(st.n_cancelled > 0, "%d of them cancelled by the destroy", st.n_cancelled);
	st.n_answers = 0;
	virt_list(v, on_list, NULL);
	ok(answered(e, 0) && !st.found, "the domain is gone");
}

static void test_not_connected(sd_event *e, struct workers *w)
{
	struct virt *v = NULL;

	st = (struct state) { 0 };
	ok(virt_new(e, w, "test:///nonexistent/file.xml", NULL, &ops, NULL, &v) == 0, "a connection that cannot be opened");
	virt_domain_resume(v, "sbx-one", on_done, NULL);
	ok(st.n_answers == 0, "refusing is asynchronous, too");
	ok(answered(e, -ENOTCONN), "refused: %s", st.message);
	virt_list(v, on_list, NULL);
	virt_domain_destroy(v, "sbx-one", NULL, NULL);
	v = virt_free(v);
	ok(st.n_answers == 1 && st.error == -ECANCELED, "freeing answers what is pending");
	ok(st.ups == 0 && st.downs == 0, "it was never up");
}

static void test_free_in_flight(sd_event *e, struct workers *w)
{
	struct virt *v = NULL;

	st = (struct state) { 0 };
	virt_new(e, w, "test:///default", NULL, &ops, NULL, &v);
	tap_wait(e, 10, st.ups == 1);
	for (int i = 0; i < 20; i++)
		virt_list(v, on_list, NULL);
	v = virt_free(v);
	ok(st.n_answers == 20, "20 calls in flight, 20 answers from virt_free()");
	for (int i = 0; i < 10; i++)
		sd_event_run(e, 10000);
	ok(st.n_answers == 20, "and none later");
}

int main(void)
{
	struct virt_version version;
	struct virtloop *l = NULL;
	struct workers *w = NULL;
	struct virt *v = NULL;
	virConnectPtr own;
	sd_event *e = NULL;

	if (sd_event_new(&e) < 0 || virtloop_new(e, &l) < 0 || workers_new(e, 0, &w) < 0)
		return EXIT_FAILURE;
	ok(virt_new(e, w, "test:///default", NULL, &ops, NULL, &v) == 0, "opening starts");
	ok(!virt_is_connected(v), "and is not over at once");
	ok(tap_wait(e, 10, st.ups == 1) && virt_is_connected(v), "connected");
	virt_get_version(v, &version);
	ok(version.libvirt > 0, "libvirt %lu", version.libvirt);
	own = virConnectOpen("test:///default");
	make_domain(own);
	test_lifecycle(e, v);
	test_destroy_cancels(e, v, own);
	virConnectClose(own);
	v = virt_free(v);
	test_not_connected(e, w);
	test_free_in_flight(e, w);
	w = workers_free(w);
	for (int i = 0; i < 5; i++)
		sd_event_run(e, 1000);
	virtloop_free(l);
	sd_event_unref(e);
	return tap_done();
}
