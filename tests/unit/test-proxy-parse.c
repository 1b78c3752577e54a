/* SPDX-License-Identifier: GPL-2.0-or-later */
/* proxy/: whom a ClientHello and an HTTP request are for, in whatever pieces they come. */
#include <criterion/criterion.h>
#include <openssl/ssl.h>
#include <string.h>

#include "proxy/hello.h"
#include "proxy/request.h"

/* --- ClientHello --- */

/* What a real client sends first; name NULL = without one */
static size_t client_hello(const char *name, unsigned char *ret, size_t size)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	int n;

	SSL_set_bio(ssl, in, out);
	if (name)
		SSL_set_tlsext_host_name(ssl, name);
	SSL_set_connect_state(ssl);
	SSL_do_handshake(ssl);
	n = BIO_read(out, ret, (int)size);
	cr_assert_gt(n, 100);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return (size_t)n;
}

static enum hello_result feed(const unsigned char *data, size_t len, size_t step, char *name)
{
	struct hello *h = NULL;
	enum hello_result r = HELLO_MORE;

	cr_assert_eq(hello_new(&h), 0);
	for (size_t i = 0; i < len && r == HELLO_MORE; i += step)
		r = hello_feed(h, data + i, MIN_OF(step, len - i), name);
	hello_free(h);
	return r;
}

Test(hello, any_pieces)
{
	unsigned char data[4096];
	size_t len = client_hello("API.GitHub.com", data, sizeof(data));
	char name[POLICY_NAME_MAX];

	for (size_t step = 1; step <= len; step = step < 8 ? step + 1 : step * 2) {
		memset(name, 0, sizeof(name));
		cr_assert_eq(feed(data, len, step, name), HELLO_NAME, "%zu", step);
		cr_assert_str_eq(name, "api.github.com");
	}
	for (size_t n = 0; n < len; n++)
		cr_assert_eq(feed(data, n, n ?: 1, name), HELLO_MORE, "%zu of %zu", n, len);
}

/* The object of a hello that went through serves the next: nothing of the one before shows, nor of what came behind it */
Test(hello, the_next_one_knows_nothing)
{
	unsigned char good[4096], other[4096], none[4096];
	size_t n_good = client_hello("api.github.com", good, sizeof(good)), n_none = client_hello(NULL, none, sizeof(none));
	size_t n_other = client_hello("a.b.example.com", other, sizeof(other));
	struct hello *h = NULL, *again = NULL;
	char name[POLICY_NAME_MAX];

	memset(good + n_good, 0x16, 700);
	for (int i = 0; i < 50; i++) {
		memset(name, 0, sizeof(name));
		cr_assert_eq(feed(good, n_good + (i % 2 ? 700 : 0), 4096, name), HELLO_NAME, "%d", i);
		cr_assert_str_eq(name, "api.github.com");
		memset(name, 0, sizeof(name));
		switch (i % 5) {
		case 0:
			cr_assert_eq(feed(none, n_none, 4096, name), HELLO_NO_NAME, "%d", i);
			cr_assert_str_empty(name);
			break;
		case 1:
			cr_assert_eq(feed(other, n_other / 2, 4096, name), HELLO_MORE, "%d", i);
			break;
		case 2:
			cr_assert_eq(feed((const unsigned char *)"\x16\x03\x01\x00\x05hello", 10, 10, name), HELLO_BAD, "%d", i);
			break;
		default:
			cr_assert_eq(feed(other, n_other, (size_t)i, name), HELLO_NAME, "%d", i);
			cr_assert_str_eq(name, "a.b.example.com");
		}
	}
	cr_assert_eq(hello_new(&h), 0);
	cr_assert_eq(hello_feed(h, good, n_good, name), HELLO_NAME);
	hello_free(h);
	cr_assert_eq(hello_new(&again), 0);
	cr_assert_eq(again, h, "it is the same one");
	hello_free(again);
}

/* The handshake message cut into several TLS records, as some do to slip through */
Test(hello, any_records)
{
	unsigned char data[4096], cut[16384];
	size_t len = client_hello("api.github.com", data, sizeof(data)), body = len - 5;
	char name[POLICY_NAME_MAX] = "";

	for (size_t piece = 40; piece < body; piece += 61) {
		size_t n = 0;

		for (size_t i = 0; i < body; i += piece) {
			size_t part = MIN_OF(piece, body - i);

			memcpy(cut + n, data, 3);
			cut[n + 3] = (unsigned char)(part >> 8);
			cut[n + 4] = (unsigned char)part;
			memcpy(cut + n + 5, data + 5 + i, part);
			n += 5 + part;
		}
		cr_assert_eq(feed(cut, n, n, name), HELLO_NAME, "%zu", piece);
		cr_assert_str_eq(name, "api.github.com");
	}
}

