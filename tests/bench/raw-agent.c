/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raw-agent: what the guest's agent can do without the daemon, measured at the socket of its port.
 *
 *	raw-agent boot SOCKET COMMAND -- QEMU [ARGUMENT]...
 *	raw-agent SOCKET OPERATION [ARGUMENT]...
 *	raw-agent SOCKET -			one operation a line from standard input
 *
 * boot starts QEMU, waits for its agent, runs COMMAND and says when each of these happened; QEMU dies
 * with it. Each operation answers with one line: its name and its figures in microseconds. The second
 * form exists so that a driver can interleave the baseline with what it is compared to, one by one,
 * without paying for a process and a handshake each time.
 *
 *	exec COMMAND		bash -c, as the daemon does; pid known, first output, exit, exit code
 *	spawn COMMAND		bash -c as root, not waited for
 *	cat, line, end		a cat is started; a line goes there and back; its stdin is closed
 *	down BYTES		output of a process that writes zeros
 *	read PATH		a file; bytes, duration
 *	write PATH BYTES	a file of zeros; bytes, duration
 *	put LOCAL PATH		a file of this machine; bytes
 *	identity HOSTNAME	makes the guest, a clone, what the daemon would make of it
 *	port PATH		connects to another virtio port, raw bytes, for the next four:
 *	port-ready		waits for the byte that says who holds the guest's end
 *	port-echo BYTES		a block goes there and back
 *	port-down BYTES		reads as many bytes
 *	port-up BYTES		writes as many and waits for one byte
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "raw-session.h"

#define SECOND 1000000u
#define BOOT_USEC (120u * SECOND)
#define OP_USEC (300u * SECOND)
#define BLOCK 32768u			/* of bytes without a protocol: what a port takes at once */
#define FILE_BLOCK DCLW_PAYLOAD_MAX	/* of a file: whole frames only */

static struct raw raw;
static int port = -EBADF;
static struct raw_stream *cat_in, *cat_out;

static uint64_t deadline(void)
{
	return raw_now_usec() + OP_USEC;
}

struct started {
	struct raw_stream *in, *out;
	uint32_t pid;
	uint64_t began, known;
};

static int start(const char *command, const char *user, bool with_stdin, struct started *ret)
{
	static uint64_t token;
	uint8_t buf[16384];
	struct wire_writer w;
	int r;

	if (!token)
		token = raw.instance;
	*ret = (struct started){ .out = raw_stream_new(&raw), .in = with_stdin ? raw_stream_new(&raw) : NULL };
	if (!ret->out || (with_stdin && !ret->in))
		return -ENOBUFS;
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u64(&w, DCLW_TAG_TOKEN, ++token);
	wire_put_str(&w, DCLW_TAG_ARG, "/bin/bash");
	wire_put_str(&w, DCLW_TAG_ARG, "-c");
	wire_put_str(&w, DCLW_TAG_ARG, command);
	wire_put_str(&w, DCLW_TAG_USER, user);
	wire_put_u32(&w, DCLW_TAG_STREAM_OUT, ret->out->id);
	if (ret->in)
		wire_put_u32(&w, DCLW_TAG_STREAM_IN, ret->in->id);
	ret->began = raw_now_usec();
	r = raw_request(&raw, DCLW_OP_PROC_START, &w, deadline());
	ret->known = raw_now_usec();
	ret->pid = raw.reply_pid;
	return r;
}

static uint32_t awaited;

static bool has_exited(const struct raw *r)
{
	return r->exited_pid == awaited;
}

static int finish(struct started *s)
{
	uint8_t buf[16];
	struct wire_writer w;
	int r;

	awaited = s->pid;
	r = raw_pump(&raw, has_exited, deadline());
	if (r < 0)
		return r;
	raw.exited_pid = 0;
	raw_stream_free(s->out);
	if (s->in)
		raw_stream_free(s->in);
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u32(&w, DCLW_TAG_PID, s->pid);
	return raw_request(&raw, DCLW_OP_PROC_FORGET, &w, deadline());
}

static int op_exec(const char *command)
{
	struct started s;
	uint64_t first, exited;
	uint32_t code;
	int r = start(command, "user", false, &s);

	if (r != 0)
		return r;
	awaited = s.pid;
	r = raw_pump(&raw, has_exited, deadline());
	exited = raw_now_usec();
	first = s.out->first_usec;
	code = raw.exit_code;
	if (r == 0)
		r = finish(&s);
	if (r == 0)
		printf("exec %llu %lld %llu %u\n", (unsigned long long)(s.known - s.began),
		       first ? (long long)(first - s.began) : -1LL, (unsigned long long)(exited - s.began), code);
	return r;
}

