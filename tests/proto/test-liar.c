/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guests that lie. Each rule is broken by a script; the session must count it, cut the connection,
 * and after the fourth time give the guest up. And what looks like a lie but is the ordinary course
 * of a race must pass.
 */
#include <sys/socket.h>

#include "harness.h"

#define AGENT 0x1122334455667788ull

static void assert_caught(struct rig *rig, const char *which)
{
	struct agent_counters c;

	agent_get_counters(rig->agent, &c);
	if (c.violations == 0)
		RIG_WAIT(rig, (agent_get_counters(rig->agent, &c), c.violations > 0));
	cr_assert_eq(c.violations, 1);
	cr_assert_str_eq(c.last_violation, which, "got '%s'", c.last_violation);
	cr_assert(!agent_is_up(rig->agent));
	/* Cut, and given another chance. */
	peer_expect(rig, DCLW_HELLO);
	cr_assert_eq(rig->peer.connections, 2);
	cr_assert_eq(rig->losts, 0);
}

static struct sink in, out;
static uint64_t in_id, out_id, request_id;

/* An incoming and an outgoing stream whose request has been answered. */
static struct rig *with_streams(void)
{
	struct rig *rig = rig_new();

	rig_peer_up(rig);
	sink_open(rig, &in, AGENT_STREAM_IN, 65536);
	sink_open(rig, &out, AGENT_STREAM_OUT, 65536);
	in_id = agent_stream_id(in.stream);
	out_id = agent_stream_id(out.stream);
	cr_assert_eq(agent_connect_port(rig->agent, 80, in.stream, out.stream, NULL, NULL), 0);
	request_id = peer_expect(rig, DCLW_REQUEST)->header.offset;
	peer_reply(rig, request_id, 0, NULL);
	rig_settle(rig);
	return rig;
}

static void finish(struct rig *rig)
{
	sink_done(&in);
	sink_done(&out);
	rig_free(rig);
}

#define LIE(name, which, ...)						\
	Test(liar, name, .timeout = 60)					\
	{								\
		struct rig *rig = with_streams();			\
		uint8_t bytes[DCLW_PAYLOAD_MAX] = { 0 };		\
									\
		(void)bytes;						\
		__VA_ARGS__;						\
		assert_caught(rig, which);				\
		finish(rig);						\
	}

LIE(wrong_epoch, "frame of another epoch", rig->peer.epoch ^= 1;
    peer_data(rig, (uint32_t)in_id, 0, "x", 1, false))
LIE(unknown_type, "frame of an unknown type", peer_send(rig, 0x55, 0, 0, 0, NULL, 0))
LIE(host_only_type, "frame of an unknown type", peer_send(rig, DCLW_REQUEST, 0, 1, 0, "\1\0", 2))
LIE(ack_twice, "HELLO_ACK twice", peer_ack(rig, AGENT, NULL))
LIE(unknown_stream, "frame for an unknown stream",
    peer_data(rig, (uint32_t)in_id + 1000, 0, "x", 1, false))
LIE(wrong_direction_data, "stream used against its direction",
    peer_data(rig, (uint32_t)out_id, 0, "x", 1, false))
LIE(wrong_direction_window, "stream used against its direction",
    peer_window(rig, (uint32_t)in_id, 100000, 0))
LIE(hole, "DATA with a hole before it", peer_data(rig, (uint32_t)in_id, 1, "x", 1, false))
LIE(again, "DATA repeated", peer_data(rig, (uint32_t)in_id, 0, "xy", 2, false);
    peer_data(rig, (uint32_t)in_id, 1, "y", 1, false))
LIE(beyond_credit, "DATA beyond its credit", in.consume = false;
    peer_data(rig, (uint32_t)in_id, 0, bytes, 32000, false);
    peer_data(rig, (uint32_t)in_id, 32000, bytes, 32000, false);
    peer_data(rig, (uint32_t)in_id, 64000, bytes, 2000, false))
LIE(offset_wraps, "DATA beyond its credit",
    peer_data(rig, (uint32_t)in_id, UINT64_MAX - 1, "xyz", 3, false))