Test(hello, without_a_usable_name)
{
	static const char *const names[] = { NULL, "1.2.3.4", "a_b.example.com", "evil example.com", "a..b" };
	unsigned char data[4096];
	char name[POLICY_NAME_MAX];

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		size_t len = client_hello(names[i], data, sizeof(data));

		cr_assert_eq(feed(data, len, len, name), HELLO_NO_NAME, "%s", names[i]);
	}
}

/* The same bytes with another type: an extension is made the encrypted one */
Test(hello, encrypted)
{
	static const unsigned char ems[] = { 0x00, 0x17, 0x00, 0x00 };	/* extended_master_secret, empty */
	unsigned char data[4096], *p;
	size_t len = client_hello("api.github.com", data, sizeof(data));
	char name[POLICY_NAME_MAX];

	p = memmem(data, len, ems, sizeof(ems));
	cr_assert_not_null(p);
	p[0] = 0xfe;
	p[1] = 0x0d;
	cr_assert_eq(feed(data, len, len, name), HELLO_ENCRYPTED);
}

Test(hello, garbage)
{
	static const unsigned char sslv2[] = { 0x80, 0x2e, 0x01, 0x00, 0x02, 0x00, 0x15, 0x00, 0x00, 0x00, 0x10 };
	static const unsigned char alert[] = { 0x15, 0x03, 0x01, 0x00, 0x02, 0x01, 0x00 };
	static const unsigned char other[] = { 0x16, 0x03, 0x01, 0x00, 0x04, 0x02, 0x00, 0x00, 0x00 };
	unsigned char zeros[HELLO_MAX];
	char name[POLICY_NAME_MAX];

	cr_assert_neq(feed(sslv2, sizeof(sslv2), sizeof(sslv2), name), HELLO_NAME);
	cr_assert_eq(feed(alert, sizeof(alert), sizeof(alert), name), HELLO_BAD);
	cr_assert_eq(feed(other, sizeof(other), sizeof(other), name), HELLO_BAD);
	/* a message that says it is large, for ever */
	memset(zeros, 0, sizeof(zeros));
	memcpy(zeros, "\x16\x03\x01\x40\x00\x01\xff\xff\xff", 9);
	cr_assert_eq(feed(zeros, sizeof(zeros), 100, name), HELLO_BAD);
}

/* --- HTTP --- */

struct seen {
	char heads[512];	/* names of heads, one a line; a reason after a ! */
	char passed[4096];	/* what would have been passed on */
	size_t n_passed;
};

/* As the proxy does: what belongs to a head waits for its end */
static void requests(const char *text, size_t len, size_t step, struct seen *s)
{
	struct request_parser *p = request_parser_new();
	size_t at = 0, judged = 0, have = 0;

	memset(s, 0, sizeof(*s));
	while (have < len) {
		have = MIN_OF(have + step, len);
		while (at < have) {
			bool head = request_in_head(p);
			char name[POLICY_NAME_MAX] = "";
			const char *why = "";
			size_t used = 0;
			enum request_result r = request_feed(p, text + at, have - at, &used, name, &why);

			at += used;
			if (r == REQUEST_BAD) {
				snprintf(s->heads + strlen(s->heads), 64, "!%s\n", why);
				goto out;
			}
			if (r != REQUEST_MORE)
				snprintf(s->heads + strlen(s->heads), 64, "%s%s\n", name, r == REQUEST_UPGRADE ? " upgrade" : "");
			if (r != REQUEST_MORE || !head) {
				memcpy(s->passed + judged, text + judged, at - judged);
				judged = s->n_passed = at;
			}
		}
	}
out:
	request_parser_free(p);
}

static void check_requests(const char *text, const char *heads)
{
	struct seen s, one;

	requests(text, strlen(text), strlen(text), &s);
	cr_assert_str_eq(s.heads, heads, "%s: %s", text, s.heads);
	for (size_t step = 1; step < strlen(text); step++) {
		requests(text, strlen(text), step, &one);
		cr_assert_str_eq(one.heads, heads, "in pieces of %zu: %s", step, one.heads);
	}
	if (!strchr(heads, '!'))
		cr_assert_str_eq(s.passed, text);
}

Test(request, heads)
{
	check_requests("GET / HTTP/1.1\r\nHost: A.example.com\r\n\r\n", "a.example.com\n");
	check_requests("GET / HTTP/1.1\r\nhost:a.example.com:8080\r\nX: y\r\n\r\n", "a.example.com\n");
	check_requests("GET / HTTP/1.0\r\nHost: a.example.com.\r\n\r\n", "a.example.com\n");
	check_requests("POST / HTTP/1.1\r\nHost: a.b.c\r\nContent-Length: 5\r\n\r\nhello", "a.b.c\n");
	check_requests("GET http://a.b.c/x HTTP/1.1\r\nHost: a.b.c\r\n\r\n", "a.b.c\n");
	check_requests("OPTIONS * HTTP/1.1\r\nHost: a.b.c\r\n\r\n", "a.b.c\n");
}