static int op_spawn(const char *command)
{
	struct started s;
	int r = start(command, "root", false, &s);

	if (r == 0) {
		raw_stream_free(s.out);
		printf("spawn %u\n", s.pid);
	}
	return r;
}

static int op_cat(const char *arg)
{
	struct started s;
	int r = start("exec cat", "user", true, &s);

	(void)arg;
	if (r != 0)
		return r;
	cat_in = s.in;
	cat_out = s.out;
	printf("cat %u\n", s.pid);
	return 0;
}

static uint64_t cat_wanted;

static bool cat_answered(const struct raw *r)
{
	(void)r;
	return cat_out->offset >= cat_wanted || cat_out->ended;
}

static int op_line(const char *arg)
{
	char line[1024];
	uint64_t began;
	int n, r;

	if (!cat_in)
		return -EINVAL;
	n = snprintf(line, sizeof(line), "%.900s\n", arg);
	began = raw_now_usec();
	cat_wanted = cat_out->offset + (uint64_t)n;
	r = raw_stream_send(&raw, cat_in, line, (size_t)n, false, deadline());
	if (r == 0)
		r = raw_pump(&raw, cat_answered, deadline());
	if (r == 0)
		printf("line %llu\n", (unsigned long long)(raw_now_usec() - began));
	return r;
}

static int op_end(const char *arg)
{
	int r;

	(void)arg;
	if (!cat_in)
		return -EINVAL;
	r = raw_stream_send(&raw, cat_in, NULL, 0, true, deadline());
	cat_wanted = UINT64_MAX;
	if (r == 0)
		r = raw_pump(&raw, cat_answered, deadline());
	raw_stream_free(cat_in);
	raw_stream_free(cat_out);
	cat_in = cat_out = NULL;
	if (r == 0)
		printf("end\n");
	return r;
}

static int op_down(const char *bytes)
{
	char command[128];
	struct started s;
	uint64_t taken, n;
	int r;

	snprintf(command, sizeof(command), "exec head -c %llu /dev/zero", strtoull(bytes, NULL, 10));
	r = start(command, "user", false, &s);
	if (r == 0)
		r = (awaited = s.pid, raw_pump(&raw, has_exited, deadline()));
	taken = raw_now_usec() - s.began;
	n = s.out ? s.out->offset : 0;
	if (r == 0)
		r = finish(&s);
	if (r == 0)
		printf("down %llu %llu\n", (unsigned long long)n, (unsigned long long)taken);
	return r;
}

static struct raw_stream *file_stream;

static bool file_ended(const struct raw *r)
{
	(void)r;
	return file_stream->ended;
}

static int op_read(const char *path)
{
	uint8_t buf[4200];
	struct wire_writer w;
	uint64_t began = raw_now_usec();
	int r;

	file_stream = raw_stream_new(&raw);
	if (!file_stream)
		return -ENOBUFS;
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_str(&w, DCLW_TAG_PATH, path);
	wire_put_u32(&w, DCLW_TAG_STREAM, file_stream->id);
	r = raw_request(&raw, DCLW_OP_FILE_READ, &w, deadline());
	if (r == 0)
		r = raw_pump(&raw, file_ended, deadline());
	if (r == 0)
		printf("read %llu %llu\n", (unsigned long long)file_stream->offset,
		       (unsigned long long)(raw_now_usec() - began));
	raw_stream_free(file_stream);
	return r;
}

static bool file_answered(const struct raw *r)
{
	return r->reply_id == 0;
}

/* Sends source (NULL: zeros) as PATH. The reply comes behind the last byte, so it is not waited for before. */
static int write_file(const char *path, FILE *source, unsigned long long bytes)
{
	static uint8_t block[FILE_BLOCK];
	uint8_t buf[1024];
	struct wire_writer w;
	size_t n;
	int r;

	file_stream = raw_stream_new(&raw);
	if (!file_stream)
		return -ENOBUFS;
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_str(&w, DCLW_TAG_PATH, path);
	wire_put_str(&w, DCLW_TAG_USER, "user");
	wire_put_u32(&w, DCLW_TAG_STREAM, file_stream->id);
	r = raw_request_send(&raw, DCLW_OP_FILE_WRITE, &w);
	for (; r == 0 && bytes > 0; bytes -= n) {
		n = bytes < FILE_BLOCK ? (size_t)bytes : FILE_BLOCK;
		if (source && fread(block, 1, n, source) != n)
			return -EIO;
		r = raw_stream_send(&raw, file_stream, block, n, false, deadline());
	}
	if (r == 0)
		r = raw_stream_send(&raw, file_stream, NULL, 0, true, deadline());
	if (r == 0)
		r = raw_pump(&raw, file_answered, deadline());
	raw_stream_free(file_stream);
	return r == 0 ? raw.reply_error : r;
}

