/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The handshake, losing and finding the guest again, and the life of the objects; against a script.
 */
#include <sys/socket.h>

#include "harness.h"

#define AGENT 0x1122334455667788ull

Test(hello, up_after_ack, .timeout = 60)
{
	struct rig *rig = rig_new();

	rig_peer(rig);
	cr_assert_eq(rig->ups, 0);
	cr_assert(!agent_is_up(rig->agent));
	peer_ack(rig, AGENT, NULL);
	RIG_WAIT(rig, rig->ups == 1);
	cr_assert(agent_is_up(rig->agent));
	cr_assert(agent_fd(rig->agent) >= 0);
	cr_assert_eq(rig->last_peer.agent_id, AGENT);
	cr_assert_str_eq(rig->last_peer.version, "script");
	cr_assert_str_eq(rig->last_peer.boot_id, "01234567-89ab-cdef-0123-456789abcdef");
	cr_assert(rig->last_peer.same_agent);
	rig_free(rig);
}

/* A script that shows up only after the session has been trying for a while. */
Test(hello, waits_for_the_socket, .timeout = 60)
{
	struct rig *rig = rig_new();

	rig_session(rig, rig->path, 20000000, 0);
	cr_assert_eq(agent_start(rig->agent), 0);
	cr_assert_eq(agent_start(rig->agent), -EALREADY);
	rig_settle(rig);
	agent_detach(rig->agent);
	rig_peer_up(rig);
	rig_free(rig);
}

Test(hello, times_out_without_socket, .timeout = 60)
{
	struct rig *rig = rig_new();

	rig_session(rig, rig->path, 300000, 0);
	cr_assert_eq(agent_start(rig->agent), 0);
	RIG_WAIT(rig, rig->losts == 1);
	cr_assert_eq(rig->lost_reason, -ETIMEDOUT);
	rig_free(rig);
}

Test(hello, times_out_without_answer, .timeout = 60)
{
	struct rig *rig = rig_new();

	rig_session(rig, rig->path, 500000, 0);
	rig_peer(rig);
	RIG_WAIT(rig, rig->losts == 1);
	cr_assert_eq(rig->lost_reason, -ETIMEDOUT);
	cr_assert_eq(rig->peer.hellos, 1);
	rig_free(rig);
}

/* A slow boot: HELLO is repeated with a new epoch, the old answer does not count. */
Test(hello, repeated_while_unanswered, .timeout = 60)
{
	struct rig *rig = rig_new();
	uint64_t first;

	rig_peer(rig);
	first = rig->peer.epoch;
	peer_expect(rig, DCLW_HELLO);
	cr_assert_neq(rig->peer.epoch, first);
	cr_assert_eq(rig->peer.connections, 1);
	peer_ack(rig, AGENT, NULL);
	RIG_WAIT(rig, rig->ups == 1);
	rig_free(rig);
}

Test(hello, ack_of_another_epoch_is_not_ours, .timeout = 60)
{
	struct rig *rig = rig_new();
	uint64_t right;

	rig_peer(rig);
	right = rig->peer.epoch;
	rig->peer.epoch ^= 1ull << 63;
	peer_ack(rig, AGENT, NULL);
	rig->peer.epoch = right ^ 1;
	peer_ack(rig, AGENT, NULL);
	rig_settle(rig);
	cr_assert_eq(rig->ups, 0);
	rig->peer.epoch = right;
	peer_ack(rig, AGENT, NULL);
	RIG_WAIT(rig, rig->ups == 1);
	rig_free(rig);
}

/* What an earlier connection left in the pipe: half a frame, frames of old epochs, then the answer.
 */
Test(hello, leftovers_are_skipped, .timeout = 60)
{
	struct agent_counters c;
	struct rig *rig = rig_new();
	uint8_t junk[5000];
	uint64_t right;

	rig_peer(rig);
	right = rig->peer.epoch;
	for (size_t i = 0; i < sizeof(junk); i++)
		junk[i] = pattern_byte(i) | 1;
	cr_assert_eq(send(rig->peer.fd, junk, sizeof(junk), 0), (ssize_t)sizeof(junk));
	rig->peer.epoch = 7;
	peer_data(rig, 99, 0, junk, sizeof(junk), false);
	peer_send(rig, DCLW_EVENT, 0, 0, DCLW_EVENT_OOM, NULL, 0);
	rig->peer.epoch = right;
	peer_ack(rig, AGENT, NULL);
	RIG_WAIT(rig, rig->ups == 1);
	agent_get_counters(rig->agent, &c);
	cr_assert_eq(c.violations, 0);
	cr_assert(c.desyncs > 0 && c.stale >= 2);
	cr_assert_eq(rig->ooms, 0);
	rig_free(rig);
}

Test(hello, no_common_version, .timeout = 60)
{
	struct rig *rig = rig_new();

	rig_peer(rig);
	peer_send(rig, DCLW_GOAWAY, 0, 0, DCLW_REASON_VERSION, NULL, 0);
	RIG_WAIT(rig, rig->losts == 1);
	cr_assert_eq(rig->lost_reason, -EPROTO);
	rig_free(rig);
}

