/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/digest.h"

#include <gcrypt.h>

#include "util/str.h"

void digest_text(const void *data, size_t len, char ret[DIGEST_TEXT_MAX])
{
	unsigned char hash[32];

	if (!gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P)) {
		gcry_check_version(NULL);
		gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
		gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	}
	gcry_md_hash_buffer(GCRY_MD_SHA256, hash, data, len);
	hex_encode(hash, sizeof(hash), ret);
}