static int op_write(const char *arg)
{
	uint64_t began = raw_now_usec();
	unsigned long long bytes;
	char path[512];
	int r;

	if (sscanf(arg, "%500s %llu", path, &bytes) != 2)
		return -EINVAL;
	r = write_file(path, NULL, bytes);
	if (r == 0)
		printf("write %llu %llu\n", bytes, (unsigned long long)(raw_now_usec() - began));
	return r;
}

static int op_put(const char *arg)
{
	char local[512], path[512];
	FILE *f;
	long size;
	int r;

	if (sscanf(arg, "%500s %500s", local, path) != 2)
		return -EINVAL;
	f = fopen(local, "re");
	if (!f)
		return -errno;
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	rewind(f);
	r = size < 0 ? -EIO : write_file(path, f, (unsigned long long)size);
	fclose(f);
	if (r == 0)
		printf("put %ld\n", size);
	return r;
}

static int op_identity(const char *hostname)
{
	uint8_t buf[1024], entropy[64];
	struct timespec now;
	struct wire_writer w;
	int r;

	if (getrandom(entropy, sizeof(entropy), 0) != (ssize_t)sizeof(entropy))
		return -EIO;
	clock_gettime(CLOCK_REALTIME, &now);
	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_str(&w, DCLW_TAG_HOSTNAME, hostname);
	wire_put_str(&w, DCLW_TAG_MACHINE_ID, "0123456789abcdef0123456789abcdef");
	wire_put_str(&w, DCLW_TAG_ADDRESS, "192.0.2.2/32");
	wire_put_str(&w, DCLW_TAG_GATEWAY, "192.0.2.1");
	wire_put_str(&w, DCLW_TAG_GATEWAY_MAC, "02:dc:00:00:00:01");
	wire_put_str(&w, DCLW_TAG_DNS, "192.0.2.1");
	wire_put_str(&w, DCLW_TAG_MAC, "02:dc:00:00:00:02");
	wire_put_bytes(&w, DCLW_TAG_ENTROPY, entropy, sizeof(entropy));
	wire_put_u64(&w, DCLW_TAG_TIME, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
	r = raw_request(&raw, DCLW_OP_IDENTITY, &w, deadline());
	if (r == 0)
		printf("identity\n");
	return r;
}

static int op_port(const char *path)
{
	if (port >= 0)
		close(port);
	port = raw_connect(path, raw_now_usec() + 10 * SECOND);
	if (port < 0)
		return port;
	/* Without a protocol nobody says that bytes are missing */
	setsockopt(port, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_sec = OP_USEC / SECOND }, sizeof(struct timeval));
	setsockopt(port, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){ .tv_sec = OP_USEC / SECOND }, sizeof(struct timeval));
	printf("port\n");
	return 0;
}

static int port_move(char *buf, uint64_t bytes, bool out)
{
	while (bytes > 0) {
		size_t n = bytes < BLOCK ? (size_t)bytes : BLOCK;
		ssize_t r = out ? send(port, buf, n, MSG_NOSIGNAL) : recv(port, buf, n, 0);

		if (r <= 0)
			return r == 0 ? -ECONNRESET : -errno;
		bytes -= (uint64_t)r;
	}
	return 0;
}

static int port_op(const char *name, const char *arg, uint64_t out, uint64_t in)
{
	static char buf[BLOCK];
	uint64_t began = raw_now_usec();
	int r = port_move(buf, out, true);

	if (r == 0)
		r = port_move(buf, in, false);
	if (r == 0)
		printf("%s %s %llu\n", name, arg, (unsigned long long)(raw_now_usec() - began));
	return r;
}

/* What a guest's process has not read when it closes the port is gone: bytes for the next one must not come before it */
static int op_port_ready(const char *arg)
{
	(void)arg;
	return port_op("port-ready", "1", 0, 1);
}