static void count_reply(void *userdata, int error, const uint8_t *reply, size_t len)
{
	int *seen = userdata;

	(void)reply;
	(void)len;
	*seen = error ? error : 1;
}

/* The connection breaks and the same agent answers: requests go out again with the same id. */
Test(resync, requests_are_repeated, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct peer_frame *f;
	uint64_t id;
	int seen = 0;

	rig_peer_up(rig);
	cr_assert_eq(agent_request_send(rig->agent, DCLW_OP_STATS, NULL, count_reply, &seen, NULL),
		     0);
	f = peer_expect(rig, DCLW_REQUEST);
	id = f->header.offset;
	cr_assert_eq(f->header.arg, (uint32_t)id);
	cr_assert_eq(le16_load(f->payload), DCLW_OP_STATS);
	peer_hang_up(rig);
	peer_expect(rig, DCLW_HELLO);
	peer_ack(rig, AGENT, NULL);
	f = peer_expect(rig, DCLW_REQUEST);
	cr_assert_eq(f->header.offset, id);
	peer_reply(rig, id, 0, NULL);
	peer_reply(rig, id, 0,
		   NULL); /* once because it was done, once because it was asked again */
	RIG_WAIT(rig, seen != 0);
	rig_settle(rig);
	cr_assert_eq(seen, 1);
	cr_assert_eq(rig->ups, 2);
	cr_assert(rig->last_peer.same_agent);
	cr_assert_eq(rig->losts, 0);
	rig_free(rig);
}

/* Another agent answers: what was under way is gone, the new session is good. */
Test(resync, another_agent, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct sink k;
	int seen = 0;

	rig_peer_up(rig);
	sink_open(rig, &k, AGENT_STREAM_IN, 65536);
	cr_assert_eq(agent_file_list(rig->agent, "/", 1, k.stream, NULL, NULL), 0);
	cr_assert_eq(agent_request_send(rig->agent, DCLW_OP_STATS, NULL, count_reply, &seen, NULL),
		     0);
	peer_expect(rig, DCLW_REQUEST);
	peer_expect(rig, DCLW_REQUEST);
	peer_hang_up(rig);
	peer_expect(rig, DCLW_HELLO);
	peer_ack(rig, AGENT + 1, NULL);
	RIG_WAIT(rig, rig->ups == 2);
	cr_assert_eq(seen, -ECONNRESET);
	cr_assert(k.ended);
	cr_assert_eq(k.error, -ECONNRESET);
	cr_assert(!rig->last_peer.same_agent);
	rig_settle(rig);
	cr_assert(!peer_saw(rig, DCLW_REQUEST));
	sink_done(&k);
	rig_settle(rig);
	cr_assert(!peer_saw(rig, DCLW_RESET));
	rig_free(rig);
}

/* The socket is gone for good: requests and streams fail, then lost. */
Test(resync, qemu_is_gone, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct sink k;
	int seen = 0;

	rig_peer_up(rig);
	sink_open(rig, &k, AGENT_STREAM_IN, 65536);
	cr_assert_eq(agent_request_send(rig->agent, DCLW_OP_STATS, NULL, count_reply, &seen, NULL),
		     0);
	unlink(rig->path);
	peer_hang_up(rig);
	RIG_WAIT(rig, rig->losts == 1);
	cr_assert_eq(rig->lost_reason, -ECONNRESET);
	cr_assert_eq(seen, -ECONNRESET);
	cr_assert_eq(k.error, -ECONNRESET);
	cr_assert_eq(agent_request_send(rig->agent, DCLW_OP_STATS, NULL, count_reply, &seen, NULL),
		     -ENOTCONN);
	sink_done(&k);
	rig_free(rig);
}

Test(resync, detach_and_go_on, .timeout = 60)
{
	struct rig *rig = rig_new();
	int seen = 0;

	rig_peer_up(rig);
	agent_detach(rig->agent);
	cr_assert_eq(agent_fd(rig->agent), -EBADF);
	RIG_WAIT(rig, rig->peer.closed);
	cr_assert(!peer_saw(rig, DCLW_GOAWAY));
	cr_assert_eq(agent_request_send(rig->agent, DCLW_OP_STATS, NULL, count_reply, &seen, NULL),
		     0);
	rig_settle(rig);
	cr_assert_eq(rig->peer.connections, 1);
	cr_assert_eq(agent_start(rig->agent), 0);
	peer_expect(rig, DCLW_HELLO);
	peer_ack(rig, AGENT, NULL);
	peer_reply(rig, peer_expect(rig, DCLW_REQUEST)->header.offset, 0, NULL);
	RIG_WAIT(rig, seen == 1);
	rig_free(rig);
}

