/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host session fed by a hostile guest.
 *
 * The input is a script for both ends: raw bytes, frames with a valid header but any content (they
 * carry the right epoch, which no fuzzer would guess), well-formed frames, and what a daemon does
 * with its side meanwhile. What must hold whatever the guest says: bytes come in order and within
 * the credit, an end comes once and last, nothing is called back after it was freed, and nothing
 * crashes or leaks.
 *
 * With libFuzzer: clang -fsanitize=fuzzer,address,undefined. With -DFUZZ_MAIN: see fuzz-main.h.
 */
#include <string.h>
#include <sys/socket.h>

#include "agent/agent.h"
#include "fuzz-main.h"
#include "util/macro.h"
#include "wire/frame.h"
#include "wire/le.h"
#include "wire/tlv.h"

#define SLOTS 8u
#define STEPS_MAX 400u
#define MUST(x) do { if (!(x)) __builtin_trap(); } while (0)

struct input {
	const uint8_t *data;
	size_t left;
};

struct slot {
	struct agent_stream *stream;
	struct agent_request *request;
	enum agent_stream_dir dir;
	uint32_t id;
	uint64_t next, unconsumed, written;
	bool ended;
};

struct world {
	sd_event *event;
	struct agent *agent;
	struct slot slots[SLOTS];
	int fd;				/* the guest's end */
	struct wire_decoder decoder;	/* of what the host says */
	uint64_t epoch, request, ping;
	bool hello, up;
};
static struct world *w;

static uint8_t take_u8(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->data++;
}

static const uint8_t *take(struct input *in, size_t want, size_t *ret)
{
	const uint8_t *p = in->data;

	*ret = MIN_OF(want, in->left);
	in->data += *ret;
	in->left -= *ret;
	return p;
}

/* --- what the session says --- */

static void on_data(void *userdata, uint64_t offset, const uint8_t *data, size_t len)
{
	struct slot *k = userdata;
	static volatile uint8_t sum;

	MUST(k->stream && !k->ended && len > 0);
	MUST(offset == k->next);
	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + data[i]);
	k->next += len;
	k->unconsumed += len;
	MUST(k->unconsumed <= DCLW_WINDOW_MAX);
	if (len & 1)
		return;
	agent_stream_consumed(k->stream, len);
	k->unconsumed -= len;
	if (data[0] == 'F')
		k->stream = agent_stream_free(k->stream);
}

static void on_gap(void *userdata, uint64_t from, uint64_t to)
{
	struct slot *k = userdata;

	MUST(k->stream && !k->ended && from == k->next && to > from);
	k->next = to;
}

static void on_end(void *userdata, _unused_ int error)
{
	struct slot *k = userdata;

	MUST(k->stream && !k->ended);
	k->ended = true;
}

static void on_writable(void *userdata)
{
	struct slot *k = userdata;

	MUST(k->stream && !k->ended);
	agent_stream_write(k->stream, "more", 4);
}

static void on_acked(void *userdata, _unused_ uint64_t offset)
{
	struct slot *k = userdata;

	MUST(k->stream && !k->ended);
}

static const struct agent_stream_ops stream_ops = {
	.data = on_data, .gap = on_gap, .end = on_end, .writable = on_writable, .acked = on_acked,
};

static void on_up(void *userdata, const struct agent_peer *peer)
{
	struct world *x = userdata;

	MUST(strlen(peer->boot_id) == 36 && strlen(peer->version) < sizeof(peer->version));
	x->up = true;
}

static void on_lost(void *userdata, int reason)
{
	struct world *x = userdata;

	MUST(reason < 0);
	x->up = false;
}

static void on_exit_event(void *userdata, const struct agent_exit *ex)
{
	struct world *x = userdata;

	MUST(ex->status <= 255);
	if (x->agent && (ex->status & 1))
		agent_proc_forget(x->agent, ex->pid);
}

static void on_oom(_unused_ void *userdata)
{
}

static void on_reply(void *userdata, _unused_ int error, const uint8_t *reply, size_t len)
{
	struct slot *k = userdata;

	MUST(len == 0 || wire_well_formed(reply, len));
	k->request = NULL;
}

static void on_file(void *userdata, int error, const struct agent_file_info *info)
{
	struct slot *k = userdata;

	MUST((error == 0) == (info != NULL));
	if (error == 0 && info->path)
		MUST(strlen(info->path) < 4096);
	if (error && k->stream && (error & 1))
		k->stream = agent_stream_free(k->stream);
}

