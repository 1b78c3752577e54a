/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dns-bench RESOLVER SAMPLES: how long a guest's DNS question takes.
 *
 * Four ways, in turn: a server that has its answer ready asked directly (direct), the same behind a forwarder that does
 * nothing but pass packets on (forwarder), and declaw-resolver with a name in its cache (cached) and with one that the
 * policy denies (denied), verdict included. One line `way microseconds` for each sample. Guests are addresses of 127/8;
 * there are many, because each has a limited rate. This program is declawd to the resolver. Needs libc and no rights.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GUESTS 100

static void die(const char *what)
{
	fprintf(stderr, "dns-bench: %s: %s\n", what, strerror(errno));
	exit(2);
}

static struct sockaddr_in local(uint16_t port, uint32_t low)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x7f000000 | low) };
}

static int udp(uint32_t low, uint16_t *ret_port)
{
	struct sockaddr_in sa = local(0, low);
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		die("socket");
	if (ret_port)
		*ret_port = ntohs(sa.sin_port);
	return fd;
}

static pid_t child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0 && prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
		_exit(2);
	return pid;
}

/* --- the two to compare with --- */

static size_t question_end(const uint8_t *q, size_t n)
{
	size_t at = 12;

	while (at < n && q[at])
		at += q[at] + 1u;
	return at + 5 <= n ? at + 5 : n;
}

static void serve_answers(int fd)
{
	static const uint8_t record[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 203, 0, 113, 10 };
	struct sockaddr_in from;
	uint8_t data[2048];

	for (;;) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, data, sizeof(data) - sizeof(record), 0, (struct sockaddr *)&from, &len);
		size_t end;

		if (n < 17)
			continue;
		end = question_end(data, (size_t)n);
		data[2] |= 0x80;
		data[7] = 1;
		data[11] = 0;
		memcpy(data + end, record, sizeof(record));
		sendto(fd, data, end + sizeof(record), 0, (struct sockaddr *)&from, len);
	}
}

/* One question at a time is all that comes. */
static void serve_forward(int fd, uint16_t port)
{
	struct sockaddr_in to = local(port, 1), from;
	int up = udp(1, NULL);
	uint8_t data[2048];

	if (connect(up, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect");
	for (;;) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &len);

		if (n > 0 && send(up, data, (size_t)n, 0) == n && (n = recv(up, data, sizeof(data), 0)) > 0)
			sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
}

/* --- declawd --- */

static void tell(FILE *f)
{
	fputs("{\"t\":\"config\",\"upstream\":[],\"opened\":[]}\n", f);
	for (int i = 0; i < GUESTS; i++)
		fprintf(f, "{\"t\":\"policy\",\"id\":\"sbx-aaaaaaa%03d\",\"addr\":\"127.0.1.%d\",\"gen\":%d,\"policy\":{\"closed\":false,"
			"\"inspection\":false,\"deny_default\":true,\"allow_nets\":[],\"deny_nets\":[],"
			"\"allow_names\":[\"api.allowed.test\",\"*.wild.test\"],\"deny_names\":[]}}\n", i, i + 1, i + 1);
	fputs("{\"t\":\"synced\"}\n", f);
	fflush(f);
}

static void serve_control(int listener)
{
	int fd = accept(listener, NULL, NULL);
	FILE *in = fd < 0 ? NULL : fdopen(fd, "r"), *out = fd < 0 ? NULL : fdopen(dup(fd), "w");
	char *line = NULL, *seq;
	size_t size = 0;

	if (!in || !out)
		die("control");
	tell(out);
	while (getline(&line, &size, in) > 0) {
		if (!strstr(line, "\"t\":\"pin\"") || !(seq = strstr(line, "\"seq\":")))
			continue;
		fprintf(out, "{\"t\":\"pinned\",\"seq\":%ld,\"ok\":true}\n", strtol(seq + 6, NULL, 10));
		fflush(out);
	}
	_exit(0);
}

static int control_socket(char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 4) < 0)
		die(path);
	return fd;
}

/* --- the guest --- */

