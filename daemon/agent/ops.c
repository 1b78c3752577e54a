/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Typed operations on processes and on the guest as a whole; files are in ops-file.c. Each builds
 * its TLVs on the stack (the one that may be large, on the heap), names the streams it hands over,
 * and turns the reply into plain values. A reply that lacks what the operation promises is -EBADMSG
 * to the caller: it hurts nobody but him.
 */
#include <string.h>

#include "agent/ops.h"
#include "wire/le.h"

/* Pages of PROC_LIST; a guest that has more than these is lying. */
#define LIST_PAGES_MAX 64u

int op_send(struct agent *a, uint16_t op, const struct wire_writer *w, request_handler handler,
	    void *userdata, struct agent_stream *const streams[REQUEST_STREAMS],
	    struct agent_request **ret)
{
	int r = request_new(a, op, w, handler, streams, ret);

	if (r < 0)
		return r;
	(*ret)->userdata = userdata;
	return 0;
}

static void on_done(struct agent_request *r, int error, _unused_ const uint8_t *reply,
		    _unused_ size_t len)
{
	if (r->fn.done)
		r->fn.done(r->userdata, error);
}

int op_send_done(struct agent *a, uint16_t op, const struct wire_writer *w, agent_done_fn fn,
		 void *userdata, struct agent_stream *const streams[REQUEST_STREAMS])
{
	struct agent_request *rq;
	int r = op_send(a, op, w, on_done, userdata, streams, &rq);

	if (r < 0)
		return r;
	rq->fn.done = fn;
	return 0;
}

int op_get_u32(const uint8_t *reply, size_t len, uint16_t tag, uint32_t *ret)
{
	const uint8_t *data;
	size_t n;

	if (wire_find(reply, len, tag, &data, &n) <= 0)
		return -EBADMSG;
	return wire_get_u32(data, n, ret);
}

int op_get_u64(const uint8_t *reply, size_t len, uint16_t tag, uint64_t *ret)
{
	const uint8_t *data;
	size_t n;

	if (wire_find(reply, len, tag, &data, &n) <= 0)
		return -EBADMSG;
	return wire_get_u64(data, n, ret);
}

/* --- processes --- */

static void on_pid(struct agent_request *r, int error, const uint8_t *reply, size_t len)
{
	uint32_t pid = 0;

	if (error == 0 && (op_get_u32(reply, len, DCLW_TAG_PID, &pid) < 0 || pid == 0))
		error = -EBADMSG;
	if (error != 0)
		event_unexpect_exit(r->agent, r->token);
	if (r->fn.pid)
		r->fn.pid(r->userdata, error, error ? 0 : pid);
}

static void put_strv(struct wire_writer *w, uint16_t tag, const char *const *v)
{
	for (; v && *v; v++)
		wire_put_str(w, tag, *v);
}

static void put_spec(struct wire_writer *w, const struct agent_proc_spec *spec)
{
	wire_put_u64(w, DCLW_TAG_TOKEN, spec->token);
	put_strv(w, DCLW_TAG_ARG, spec->argv);
	put_strv(w, DCLW_TAG_ENV, spec->env);
	if (spec->user)
		wire_put_str(w, DCLW_TAG_USER, spec->user);
	if (spec->cwd)
		wire_put_str(w, DCLW_TAG_CWD, spec->cwd);
	if (spec->in)
		wire_put_u32(w, DCLW_TAG_STREAM_IN, spec->in->id);
	if (spec->out)
		wire_put_u32(w, DCLW_TAG_STREAM_OUT, spec->out->id);
	if (spec->err)
		wire_put_u32(w, DCLW_TAG_STREAM_ERR, spec->err->id);
	if (spec->rows && spec->cols) {
		wire_put_u32(w, DCLW_TAG_PTY_ROWS, spec->rows);
		wire_put_u32(w, DCLW_TAG_PTY_COLS, spec->cols);
	}
}

int agent_proc_start(struct agent *a, const struct agent_proc_spec *spec, agent_pid_fn fn,
		     void *userdata)
{
	struct agent_stream *streams[REQUEST_STREAMS] = { spec->in, spec->out, spec->err };
	struct agent_request *rq;
	_cleanup_free_ uint8_t *buf = NULL;
	struct wire_writer w;
	int r;

	if (spec->token == 0 || !spec->argv || !spec->argv[0])
		return -EINVAL;
	buf = malloc(DCLW_REQUEST_MAX - 2);
	if (!buf)
		return -ENOMEM;
	wire_writer_init(&w, buf, DCLW_REQUEST_MAX - 2);
	put_spec(&w, spec);
	if (w.error < 0)
		return -E2BIG;
	r = event_expect_exit(a, spec->token, spec->out ? spec->out->id : 0,
			      spec->err ? spec->err->id : 0);
	if (r < 0)
		return r;
	r = op_send(a, DCLW_OP_PROC_START, &w, on_pid, userdata, streams, &rq);
	if (r < 0) {
		event_unexpect_exit(a, spec->token);
		return r;
	}
	rq->token = spec->token;
	rq->fn.pid = fn;
	return 0;
}

