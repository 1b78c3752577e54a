/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations: one table from the number to the handler, and one parser for all of their arguments, so that
 * no handler ever looks at bytes of the wire. A handler gets checked values, starts what is asked and sees
 * to it that its request is answered exactly once, now or later.
 */
#ifndef DCLW_OPS_H
#define DCLW_OPS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "request.h"
#include "wire/proto.h"

#define ARGS_TAGS 128

struct args {
	uint64_t have[ARGS_TAGS / 64];
	uint64_t token, offset, time;
	uint32_t pid, in, out, err, stream, rows, cols, signal, group, mode, depth, recursive, port;
	char user[256], cwd[PATH_MAX], path[PATH_MAX], path2[PATH_MAX];
	char hostname[65], machine_id[33], address[64], gateway[64], dns[64], mac[32], gateway_mac[32];
	const uint8_t *entropy;
	size_t entropy_len;
	const uint8_t *tlvs;		/* all of them, for the repeated ones; well formed */
	size_t tlvs_len;
};

static inline bool args_have(const struct args *g, enum dclw_tag tag)
{
	return g->have[(unsigned int)tag / 64] >> ((unsigned int)tag % 64) & 1;
}

/* tlvs: of the request, without the op. Valid during the call only. */
void ops_dispatch(struct request *r, const uint8_t *tlvs, size_t len);

/* The handlers, each in the file of its name. */
void op_proc_start(struct request *r, const struct args *g);
void op_proc_signal(struct request *r, const struct args *g);
void op_proc_forget(struct request *r, const struct args *g);
void op_proc_list(struct request *r, const struct args *g);
void op_pty_resize(struct request *r, const struct args *g);
void op_file_read(struct request *r, const struct args *g);
void op_file_write(struct request *r, const struct args *g);
void op_file_stat(struct request *r, const struct args *g);
void op_file_list(struct request *r, const struct args *g);
void op_file_mkdir(struct request *r, const struct args *g);
void op_file_rename(struct request *r, const struct args *g);
void op_file_remove(struct request *r, const struct args *g);
void op_file_watch(struct request *r, const struct args *g);
void op_fs_freeze(struct request *r, const struct args *g);
void op_fs_thaw(struct request *r, const struct args *g);
void op_identity(struct request *r, const struct args *g);
void op_time_set(struct request *r, const struct args *g);
void op_shutdown(struct request *r, const struct args *g);
void op_connect(struct request *r, const struct args *g);
void op_stats(struct request *r, const struct args *g);

#endif
