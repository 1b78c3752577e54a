/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fuzz target as a plain program: with -DFUZZ_MAIN it runs over the files, and the files in the
 * directories, that are its arguments. That turns every input once found into a regression test
 * that needs no fuzzer.
 */
#ifndef DECLAW_FUZZ_MAIN_H
#define DECLAW_FUZZ_MAIN_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifdef FUZZ_MAIN
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fuzz_file(const char *path)
{
	FILE *f = fopen(path, "re");
	size_t size = 0, n;
	uint8_t *data = NULL;
	char chunk[4096];

	if (!f) {
		perror(path);
		return -1;
	}
	/*
	 * Exactly as large as the input, so that a read beyond it is seen by the address sanitizer.
	 */
	while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0) {
		uint8_t *grown = realloc(data, size + n);

		if (!grown)
			abort();
		data = grown;
		memcpy(data + size, chunk, n);
		size += n;
	}
	fclose(f);
	LLVMFuzzerTestOneInput(data ? data : (const uint8_t *)"", size);
	free(data);
	return 0;
}

/*
 * Without arguments, or with ones that hold no file, there was nothing tested: that is a failure.
 */
int main(int argc, char *argv[])
{
	FTS *fts = argc > 1 ? fts_open(argv + 1, FTS_LOGICAL | FTS_NOCHDIR, NULL) : NULL;
	unsigned n = 0;
	int bad = 0;

	for (FTSENT *e; fts && (e = fts_read(fts));) {
		if (e->fts_info == FTS_F) {
			bad |= fuzz_file(e->fts_accpath);
			n++;
		} else if (e->fts_info == FTS_NS || e->fts_info == FTS_DNR ||
			   e->fts_info == FTS_ERR) {
			fprintf(stderr, "%s: %s\n", e->fts_path, strerror(e->fts_errno));
			bad = -1;
		}
	}
	if (fts)
		fts_close(fts);
	printf("%s: %u inputs\n", argv[0], n);
	return bad || n == 0;
}
#endif

#endif