int agent_proc_signal(struct agent *a, uint32_t pid, int signal, bool group, agent_done_fn fn,
		      void *userdata)
{
	OP_WRITER(w, 64);

	wire_put_u32(&w, DCLW_TAG_PID, pid);
	wire_put_u32(&w, DCLW_TAG_SIGNAL, (uint32_t)signal);
	if (group)
		wire_put_u32(&w, DCLW_TAG_GROUP, 1);
	return op_send_done(a, DCLW_OP_PROC_SIGNAL, &w, fn, userdata, NULL);
}

int agent_proc_forget(struct agent *a, uint32_t pid)
{
	OP_WRITER(w, 32);

	wire_put_u32(&w, DCLW_TAG_PID, pid);
	return op_send_done(a, DCLW_OP_PROC_FORGET, &w, NULL, NULL, NULL);
}

int agent_pty_resize(struct agent *a, uint32_t pid, uint32_t rows, uint32_t cols, agent_done_fn fn,
		     void *userdata)
{
	OP_WRITER(w, 64);

	wire_put_u32(&w, DCLW_TAG_PID, pid);
	wire_put_u32(&w, DCLW_TAG_PTY_ROWS, rows);
	wire_put_u32(&w, DCLW_TAG_PTY_COLS, cols);
	return op_send_done(a, DCLW_OP_PTY_RESIZE, &w, fn, userdata, NULL);
}

static int proc_tag(struct agent_proc *p, uint16_t tag, const uint8_t *data, size_t len)
{
	switch (tag) {
	case DCLW_TAG_TOKEN:
		return wire_get_u64(data, len, &p->token);
	case DCLW_TAG_PID:
		return wire_get_u32(data, len, &p->pid);
	case DCLW_TAG_STREAM_IN:
		return wire_get_u32(data, len, &p->in);
	case DCLW_TAG_STREAM_OUT:
		return wire_get_u32(data, len, &p->out);
	case DCLW_TAG_STREAM_ERR:
		return wire_get_u32(data, len, &p->err);
	case DCLW_TAG_SIGNAL:
		p->signalled = true;
		/* fall through */
	case DCLW_TAG_EXIT_CODE:
		p->exited = true;
		return wire_get_u32(data, len, &p->status);
	default:
		return 0;
	}
}

