/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `ready-origin PORT PEM` answers each ClientHello with what a TLS server said once to one like it: an origin that costs
 * next to nothing, one process a processor.
 *
 * A real server computes for a third of a millisecond for each handshake, more than any way there takes, so that new connections
 * over different ways differ by less than the ways do. Nobody can finish a handshake with this one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256

static char answer[16384];
static size_t answer_len;

static void die(const char *what)
{
	fprintf(stderr, "ready-origin: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* Both sides of a handshake in memory, as far as the server's first words */
static void make_answer(const char *pem)
{
	SSL_CTX *server = SSL_CTX_new(TLS_server_method()), *client = SSL_CTX_new(TLS_client_method());
	BIO *up = BIO_new(BIO_s_mem()), *down = BIO_new(BIO_s_mem());
	SSL *s, *c;
	int n;

	if (!server || !client || !up || !down || SSL_CTX_use_certificate_file(server, pem, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_use_PrivateKey_file(server, pem, SSL_FILETYPE_PEM) != 1)
		die(pem);
	s = SSL_new(server);
	c = SSL_new(client);
	if (!s || !c || !BIO_up_ref(up) || !BIO_up_ref(down))
		die("TLS");
	SSL_set_bio(c, down, up);
	SSL_set_bio(s, up, down);
	SSL_connect(c);
	SSL_accept(s);
	n = BIO_read(down, answer, sizeof(answer));
	if (n < 64 || answer[0] != 0x16)
		die("no ServerHello");
	answer_len = (size_t)n;
	SSL_free(s);
	SSL_free(c);
	SSL_CTX_free(server);
	SSL_CTX_free(client);
}

static void watch(int epoll, int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0)
		die("epoll");
}

static void serve(uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e[EVENTS];
	char heard[4096];

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (listener < 0 || epoll < 0 || bind(listener, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(listener, 4096) < 0)
		die("listen");
	watch(epoll, listener);
	for (;;) {
		int n = epoll_wait(epoll, e, EVENTS, -1), fd;

		for (int i = 0; i < n; i++) {
			ssize_t got = e[i].data.fd == listener ? 0 : recv(e[i].data.fd, heard, sizeof(heard), 0);

			if (e[i].data.fd == listener)
				while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
					watch(epoll, fd);
			else if (got > 0)
				send(e[i].data.fd, answer, answer_len, MSG_NOSIGNAL);	/* an empty connection has room for it */
			else if (got == 0 || errno != EAGAIN)
				close(e[i].data.fd);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: see the head of ready-origin.c\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	make_answer(argv[2]);
	for (long n = sysconf(_SC_NPROCESSORS_ONLN); n > 1; n--)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			break;
		}
	serve((uint16_t)atoi(argv[1]));
	return 0;
}