LIE(gap_out_of_place, "GAP where none can be",
    peer_send(rig, DCLW_GAP, (uint32_t)in_id, 0, 0, "\1\0\0\0\0\0\0\0", 8))
LIE(gap_size, "GAP of a wrong size", peer_send(rig, DCLW_GAP, (uint32_t)in_id, 0, 0, "\1", 1))
LIE(window_size, "WINDOW of a wrong size",
    peer_send(rig, DCLW_WINDOW, (uint32_t)out_id, 1 << 20, 0, "\1", 1))
LIE(window_huge, "WINDOW too large", peer_window(rig, (uint32_t)out_id, 1ull << 40, 0))
LIE(ack_unsent, "acknowledgement of bytes never sent", peer_window(rig, (uint32_t)out_id, 70000, 1))
LIE(reset_errno, "RESET with an impossible errno",
    peer_send(rig, DCLW_RESET, (uint32_t)in_id, 0, 1u << 31, NULL, 0))
LIE(reply_unasked, "REPLY to nothing", peer_reply(rig, request_id + 50, 0, NULL))
LIE(reply_twice, "REPLY to nothing", peer_reply(rig, request_id, 0, NULL))
LIE(reply_zero, "REPLY to nothing", peer_reply(rig, 0, 0, NULL))
LIE(reply_errno, "REPLY with an impossible errno", peer_reply(rig, request_id, 1u << 30, NULL))
LIE(reply_tlv, "REPLY with malformed TLVs",
    peer_send(rig, DCLW_REPLY, 0, request_id, 0, "\1\0\0\0\377\0\0\0abc", 11))
LIE(exit_empty, "malformed PROC_EXIT",
    peer_send(rig, DCLW_EVENT, 0, 0, DCLW_EVENT_PROC_EXIT, NULL, 0))
LIE(exit_tlv, "malformed PROC_EXIT",
    peer_send(rig, DCLW_EVENT, 0, 0, DCLW_EVENT_PROC_EXIT, "\20\0\0", 3))
LIE(goaway, "GOAWAY: the guest says we broke a rule",
    peer_send(rig, DCLW_GOAWAY, 0, 0, DCLW_REASON_PROTOCOL, "no", 2))
LIE(flood, "flood of meaningless frames", for (int i = 0; i < 6000; i++)
	    peer_send(rig, DCLW_PONG, 0, 1ull << 40, 0, NULL, 0))

static void send_exit(struct rig *rig, uint64_t token, uint32_t pid, uint16_t tag, uint32_t status)
{
	uint8_t buf[64];
	struct wire_writer w;

	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u64(&w, DCLW_TAG_TOKEN, token);
	wire_put_u32(&w, DCLW_TAG_PID, pid);
	wire_put_u32(&w, tag, status);
	peer_send(rig, DCLW_EVENT, 0, 0, DCLW_EVENT_PROC_EXIT, buf, (uint32_t)w.len);
}

LIE(exit_status, "malformed PROC_EXIT", send_exit(rig, 7, 1, DCLW_TAG_EXIT_CODE, 256))
LIE(exit_pid, "malformed PROC_EXIT", send_exit(rig, 7, 0, DCLW_TAG_EXIT_CODE, 0))

/* Data for a stream whose request never was on the wire. */
Test(liar, not_announced, .timeout = 60)
{
	struct rig *rig = rig_new();

	rig_peer_up(rig);
	sink_open(rig, &in, AGENT_STREAM_IN, 65536);
	out = (struct sink) { 0 };
	peer_data(rig, agent_stream_id(in.stream), 0, "x", 1, false);
	assert_caught(rig, "frame for a stream not announced");
	finish(rig);
}

