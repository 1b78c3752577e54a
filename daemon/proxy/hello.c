/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See hello.h. One context for all; a handshake object lives until the hello is through, and a few of those that a whole
 * hello went through are kept for the next: making one costs as much as the parsing.
 */
#include "proxy/hello.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

#define EXT_ECH 0xfe0du		/* encrypted_client_hello, draft-ietf-tls-esni; the numbers of its older drafts */
#define EXT_ESNI 0xffceu

struct hello {
	SSL *ssl;
	BIO *in;		/* the handshake's */
	size_t seen;
	enum hello_result result;
	char name[POLICY_NAME_MAX];
};

#define SPARE_MAX 16u

static SSL_CTX *context;
static struct hello *spare[SPARE_MAX];
static unsigned int n_spare;

/* server_name: list length, then one entry: type 0, length, name. A list of several has no single meaning. */
static enum hello_result read_name(const unsigned char *p, size_t len, char *ret)
{
	size_t list, name;

	if (len < 5)
		return HELLO_NO_NAME;
	list = (size_t)p[0] << 8 | p[1];
	name = (size_t)p[3] << 8 | p[4];
	if (list != len - 2 || p[2] != 0 || name != list - 3)
		return HELLO_NO_NAME;
	return policy_name_canon((const char *)p + 5, name, ret) == 0 ? HELLO_NAME : HELLO_NO_NAME;
}

static int on_hello(SSL *ssl, int *alert, void *userdata _unused_)
{
	struct hello *h = SSL_get_app_data(ssl);
	const unsigned char *p;
	size_t len;

	if (SSL_client_hello_get0_ext(ssl, EXT_ECH, &p, &len) || SSL_client_hello_get0_ext(ssl, EXT_ESNI, &p, &len))
		h->result = HELLO_ENCRYPTED;
	else if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &len))
		h->result = read_name(p, len, h->name);
	else
		h->result = HELLO_NO_NAME;
	/* Enough was learnt: the rest of the handshake is the server's */
	*alert = SSL_AD_INTERNAL_ERROR;
	return SSL_CLIENT_HELLO_ERROR;
}

static int context_init(void)
{
	if (context)
		return 0;
	context = SSL_CTX_new(TLS_server_method());
	if (!context)
		return -ENOMEM;
	SSL_CTX_set_client_hello_cb(context, on_hello, NULL);
	/* OpenSSL shows only the extensions it knows: these are made known */
	if (SSL_CTX_add_custom_ext(context, EXT_ECH, SSL_EXT_CLIENT_HELLO, NULL, NULL, NULL, NULL, NULL) != 1 ||
	    SSL_CTX_add_custom_ext(context, EXT_ESNI, SSL_EXT_CLIENT_HELLO, NULL, NULL, NULL, NULL, NULL) != 1)
		return -EIO;
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	/* Clients of any age may name themselves; what is spoken in the end is between them and the server */
	SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
	SSL_CTX_set_security_level(context, 0);
	return 0;
}

int hello_new(struct hello **ret)
{
	struct hello *h;
	BIO *out;

	if (n_spare > 0) {
		*ret = spare[--n_spare];
		return 0;
	}
	if (context_init() < 0)
		return -ENOMEM;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->ssl = SSL_new(context);
	h->in = BIO_new(BIO_s_mem());
	out = BIO_new(BIO_s_null());
	if (!h->ssl || !h->in || !out) {
		BIO_free(h->in);
		BIO_free(out);
		SSL_free(h->ssl);
		free(h);
		return -ENOMEM;
	}
	BIO_set_mem_eof_return(h->in, -1);
	SSL_set_bio(h->ssl, h->in, out);
	SSL_set_app_data(h->ssl, h);
	SSL_set_accept_state(h->ssl);
	*ret = h;
	return 0;
}

/* As new: nothing of the hello that was read is left, nor of what came behind it */
static bool forget(struct hello *h)
{
	if (SSL_clear(h->ssl) != 1 || BIO_reset(h->in) != 1)
		return false;
	h->seen = 0;
	h->result = HELLO_MORE;
	memset(h->name, 0, sizeof(h->name));
	return true;
}

struct hello *hello_free(struct hello *h)
{
	if (h && h->result == HELLO_NAME && n_spare < SPARE_MAX && forget(h)) {
		spare[n_spare++] = h;
		return NULL;
	}
	if (h)
		SSL_free(h->ssl);
	free(h);
	return NULL;
}

enum hello_result hello_feed(struct hello *h, const void *data, size_t len, char *name)
{
	int r;

	h->seen += len;
	if (len > HELLO_MAX || BIO_write(h->in, data, (int)len) != (int)len)
		return HELLO_BAD;
	ERR_clear_error();
	r = SSL_do_handshake(h->ssl);
	if (h->result == HELLO_NAME)
		memcpy(name, h->name, sizeof(h->name));
	if (h->result != HELLO_MORE)
		return h->result;
	if (r <= 0 && SSL_get_error(h->ssl, r) == SSL_ERROR_WANT_READ)
		return h->seen < HELLO_MAX ? HELLO_MORE : HELLO_BAD;
	ERR_clear_error();
	return HELLO_BAD;
}