Test(request, every_one_of_a_connection)
{
	check_requests("GET / HTTP/1.1\r\nHost: a.b.c\r\n\r\nGET / HTTP/1.1\r\nHost: evil.org\r\n\r\n", "a.b.c\nevil.org\n");
	check_requests("POST / HTTP/1.1\r\nHost: a.b.c\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: d.e.f\r\n\r\n",
		       "a.b.c\nd.e.f\n");
	check_requests("POST / HTTP/1.1\r\nHost: a.b.c\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
		       "GET / HTTP/1.1\r\nHost: d.e.f\r\n\r\n", "a.b.c\nd.e.f\n");
	/* what looks like a request in a body is none */
	check_requests("POST / HTTP/1.1\r\nHost: a.b.c\r\nContent-Length: 37\r\n\r\nGET / HTTP/1.1\r\nHost: evil.org\r\n\r\n   ",
		       "a.b.c\n");
}

Test(request, upgrade)
{
	check_requests("GET /ws HTTP/1.1\r\nHost: a.b.c\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "a.b.c upgrade\n");
	/* and when the server did not: requests again */
	check_requests("GET /ws HTTP/1.1\r\nHost: a.b.c\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
		       "GET / HTTP/1.1\r\nHost: evil.org\r\n\r\n", "a.b.c upgrade\nevil.org\n");
}

static void check_refused(const char *text, const char *why)
{
	struct seen s;
	char want[64];

	snprintf(want, sizeof(want), "!%s\n", why);
	requests(text, strlen(text), strlen(text), &s);
	cr_assert_str_eq(s.heads, want, "%s: %s", text, s.heads);
	cr_assert_eq(s.n_passed, 0, "nothing was passed on");
}

Test(request, refused)
{
	check_refused("CONNECT evil.org:443 HTTP/1.1\r\nHost: a.b.c\r\n\r\n", "method");
	check_refused("TRACE / HTTP/1.1\r\nHost: a.b.c\r\n\r\n", "method");
	check_refused("GET / HTTP/1.1\r\n\r\n", "host");
	check_refused("GET / HTTP/1.1\r\nHost:\r\n\r\n", "host");
	check_refused("GET / HTTP/1.1\r\nHost: a.b.c\r\nHost: evil.org\r\n\r\n", "host");
	check_refused("GET / HTTP/1.1\r\nHost: a.b.c\r\nHost: a.b.c\r\n\r\n", "host");
	check_refused("GET / HTTP/1.1\r\nHost: a.b.c@evil.org\r\n\r\n", "host");
	check_refused("GET / HTTP/1.1\r\nHost: a.b.c evil.org\r\n\r\n", "host");
	check_refused("GET / HTTP/1.1\r\nHost: 1.2.3.4\r\n\r\n", "host");
	check_refused("GET / HTTP/1.1\r\nHost: a.b.c:80x\r\n\r\n", "host");
	check_refused("GET http://evil.org/ HTTP/1.1\r\nHost: a.b.c\r\n\r\n", "absolute_form");
	check_refused("GET https://a.b.c/ HTTP/1.1\r\nHost: a.b.c\r\n\r\n", "absolute_form");
	check_refused("GET / HTTP/1.1\r\nHost: a.b.c\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
		      "h2c");
	check_refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "syntax");
	check_refused("POST / HTTP/1.1\r\nHost: a.b.c\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "syntax");
	check_refused("POST / HTTP/1.1\r\nHost: a.b.c\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "syntax");
	check_refused("POST / HTTP/1.1\r\nHost: a.b.c\r\nTransfer-Encoding: xchunked\r\n\r\n", "transfer_encoding");
	check_refused("GET / HTTP/1.1\r\nHost : a.b.c\r\n\r\n", "host");
	check_refused("GET / HTTP/1.1\r\nHost: a.b.c\r\n X: obs-fold\r\n\r\n", "host");
	check_refused("GET / HTTP/1.1\nHost: a.b.c\n\n", "syntax");
	check_refused("GET /\r\n\r\n", "version");
	check_refused("GET / HTTP/3.0\r\nHost: a.b.c\r\n\r\n", "syntax");
}

Test(request, endless_head)
{
	struct request_parser *p = request_parser_new();
	enum request_result r = REQUEST_MORE;
	char name[POLICY_NAME_MAX];
	const char *why = "";
	size_t used, total = 0;

	r = request_feed(p, "GET / HTTP/1.1\r\n", 16, &used, name, &why);
	while (r == REQUEST_MORE && total < 10 * REQUEST_HEAD_MAX) {
		r = request_feed(p, "X-Y: 0123456789\r\n", 17, &used, name, &why);
		total += 17;
	}
	cr_assert_eq(r, REQUEST_BAD);
	cr_assert_str_eq(why, "head_too_large");
	cr_assert_leq(total, REQUEST_HEAD_MAX + 17);
	request_parser_free(p);
}