/* Garbage between frames is not a lie but damage: counted, skipped. */
Test(liar, oversize_and_garbage, .timeout = 60)
{
	struct rig *rig = with_streams();
	struct agent_counters c;
	uint8_t head[DCLW_HEADER_SIZE];
	struct dclw_header h = {
		.type = DCLW_DATA, .epoch = (uint16_t)rig->peer.epoch, .stream = (uint32_t)in_id,
		.length = DCLW_PAYLOAD_MAX + 1,
	};

	wire_header_encode(head, &h);
	cr_assert_eq(send(rig->peer.fd, head, sizeof(head), 0), (ssize_t)sizeof(head));
	peer_data(rig, (uint32_t)in_id, 0, "good", 4, false);
	RIG_WAIT(rig, in.len == 4);
	agent_get_counters(rig->agent, &c);
	cr_assert_eq(c.violations, 0);
	cr_assert_eq(c.desyncs, 1);
	finish(rig);
}

Test(liar, malformed_ack, .timeout = 60)
{
	struct rig *rig = rig_new();
	uint8_t buf[64];
	struct wire_writer w;

	rig_peer(rig);
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u64(&w, DCLW_TAG_EPOCH, rig->peer.epoch);
	wire_put_u32(&w, DCLW_TAG_VERSION, 1);
	peer_send(rig, DCLW_HELLO_ACK, 0, 0, 0, buf, (uint32_t)w.len);
	assert_caught(rig, "malformed HELLO_ACK");
	rig_free(rig);
}

/* The guest wants bytes again that it had acknowledged. */
Test(liar, stream_state_goes_back, .timeout = 60)
{
	struct rig *rig = with_streams();
	struct agent_counters c;
	uint8_t buf[64], value[16] = { 0 };
	struct wire_writer w;

	sink_pump(&out, 1000);
	peer_expect(rig, DCLW_DATA);
	peer_window(rig, (uint32_t)out_id, 66000, 900);
	RIG_WAIT(rig, out.acked == 900);
	peer_hang_up(rig);
	peer_expect(rig, DCLW_HELLO);
	le32_store(value, (uint32_t)out_id);
	le64_store(value + 8, 500);
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_bytes(&w, DCLW_TAG_STREAM_STATE, value, sizeof(value));
	peer_ack(rig, AGENT, &w);
	RIG_WAIT(rig, (agent_get_counters(rig->agent, &c), c.violations == 1));
	cr_assert_str_eq(c.last_violation, "HELLO_ACK wants bytes that cannot be missing");
	finish(rig);
}

/* It lies each time it is given another chance. */
Test(liar, given_up_in_the_end, .timeout = 60)
{
	struct rig *rig = with_streams();
	struct agent_counters c;

	for (int i = 0; i < 4; i++) {
		cr_assert_eq(rig->losts, 0);
		peer_send(rig, 0x55, 0, 0, 0, NULL, 0);
		if (i == 3)
			break;
		peer_expect(rig, DCLW_HELLO);
		peer_ack(rig, AGENT, NULL);
		RIG_WAIT(rig, rig->ups == (unsigned int)i + 2);
	}
	RIG_WAIT(rig, rig->losts == 1);
	cr_assert_eq(rig->lost_reason, -EPROTO);
	agent_get_counters(rig->agent, &c);
	cr_assert_eq(c.violations, 4);
	cr_assert(in.ended && in.error < 0);
	cr_assert(out.ended);
	finish(rig);
}

/* --- honest races --- */

Test(race, data_crosses_our_reset, .timeout = 60)
{
	struct rig *rig = with_streams();
	struct agent_counters c;

	in.stream = agent_stream_free(in.stream);
	cr_assert_eq(peer_expect(rig, DCLW_RESET)->header.stream, (uint32_t)in_id);
	peer_data(rig, (uint32_t)in_id, 0, "late", 4, false);
	peer_send(rig, DCLW_RESET, (uint32_t)in_id, 0, EPIPE, NULL, 0);
	rig_settle(rig);
	agent_get_counters(rig->agent, &c);
	cr_assert_eq(c.violations, 0);
	cr_assert(c.stale >= 1);
	cr_assert_eq(in.bytes, 0);
	finish(rig);
}

