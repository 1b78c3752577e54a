/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Processes: starting, draining, reporting.
 *
 *	RUNNING   the child was not reaped. -> DRAINING by SIGCHLD.
 *	DRAINING  its status is known; its outputs are read until they were found empty (or ended) once.
 *	EXITED    its streams have their end; the exit is reported when they have been sent, and again after
 *	          each HELLO. -> gone by PROC_FORGET.
 *
 * Only RUNNING and DRAINING hold descriptors.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "agent.h"
#include "child.h"
#include "ops.h"
#include "proc.h"
#include "procargs.h"
#include "prockill.h"
#include "pump.h"
#include "spawn.h"

#define PROC_REPLY_MAX (DCLW_PAYLOAD_MAX - 256)

struct proc {
	struct list link;		/* agent.procs */
	struct list exit_due;		/* agent.exits_due */
	struct agent *agent;
	enum { PROC_RUNNING, PROC_DRAINING, PROC_EXITED } state;
	uint64_t token;
	pid_t pid;
	bool pty;
	int status;
	struct child child;
	struct inpump in;
	struct outpump out, err;
	uint32_t in_id, out_id, err_id;
	uint64_t out_serial, err_serial;
};

void procs_init(struct agent *a)
{
	list_init(&a->procs);
	list_init(&a->exits_due);
	a->spawn = spawn_process;
}

static void proc_free(struct proc *p)
{
	child_unwatch(&p->child);
	inpump_stop(&p->in, 0);
	outpump_stop(&p->out, 0);
	outpump_stop(&p->err, 0);
	list_unlink(&p->link);
	list_unlink(&p->exit_due);
	p->agent->nprocs--;
	free(p);
}

void procs_free(struct agent *a)
{
	struct proc *p;

	while ((p = list_first(&a->procs, struct proc, link))) {
		if (p->state == PROC_RUNNING && !a->dry)
			proc_kill(p->pid, SIGKILL, true, true);
		proc_free(p);
	}
}

static struct proc *proc_by_pid(struct agent *a, uint32_t pid)
{
	struct proc *p, *found = NULL;

	list_foreach(&a->procs, p, struct proc, link) {
		if ((uint32_t)p->pid != pid)
			continue;
		found = p;
		if (p->state == PROC_RUNNING)
			break;		/* the number may have been given again */
	}
	return found;
}

static void proc_check_drained(struct proc *p)
{
	if (p->state != PROC_DRAINING || !p->out.done || !p->err.done)
		return;
	p->state = PROC_EXITED;
	list_append(&p->agent->exits_due, &p->exit_due);
}

static void proc_out_ended(struct outpump *o)
{
	proc_check_drained(container_of(o, struct proc, out));
}

static void proc_err_ended(struct outpump *o)
{
	proc_check_drained(container_of(o, struct proc, err));
}

static void proc_exited(struct child *c, int status)
{
	struct proc *p = container_of(c, struct proc, child);

	p->status = status;
	p->state = PROC_DRAINING;
	if (p->in_id && !p->in.done)
		inpump_stop(&p->in, EPIPE);
	outpump_leave(&p->out);
	outpump_leave(&p->err);
	proc_check_drained(p);
}

/* --- starting --- */

static int proc_streams(struct proc *p, struct spawn_result *res)
{
	struct agent *a = p->agent;
	int r = 0;

	p->out.done = p->err.done = p->in.done = true;
	if (res->in >= 0)
		r = inpump_start(&p->in, a, TAKE_FD(res->in), DCLW_WINDOW_INITIAL, p->in_id);
	if (r == 0 && res->out >= 0)
		r = outpump_start(&p->out, a, TAKE_FD(res->out), DCLW_WINDOW_INITIAL, p->out_id);
	if (r == 0 && res->err >= 0)
		r = outpump_start(&p->err, a, TAKE_FD(res->err), DCLW_WINDOW_INITIAL, p->err_id);
	if (r < 0) {
		fd_close(res->in);
		fd_close(res->out);
		fd_close(res->err);
		return r;
	}
	p->out.ended = proc_out_ended;
	p->err.ended = proc_err_ended;
	p->out_serial = p->out.stream ? p->out.stream->serial : 0;
	p->err_serial = p->err.stream ? p->err.stream->serial : 0;
	return 0;
}

