/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole agent against a host that says anything. Nothing is executed and nothing outside this process
 * is touched: the agent runs dry, and starting a process is replaced by one that makes pipes only.
 *
 * An input is a list of records, because a fuzzer does not guess checksums:
 *
 *	u8 what: 0..0x7f and 0x80..0xef a frame of that type: u8 flags, u8 stream, u16 offset, u8 arg,
 *	                                 u16 length, payload
 *	         0xf0 u8        a pretended child ends with that status
 *	         0xf1 u8        that many KiB of what the agent sent are read
 *	         0xf2           a new HELLO (bit 0 of the next byte: from another daemon)
 *	         0xf3 u8 bytes  raw bytes
 *	         0xf4           a second passes
 *	         0xf5 u8        a program writes that many times 100 bytes, or ends its output (0)
 *	         0xf6 u8 u8 u8  a request of that id in that many full fragments, and the flags of the last
 *
 * What the agent sends must always be well-formed frames, in order, and within the credit it was given.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"
#include "child.h"
#include "fuzz-main.h"
#include "session.h"
#include "spawn.h"
#include "wire/le.h"
#include "wire/tlv.h"

#define MUST(x) ((x) ? (void)0 : abort())
#define FAKES 64
#define EPOCH 0x1122334455667788ull

static struct fuzz {
	struct agent *agent;
	int fd;
	struct wire_decoder decoder;
	uint64_t epoch, instance;
	bool raw;			/* raw bytes were fed: limits are no longer known */
	pid_t next_pid;
	int fakes[FAKES];		/* the programs' ends */
	unsigned int nfakes;
	uint64_t limit[256];
} fz;

static const uint8_t *in;
static size_t left;

static uint8_t next8(void)
{
	uint8_t v = left ? *in : 0;

	in += left > 0;
	left -= left > 0;
	return v;
}

static uint16_t next16(void)
{
	uint16_t v = next8();

	return (uint16_t)(v | next8() << 8);
}

static int keep(int fd)
{
	if (fz.nfakes == FAKES) {
		close(fd);
		return -EMFILE;
	}
	fz.fakes[fz.nfakes++] = fd;
	return 0;
}

static int fake_pipe(bool wanted, bool input, int *ret)
{
	int fds[2];

	*ret = -EBADF;
	if (!wanted)
		return 0;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	*ret = fds[input ? 1 : 0];
	return keep(fds[input ? 0 : 1]);
}

static int fake_spawn(const struct spawn_spec *spec, struct spawn_result *ret)
{
	int r;

	*ret = (struct spawn_result) { .in = -EBADF, .out = -EBADF, .err = -EBADF, .stage = "pretending" };
	MUST(spec->argv[0] && *spec->argv[0] && spec->cwd[0] == '/');
	for (char *const *e = spec->envp; *e; e++)
		MUST(strchr(*e, '='));
	r = fake_pipe(spec->in, true, &ret->in);
	r = r ?: fake_pipe(spec->out, false, &ret->out);
	r = r ?: fake_pipe(spec->err && !spec->pty, false, &ret->err);
	if (r < 0) {
		fd_close(ret->in);
		fd_close(ret->out);
		fd_close(ret->err);
		return r;
	}
	ret->pid = ++fz.next_pid;
	return 0;
}

/* Everything the agent may say, and nothing else. */
static void check_frame(const struct wire_frame *f)
{
	const struct dclw_header *h = &f->header;

	MUST(h->type == DCLW_HELLO_ACK || h->type == DCLW_PONG || h->type == DCLW_GOAWAY || h->type == DCLW_REPLY ||
	     h->type == DCLW_DATA || h->type == DCLW_WINDOW || h->type == DCLW_GAP || h->type == DCLW_RESET ||
	     h->type == DCLW_EVENT);
	if (h->type == DCLW_REPLY || h->type == DCLW_EVENT || h->type == DCLW_HELLO_ACK)
		MUST(wire_well_formed(f->payload, h->length));
	if (h->type == DCLW_DATA && !fz.raw && h->stream < 256)
		MUST(h->offset + h->length <= fz.limit[h->stream]);
}

static void drain(size_t max)
{
	struct wire_frame f;

	while (max > 0) {
		size_t room;
		uint8_t *p = wire_decoder_space(&fz.decoder, &room);
		ssize_t n = recv(fz.fd, p, MIN_OF(room, max), MSG_DONTWAIT);

		if (n <= 0)
			return;
		max -= (size_t)n;
		wire_decoder_commit(&fz.decoder, (size_t)n);
		while (wire_decoder_next(&fz.decoder, &f))
			check_frame(&f);
		MUST(fz.decoder.bad_headers == 0 && fz.decoder.bad_seals == 0);
	}
}

