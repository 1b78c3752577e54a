/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of operations and the parser of their arguments.
 *
 * The table says for each operation which tags must be there and what it touches: what writes is refused
 * while the file system is frozen (the agent would block in the kernel and could not be asked to thaw),
 * and whatever touches the world outside this process is refused in a dry run.
 */
#include <errno.h>
#include <string.h>

#include "agent.h"
#include "ops.h"

enum kind { K_U32, K_U64, K_STR, K_PATH };

static const struct tag_spec {
	uint16_t tag;
	uint8_t kind;
	size_t offset, size;
} specs[] = {
#define U32(tag, field) { tag, K_U32, offsetof(struct args, field), 0 }
#define U64(tag, field) { tag, K_U64, offsetof(struct args, field), 0 }
#define STR(tag, kind, field) { tag, kind, offsetof(struct args, field), sizeof(((struct args *)0)->field) }
	U64(DCLW_TAG_TOKEN, token),
	U64(DCLW_TAG_OFFSET, offset),
	U64(DCLW_TAG_TIME, time),
	U32(DCLW_TAG_PID, pid),
	U32(DCLW_TAG_STREAM_IN, in),
	U32(DCLW_TAG_STREAM_OUT, out),
	U32(DCLW_TAG_STREAM_ERR, err),
	U32(DCLW_TAG_STREAM, stream),
	U32(DCLW_TAG_PTY_ROWS, rows),
	U32(DCLW_TAG_PTY_COLS, cols),
	U32(DCLW_TAG_SIGNAL, signal),
	U32(DCLW_TAG_GROUP, group),
	U32(DCLW_TAG_MODE, mode),
	U32(DCLW_TAG_DEPTH, depth),
	U32(DCLW_TAG_RECURSIVE, recursive),
	U32(DCLW_TAG_PORT, port),
	STR(DCLW_TAG_USER, K_STR, user),
	STR(DCLW_TAG_CWD, K_PATH, cwd),
	STR(DCLW_TAG_PATH, K_PATH, path),
	STR(DCLW_TAG_PATH2, K_PATH, path2),
	STR(DCLW_TAG_HOSTNAME, K_STR, hostname),
	STR(DCLW_TAG_MACHINE_ID, K_STR, machine_id),
	STR(DCLW_TAG_ADDRESS, K_STR, address),
	STR(DCLW_TAG_GATEWAY, K_STR, gateway),
	STR(DCLW_TAG_DNS, K_STR, dns),
	STR(DCLW_TAG_MAC, K_STR, mac),
	STR(DCLW_TAG_GATEWAY_MAC, K_STR, gateway_mac),
};

#define WRITES 1u	/* refused while frozen */
#define PURE 2u		/* allowed in a dry run */

static const struct op_spec {
	void (*fn)(struct request *r, const struct args *g);
	unsigned int flags;
	uint8_t required[3];
} ops[] = {
	[DCLW_OP_PROC_START] = { op_proc_start, WRITES | PURE, { DCLW_TAG_TOKEN, DCLW_TAG_ARG } },
	[DCLW_OP_PROC_SIGNAL] = { op_proc_signal, PURE, { DCLW_TAG_PID, DCLW_TAG_SIGNAL } },
	[DCLW_OP_PROC_FORGET] = { op_proc_forget, PURE, { DCLW_TAG_PID } },
	[DCLW_OP_PROC_LIST] = { op_proc_list, PURE, { 0 } },
	[DCLW_OP_PTY_RESIZE] = { op_pty_resize, PURE, { DCLW_TAG_PID, DCLW_TAG_PTY_ROWS, DCLW_TAG_PTY_COLS } },
	[DCLW_OP_FILE_READ] = { op_file_read, 0, { DCLW_TAG_PATH, DCLW_TAG_STREAM } },
	[DCLW_OP_FILE_WRITE] = { op_file_write, WRITES, { DCLW_TAG_PATH, DCLW_TAG_STREAM } },
	[DCLW_OP_FILE_STAT] = { op_file_stat, 0, { DCLW_TAG_PATH } },
	[DCLW_OP_FILE_LIST] = { op_file_list, 0, { DCLW_TAG_PATH, DCLW_TAG_STREAM } },
	[DCLW_OP_FILE_MKDIR] = { op_file_mkdir, WRITES, { DCLW_TAG_PATH } },
	[DCLW_OP_FILE_RENAME] = { op_file_rename, WRITES, { DCLW_TAG_PATH, DCLW_TAG_PATH2 } },
	[DCLW_OP_FILE_REMOVE] = { op_file_remove, WRITES, { DCLW_TAG_PATH } },
	[DCLW_OP_FILE_WATCH] = { op_file_watch, 0, { DCLW_TAG_PATH, DCLW_TAG_STREAM } },
	[DCLW_OP_FS_FREEZE] = { op_fs_freeze, 0, { 0 } },
	[DCLW_OP_FS_THAW] = { op_fs_thaw, 0, { 0 } },
	[DCLW_OP_IDENTITY] = { op_identity, WRITES, { 0 } },
	[DCLW_OP_TIME_SET] = { op_time_set, 0, { DCLW_TAG_TIME } },
	[DCLW_OP_SHUTDOWN] = { op_shutdown, 0, { 0 } },
	[DCLW_OP_CONNECT] = { op_connect, 0, { DCLW_TAG_PORT, DCLW_TAG_STREAM_IN, DCLW_TAG_STREAM_OUT } },
	[DCLW_OP_STATS] = { op_stats, 0, { 0 } },
};