static int op_port_echo(const char *arg)
{
	return port_op("port-echo", arg, strtoull(arg, NULL, 10), strtoull(arg, NULL, 10));
}

static int op_port_down(const char *arg)
{
	return port_op("port-down", arg, 0, strtoull(arg, NULL, 10));
}

static int op_port_up(const char *arg)
{
	return port_op("port-up", arg, strtoull(arg, NULL, 10), 1);
}

static const struct {
	const char *name;
	int (*fn)(const char *arg);
} operations[] = {
	{ "exec", op_exec },
	{ "spawn", op_spawn },
	{ "cat", op_cat },
	{ "line", op_line },
	{ "end", op_end },
	{ "down", op_down },
	{ "read", op_read },
	{ "write", op_write },
	{ "put", op_put },
	{ "identity", op_identity },
	{ "port", op_port },
	{ "port-ready", op_port_ready },
	{ "port-echo", op_port_echo },
	{ "port-down", op_port_down },
	{ "port-up", op_port_up },
};

static int run(const char *name, const char *arg)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		int r;

		if (strcmp(name, operations[i].name) != 0)
			continue;
		r = operations[i].fn(arg);
		if (r != 0)
			printf("error %s: %s\n", name, strerror(r < 0 ? -r : r));
		fflush(stdout);
		return r;
	}
	printf("error %s: no such operation\n", name);
	return -EINVAL;
}

static int run_lines(void)
{
	char line[8192], *arg;
	int r = 0;

	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		arg = line + strcspn(line, " ");
		if (*arg)
			*arg++ = '\0';
		r = run(line, arg);
	}
	return r;
}

static pid_t start_qemu(char **argv)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Its chatter must not end up among the figures */
	dup2(STDERR_FILENO, STDOUT_FILENO);
	execv(argv[0], argv);
	perror(argv[0]);
	_exit(127);
}

/* boot SOCKET COMMAND -- QEMU...: prints connected, greeted, first output, exited, all since the spawn. */
static int boot(int argc, char **argv)
{
	uint64_t began = raw_now_usec(), connected, greeted, first = 0;
	struct started s = { 0 };
	pid_t qemu;
	int r;

	if (argc < 4 || strcmp(argv[2], "--") != 0)
		return -EINVAL;
	qemu = start_qemu(argv + 3);
	if (qemu < 0)
		return -errno;
	r = raw_connect(argv[0], began + BOOT_USEC);
	connected = raw_now_usec();
	if (r >= 0)
		r = raw_open(&raw, r, began + BOOT_USEC);
	greeted = raw_now_usec();
	if (r == 0)
		r = start(argv[1], "user", false, &s);
	if (r == 0) {
		awaited = s.pid;
		r = raw_pump(&raw, has_exited, deadline());
		first = s.out->first_usec;
	}
	if (r == 0)
		printf("boot %llu %llu %llu %llu\n", (unsigned long long)(connected - began),
		       (unsigned long long)(greeted - began), (unsigned long long)(first - began),
		       (unsigned long long)(raw_now_usec() - began));
	else
		printf("error boot: %s\n", strerror(r < 0 ? -r : r));
	kill(qemu, SIGKILL);
	waitpid(qemu, NULL, 0);
	return r;
}

int main(int argc, char **argv)
{
	uint64_t began = raw_now_usec();
	int r;

	if (argc >= 2 && strcmp(argv[1], "boot") == 0)
		return boot(argc - 2, argv + 2) == 0 ? 0 : 1;
	if (argc < 3) {
		fprintf(stderr, "usage: raw-agent SOCKET OPERATION|- [ARGUMENT], or: raw-agent boot SOCKET COMMAND -- QEMU...\n");
		return 2;
	}
	r = raw_connect(argv[1], began + BOOT_USEC);
	if (r >= 0)
		r = raw_open(&raw, r, began + BOOT_USEC);
	if (r != 0) {
		fprintf(stderr, "raw-agent: %s: %s\n", argv[1], strerror(r < 0 ? -r : r));
		return 1;
	}
	printf("ready %llu\n", (unsigned long long)(raw_now_usec() - began));
	fflush(stdout);
	if (strcmp(argv[2], "wait-ready") == 0)
		return 0;
	return (strcmp(argv[2], "-") == 0 ? run_lines() : run(argv[2], argc > 3 ? argv[3] : "")) == 0 ? 0 : 1;
}
