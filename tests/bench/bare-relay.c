/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `bare-relay PORT` takes redirected connections to where they were going and looks at nothing. A thread a direction receives
 * and sends: no fewer system calls a message are possible that way. For many or short connections threads are dear, so it is
 * no lower bound of those. A baseline for declaw-proxy, never a way out.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct way {
	int from, to;
};

static void *relay(void *arg)
{
	const struct way *w = arg;
	char data[64 << 10];
	ssize_t n;

	while ((n = recv(w->from, data, sizeof(data), 0)) > 0)
		for (ssize_t done = 0, k; done < n; done += k) {
			k = send(w->to, data + done, (size_t)(n - done), MSG_NOSIGNAL);
			if (k < 0)
				return NULL;
		}
	shutdown(w->to, SHUT_WR);
	return NULL;
}

static void *flow(void *arg)
{
	struct way up = { .from = (int)(intptr_t)arg }, down = { .to = up.from };
	struct sockaddr_in dst;
	socklen_t len = sizeof(dst);
	pthread_t thread;
	int one = 1;

	up.to = down.from = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(up.from, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(up.to, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (getsockopt(up.from, SOL_IP, SO_ORIGINAL_DST, &dst, &len) == 0 && connect(up.to, (struct sockaddr *)&dst, sizeof(dst)) == 0 &&
	    pthread_create(&thread, NULL, relay, &down) == 0) {
		relay(&up);
		pthread_join(thread, NULL);
	}
	close(up.from);
	close(up.to);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)(argc == 2 ? atoi(argv[1]) : 0)) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (argc != 2 || fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 512) < 0) {
		fprintf(stderr, "bare-relay PORT: %s\n", strerror(errno));
		return 2;
	}
	for (;;) {
		int conn = accept(fd, NULL, NULL);
		pthread_t thread;

		if (conn < 0)
			continue;
		if (pthread_create(&thread, NULL, flow, (void *)(intptr_t)conn) == 0)
			pthread_detach(thread);
		else
			close(conn);
	}
}