static size_t question(uint16_t id, const char *name, uint8_t *out)
{
	const uint8_t head[12] = { (uint8_t)(id >> 8), (uint8_t)id, 1, 0, 0, 1 }, tail[5] = { 0, 0, 1, 0, 1 };
	size_t at = sizeof(head);

	memcpy(out, head, sizeof(head));
	while (*name) {
		size_t n = strcspn(name, ".");

		out[at++] = (uint8_t)n;
		memcpy(out + at, name, n);
		at += n;
		name += n + (name[n] == '.');
	}
	memcpy(out + at, tail, sizeof(tail));
	return at + sizeof(tail);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Microseconds; below 0: no answer, or another rcode than that */
static double ask(int fd, uint16_t port, const char *name, int rcode)
{
	static uint16_t id;
	struct sockaddr_in to = local(port, 1);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint8_t data[512];
	size_t n = question(++id, name, data);
	double began = now_us(), took;
	ssize_t got;

	if (sendto(fd, data, n, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("sendto");
	if (poll(&p, 1, 3000) <= 0)
		return -1;
	got = recv(fd, data, sizeof(data), 0);
	took = now_us() - began;
	return got >= 12 && (data[3] & 15) == rcode && (data[0] << 8 | data[1]) == id ? took : -1;
}

struct way {
	const char *text, *name;
	uint16_t port;
	int rcode;
};

static void measure(const struct way *ways, size_t n_ways, int samples)
{
	int guests[GUESTS];

	for (uint32_t i = 0; i < GUESTS; i++)
		guests[i] = udp(0x100 + i + 1, NULL);
	/* the first round fills every guest's cache */
	for (int i = -GUESTS; i < samples; i++)
		for (size_t w = 0; w < n_ways; w++) {
			double took = ask(guests[(i + GUESTS) % GUESTS], ways[w].port, ways[w].name, ways[w].rcode);

			if (took < 0) {
				fprintf(stderr, "dns-bench: %s: no good answer\n", ways[w].text);
				exit(2);
			}
			if (i >= 0)
				printf("%s %.2f\n", ways[w].text, took);
		}
}

static bool resolver_up(uint16_t port)
{
	int fd = udp(0x101, NULL);
	bool up = false;

	for (int i = 0; i < 200 && !up; i++) {
		up = ask(fd, port, "api.allowed.test", 0) >= 0;
		if (!up)
			nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	}
	close(fd);
	return up;
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/dns-bench-XXXXXX", path[64], listen_at[32], servers[32];
	uint16_t answers, forward, port;
	int fd_answers = udp(1, &answers), fd_forward = udp(1, &forward), fd_port = udp(1, &port), control;
	int status = 2;
	pid_t pid;

	if (argc != 3 || !mkdtemp(dir)) {
		fprintf(stderr, "usage: dns-bench RESOLVER SAMPLES\n");
		return 2;
	}
	snprintf(path, sizeof(path), "%s/control.sock", dir);
	control = control_socket(path);
	close(fd_port);		/* the resolver binds it anew */
	snprintf(listen_at, sizeof(listen_at), "127.0.0.1:%u", port);
	snprintf(servers, sizeof(servers), "127.0.0.1:%u", answers);
	if (child() == 0)
		serve_answers(fd_answers);
	if (child() == 0)
		serve_forward(fd_forward, answers);
	if (child() == 0)
		serve_control(control);
	pid = child();
	if (pid == 0) {
		execl(argv[1], argv[1], "--control", path, "--listen", listen_at, "--upstream", servers, (char *)NULL);
		die(argv[1]);
	}
	if (resolver_up(port)) {
		const struct way ways[] = {
			{ "direct", "api.allowed.test", answers, 0 }, { "forwarder", "api.allowed.test", forward, 0 },
			{ "cached", "api.allowed.test", port, 0 }, { "denied", "evil.test", port, 3 },
		};

		measure(ways, sizeof(ways) / sizeof(*ways), atoi(argv[2]));
		status = 0;
	} else {
		fprintf(stderr, "dns-bench: the resolver does not answer\n");
	}
	kill(pid, SIGTERM);
	unlink(path);
	rmdir(dir);
	return status;
}