static void on_done(_unused_ void *userdata, _unused_ int error)
{
}

static void on_pid(_unused_ void *userdata, int error, uint32_t pid)
{
	MUST((error == 0) == (pid != 0));
}

static void on_proc(_unused_ void *userdata, _unused_ int error,
		    _unused_ const struct agent_proc *p)
{
}

static void on_stats(_unused_ void *userdata, int error, const struct agent_stats *st)
{
	MUST((error == 0) == (st != NULL));
}

/* --- the guest's end --- */

/* What the host says is parsed only for what a guest must know: epoch and ids. */
static void hear(void)
{
	struct wire_frame f;
	const uint8_t *v;
	uint8_t *space;
	size_t room, len;
	ssize_t n;

	for (;;) {
		space = wire_decoder_space(&w->decoder, &room);
		n = w->fd >= 0 ? recv(w->fd, space, room, MSG_DONTWAIT) : -1;
		if (n <= 0)
			return;
		wire_decoder_commit(&w->decoder, (size_t)n);
		while (wire_decoder_next(&w->decoder, &f)) {
			if (f.header.type == DCLW_HELLO &&
			    wire_find(f.payload, f.header.length, DCLW_TAG_EPOCH, &v, &len) > 0)
				w->hello = wire_get_u64(v, len, &w->epoch) == 0;
			else if (f.header.type == DCLW_REQUEST)
				w->request = f.header.offset;
			else if (f.header.type == DCLW_PING)
				w->ping = f.header.offset;
		}
	}
}

static void turn(void)
{
	for (int i = 0; i < 50 && sd_event_run(w->event, 0) > 0; i++)
		hear();
	hear();
}

static void say(const void *data, size_t len)
{
	const uint8_t *p = data;

	while (w->fd >= 0 && len > 0) {
		ssize_t n = send(w->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			return;
		if (n < 0 && !agent_is_up(w->agent) && agent_fd(w->agent) < 0)
			return;
		if (n < 0) {
			turn();
			continue;
		}
		p += n;
		len -= (size_t)n;
	}
}

static void say_frame(struct dclw_header h, const void *payload)
{
	static uint8_t buf[DCLW_FRAME_MAX];
	size_t n;

	h.epoch = (uint16_t)w->epoch;
	n = wire_frame_put(buf, sizeof(buf), &h, payload);
	say(buf, n);
}

static void say_ack(struct input *in)
{
	uint8_t buf[1024], which = take_u8(in), value[16];
	struct wire_writer t;

	wire_writer_init(&t, buf, sizeof(buf));
	wire_put_u32(&t, DCLW_TAG_VERSION, 1);
	wire_put_u64(&t, DCLW_TAG_EPOCH, w->epoch);
	wire_put_u64(&t, DCLW_TAG_AGENT_ID, 1 + which % 4);
	wire_put_str(&t, DCLW_TAG_BOOT_ID, "01234567-89ab-cdef-0123-456789abcdef");
	wire_put_str(&t, DCLW_TAG_AGENT_VERSION, "fuzz");
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (!(which & 16) || !w->slots[i].id)
			continue;
		memset(value, 0, sizeof(value));
		le32_store(value, w->slots[i].id);
		le64_store(value + 8, take_u8(in));
		wire_put_bytes(&t, DCLW_TAG_STREAM_STATE, value, sizeof(value));
	}
	say_frame((struct dclw_header) { .type = DCLW_HELLO_ACK, .length = (uint32_t)t.len }, buf);
}

static void say_any(struct input *in)
{
	static uint8_t payload[DCLW_PAYLOAD_MAX];
	struct dclw_header h = { .type = take_u8(in), .flags = take_u8(in) };
	uint8_t stream = take_u8(in), mode = take_u8(in), value = take_u8(in);
	const struct slot *k = &w->slots[stream % SLOTS];
	const uint8_t *p;
	size_t len;

	h.stream = stream & 0x80 ? stream : stream & 0x40 ? 0 : k->id;
	h.offset = mode % 6 == 0   ? value
		   : mode % 6 == 1 ? k->next + value
		   : mode % 6 == 2 ? w->request - value
		   : mode % 6 == 3 ? UINT64_MAX - value
		   : mode % 6 == 4 ? w->ping
				   : k->written + 65536 - value;
	h.arg = take_u8(in);
	h.length = take_u8(in);
	if (h.flags & 0x80)
		h.length *= 127;
	p = take(in, h.length, &len);
	memset(payload, 0, sizeof(payload));
	memcpy(payload, p, len);
	say_frame(h, payload);
}