static int args_take(struct args *g, const struct tag_spec *spec, const uint8_t *data, size_t len)
{
	char *field = (char *)g + spec->offset;
	int r;

	switch (spec->kind) {
	case K_U32:
		return wire_get_u32(data, len, (uint32_t *)(void *)field);
	case K_U64:
		return wire_get_u64(data, len, (uint64_t *)(void *)field);
	default:
		r = wire_get_str(data, len, field, spec->size);
		return r < 0 ? r : spec->kind == K_PATH && *field != '/' ? -EINVAL : 0;
	}
}

static int args_parse(struct args *g, const uint8_t *tlvs, size_t tlvs_len, uint16_t *ret_tag)
{
	struct wire_reader rd;
	const uint8_t *data;
	size_t len;
	int r;

	wire_reader_init(&rd, tlvs, tlvs_len);
	while ((r = wire_next(&rd, ret_tag, &data, &len)) > 0) {
		if (*ret_tag < ARGS_TAGS)
			g->have[*ret_tag / 64] |= 1ull << (*ret_tag % 64);
		if (*ret_tag == DCLW_TAG_ENTROPY) {
			g->entropy = data;
			g->entropy_len = len;
		}
		for (size_t i = 0; i < ELEMENTSOF(specs); i++) {
			if (specs[i].tag != *ret_tag)
				continue;
			r = args_take(g, &specs[i], data, len);
			if (r < 0)
				return r;
		}
	}
	g->tlvs = tlvs;
	g->tlvs_len = tlvs_len;
	*ret_tag = 0;
	return r;
}

void ops_dispatch(struct request *r, const uint8_t *tlvs, size_t len)
{
	const struct op_spec *op = r->op < ELEMENTSOF(ops) ? &ops[r->op] : NULL;
	static struct args g;	/* one thread, no recursion; four paths are too much for a stack of 8 pages */
	uint16_t tag;
	int error;

	if (!op || !op->fn) {
		request_fail(r, ENOSYS, "this agent has no operation %u", r->op);
		return;
	}
	memset(&g, 0, sizeof(g));
	error = args_parse(&g, tlvs, len, &tag);
	if (error < 0) {
		request_fail(r, -error, "operation %u: value of tag %u is not usable", r->op, tag);
		return;
	}
	for (size_t i = 0; i < ELEMENTSOF(op->required) && op->required[i]; i++) {
		if (!args_have(&g, op->required[i])) {
			request_fail(r, EINVAL, "operation %u lacks tag %u", r->op, op->required[i]);
			return;
		}
	}
	if (r->agent->frozen && (op->flags & WRITES))
		request_fail(r, EBUSY, "the file system is frozen");
	else if (r->agent->dry && !(op->flags & PURE))
		request_fail(r, EROFS, "dry run");
	else
		op->fn(r, &g);
}