Test(ping, answered, .timeout = 60)
{
	struct rig *rig = rig_new();

	rig_session(rig, rig->path, 20000000, 50000);
	rig_peer_up(rig);
	for (int i = 0; i < 5; i++)
		peer_send(rig, DCLW_PONG, 0, peer_expect(rig, DCLW_PING)->header.offset, 0, NULL,
			  0);
	cr_assert_eq(rig->losts, 0);
	rig_free(rig);
}

Test(ping, unanswered, .timeout = 60)
{
	struct rig *rig = rig_new();

	rig_session(rig, rig->path, 20000000, 50000);
	rig_peer_up(rig);
	RIG_WAIT(rig, rig->losts == 1);
	cr_assert_eq(rig->lost_reason, -ETIMEDOUT);
	rig_free(rig);
}

/* --- what callers may do inside callbacks --- */

static void free_agent_on_reply(void *userdata, int error, const uint8_t *reply, size_t len)
{
	struct rig *rig = userdata;

	(void)error;
	(void)reply;
	(void)len;
	rig->agent = agent_free(rig->agent);
}

Test(lifetime, free_agent_in_reply, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct sink k;
	uint64_t id;
	int never = 0;

	rig_peer_up(rig);
	sink_open(rig, &k, AGENT_STREAM_IN, 65536);
	agent_request_send(rig->agent, DCLW_OP_STATS, NULL, free_agent_on_reply, rig, NULL);
	agent_request_send(rig->agent, DCLW_OP_STATS, NULL, count_reply, &never, NULL);
	id = peer_expect(rig, DCLW_REQUEST)->header.offset;
	peer_reply(rig, id, 0, NULL);
	peer_reply(rig, id + 1, 0, NULL);
	RIG_WAIT(rig, !rig->agent);
	rig_settle(rig);
	cr_assert_eq(never, 0);
	cr_assert(!k.ended);
	sink_done(&k);			/* after the agent: allowed */
	rig_free(rig);
}

static void detach_on_reply(void *userdata, int error, const uint8_t *reply, size_t len)
{
	struct rig *rig = userdata;

	(void)error;
	(void)reply;
	(void)len;
	agent_detach(rig->agent);
}

Test(lifetime, detach_in_reply, .timeout = 60)
{
	struct rig *rig = rig_new();
	int seen = 0;
	uint64_t id;

	rig_peer_up(rig);
	agent_request_send(rig->agent, DCLW_OP_STATS, NULL, detach_on_reply, rig, NULL);
	agent_request_send(rig->agent, DCLW_OP_STATS, NULL, count_reply, &seen, NULL);
	id = peer_expect(rig, DCLW_REQUEST)->header.offset;
	peer_reply(rig, id, 0, NULL);
	peer_reply(rig, id + 1, 0, NULL);
	RIG_WAIT(rig, !agent_is_up(rig->agent));
	rig_settle(rig);
	cr_assert_eq(seen, 0);
	rig_free(rig);
}

Test(lifetime, cancel, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct agent_request *r, *s;
	int one = 0, two = 0, three = 0;
	uint64_t id;

	rig_peer_up(rig);
	agent_request_send(rig->agent, DCLW_OP_STATS, NULL, count_reply, &one, &r);
	id = peer_expect(rig, DCLW_REQUEST)->header.offset;
	agent_request_cancel(r);		/* on the wire: swallowed */
	agent_request_send(rig->agent, DCLW_OP_STATS, NULL, count_reply, &two, &s);
	agent_request_cancel(s);		/* not on the wire: never sent */
	agent_request_send(rig->agent, DCLW_OP_STATS, NULL, count_reply, &three, NULL);
	peer_reply(rig, id, 0, NULL);
	peer_reply(rig, peer_expect(rig, DCLW_REQUEST)->header.offset, 0, NULL);
	RIG_WAIT(rig, three == 1);
	cr_assert_eq(one, 0);
	cr_assert_eq(two, 0);
	rig_free(rig);
}

/* More requests than the guest may hold: the rest waits, nothing is lost, and there is an end to
 * it. */
Test(requests, bounded, .timeout = 60)
{
	struct rig *rig = rig_new();
	unsigned int sent = 0, done = 0;
	int seen[2000] = { 0 };
	int r = 0;

	rig_peer_up(rig);
	while (sent < 2000) {
		r = agent_request_send(rig->agent, DCLW_OP_STATS, NULL, count_reply, &seen[sent],
				       NULL);
		if (r < 0)
			break;
		sent++;
	}
	cr_assert_eq(r, -ENOBUFS);
	cr_assert(sent >= 1000);
	rig_settle(rig);
	cr_assert_eq(rig->peer.n_frames - rig->peer.cursor, DCLW_REQUESTS_MAX - 1);
	while (done < sent) {
		peer_reply(rig, peer_expect(rig, DCLW_REQUEST)->header.offset, 0, NULL);
		done++;
	}
	RIG_WAIT(rig, seen[sent - 1] == 1);
	for (unsigned int i = 0; i < sent; i++)
		cr_assert_eq(seen[i], 1);
	rig_free(rig);
}
