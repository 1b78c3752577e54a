/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happens at both ends of a sandbox's way out, fast enough not to be what is measured.
 *
 *	flow-bench cert NAME FILE			a key and a certificate for an origin, as PEM
 *	flow-bench source PORT				an origin that talks as fast as it can, once it was told something
 *	flow-bench quiet PORT				an origin that says nothing
 *	flow-bench answers PORT				a name server: every name has one address
 *	flow-bench get ADDR COUNT NAME CONNS SECONDS	requests over CONNS kept connections
 *	flow-bench new ADDR COUNT NAME CONNS SECONDS PORT	new connections, CONNS at a time
 *	flow-bench bulk ADDR PORT NAME SECONDS		one flow that is only read
 *	flow-bench hold ADDR COUNT PORT NAME		a connection to each of COUNT addresses; when the last one was closed
 *	flow-bench flood ADDR FROM syn|dns RATE SECONDS	packets of a sandbox that behaves badly
 *
 * ADDR is the first of COUNT addresses that are used in turn, port 443 (get). Requests are HTTPS by TLS 1.3. A new connection is
 * complete when the origin's first answer to a ClientHello is there: the client sends one made beforehand, because OpenSSL's
 * side of a handshake costs more than any way there.
 * Output: one JSON object a line, times in microseconds of the monotonic clock.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX 8192
#define SAMPLES_MAX 4000000u
#define KEPT_PORT 443

static void die(const char *what)
{
	fprintf(stderr, "flow-bench: %s: %s\n", what, strerror(errno));
	exit(2);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct sockaddr_in address(const char *text, uint32_t add, uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (inet_pton(AF_INET, text, &sa.sin_addr) != 1)
		die(text);
	sa.sin_addr.s_addr = htonl(ntohl(sa.sin_addr.s_addr) + add);
	return sa;
}

/* --- origins --- */

static int cert(const char *name, const char *file)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	X509_NAME *n = x ? X509_get_subject_name(x) : NULL;
	FILE *f = fopen(file, "w");

	if (!key || !n || !f)
		die(file);
	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -86400);
	X509_gmtime_adj(X509_getm_notAfter(x), 30l * 86400);
	X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(x, n);
	X509_set_pubkey(x, key);
	if (!X509_sign(x, key, EVP_sha256()) || !PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) || !PEM_write_X509(f, x))
		die("certificate");
	return fclose(f) == 0 ? 0 : 2;
}

static int listen_on(uint16_t port)
{
	struct sockaddr_in sa = address("0.0.0.0", 0, port);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 512) < 0)
		die("listen");
	return fd;
}

static void source(uint16_t port)
{
	static char data[256 << 10];
	int fd = listen_on(port);

	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int conn = accept(fd, NULL, NULL);

		if (conn >= 0 && fork() == 0) {
			bool talk = recv(conn, data, 1024, 0) > 0;

			while (talk && send(conn, data, sizeof(data), MSG_NOSIGNAL) > 0)
				;
			_exit(0);
		}
		close(conn);
	}
}

static void quiet(uint16_t port)
{
	int fd = listen_on(port);

	for (;;)
		if (accept(fd, NULL, NULL) < 0)
			usleep(1000);
}

static void answers(uint16_t port)
{
	static const uint8_t record[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 203, 0, 113, 10 };
	struct sockaddr_in sa = address("127.0.0.1", 0, port), from;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint8_t data[2048];

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		die("answers");
	for (;;) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, data, sizeof(data) - sizeof(record), 0, (struct sockaddr *)&from, &len);
		size_t end = 12;

		if (n < 17)
			continue;
		while (end + 5 < (size_t)n && data[end])
			end += data[end] + 1u;
		end = end + 5 < (size_t)n ? end + 5 : (size_t)n;
		data[2] |= 0x80;
		data[7] = 1;
		data[11] = 0;
		memcpy(data + end, record, sizeof(record));
		sendto(fd, data, end + sizeof(record), 0, (struct sockaddr *)&from, len);
	}
}

/* --- requests --- */

static SSL_CTX *client_tls(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION))
		die("TLS");
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	return ctx;
}

/* The bytes a real client begins with */
static size_t client_hello(const char *name, char *buf, size_t size)
{
	SSL *ssl = SSL_new(client_tls());
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	int n;

	if (!ssl || !in || !out || !SSL_set_tlsext_host_name(ssl, name))
		die("TLS");
	SSL_set_bio(ssl, in, out);
	SSL_connect(ssl);
	n = BIO_read(out, buf, (int)size);
	SSL_free(ssl);
	return n > 0 ? (size_t)n : 0;
}