/* Ids are looked at before anything is started: a taken one must not cost a process. */
static int proc_check_ids(struct agent *a, const struct args *g, bool pty)
{
	uint32_t ids[3] = { g->in, g->out, pty ? 0 : g->err };
	static const uint16_t tags[3] = { DCLW_TAG_STREAM_IN, DCLW_TAG_STREAM_OUT, DCLW_TAG_STREAM_ERR };

	for (int i = 0; i < 3; i++) {
		if (!ids[i] && args_have(g, tags[i]) && !(pty && i == 2))
			return -EINVAL;
		if (ids[i] && stream_find(a, ids[i]))
			return -EEXIST;
		for (int j = 0; j < i; j++) {
			if (ids[i] && ids[i] == ids[j])
				return -EINVAL;
		}
	}
	return a->session.nstreams + 3 > DCLW_STREAMS_MAX ? -EMFILE : 0;
}

static void proc_reply(struct request *r, const struct proc *p)
{
	uint8_t buf[64];
	struct wire_writer w;

	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u32(&w, DCLW_TAG_PID, (uint32_t)p->pid);
	request_done(r, &w);
}

static int proc_spawn(struct request *r, const struct args *g, struct proc *p, struct spawn_result *res)
{
	struct agent *a = r->agent;
	_cleanup_(procargs_done) struct procargs pa = { 0 };
	int error = procargs_make(&pa, g, a->init || a->dry || geteuid() == 0);

	if (error < 0) {
		request_fail(r, -error, "%s", pa.why);
		return error;
	}
	error = a->spawn(&pa.spec, res);
	if (error < 0) {
		request_fail(r, -error, "cannot start %.200s: %s: %s", pa.spec.argv[0], res->stage, strerror(-error));
		return error;
	}
	p->pty = pa.spec.pty;
	return 0;
}

void op_proc_start(struct request *r, const struct args *g)
{
	struct agent *a = r->agent;
	struct spawn_result res;
	struct proc *p;
	int error;

	list_foreach(&a->procs, p, struct proc, link) {
		if (p->token == g->token) {
			proc_reply(r, p);
			return;
		}
	}
	error = proc_check_ids(a, g, g->rows && g->cols);
	if (error < 0) {
		request_fail(r, -error, "the streams cannot be opened: %s", strerror(-error));
		return;
	}
	if (a->nprocs >= DCLW_PROCS_MAX || !(p = calloc(1, sizeof(*p)))) {
		request_fail(r, EAGAIN, "more than %u processes", DCLW_PROCS_MAX);
		return;
	}
	list_init(&p->exit_due);
	list_init(&p->child.link);
	p->agent = a;
	a->nprocs++;
	list_append(&a->procs, &p->link);
	if (proc_spawn(r, g, p, &res) < 0) {
		proc_free(p);
		return;
	}
	p->pid = res.pid;
	p->token = g->token;
	p->in_id = g->in;
	p->out_id = g->out;
	p->err_id = p->pty ? 0 : g->err;
	error = proc_streams(p, &res);
	if (error < 0) {
		request_fail(r, -error, "no memory for the streams");
		if (!a->dry)
			proc_kill(p->pid, SIGKILL, true, true);
		proc_free(p);
		return;
	}
	child_watch(a, &p->child, p->pid, proc_exited);
	proc_reply(r, p);
}

/* --- reporting --- */

static void put_status(struct wire_writer *w, const struct proc *p)
{
	if (WIFSIGNALED(p->status))
		wire_put_u32(w, DCLW_TAG_SIGNAL, (uint32_t)WTERMSIG(p->status));
	else
		wire_put_u32(w, DCLW_TAG_EXIT_CODE, (uint32_t)WEXITSTATUS(p->status));
}

static size_t fill_exit(struct agent *a, const struct proc *p, uint8_t *out, size_t size)
{
	uint8_t buf[64];
	struct wire_writer w;
	struct dclw_header h = {
		.type = DCLW_EVENT, .arg = DCLW_EVENT_PROC_EXIT, .epoch = (uint16_t)a->session.epoch,
	};

	wire_writer_init(&w, buf, sizeof(buf));
	wire_put_u64(&w, DCLW_TAG_TOKEN, p->token);
	wire_put_u32(&w, DCLW_TAG_PID, (uint32_t)p->pid);
	put_status(&w, p);
	h.length = (uint32_t)w.len;
	return wire_frame_put(out, size, &h, buf);
}