static int parse_proc(const uint8_t *value, size_t value_len, struct agent_proc *ret)
{
	struct wire_reader rd;
	const uint8_t *data;
	uint16_t tag;
	size_t len;
	int r;

	*ret = (struct agent_proc) { 0 };
	wire_reader_init(&rd, value, value_len);
	while ((r = wire_next(&rd, &tag, &data, &len)) > 0) {
		r = proc_tag(ret, tag, data, len);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : ret->token && ret->pid ? 0 : -EBADMSG;
}

static int list_page(struct agent *a, uint64_t offset, unsigned int page, agent_proc_fn fn,
		     void *userdata);

/* Tells the processes of one page; 1: there is another one at *ret_offset. */
static int tell_page(struct agent_request *r, const uint8_t *reply, size_t reply_len,
		     uint64_t *ret_offset)
{
	struct agent *a = r->agent;
	struct agent_proc p;
	struct wire_reader rd;
	const uint8_t *data;
	bool more = false;
	uint16_t tag;
	size_t len;

	wire_reader_init(&rd, reply, reply_len);
	while (!a->dead && wire_next(&rd, &tag, &data, &len) > 0) {
		if (tag == DCLW_TAG_OFFSET) {
			if (wire_get_u64(data, len, ret_offset) < 0)
				return -EBADMSG;
			more = true;
		} else if (tag == DCLW_TAG_PROC) {
			if (parse_proc(data, len, &p) < 0)
				return -EBADMSG;
			if (r->handler)
				r->fn.proc(r->userdata, 0, &p);
		}
	}
	return more;
}

static void on_list(struct agent_request *r, int error, const uint8_t *reply, size_t len)
{
	struct agent *a = r->agent;
	uint64_t offset = 0;
	int more;

	if (error == 0) {
		more = tell_page(r, reply, len, &offset);
		if (more > 0 && !a->dead)
			more = list_page(a, offset, r->page + 1, r->fn.proc, r->userdata);
		else if (more == 0)
			more = 1;
		if (more == 0)
			return;
		error = more < 0 ? more : 0;
	}
	if (!a->dead)
		r->fn.proc(r->userdata, error, NULL);
}

static int list_page(struct agent *a, uint64_t offset, unsigned int page, agent_proc_fn fn,
		     void *userdata)
{
	struct agent_request *rq;
	OP_WRITER(w, 32);
	int r;

	if (page >= LIST_PAGES_MAX)
		return -EBADMSG;
	if (page > 0)
		wire_put_u64(&w, DCLW_TAG_OFFSET, offset);
	r = op_send(a, DCLW_OP_PROC_LIST, &w, on_list, userdata, NULL, &rq);
	if (r < 0)
		return r;
	rq->fn.proc = fn;
	rq->page = page;
	return 0;
}

int agent_proc_list(struct agent *a, agent_proc_fn fn, void *userdata)
{
	return list_page(a, 0, 0, fn, userdata);
}

int agent_connect_port(struct agent *a, uint16_t port, struct agent_stream *in,
		       struct agent_stream *out, agent_done_fn fn, void *userdata)
{
	struct agent_stream *streams[REQUEST_STREAMS] = { in, out };
	OP_WRITER(w, 64);

	/* STREAM_IN is the guest's input, which we write. */
	wire_put_u32(&w, DCLW_TAG_PORT, port);
	wire_put_u32(&w, DCLW_TAG_STREAM_IN, out->id);
	wire_put_u32(&w, DCLW_TAG_STREAM_OUT, in->id);
	return op_send_done(a, DCLW_OP_CONNECT, &w, fn, userdata, streams);
}

/* --- the guest --- */

static void put_opt(struct wire_writer *w, uint16_t tag, const char *s)
{
	if (s)
		wire_put_str(w, tag, s);
}

int agent_set_identity(struct agent *a, const struct agent_identity *id, agent_done_fn fn,
		       void *userdata)
{
	OP_WRITER(w, 4096);

	put_opt(&w, DCLW_TAG_HOSTNAME, id->hostname);
	put_opt(&w, DCLW_TAG_MACHINE_ID, id->machine_id);
	put_opt(&w, DCLW_TAG_ADDRESS, id->address);
	put_opt(&w, DCLW_TAG_GATEWAY, id->gateway);
	put_opt(&w, DCLW_TAG_GATEWAY_MAC, id->gateway_mac);
	put_opt(&w, DCLW_TAG_DNS, id->dns);
	put_opt(&w, DCLW_TAG_MAC, id->mac);
	if (id->entropy_len > 0)
		wire_put_bytes(&w, DCLW_TAG_ENTROPY, id->entropy, id->entropy_len);
	if (id->time_nsec)
		wire_put_u64(&w, DCLW_TAG_TIME, id->time_nsec);
	return op_send_done(a, DCLW_OP_IDENTITY, &w, fn, userdata, NULL);
}

int agent_set_time(struct agent *a, uint64_t time_nsec, agent_done_fn fn, void *userdata)
{
	OP_WRITER(w, 32);

	wire_put_u64(&w, DCLW_TAG_TIME, time_nsec);
	return op_send_done(a, DCLW_OP_TIME_SET, &w, fn, userdata, NULL);
}

int agent_fs_freeze(struct agent *a, agent_done_fn fn, void *userdata)
{
	return op_send_done(a, DCLW_OP_FS_FREEZE, NULL, fn, userdata, NULL);
}

int agent_fs_thaw(struct agent *a, agent_done_fn fn, void *userdata)
{
	return op_send_done(a, DCLW_OP_FS_THAW, NULL, fn, userdata, NULL);
}

int agent_shutdown(struct agent *a, agent_done_fn fn, void *userdata)
{
	return op_send_done(a, DCLW_OP_SHUTDOWN, NULL, fn, userdata, NULL);
}

static void on_stats(struct agent_request *r, int error, const uint8_t *reply, size_t len)
{
	struct agent_stats st = { 0 };

	if (error == 0 && (op_get_u64(reply, len, DCLW_TAG_MEM_TOTAL, &st.mem_total) < 0 ||
			   op_get_u64(reply, len, DCLW_TAG_MEM_AVAILABLE, &st.mem_available) < 0 ||
			   op_get_u64(reply, len, DCLW_TAG_DISK_USED, &st.disk_used) < 0 ||
			   op_get_u64(reply, len, DCLW_TAG_DISK_TOTAL, &st.disk_total) < 0 ||
			   op_get_u64(reply, len, DCLW_TAG_CPU_USEC, &st.cpu_usec) < 0))
		error = -EBADMSG;
	r->fn.stats(r->userdata, error, error ? NULL : &st);
}

int agent_get_stats(struct agent *a, agent_stats_fn fn, void *userdata)
{
	struct agent_request *rq;
	int r = op_send(a, DCLW_OP_STATS, NULL, on_stats, userdata, NULL, &rq);

	if (r < 0)
		return r;
	rq->fn.stats = fn;
	return 0;
}