static void say_data(struct input *in)
{
	struct slot *k = &w->slots[take_u8(in) % SLOTS];
	uint8_t flags = take_u8(in);
	struct dclw_header h = {
		.type = DCLW_DATA, .flags = flags & DCLW_FIN, .stream = k->id, .offset = k->next,
	};
	static uint8_t payload[DCLW_PAYLOAD_MAX];

	h.length = take_u8(in);
	if (flags & 2)
		h.length *= 127;
	payload[0] = flags & 4 ? 'F' : 'x';
	say_frame(h, payload);
}

static void say_window(struct input *in)
{
	struct slot *k = &w->slots[take_u8(in) % SLOTS];
	uint64_t acked = MIN_OF(k->written, take_u8(in) * 64ull);
	uint8_t buf[8];

	le64_store(buf, acked);
	say_frame((struct dclw_header) {
			.type = DCLW_WINDOW, .stream = k->id, .length = 8, .offset = acked + 65536,
		}, buf);
}

/* A reply to a recent request, good or not. */
static void say_reply(struct input *in, bool good)
{
	uint8_t back = good ? 0 : take_u8(in), error = good ? 0 : take_u8(in);
	const uint8_t *p;
	size_t len;

	p = take(in, take_u8(in), &len);
	say_frame(
		(struct dclw_header){
			.type = DCLW_REPLY,
			.offset = w->request - back % 16,
			.arg = error,
			.length = (uint32_t)len,
		},
		p);
}

static void say_exit(struct input *in)
{
	uint8_t buf[128];
	struct wire_writer t;

	wire_writer_init(&t, buf, sizeof(buf));
	wire_put_u64(&t, DCLW_TAG_TOKEN, take_u8(in));
	wire_put_u32(&t, DCLW_TAG_PID, take_u8(in));
	wire_put_u32(&t, take_u8(in) & 1 ? DCLW_TAG_EXIT_CODE : DCLW_TAG_SIGNAL, take_u8(in));
	wire_put_u32(&t, DCLW_TAG_STREAM_OUT, w->slots[take_u8(in) % SLOTS].id);
	say_frame((struct dclw_header) {
			.type = DCLW_EVENT, .arg = DCLW_EVENT_PROC_EXIT, .length = (uint32_t)t.len,
		}, buf);
}

/* --- the host's end --- */

static void connect_again(void)
{
	int sv[2];

	fd_close(w->fd);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) == 0);
	w->fd = sv[0];
	w->hello = false;
	wire_decoder_init(&w->decoder);
	agent_detach(w->agent);
	agent_start_fd(w->agent, sv[1]);
	turn();
}

static void open_slot(struct slot *k, enum agent_stream_dir dir)
{
	if (k->stream)
		return;
	*k = (struct slot) { .request = k->request, .dir = dir };
	if (agent_stream_open(w->agent, dir, 65536, &stream_ops, k, &k->stream) == 0)
		k->id = agent_stream_id(k->stream);
}

static void adopt_slot(struct slot *k, uint8_t value)
{
	enum agent_stream_dir dir = value & 0x80 ? AGENT_STREAM_OUT : AGENT_STREAM_IN;

	if (k->stream)
		return;
	if (agent_stream_adopt(w->agent, value + 1u, dir, value, 65536, &stream_ops, k,
			       &k->stream) < 0)
		return;
	*k = (struct slot){
		.stream = k->stream,
		.request = k->request,
		.dir = dir,
		.id = value + 1u,
		.next = value,
	};
}

static void start_proc(struct slot *k, uint8_t token)
{
	static const char *const argv[] = { "sh", NULL };
	static char text[120 * 1024];
	static const char *const env[] = { text, text, text, text, NULL };
	struct agent_proc_spec spec = { .token = token, .argv = argv };

	/* Half of them in fragments, of which the socket takes some. */
	memset(text, 'x', sizeof(text) - 1);
	if (token & 0x80)
		spec.env = env;
	if (k->stream && k->dir == AGENT_STREAM_IN)
		spec.out = k->stream;
	else
		spec.in = k->stream;
	agent_proc_start(w->agent, &spec, on_pid, k);
}