size_t procs_fill_exits(struct agent *a, uint8_t *out, size_t size)
{
	struct proc *p;
	size_t len = 0;

	list_foreach(&a->exits_due, p, struct proc, exit_due) {
		size_t n;

		if (!stream_all_sent(a, p->out_id, p->out_serial, a->session.resumes_over) ||
		    !stream_all_sent(a, p->err_id, p->err_serial, a->session.resumes_over))
			continue;
		n = fill_exit(a, p, out + len, size - len);
		if (n == 0)
			break;
		len += n;
		list_unlink(&p->exit_due);
	}
	return len;
}

void procs_hello(struct agent *a)
{
	struct proc *p;

	list_foreach(&a->procs, p, struct proc, link) {
		if (p->state != PROC_EXITED)
			continue;
		list_unlink(&p->exit_due);
		list_append(&a->exits_due, &p->exit_due);
	}
}

/* --- the other operations --- */

void op_proc_signal(struct request *r, const struct args *g)
{
	struct agent *a = r->agent;
	struct proc *p = proc_by_pid(a, g->pid);
	int error = -ESRCH;

	if (g->signal > 64) {
		request_fail(r, EINVAL, "signal %u", g->signal);
		return;
	}
	if (p && !a->dry)
		error = proc_kill(p->pid, (int)g->signal, g->group == 1, p->state == PROC_RUNNING);
	if (error < 0)
		request_fail(r, -error, "process %u: %s", g->pid, strerror(-error));
	else
		request_done(r, NULL);
}

void op_proc_forget(struct request *r, const struct args *g)
{
	struct proc *p = proc_by_pid(r->agent, g->pid);

	if (p && p->state != PROC_EXITED) {
		request_fail(r, EBUSY, "process %u has not ended", g->pid);
		return;
	}
	if (p)
		proc_free(p);
	request_done(r, NULL);
}

void op_pty_resize(struct request *r, const struct args *g)
{
	struct proc *p = proc_by_pid(r->agent, g->pid);
	struct winsize ws = { .ws_row = (uint16_t)g->rows, .ws_col = (uint16_t)g->cols };

	if (!p || p->state != PROC_RUNNING)
		request_fail(r, ESRCH, "process %u does not run", g->pid);
	else if (!p->pty)
		request_fail(r, ENOTTY, "process %u has no terminal", g->pid);
	else if (!g->rows || !g->cols || g->rows > UINT16_MAX || g->cols > UINT16_MAX)
		request_fail(r, EINVAL, "a terminal of %u rows and %u columns", g->rows, g->cols);
	else if (p->out.fd < 0 && p->in.fd < 0)
		request_done(r, NULL);	/* both ends given up by the host; nobody to look at it */
	else if (ioctl(p->out.fd >= 0 ? p->out.fd : p->in.fd, TIOCSWINSZ, &ws) < 0)
		request_fail(r, errno, "resize: %s", strerror(errno));
	else
		request_done(r, NULL);
}

static void put_proc(struct wire_writer *w, const struct proc *p)
{
	size_t mark = wire_nest_begin(w, DCLW_TAG_PROC);

	wire_put_u64(w, DCLW_TAG_TOKEN, p->token);
	wire_put_u32(w, DCLW_TAG_PID, (uint32_t)p->pid);
	if (p->state == PROC_EXITED)
		put_status(w, p);
	if (p->in_id)
		wire_put_u32(w, DCLW_TAG_STREAM_IN, p->in_id);
	if (p->out_id)
		wire_put_u32(w, DCLW_TAG_STREAM_OUT, p->out_id);
	if (p->err_id)
		wire_put_u32(w, DCLW_TAG_STREAM_ERR, p->err_id);
	wire_nest_end(w, mark);
}

void op_proc_list(struct request *r, const struct args *g)
{
	static uint8_t buf[DCLW_PAYLOAD_MAX];
	struct wire_writer w;
	uint64_t at = 0;
	struct proc *p;

	wire_writer_init(&w, buf, sizeof(buf));
	list_foreach(&r->agent->procs, p, struct proc, link) {
		if (at++ < g->offset)
			continue;
		if (w.len > PROC_REPLY_MAX) {
			wire_put_u64(&w, DCLW_TAG_OFFSET, at - 1);
			break;
		}
		put_proc(&w, p);
	}
	request_done(r, &w);
}