struct conn {
	int fd;
	SSL *ssl;
	double began;
	size_t got, want;
	bool sent;
	char buf[ANSWER_MAX];
};

struct run {
	int epoll;
	SSL_CTX *ctx;
	const char *first, *name;
	char request[2048];		/* or a ClientHello */
	size_t request_len;
	uint32_t count, next;
	uint16_t port;
	bool anew;			/* connections are what is counted */
	float *samples;
	size_t n_samples;
	unsigned int failed;
};

static bool conn_open(struct run *r, struct conn *c)
{
	struct sockaddr_in sa = address(r->first, r->next++ % r->count, r->port);
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
	int one = 1;

	c->began = now_us();
	c->got = c->want = 0;
	c->sent = false;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno != EINPROGRESS)
		return false;
	c->ssl = r->anew ? NULL : SSL_new(r->ctx);
	if (!r->anew && (!c->ssl || !SSL_set_fd(c->ssl, c->fd) || !SSL_set_tlsext_host_name(c->ssl, r->name)))
		die("TLS");
	if (c->ssl)
		SSL_set_connect_state(c->ssl);
	if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, c->fd, &e) < 0)
		die("epoll");
	return true;
}

static void conn_close(struct conn *c)
{
	SSL_free(c->ssl);
	close(c->fd);
}

static void send_request(struct run *r, struct conn *c)
{
	c->began = now_us();
	c->sent = true;
	if (SSL_write(c->ssl, r->request, (int)r->request_len) <= 0)
		die("request");
}

static size_t answer_size(const struct conn *c)
{
	const char *end = memmem(c->buf, c->got, "\r\n\r\n", 4);
	const char *length = end ? memmem(c->buf, (size_t)(end - c->buf), "Content-Length: ", 16) : NULL;

	return length ? (size_t)(end - c->buf) + 4 + strtoul(length + 16, NULL, 10) : 0;
}

static void sample(struct run *r, const struct conn *c)
{
	if (r->n_samples < SAMPLES_MAX)
		r->samples[r->n_samples++] = (float)(now_us() - c->began);
}

static void answered(struct run *r, struct conn *c)
{
	if (strncmp(c->buf, "HTTP/1.1 200", 12) != 0)
		die("not 200");
	sample(r, c);
	c->got = c->want = 0;
	send_request(r, c);
}

static void failed(struct run *r, struct conn *c)
{
	r->failed++;
	conn_close(c);
	if (r->failed > 100 || !conn_open(r, c))
		die("too many connections failed");
}

/* Sends the ClientHello when there is a connection, and waits for the answer */
static void greet(struct run *r, struct conn *c, uint32_t events)
{
	ssize_t n;

	if (!c->sent && events & EPOLLOUT) {
		c->sent = true;
		if (send(c->fd, r->request, r->request_len, MSG_NOSIGNAL) != (ssize_t)r->request_len) {
			failed(r, c);
			return;
		}
	}
	if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		return;
	n = recv(c->fd, c->buf, sizeof(c->buf), 0);
	if (n < 0 && errno == EAGAIN)
		return;
	/* a handshake record, not an alert */
	if (n < 64 || c->buf[0] != 0x16) {
		failed(r, c);
		return;
	}
	sample(r, c);
	conn_close(c);
	if (!conn_open(r, c))
		die("connect");
}

static void conn_event(struct run *r, struct conn *c)
{
	int n;

	if (!SSL_is_init_finished(c->ssl)) {
		n = SSL_do_handshake(c->ssl);
		if (n <= 0) {
			n = SSL_get_error(c->ssl, n);
			if (n != SSL_ERROR_WANT_READ && n != SSL_ERROR_WANT_WRITE)
				failed(r, c);
			return;
		}
	}
	if (!c->sent)
		send_request(r, c);
	for (;;) {
		n = SSL_read(c->ssl, c->buf + c->got, (int)(sizeof(c->buf) - c->got));
		if (n <= 0)
			break;
		c->got += (size_t)n;
		if (!c->want)
			c->want = answer_size(c);
		if (c->want && c->got >= c->want)
			answered(r, c);
	}
	n = SSL_get_error(c->ssl, n);
	if (n != SSL_ERROR_WANT_READ && n != SSL_ERROR_WANT_WRITE)
		failed(r, c);
}