static void say(const void *p, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fz.fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			p = (const uint8_t *)p + n;
			len -= (size_t)n;
		}
		MUST(agent_turn(fz.agent, 0) == 0);
		if (n <= 0)
			drain(SIZE_MAX);
	}
}

static void say_frame(struct dclw_header h, const void *payload)
{
	static uint8_t out[DCLW_FRAME_MAX];
	size_t n;

	h.epoch = (uint16_t)fz.epoch;
	n = wire_frame_put(out, sizeof(out), &h, payload);
	if (n == 0)
		return;
	if (h.type == DCLW_WINDOW && h.stream < 256 && h.offset > fz.limit[h.stream])
		fz.limit[h.stream] = h.offset;
	say(out, n);
}

static void say_hello(void)
{
	static const uint8_t preamble[DCLW_PREAMBLE];
	uint8_t buf[128];
	struct wire_writer w;

	fz.epoch += 0x10001;
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u32(&w, DCLW_TAG_VERSION_MIN, 1);
	wire_put_u32(&w, DCLW_TAG_VERSION_MAX, 1);
	wire_put_u64(&w, DCLW_TAG_EPOCH, fz.epoch);
	wire_put_u64(&w, DCLW_TAG_INSTANCE, fz.instance);
	if (fz.raw)
		say(preamble, sizeof(preamble));
	say_frame((struct dclw_header) { .type = DCLW_HELLO, .length = (uint32_t)w.len }, buf);
}

static void record_frame(uint8_t type)
{
	struct dclw_header h = { .type = type };
	size_t len;

	h.flags = next8();
	h.stream = next8();
	h.offset = next16();
	h.arg = next8();
	len = next16();
	len = MIN_OF(len, left);
	h.length = (uint32_t)len;
	say_frame(h, in);
	in += len;
	left -= len;
}

static void record_write(uint8_t times)
{
	static const char text[100] = "output";

	for (unsigned int i = 0; i < fz.nfakes; i++) {
		if (times == 0)
			fz.fakes[i] = fd_close(fz.fakes[i]);
		for (uint8_t n = 0; n < times && fz.fakes[i] >= 0; n++)
			(void)!write(fz.fakes[i], text, sizeof(text));
	}
}

static void record_fragments(void)
{
	static const uint8_t payload[DCLW_PAYLOAD_MAX];
	struct dclw_header h = { .type = DCLW_REQUEST, .flags = DCLW_MORE, .length = sizeof(payload) };
	uint8_t times, last;

	h.offset = next8();
	times = next8();
	last = next8();
	for (uint8_t i = 0; i < times; i++) {
		if (i + 1 == times)
			h.flags = last;
		say_frame(h, payload);
	}
}

static void record(void)
{
	uint8_t what = next8(), which;
	size_t len;

	switch (what) {
	case 0xf0:
		which = next8();
		if (fz.next_pid > 0)
			child_exited(fz.agent, 1 + which % fz.next_pid, next8() << 8);
		break;
	case 0xf1:
		drain(next8() * 1024u);
		break;
	case 0xf2:
		fz.instance += next8() & 1;
		say_hello();
		break;
	case 0xf3:
		len = next8();
		len = MIN_OF(len, left);
		fz.raw = true;
		say(in, len);
		in += len;
		left -= len;
		break;
	case 0xf4:
		port_tick(&fz.agent->port);
		session_tick(fz.agent);
		break;
	case 0xf5:
		record_write(next8());
		break;
	case 0xf6:
		record_fragments();
		break;
	default:
		record_frame(what);
	}
	MUST(agent_turn(fz.agent, 0) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fds[2];

	signal(SIGPIPE, SIG_IGN);
	in = data;
	left = size;
	memset(&fz, 0, sizeof(fz));
	wire_decoder_init(&fz.decoder);
	for (size_t i = 0; i < ELEMENTSOF(fz.limit); i++)
		fz.limit[i] = DCLW_WINDOW_INITIAL;
	fz.epoch = EPOCH;
	fz.instance = 1;
	fz.agent = calloc(1, sizeof(*fz.agent));
	MUST(fz.agent && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	fz.fd = fds[0];
	fz.agent->dry = true;
	MUST(agent_init(fz.agent) == 0);
	fz.agent->spawn = fake_spawn;
	MUST(port_open_fd(&fz.agent->port, &fz.agent->loop, fds[1]) == 0);
	say_hello();
	while (left > 0)
		record();
	drain(SIZE_MAX);
	agent_done(fz.agent);
	for (unsigned int i = 0; i < fz.nfakes; i++)
		fd_close(fz.fakes[i]);
	close(fz.fd);
	free(fz.agent);
	return 0;
}
