/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop/virtloop: libvirt's event interface as libvirt uses it, from the loop and from other threads.
 * Plain program (ThreadSanitizer).
 */
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "lib/tap.h"
#include "loop/virtloop.h"
#include "util/macro.h"

struct probe {
	atomic_int calls, freed;
	int fd, last_events, last_fd, id, remove_id, disarm;
	bool drain, freed_in_call;
	pthread_t thread;
};

static bool in_call;

static void probe_free(void *opaque)
{
	struct probe *p = opaque;

	p->freed++;
	p->freed_in_call |= in_call;
	p->thread = pthread_self();
}

static void on_handle(int id _unused_, int fd, int events, void *opaque)
{
	struct probe *p = opaque;
	char c;

	in_call = true;
	p->calls++;
	p->last_events = events;
	p->last_fd = fd;
	if (p->drain && read(p->fd, &c, 1) < 0)
		p->drain = false;
	if (p->remove_id)
		virEventRemoveHandle(p->remove_id);
	in_call = false;
}

static void on_timer(int id, void *opaque)
{
	struct probe *p = opaque;

	p->calls++;
	if (p->disarm)
		virEventUpdateTimeout(id, -1);
}

/* A few turns, none of which waits for long. */
static int turns(sd_event *e, int n)
{
	int busy = 0;

	for (int i = 0; i < n; i++)
		busy += sd_event_run(e, 2000) > 0;
	return busy;
}

static void test_handle(sd_event *e)
{
	struct probe p = { .drain = true };
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return;
	p.fd = fds[0];
	p.id = virEventAddHandle(fds[0], VIR_EVENT_HANDLE_READABLE, on_handle, &p, probe_free);
	ok(p.id > 0, "a watch has an id");
	turns(e, 3);
	ok(p.calls == 0, "nothing to read, no call");
	ok(write(fds[1], "x", 1) == 1 && tap_wait(e, 5, p.calls == 1), "one byte, one call");
	ok(p.last_fd == fds[0] && p.last_events == VIR_EVENT_HANDLE_READABLE, "with libvirt's own descriptor");

	virEventUpdateHandle(p.id, 0);
	ok(write(fds[1], "x", 1) == 1, "another byte");
	turns(e, 3);
	ok(p.calls == 1, "a watch without events is not called");
	close(fds[1]);
	ok(turns(e, 20) == 0, "and a hang-up does not make the loop spin");
	virEventUpdateHandle(p.id, VIR_EVENT_HANDLE_READABLE);
	ok(tap_wait(e, 5, p.calls >= 2), "asked for again, the byte is seen");
	ok(p.last_events & VIR_EVENT_HANDLE_HANGUP, "with the hang-up");

	close(fds[0]);
	ok(virEventRemoveHandle(p.id) == 0, "removed after its descriptor was closed");
	ok(p.freed == 0, "the free callback is not called from within");
	ok(tap_wait(e, 5, p.freed == 1), "but later, on the loop");
	ok(virEventRemoveHandle(p.id) < 0, "not twice");
}

static void test_same_fd_twice(sd_event *e)
{
	struct probe r = { .drain = false }, w = { .drain = false };
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
		return;
	r.id = virEventAddHandle(s[0], VIR_EVENT_HANDLE_READABLE, on_handle, &r, probe_free);
	w.id = virEventAddHandle(s[0], VIR_EVENT_HANDLE_WRITABLE, on_handle, &w, probe_free);
	ok(r.id > 0 && w.id > 0 && r.id != w.id, "one descriptor, two watches");
	ok(tap_wait(e, 5, w.calls > 0) && r.calls == 0, "each with its own events");
	virEventRemoveHandle(w.id);
	ok(write(s[1], "x", 1) == 1 && tap_wait(e, 5, r.calls > 0), "the other one lives on");
	virEventRemoveHandle(r.id);
	ok(tap_wait(e, 5, r.freed && w.freed), "both are freed");
	close(s[0]);
	close(s[1]);
}