static int by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void report(struct run *r, double took)
{
	size_t n = r->n_samples;

	if (n == 0)
		die("no answer");
	qsort(r->samples, n, sizeof(*r->samples), by_size);
	printf("{\"n\":%zu,\"persec\":%.1f,\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f,\"failed\":%u}\n", n, (double)n / took * 1e6,
	       (double)r->samples[n / 2], (double)r->samples[n * 9 / 10], (double)r->samples[n * 99 / 100], r->failed);
}

static int requests(char **argv, bool anew)
{
	struct run r = { .first = argv[0], .count = (uint32_t)atoi(argv[1]), .name = argv[2], .anew = anew, .ctx = client_tls(),
			 .port = anew ? (uint16_t)atoi(argv[5]) : KEPT_PORT };
	int conns = atoi(argv[3]);
	double seconds = atof(argv[4]), began, until;
	struct conn *v = calloc((size_t)conns, sizeof(*v));
	struct epoll_event e[64];

	r.samples = malloc(SAMPLES_MAX * sizeof(*r.samples));
	r.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!v || !r.samples || r.epoll < 0)
		die("memory");
	if (anew)
		r.request_len = client_hello(r.name, r.request, sizeof(r.request));
	else
		r.request_len = (size_t)snprintf(r.request, sizeof(r.request), "GET /1k HTTP/1.1\r\nHost: %s\r\n\r\n", r.name);
	for (int i = 0; i < conns; i++)
		if (!conn_open(&r, &v[i]))
			die("connect");
	/* a fifth of the time is for warming up, and until there was an answer for each connection */
	began = now_us() + seconds * 0.2e6;
	until = began + 20e6;
	for (bool warm = false; now_us() < until;) {
		int n = epoll_wait(r.epoll, e, 64, 1000);

		for (int i = 0; i < n; i++)
			if (anew)
				greet(&r, e[i].data.ptr, e[i].events);
			else
				conn_event(&r, e[i].data.ptr);
		if (!warm && now_us() >= began && r.n_samples >= (size_t)conns) {
			warm = true;
			r.n_samples = 0;
			began = now_us();
			until = began + seconds * 0.8e6;
		}
	}
	report(&r, now_us() - began);
	return 0;
}

/* --- one flow --- */

static int begin(const char *addr, uint32_t add, uint16_t port, const char *hello, size_t n)
{
	struct sockaddr_in sa = address(addr, add, port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || send(fd, hello, n, MSG_NOSIGNAL) != (ssize_t)n)
		die("connect");
	return fd;
}

static int bulk(char **argv)
{
	static char data[256 << 10];
	char hello[2048];
	size_t n = client_hello(argv[2], hello, sizeof(hello));
	int fd = begin(argv[0], 0, (uint16_t)atoi(argv[1]), hello, n);
	double seconds = atof(argv[3]), began = now_us() + seconds * 0.2e6, until = began + seconds * 0.8e6, at = 0, bytes = 0;
	bool warm = false;

	while (at < until) {
		ssize_t got = recv(fd, data, sizeof(data), 0);

		if (got <= 0)
			die("the flow ended");
		at = now_us();
		if (warm) {
			bytes += (double)got;
		} else if (at >= began) {
			warm = true;
			began = at;
			until = at + seconds * 0.8e6;
		}
	}
	printf("{\"persec\":%.0f}\n", bytes / (at - began) * 1e6);
	return 0;
}

static int hold(char **argv)
{
	char hello[2048];
	size_t n = client_hello(argv[3], hello, sizeof(hello));
	int count = atoi(argv[1]), left = count;
	struct pollfd *v = calloc((size_t)count, sizeof(*v));
	double last = 0;
	char byte;

	if (!v)
		die("memory");
	for (int i = 0; i < count; i++)
		v[i] = (struct pollfd){ .fd = begin(argv[0], (uint32_t)i, (uint16_t)atoi(argv[2]), hello, n), .events = POLLIN };
	usleep(500000);		/* dialled, too */
	printf("{\"held\":%d}\n", count);
	fflush(stdout);
	while (left > 0) {
		if (poll(v, (nfds_t)count, 20000) <= 0)
			break;
		for (int i = 0; i < count; i++) {
			if (v[i].fd < 0 || !v[i].revents)
				continue;
			if (recv(v[i].fd, &byte, 1, MSG_DONTWAIT) > 0)
				die("an origin spoke");
			v[i].fd = -1;
			left--;
			last = now_us();
		}
	}
	printf("{\"left\":%d,\"last\":%.1f}\n", left, last);
	return left ? 2 : 0;
}