/* A RESET that the cut may have swallowed is said again. */
Test(race, reset_survives_a_cut, .timeout = 60)
{
	struct rig *rig = with_streams();

	in.stream = agent_stream_free(in.stream);
	peer_expect(rig, DCLW_RESET);
	peer_hang_up(rig);
	peer_expect(rig, DCLW_HELLO);
	peer_ack(rig, AGENT, NULL);
	cr_assert_eq(peer_expect(rig, DCLW_RESET)->header.stream, (uint32_t)in_id);
	/* Now the guest shows that it has read it. */
	peer_send(rig, DCLW_PONG, 0, peer_expect(rig, DCLW_PING)->header.offset, 0, NULL, 0);
	rig_settle(rig);
	peer_hang_up(rig);
	peer_expect(rig, DCLW_HELLO);
	peer_ack(rig, AGENT, NULL);
	RIG_WAIT(rig, rig->ups == 3);
	rig_settle(rig);
	cr_assert(!peer_saw(rig, DCLW_RESET));
	finish(rig);
}

/* Overlapping data after a resync is cut to size; a gap is told. */
Test(race, overlap_and_gap_after_resync, .timeout = 60)
{
	struct rig *rig = with_streams();
	struct peer_frame *f;

	peer_data(rig, (uint32_t)in_id, 0, "abcdef", 6, false);
	RIG_WAIT(rig, in.len == 6);
	peer_hang_up(rig);
	peer_expect(rig, DCLW_HELLO);
	peer_ack(rig, AGENT, NULL);
	f = peer_expect(rig, DCLW_RESUME);
	cr_assert_eq(f->header.stream, (uint32_t)in_id);
	cr_assert_eq(f->header.offset, 6);
	peer_data(rig, (uint32_t)in_id, 4, "efgh", 4, false);
	RIG_WAIT(rig, in.len == 8);
	cr_assert_eq(memcmp(in.data, "abcdefgh", 8), 0);
	peer_hang_up(rig);
	peer_expect(rig, DCLW_HELLO);
	peer_ack(rig, AGENT, NULL);
	cr_assert_eq(peer_expect(rig, DCLW_RESUME)->header.offset, 8);
	peer_send(rig, DCLW_GAP, (uint32_t)in_id, 8, 0, "\20\0\0\0\0\0\0\0", 8);
	peer_data(rig, (uint32_t)in_id, 16, "q", 1, true);
	RIG_WAIT(rig, in.ended);
	cr_assert_eq(in.gaps, 1);
	cr_assert_eq(in.gap_from, 8);
	cr_assert_eq(in.gap_to, 16);
	cr_assert_eq(in.error, 0);
	cr_assert_eq(memcmp(in.data, "abcdefghq", 9), 0);
	finish(rig);
}

/* A FIN that the guest does not acknowledge by itself is known to be there by the next PONG. */
Test(race, fin_is_followed_by_a_ping, .timeout = 60)
{
	struct rig *rig = with_streams();

	sink_pump(&out, 100);
	cr_assert(peer_expect(rig, DCLW_DATA)->header.flags & DCLW_FIN);
	cr_assert(!out.ended);
	peer_send(rig, DCLW_PONG, 0, peer_expect(rig, DCLW_PING)->header.offset, 0, NULL, 0);
	RIG_WAIT(rig, out.ended);
	cr_assert_eq(out.error, 0);
	cr_assert_eq(out.acked, 100);
	finish(rig);
}

/* Given up behind its FIN: the RESET is sent although the PONG for the FIN comes first. */
Test(race, reset_behind_fin, .timeout = 60)
{
	struct rig *rig = with_streams();
	uint64_t ping;

	sink_pump(&out, 100);
	ping = peer_expect(rig, DCLW_PING)->header.offset;
	peer_send(rig, DCLW_PONG, 0, ping, 0, NULL, 0);
	out.stream = agent_stream_free(out.stream);
	cr_assert_eq(peer_expect(rig, DCLW_RESET)->header.stream, (uint32_t)out_id);
	rig_settle(rig);
	cr_assert(!out.ended);
	finish(rig);
}
