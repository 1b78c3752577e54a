/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The channel's link: whole frames in a row make it read less often, and nothing else is held up by that. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/link.h"
#include "util/clock.h"
#include "util/macro.h"

#define HOUR (3600 * USEC_PER_SEC)

/* Set up by world(); one for each test, because Criterion gives each a process of its own. */
static sd_event *event;
static struct link link_;
static int peer = -EBADF;
static unsigned int frames, gone, to_send;
static uint64_t next;			/* offset that the next frame must have */

static void nothing(struct link *l)
{
	(void)l;
}

static void on_gone(struct link *l, int error)
{
	(void)l;
	cr_assert_eq(error, -ECONNRESET);
	gone++;
}

static void on_refused(struct link *l, int error, uint64_t usec)
{
	(void)l;
	(void)usec;
	cr_assert_fail("connect: %d", error);
}

static void on_frame(struct link *l, const struct wire_frame *f)
{
	(void)l;
	cr_assert_eq(f->header.offset, next);
	for (uint32_t i = 0; i < f->header.length; i += 997)
		cr_assert_eq(f->payload[i], (uint8_t)(next + i));
	next += f->header.length + 1;
	frames++;
}

static void fill(struct link *l)
{
	static const uint8_t zeros[DCLW_PAYLOAD_MAX];
	struct dclw_header h = { .type = DCLW_DATA, .stream = 1, .length = sizeof(zeros) };

	for (unsigned int i = 0; i < to_send && link_add(l, &h, zeros); i++)
		;
}

static void sent(struct link *l, const struct link_frame *f)
{
	(void)l;
	(void)f;
	to_send--;
}

static const struct link_ops ops = {
	.enter = nothing, .leave = nothing, .connected = nothing, .gone = on_gone, .refused = on_refused,
	.frame = on_frame, .fill = fill, .sent = sent,
};

static size_t drain(void)
{
	static uint8_t buf[DCLW_FRAME_MAX];
	size_t sum = 0;
	ssize_t n;

	while ((n = recv(peer, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		sum += (size_t)n;
	return sum;
}

static void world(void)
{
	int sv[2], size = 1 << 20;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	cr_assert_eq(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	peer = sv[0];
	cr_assert_geq(sd_event_new(&event), 0);
	cr_assert_eq(link_init(&link_, event, NULL, &ops), 0);
	cr_assert_eq(link_open_fd(&link_, sv[1]), 0);
	link_flush(&link_);
	cr_assert_eq(drain(), DCLW_PREAMBLE);
}

static void end(void)
{
	link_done(&link_);
	sd_event_unref(event);
	close(peer);
}

TestSuite(link, .init = world, .fini = end, .timeout = 30);

/* A frame of len bytes from the guest; goes as a whole. */
static void say(uint32_t len)
{
	static uint8_t payload[DCLW_PAYLOAD_MAX], out[DCLW_FRAME_MAX];
	static uint64_t offset;
	struct dclw_header h = { .type = DCLW_DATA, .stream = 1, .length = len, .offset = offset };
	size_t n;

	for (uint32_t i = 0; i < len; i++)
		payload[i] = (uint8_t)(offset + i);
	offset += len + 1;
	n = wire_frame_put(out, sizeof(out), &h, payload);
	cr_assert_gt(n, 0);
	cr_assert_eq(send(peer, out, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void until(unsigned int wanted)
{
	while (frames < wanted)
		cr_assert_geq(sd_event_run(event, UINT64_MAX), 0);
	cr_assert_eq(frames, wanted);
}

/* What can be done without waiting. */
static void turn(void)
{
	for (unsigned int i = 0; i < 20 && sd_event_run(event, 0) > 0; i++)
		;
}

/* A pause that ends when the test says so. */
static void pause_for_ever(void)
{
	say(DCLW_PAYLOAD_MAX);
	until(frames + 1);
	cr_assert(link_.paused);
	cr_assert_eq(sd_event_source_set_time(link_.pause, clock_monotonic() + HOUR), 0);
}

Test(link, small_frames_are_read_at_once)
{
	for (unsigned int i = 0; i < 100; i++) {
		say(i * 300);
		until(i + 1);
		cr_assert(!link_.paused);
	}
}

Test(link, whole_frames_one_by_one_make_pauses_that_have_a_limit)
{
	uint64_t longest = 0;

	for (unsigned int i = 0; i < 50; i++) {
		say(DCLW_PAYLOAD_MAX);
		until(i + 1);
		cr_assert(link_.paused);
		cr_assert_geq(link_.pause_usec, longest);
		longest = link_.pause_usec;
	}
	cr_assert_leq(longest, 1000);
	/* Something small is the end of it */
	say(10);
	until(51);
	cr_assert(!link_.paused);
	say(10);
	until(52);
	cr_assert_eq(link_.pause_usec, 0);
}

Test(link, a_guest_that_fills_the_decoder_is_not_paused_for)
{
	for (unsigned int i = 0; i < 20; i++) {
		for (unsigned int j = 0; j < 4; j++)
			say(DCLW_PAYLOAD_MAX);
		until(4 * (i + 1));
	}
	cr_assert_eq(link_.pause_usec, 0);
	cr_assert(!link_.paused);
}

Test(link, a_pause_holds_back_what_comes_and_nothing_that_goes)
{
	pause_for_ever();
	say(100);
	turn();
	cr_assert_eq(frames, 1);

	/* More than the socket takes at once: the rest goes when the peer has read */
	to_send = 200;
	link_flush(&link_);
	cr_assert_gt(to_send, 0);
	for (size_t got = 0; got < 200 * DCLW_FRAME_MAX;) {
		got += drain();
		turn();
	}
	cr_assert_eq(to_send, 0);
	cr_assert_eq(frames, 1);

	cr_assert_eq(sd_event_source_set_time(link_.pause, clock_monotonic()), 0);
	until(2);
	cr_assert(!link_.paused);
}

Test(link, an_end_in_a_pause_is_noticed_behind_what_was_said)
{
	pause_for_ever();
	say(100);
	shutdown(peer, SHUT_RDWR);
	turn();
	cr_assert_eq(frames, 2);
	cr_assert_eq(gone, 1);
	cr_assert(!link_is_open(&link_));
	cr_assert_eq(sd_event_run(event, 0), 0, "the pause's timer does not outlive the connection");
}

Test(link, a_new_connection_begins_without_a_pause)
{
	int sv[2];

	pause_for_ever();
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	cr_assert_eq(link_open_fd(&link_, sv[1]), 0);
	close(peer);
	peer = sv[0];
	say(100);
	until(2);
}