/* --- a bad sandbox --- */

static uint16_t sum(const void *data, size_t n, uint32_t start)
{
	const uint16_t *p = data;
	uint32_t s = start;

	for (size_t i = 0; i < n / 2; i++)
		s += p[i];
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

static size_t syn(char *packet, struct in_addr from, struct in_addr to, uint32_t i)
{
	struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP, .tot_len = htons(40) };
	struct tcphdr tcp = { .source = htons((uint16_t)(1024 + i % 60000)), .dest = htons(443), .seq = htonl(i * 7919), .doff = 5,
			      .syn = 1, .window = htons(65535) };
	struct { uint32_t from, to; uint16_t proto, len; struct tcphdr tcp; } pseudo;

	ip.saddr = from.s_addr;
	ip.daddr = to.s_addr;
	memset(&pseudo, 0, sizeof(pseudo));
	pseudo.from = ip.saddr;
	pseudo.to = ip.daddr;
	pseudo.proto = htons(IPPROTO_TCP);
	pseudo.len = htons(sizeof(tcp));
	pseudo.tcp = tcp;
	tcp.check = sum(&pseudo, sizeof(pseudo), 0);
	memcpy(packet, &ip, sizeof(ip));
	memcpy(packet + sizeof(ip), &tcp, sizeof(tcp));
	return 40;
}

static size_t dns(char *packet, uint32_t i)
{
	static const char tail[] = "\4wild\4test\0\0\1\0\1";
	char label[16];
	int n = snprintf(label, sizeof(label), "x%u", i);

	memcpy(packet, "\0\0\1\0\0\1\0\0\0\0\0\0", 12);
	packet[0] = (char)(i >> 8);
	packet[1] = (char)i;
	packet[12] = (char)n;
	memcpy(packet + 13, label, (size_t)n);
	memcpy(packet + 13 + n, tail, sizeof(tail) - 1);
	return 13 + (size_t)n + sizeof(tail) - 1;
}

static int flood(char **argv)
{
	bool is_syn = strcmp(argv[2], "syn") == 0;
	struct sockaddr_in to = address(argv[0], 0, is_syn ? 0 : 53), from = address(argv[1], 0, 0);
	int fd = is_syn ? socket(AF_INET, SOCK_RAW, IPPROTO_RAW) : socket(AF_INET, SOCK_DGRAM, 0);
	double rate = atof(argv[3]), seconds = atof(argv[4]), began = now_us(), at;
	char packet[256];
	uint32_t sent = 0, lost = 0;

	if (fd < 0 || (!is_syn && bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0))
		die("flood");
	while ((at = now_us() - began) < seconds * 1e6) {
		while (sent < at * rate / 1e6) {
			size_t n = is_syn ? syn(packet, from.sin_addr, to.sin_addr, sent) : dns(packet, sent);

			if (sendto(fd, packet, n, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) < 0)
				lost++;
			sent++;
		}
		usleep(1000);
	}
	printf("{\"sent\":%u,\"lost\":%u,\"persec\":%.0f}\n", sent, lost, sent / seconds);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	signal(SIGPIPE, SIG_IGN);
	if (strcmp(what, "cert") == 0 && argc == 4)
		return cert(argv[2], argv[3]);
	if (strcmp(what, "source") == 0 && argc == 3)
		source((uint16_t)atoi(argv[2]));
	if (strcmp(what, "quiet") == 0 && argc == 3)
		quiet((uint16_t)atoi(argv[2]));
	if (strcmp(what, "answers") == 0 && argc == 3)
		answers((uint16_t)atoi(argv[2]));
	if (strcmp(what, "get") == 0 && argc == 7)
		return requests(argv + 2, false);
	if (strcmp(what, "new") == 0 && argc == 8)
		return requests(argv + 2, true);
	if (strcmp(what, "bulk") == 0 && argc == 6)
		return bulk(argv + 2);
	if (strcmp(what, "hold") == 0 && argc == 6)
		return hold(argv + 2);
	if (strcmp(what, "flood") == 0 && argc == 7)
		return flood(argv + 2);
	fprintf(stderr, "usage: see the head of flow-bench.c\n");
	return 2;
}
