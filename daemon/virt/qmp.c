/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP: one JSON object a line, both ways. An answer has "return" or "error", all else (the greeting, events) is passed
 * over. QEMU is not trusted more than its guest: lines are bounded, and a wait has an end.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/json.h"
#include "util/macro.h"
#include "util/str.h"
#include "virt/qmp.h"

#define LINE_MAX_BYTES (64u * 1024)
#define LINES_MAX 1000
#define TIMEOUT_SEC 20

static int send_line(int fd, const char *command, int passed)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	char end[] = "\n";
	struct iovec iov[2] = { { (void *)(uintptr_t)command, strlen(command) }, { end, 1 } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
	struct cmsghdr *c;
	ssize_t n;

	if (passed >= 0) {
		m.msg_control = control.space;
		m.msg_controllen = sizeof(control.space);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &passed, sizeof(int));
	}
	do
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return (size_t)n == iov[0].iov_len + 1 ? 0 : -EIO;
}

/* What comes after the line stays in the socket. */
static int read_line(int fd, struct buf *b)
{
	b->len = 0;
	for (;;) {
		char part[512];
		const char *end;
		ssize_t n = recv(fd, part, sizeof(part), MSG_PEEK);
		size_t take;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : -errno;
		end = memchr(part, '\n', (size_t)n);
		take = end ? (size_t)(end - part) + 1 : (size_t)n;
		if (recv(fd, part, take, 0) != (ssize_t)take)
			return -EIO;
		if (buf_append(b, part, take) < 0)
			return -EMSGSIZE;
		if (end)
			return 0;
	}
}

/* 1: it is an answer, in *ret if that was asked for; 0: something else. */
static int take_answer(const struct buf *b, char **ret)
{
	_cleanup_json_ json_object *o = NULL;
	const char *why, *text;
	bool refused;

	if (json_parse(b->data, b->len, &o, &why) != 0)
		return -EPROTO;
	refused = json_has(o, "error");
	if (!refused && !json_has(o, "return"))
		return 0;
	text = ret ? json_text(o, NULL) : NULL;
	if (ret && (!text || !(*ret = strdup(text))))
		return -ENOMEM;
	return refused ? -EREMOTEIO : 1;
}

int qmp_command(int fd, const char *command, int passed, char **ret)
{
	_cleanup_buf_ struct buf b = BUF_INIT(LINE_MAX_BYTES);
	int r = send_line(fd, command, passed);

	for (unsigned int i = 0; r == 0 && i < LINES_MAX; i++) {
		r = read_line(fd, &b);
		if (r == 0)
			r = take_answer(&b, ret);
	}
	return r == 0 ? -EPROTO : r < 0 ? r : 0;
}

int qmp_open(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timeval limit = { .tv_sec = TIMEOUT_SEC };
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	r = qmp_command(fd, "{\"execute\":\"qmp_capabilities\"}", -1, NULL);
	return r < 0 ? r : TAKE_FD(fd);
}