static void ask(struct slot *k, uint8_t what)
{
	struct agent *a = w->agent;

	switch (what % 10) {
	case 0:
		if (!k->request)
			agent_request_send(a, DCLW_OP_STATS, NULL, on_reply, k, &k->request);
		return;
	case 1:
		agent_get_stats(a, on_stats, k);
		return;
	case 2:
		agent_file_stat(a, "/etc", on_file, k);
		return;
	case 3:
		agent_proc_list(a, on_proc, k);
		return;
	case 4:
		start_proc(k, what);
		return;
	default:
		break;
	}
	if (!k->stream)
		return;
	if (k->dir == AGENT_STREAM_OUT)
		agent_file_write(a, "/f", NULL, 0, k->stream, on_file, k);
	else if (what & 1)
		agent_file_read(a, "/f", "user", k->stream, on_file, k);
	else
		agent_file_list(a, "/", 2, k->stream, on_done, k);
}

static void use_stream(struct slot *k, uint8_t what, uint8_t value)
{
	static const uint8_t bytes[65536];
	ssize_t n;

	if (!k->stream)
		return;
	switch (what) {
	case 0:
		n = agent_stream_write(k->stream, bytes, value * 300u);
		k->written += n > 0 ? (uint64_t)n : 0;
		return;
	case 1:
		agent_stream_finish(k->stream);
		return;
	case 2:
		agent_stream_consumed(k->stream, k->unconsumed);
		k->unconsumed = 0;
		return;
	case 3:
		agent_stream_reset(k->stream, value);
		return;
	default:
		k->stream = agent_stream_free(k->stream);
	}
}

static void host_does(struct input *in)
{
	uint8_t what = take_u8(in), value = take_u8(in);
	struct slot *k = &w->slots[value % SLOTS];

	switch (what % 12) {
	case 0:
	case 1:
		return open_slot(k, what & 1 ? AGENT_STREAM_OUT : AGENT_STREAM_IN);
	case 2:
	case 3:
	case 4:
	case 5:
	case 6:
		return use_stream(k, what % 12 - 2, value);
	case 7:
		agent_request_cancel(k->request);
		k->request = NULL;
		return;
	case 8:
		return adopt_slot(k, value);
	default:
		return ask(k, value);
	}
}

static void step(struct input *in)
{
	size_t len;
	const uint8_t *p;

	switch (take_u8(in) % 12) {
	case 0:
		p = take(in, take_u8(in), &len);
		say(p, len);
		return;
	case 1:
		return say_any(in);
	case 2:
		return say_ack(in);
	case 3:
		return host_does(in);
	case 4:
		return connect_again();
	case 5:
		return turn();
	case 6:
		return say_data(in);
	case 7:
		return say_window(in);
	case 8:
		return say_reply(in, true);
	case 10:
		return say_reply(in, false);
	case 11:
		say_frame((struct dclw_header) { .type = DCLW_PONG, .offset = w->ping }, NULL);
		return;
	default:
		return say_exit(in);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct agent_config config = { .connect_timeout_usec = 60000000,
						    .ping_misses = 3 };
	static const struct agent_ops ops = {
		.up = on_up, .lost = on_lost, .proc_exit = on_exit_event, .oom = on_oom,
	};
	struct input in = { .data = data, .left = size };

	w = calloc(1, sizeof(*w));
	MUST(w && sd_event_new(&w->event) >= 0);
	w->fd = -EBADF;
	MUST(agent_new(w->event, NULL, &config, &ops, w, &w->agent) == 0);
	connect_again();
	for (unsigned int i = 0; i < STEPS_MAX && in.left > 0; i++)
		step(&in);
	turn();
	/* Streams before or after the agent, as the length has it. */
	for (unsigned int i = 0; i < SLOTS; i++)
		if (size & 1)
			w->slots[i].stream = agent_stream_free(w->slots[i].stream);
	w->agent = agent_free(w->agent);
	for (unsigned int i = 0; i < SLOTS; i++)
		agent_stream_free(w->slots[i].stream);
	fd_close(w->fd);
	sd_event_unref(w->event);
	free(w);
	return 0;
}
