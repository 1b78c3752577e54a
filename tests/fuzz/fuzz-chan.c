/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as what a worker or declawd says on the control channel, in pieces. Beyond not crashing: what is understood
 * is written as something that is understood the same way, and the connection's end is told once. Also pins by any order
 * of names, addresses and times, against their bounds.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "chan/line.h"
#include "chan/pins.h"
#include "fuzz-main.h"

#define MUST(x) ((x) ? (void)0 : abort())

static int n_closed;

static void on_message(void *userdata _unused_, const struct chan_msg *m)
{
	json_object *o = chan_msg_json(m), *again;
	struct chan_msg back;

	MUST(o && chan_msg_parse(o, &back) == 0 && back.type == m->type);
	again = chan_msg_json(&back);
	MUST(again && strcmp(json_text(o, NULL), json_text(again, NULL)) == 0);
	json_object_put(again);
	json_object_put(o);
}

static void on_closed(void *userdata _unused_, int error _unused_)
{
	n_closed++;
}

static void check_lines(const uint8_t *data, size_t size)
{
	static const struct chan_ops ops = { .message = on_message, .closed = on_closed };
	struct chan *c = NULL;
	sd_event *event = NULL;
	int pair[2];

	n_closed = 0;
	MUST(sd_event_new(&event) >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	MUST(chan_new(event, pair[0], 4096, &ops, NULL, &c) == 0);
	for (size_t at = 0; at < size && !n_closed;) {
		size_t n = MIN_OF(size - at, (size_t)143);

		if (send(pair[1], data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		at += n;
		MUST(sd_event_run(event, 0) >= 0);
	}
	close(pair[1]);
	for (int i = 0; i < 100 && !n_closed; i++)
		MUST(sd_event_run(event, 1000) >= 0);
	MUST(n_closed == 1);
	chan_free(c);
	sd_event_unref(event);
}

static void check_pins(const uint8_t *data, size_t size)
{
	struct pins *p = pins_new();
	uint64_t now = 1;

	MUST(p);
	for (size_t i = 0; i + 4 <= size; i += 4) {
		struct in_addr addr = { (uint32_t)(data[i] % 64u) + 1 };
		char name[16];
		int r;

		snprintf(name, sizeof(name), "n%u.test", data[i + 1]);
		now += data[i + 2] % 8u;
		r = pins_add(p, name, &addr, 1, now + data[i + 3], now);
		MUST(r == 0 || r == -ENOSPC);
		if (r == 0)
			MUST(pins_has(p, name, addr, now) == (data[i + 3] > 0) || pins_until(p, addr) > now);
		MUST(pins_count(p) <= PINS_MAX);
	}
	pins_expire(p, UINT64_MAX);
	MUST(pins_count(p) == 0);
	pins_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1u << 16)
		return 0;
	check_lines(data, size);
	check_pins(data, size);
	return 0;
}
