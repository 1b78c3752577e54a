/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a TLS client asks for, from its first bytes. The parser is OpenSSL's: a handshake is begun over memory, and
 * stopped when the ClientHello is complete, however it was cut into records. Nothing is ever decrypted.
 */
#ifndef DECLAW_PROXY_HELLO_H
#define DECLAW_PROXY_HELLO_H

#include <stddef.h>

#include "policy/policy.h"

#define HELLO_MAX 16384u	/* bytes looked at before giving up */

struct hello;

enum hello_result {
	HELLO_MORE,		/* incomplete so far */
	HELLO_NAME,		/* the name is in ret */
	HELLO_NO_NAME,		/* complete, without a usable server name */
	HELLO_ENCRYPTED,	/* carries an encrypted ClientHello: the name in the clear is not the one meant */
	HELLO_BAD,		/* not TLS, or not TLS as it should be */
};

int hello_new(struct hello **ret);
struct hello *hello_free(struct hello *h);
/* The next bytes; name[POLICY_NAME_MAX] is canonical. After anything but HELLO_MORE it is of no more use. */
enum hello_result hello_feed(struct hello *h, const void *data, size_t len, char *name);

#endif