/* Two are ready in one batch, each removes the other: exactly one is called. */
static void test_remove_in_callback(sd_event *e)
{
	struct probe a = { .drain = false }, b = { .drain = false };
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
		return;
	a.id = virEventAddHandle(s[0], VIR_EVENT_HANDLE_WRITABLE, on_handle, &a, probe_free);
	b.id = virEventAddHandle(s[1], VIR_EVENT_HANDLE_WRITABLE, on_handle, &b, probe_free);
	a.remove_id = b.id;
	b.remove_id = a.id;
	ok(tap_wait(e, 5, a.freed + b.freed == 1), "the removed one is freed");
	ok((a.calls == 0) != (b.calls == 0), "and was not called any more");
	ok(!a.freed_in_call && !b.freed_in_call, "its free callback did not run inside the other's callback");
	virEventRemoveHandle(a.freed ? b.id : a.id);
	ok(tap_wait(e, 5, a.freed + b.freed == 2), "the other one too");
	close(s[0]);
	close(s[1]);
}

static void test_timer(sd_event *e)
{
	struct probe p = { .disarm = false }, now = { .disarm = true };
	double t;
	bool came;

	p.id = virEventAddTimeout(-1, on_timer, &p, probe_free);
	turns(e, 5);
	ok(p.calls == 0, "a disarmed timer is silent");
	t = tap_seconds();
	virEventUpdateTimeout(p.id, 20);
	came = tap_wait(e, 5, p.calls == 3);
	t = tap_seconds() - t;
	ok(came && t > 0.055, "every 20 ms: three in %.0f ms", t * 1000);
	virEventUpdateTimeout(p.id, -1);
	turns(e, 20);
	ok(p.calls == 3, "disarmed again");

	now.id = virEventAddTimeout(0, on_timer, &now, probe_free);
	ok(tap_wait(e, 5, now.calls == 1), "0 is at once");
	turns(e, 20);
	ok(now.calls == 1, "and over when the callback disarms it");
	virEventUpdateTimeout(now.id, 0);
	ok(tap_wait(e, 5, now.calls == 2), "from outside of the loop, too");
	virEventRemoveTimeout(p.id);
	virEventRemoveTimeout(now.id);
	ok(tap_wait(e, 5, p.freed && now.freed), "both are freed");
	ok(virEventRemoveTimeout(p.id) < 0 && virEventRemoveHandle(now.id) < 0, "and unknown afterwards");
}

/* What RPC threads do: add, update and remove at their own pace while the loop dispatches. */
static void *churn(void *arg)
{
	struct probe *p = arg;
	int s[2];

	for (int i = 0; i < 300; i++) {
		int h, t;

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
			return NULL;
		h = virEventAddHandle(s[0], VIR_EVENT_HANDLE_WRITABLE, on_handle, p, probe_free);
		t = virEventAddTimeout(0, on_timer, p, probe_free);
		virEventUpdateHandle(h, VIR_EVENT_HANDLE_READABLE | VIR_EVENT_HANDLE_WRITABLE);
		virEventUpdateTimeout(t, 1);
		virEventUpdateHandle(h, 0);
		virEventUpdateTimeout(t, -1);
		close(s[0]);
		virEventRemoveHandle(h);
		virEventRemoveTimeout(t);
		close(s[1]);
	}
	return NULL;
}

static void test_threads(sd_event *e)
{
	enum { N = 4 };
	struct probe p[N] = { 0 };
	pthread_t t[N];
	int freed = 0;

	for (int i = 0; i < N; i++)
		if (pthread_create(&t[i], NULL, churn, &p[i]) != 0)
			return;
	tap_wait(e, 60, (freed = p[0].freed + p[1].freed + p[2].freed + p[3].freed) == N * 600);
	ok(freed == N * 600, "%d watches added and removed by four threads: %d freed", N * 600, freed);
	for (int i = 0; i < N; i++)
		pthread_join(t[i], NULL);
	ok(pthread_equal(p[0].thread, pthread_self()), "free callbacks run on the loop's thread");
}

int main(void)
{
	struct virtloop *l = NULL, *second = NULL;
	sd_event *e = NULL;

	if (sd_event_new(&e) < 0)
		return EXIT_FAILURE;
	ok(virtloop_new(e, &l) == 0, "a loop for libvirt");
	ok(virtloop_new(e, &second) == -EBUSY, "one in a process");
	test_handle(e);
	test_same_fd_twice(e);
	test_remove_in_callback(e);
	test_timer(e);
	test_threads(e);
	virtloop_free(l);
	ok(virEventAddTimeout(0, on_timer, NULL, NULL) < 0, "without a loop nothing can be added");
	ok(virtloop_new(e, &l) == 0, "made again");
	virtloop_free(l);
	sd_event_unref(e);
	return tap_done();
}
