/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Standard input, see procin.h. Offsets are absolute: a write knows the offset behind its last byte and is done when the
 * guest has acknowledged that much. A process that does not read holds its writers, up to LIMIT_STDIN_WRITE bytes.
 */
#include "core/procin.h"

#include <string.h>

#include "core/limits.h"
#include "core/procstore.h"

struct stdin_write {
	struct list link;
	proc_done_fn fn;
	void *userdata;
	uint64_t end;		/* offset behind the last byte; 0 = not all of it has an offset yet */
	size_t len, sent;
	uint8_t data[];
};

static void write_answer(struct proc *p, struct stdin_write *w, enum fault fault)
{
	list_unlink(&w->link);
	p->stdin_pending -= w->len;
	if (w->fn)
		w->fn(w->userdata, fault, NULL);
	free(w);
}

static void procin_push(struct proc *p)
{
	struct stdin_write *w;

	list_foreach(&p->stdin_writes, w, struct stdin_write, link) {
		ssize_t n;

		if (w->sent == w->len)
			continue;
		n = agent_stream_write(p->in, w->data + w->sent, w->len - w->sent);
		if (n <= 0)
			return;
		w->sent += (size_t)n;
		if (w->sent < w->len)
			return;
		w->end = agent_stream_offset(p->in);
	}
	if (p->in_closing && !p->in_closed) {
		p->in_closed = true;
		agent_stream_finish(p->in);
	}
}

static void in_writable(void *userdata)
{
	procin_push(userdata);
}

static void in_acked(void *userdata, uint64_t offset)
{
	struct proc *p = userdata;
	struct stdin_write *w;

	proc_ref(p);
	list_foreach(&p->stdin_writes, w, struct stdin_write, link) {
		if (w->end == 0 || w->end > offset)
			break;
		write_answer(p, w, FAULT_NONE);
	}
	proc_unref(p);
}

static void in_end(void *userdata, int error _unused_)
{
	/* The process closed its standard input, or is gone */
	procin_fail(userdata, FAULT_PROC_ENDED);
}

static const struct agent_stream_ops in_ops = { .end = in_end, .writable = in_writable, .acked = in_acked };

int procin_open(struct proc *p, struct agent *a)
{
	return agent_stream_open(a, AGENT_STREAM_OUT, STREAM_WINDOW, &in_ops, p, &p->in);
}

int procin_adopt(struct proc *p, struct agent *a, uint32_t id)
{
	/* The guest says in its HELLO_ACK where it goes on */
	int r = agent_stream_adopt(a, id, AGENT_STREAM_OUT, 0, STREAM_WINDOW, &in_ops, p, &p->in);

	if (r == 0)
		procin_push(p);
	return r;
}

void procin_fail(struct proc *p, enum fault fault)
{
	struct stdin_write *w;

	p->in_broken = true;
	while ((w = list_first(&p->stdin_writes, struct stdin_write, link)))
		write_answer(p, w, fault);
}

enum fault proc_stdin(struct proc *p, const void *data, size_t len, proc_done_fn fn, void *userdata)
{
	struct stdin_write *w;

	/* killed: it dies whatever it still reads, so that nobody is told that it got these bytes */
	if (p->state == PROC_ENDED || p->killed || p->in_closing || p->in_broken || !p->in)
		return FAULT_PROC_ENDED;
	if (p->stdin_pending + len > LIMIT_STDIN_WRITE && !list_empty(&p->stdin_writes))
		return FAULT_STDIN_FULL;
	w = malloc(sizeof(*w) + len);
	if (!w)
		return FAULT_INTERNAL;
	*w = (struct stdin_write){ .fn = fn, .userdata = userdata, .len = len };
	memcpy(w->data, data, len);
	list_append(&p->stdin_writes, &w->link);
	p->stdin_pending += len;
	procin_push(p);
	return FAULT_NONE;
}

void proc_stdin_forget(struct proc *p, const void *userdata)
{
	struct stdin_write *w;

	/* The bytes still go to the process: only nobody waits for them */
	list_foreach(&p->stdin_writes, w, struct stdin_write, link)
		if (w->userdata == userdata)
			w->fn = NULL;
}

enum fault proc_stdin_close(struct proc *p)
{
	if (p->state == PROC_ENDED || !p->in)
		return FAULT_PROC_ENDED;
	if (p->in_closing)
		return FAULT_NONE;
	p->in_closing = true;
	procin_push(p);
	procstore_save(p);
	return FAULT_NONE;
}
